//! Rows 13 and 14: the e-vTPM.

use ratls::appraise::levels::Component;

use crate::{cases, policies};

const PROVEN: &str = "✓ ✓ | L4 amd | L4 amd | L4 amd | L4 amd";
const NOT_PROVEN: &str = "✓ ✗ | L4 amd | L0 | L0 | L0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_13_e_vtpm_with_its_ak_proven_and_everything_rebuilt() {
    if !policies::proves_aks() {
        println!(
            "skipped: row_13_e_vtpm_with_its_ak_proven_and_everything_rebuilt: this backend cannot ask for the proof of an AK; row_14 is what it shows"
        );
        return;
    }
    let case = cases::svsm_rebuilt();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints(PROVEN).refused_by(&[]);
    let firmware = judged.why(Component::Firmware);
    assert!(firmware.contains("svsm.igvm") && firmware.contains("rebuilder a, rebuilder b"), "{firmware}");

    // To whoever else reads the file, that the key was proven is a word that nobody signed.
    assert_eq!(super::shown(judged.passed_on.levels_if_fresh()), NOT_PROVEN, "{}", judged.passed_on);
    assert!(judged.passed_on.findings().iter().any(|finding| finding.id() == "T_AK_WITNESSED"));

    // Counter-checks: no rebuilds; no file of the SVSM.
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ ✓ | L3 amd | L3 amd | L3 amd | L3 amd");
    guest.shows(&case, &case.held.without(&["image"])).await.prints("✓ ✓ | L4 amd | L4 amd | L4 amd | L2 amd");
}

/// A bundle of somebody who did not ask for the proof, and what a client shows that cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_e_vtpm_with_its_ak_not_proven() {
    let case = cases::svsm_rebuilt();
    let guest = case.start().await;
    let judged = guest.shows_changed(&case, &case.held.policy(), |bundle| bundle.witnessed_ak = false).await;
    let live = if policies::proves_aks() { PROVEN } else { NOT_PROVEN };
    assert_eq!(super::shown(judged.live.levels()), live, "{}", judged.live);
    assert_eq!(super::shown(judged.saved.levels_if_fresh()), NOT_PROVEN, "{}", judged.saved);
    let boot = judged.saved.levels_if_fresh().cell(Component::Boot).why();
    assert!(boot.contains("nobody but the guest vouches for its key"), "{boot}");
    assert!(judged.saved.findings().iter().any(|finding| finding.id() == "T_AK_UNPROVEN"));
}
