//! Collects findings. It decides nothing but how grave a finding is that no policy can excuse.

use super::finding::{Finding, Severity};
use crate::policy::{AppraisalPolicy, IdentityRule};
use verify::Channel;

pub(super) struct Judge<'p> {
    policy: Option<&'p AppraisalPolicy>,
    live: bool,
    findings: Vec<Finding>,
}

impl<'p> Judge<'p> {
    pub(super) fn new(policy: Option<&'p AppraisalPolicy>, channel: Channel) -> Self {
        Judge { policy, live: !matches!(channel, Channel::None), findings: Vec::new() }
    }

    /// Over a connection, not from a file.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn policy(&self) -> Option<&'p AppraisalPolicy> {
        self.policy
    }

    pub(super) fn pins_launch_identity(&self) -> bool {
        matches!(self.policy.map(AppraisalPolicy::identity), Some(IdentityRule::All(r)) if r.launch_identity.is_some())
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
        let severity = if self.live || self.policy.is_some() { Severity::Fatal } else { Severity::Cap };
        self.add(id, severity, subject, seen, wanted, help);
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
