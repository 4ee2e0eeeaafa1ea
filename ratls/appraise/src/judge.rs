//! Collects findings. It decides nothing but how grave a finding is that no policy can excuse.

use crate::policy::{IdentityRule, ProfilePolicy};
use findings::{Check, Finding, Severity};
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

    /// Adds a finding in the check's own words, and returns it for those that only this case knows.
    pub(super) fn add(&mut self, check: impl Into<Check>, severity: Severity, seen: impl ToString) -> &mut Finding {
        self.findings.push(Finding::new(check, severity, seen));
        self.findings.last_mut().expect("one was pushed")
    }

    pub(super) fn fatal(&mut self, check: impl Into<Check>, seen: impl ToString) -> &mut Finding {
        self.add(check, Severity::Fatal, seen)
    }

    /// Adds what verification found wrong with a piece on which nothing rests.
    pub(super) fn warn_of_verification(&mut self, check: impl Into<Check>, error: &(dyn std::error::Error + 'static)) {
        let check = check.into();
        let seen = Finding::of_verification(check, error).seen().to_owned();
        self.add(check, Severity::Warning, seen);
    }

    /// Refuses a live connection always, and a file as soon as a policy is asked. A file without a policy is only
    /// described: there the finding holds every level down.
    pub(super) fn grave(&mut self, check: impl Into<Check>, seen: impl ToString) -> &mut Finding {
        let severity = if self.live || self.asked { Severity::Fatal } else { Severity::Cap };
        self.add(check, severity, seen)
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
