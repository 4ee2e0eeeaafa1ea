//! Rows 4 to 6: Azure.

use ratls::appraise::levels::Component;

use super::{another, shown};
use crate::cases;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_04_azure_below_a_paravisor_that_takes_no_data_of_the_guest() {
    let case = cases::azure_old();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✗ ✓ | L0 | L0 | L0 | L0").refused_by(&[]);
    assert!(judged.why(Component::Firmware).contains("(stale)"), "{}", judged.why(Component::Firmware));

    // docs/levels.md, "Strict and relaxed": who believes the cloud's vTPM sees what it says, under its own root, and no firmware.
    let relaxed = guest
        .shows(&case, &format!("{}[levels]\nview = \"relaxed\"\nkernel = \"L3 vtpm\"\n", case.held.policy()))
        .await;
    relaxed.prints("✗ ✓ | L0 | L0 | L0 | L0").refused_by(&[]);
    assert_eq!(shown(relaxed.live.levels_relaxed().unwrap()), "✗ ✓ | L0 | L3 vtpm | L3 vtpm | L3 vtpm");
    assert_eq!(shown(relaxed.saved.levels_relaxed().unwrap()), "✗ ✓ | L0 | L3 vtpm | L3 vtpm | L3 vtpm");

    // And is told no more than that.
    let sentence = relaxed.live.unsimulated_sentence();
    assert!(sentence.starts_with("Some software has this connection; "), "{sentence}");
    assert!(sentence.ends_with("How old the hardware's report is, is unknown."), "{sentence}");

    // Counter-check: a paravisor that takes the guest's data.
    let newer = cases::azure_known();
    let judged = newer.start().await.shows(&newer, &newer.held.policy()).await;
    judged.prints("✓ ✓ | L2 amd | L2 amd | L2 amd | L2 amd").refused_by(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_05_azure_of_which_only_the_signer_is_pinned() {
    let case = cases::azure_signer();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L1 amd | L1 amd | L1 amd | L1 amd").refused_by(&[]);
    let firmware = judged.why(Component::Firmware);
    assert!(firmware.contains("only its signer is pinned"), "{firmware}");
    let kernel = judged.why(Component::Kernel);
    assert!(
        kernel.contains("Alone it would be L3; what boots the kernel measured or started it and is itself at L1"),
        "{kernel}"
    );

    // Counter-checks: another signer is refused; the digest itself on the list is worth a level more.
    let other = another(&case.held.policy(), "id_key_digest");
    guest.shows(&case, &other).await.refused_by(&["I_LAUNCH"]);
    let listed = format!("measurements = [\"{}\"]", evident_tests::policy::SIMULATED_MEASUREMENT);
    let listed = case.held.policy().replacen("measurements = \"whatever launch_identity signed\"", &listed, 1);
    guest.shows(&case, &listed).await.prints("✓ ✓ | L2 amd | L2 amd | L2 amd | L2 amd");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_06_azure_with_an_ima_list_that_is_compared_with_nothing() {
    let case = cases::azure_with_ima();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L2 amd | L2 amd | L2 amd | L1 amd").refused_by(&[]);
    let userspace = judged.why(Component::Userspace);
    assert!(userspace.contains("not all of them compared"), "{userspace}");

    // Counter-checks: who asks nothing of the userspace does not fetch the list; a kernel whose digest is on no list.
    guest.shows(&case, &case.held.without(&["levels"])).await.prints("✓ ✓ | L2 amd | L2 amd | L2 amd | L0");
    let other = another(&case.held.policy(), "kernel");
    guest.shows(&case, &other).await.prints("✓ ✓ | L2 amd | L1 amd | L1 amd | L1 amd");
}
