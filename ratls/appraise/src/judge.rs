//! Collects findings. It decides nothing but how grave a finding is that no policy can excuse.

use super::finding::{Finding, Severity};
use crate::policy::{IdentityRule, ProfilePolicy};
use verify::Channel;

pub(super) struct Judge<'p> {
    policy: Option<&'p ProfilePolicy>,
    /// A policy file was asked, whether or not it has a policy for this guest.
    asked: bool,
    live: bool,
    findings: Vec<Finding>,
}

impl<'p> Judge<'p> {
    pub(super) fn new(asked: bool, policy: Option<&'p ProfilePolicy>, channel: Channel) -> Self {
        Judge { policy, asked, live: !matches!(channel, Channel::None), findings: Vec::new() }
    }

    /// Over a connection, not from a file.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn policy(&self) -> Option<&'p ProfilePolicy> {
        self.policy
    }

    pub(super) fn pins_launch_identity(&self) -> bool {
        matches!(self.policy.map(ProfilePolicy::identity), Some(IdentityRule::All(r)) if r.launch_identity.is_some())
    }

    pub(super) fn add(
        &mut self,
        id: &'static str,
        severity: Severity,
        subject: &'static str,
        seen: impl ToString,
        wanted: impl ToString,
        help: &str,
    ) {
        let (seen, wanted, help) = (seen.to_string(), wanted.to_string(), help.to_owned());
        self.findings.push(Finding { id, severity, subject, seen, wanted, help });
    }

    pub(super) fn fatal(
        &mut self,
        id: &'static str,
        subject: &'static str,
        seen: impl ToString,
        wanted: impl ToString,
        help: &str,
    ) {
        self.add(id, Severity::Fatal, subject, seen, wanted, help);
    }

    /// Refuses a live connection always, and a file as soon as a policy is asked. A file without a policy is only described:
    /// there the finding holds every level down.
    pub(super) fn grave(
        &mut self,
        id: &'static str,
        subject: &'static str,
        seen: impl ToString,
        wanted: impl ToString,
        help: &str,
    ) {
        let severity = if self.live || self.asked { Severity::Fatal } else { Severity::Cap };
        self.add(id, severity, subject, seen, wanted, help);
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
