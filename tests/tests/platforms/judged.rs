//! What our client makes of a guest under a policy that stands beside what its user holds: on a connection, and from a file.

use ratls::appraise::{AttestationResult, appraise};
use ratls::bundle::Bundle;
use ratls::verify::verify_bundle;

use crate::cases::Case;
use crate::guest::Guest;

/// What the client made of one connection, and of the same evidence in a file.
pub(crate) struct Judged {
    pub(crate) live: AttestationResult,
    pub(crate) saved: AttestationResult,
    /// The file, for somebody who did not write it.
    pub(crate) passed_on: AttestationResult,
}

impl Guest {
    /// One connection under this policy, which stands beside what the user holds.
    pub(crate) async fn shows(&self, case: &Case, policy: &str) -> Judged {
        self.shows_changed(case, policy, |_| {}).await
    }

    /// The same, with this changed in the saved bundle.
    pub(crate) async fn shows_changed(&self, case: &Case, policy: &str, change: impl Fn(&mut Bundle)) -> Judged {
        let loaded = case.held.load(policy, &self.roots());
        let target = self.target_under(loaded.policy, loaded.anchors);
        let mut shown = target.show().await.unwrap();
        let live = shown.result(&target).await.unwrap();
        let mut bundle = shown.bundle();
        change(&mut bundle);
        let bundle = Bundle::parse(&bundle.encode()).unwrap();
        shown.close().await;
        let read = || verify_bundle(&bundle, &target.anchors, bundle.received).unwrap().0;
        let mut own = read();
        own.witnessed_by_reader();
        let policy = target.policy.as_deref();
        Judged { live, saved: appraise(policy, own), passed_on: appraise(policy, read()) }
    }
}
