//! Rows 9 to 12 and 15: guests that are in the launch digest as a whole.

use ratls::appraise::Verdict;
use ratls::appraise::levels::Component;

use super::another;
use crate::cases;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_09_snpguard_with_verity_and_everything_rebuilt() {
    let case = cases::snpguard_verity();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ – | L4 amd | L4 amd | L4 amd | L4 amd").refused_by(&[]);

    // Counter-checks: no rebuilds; no image; a firmware of which nobody says that it compares the hashes.
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ – | L3 amd | L3 amd | L3 amd | L3 amd");
    guest.shows(&case, &case.held.without(&["image"])).await.prints("✓ – | L4 amd | L4 amd | L4 amd | L2 amd");
    let unclaimed = case.held.policy().replace("kernel_hashes = \"enforced by this firmware\"\n", "");
    guest.shows(&case, &unclaimed).await.prints("✓ – | L4 amd | L0 | L0 | L0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_snpguard_with_an_encrypted_disk_is_sealed_by_its_owner_and_not_measured() {
    let case = cases::snpguard_encrypted();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ – | L4 amd | L4 amd | L4 amd | L0").refused_by(&[]);
    let userspace = judged.why(Component::Userspace);
    assert!(userspace.contains("not measured") && userspace.contains("owner-sealed"), "{userspace}");

    // Counter-checks: no rebuilds; a user who does not say where the userspace is gets another reason.
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ – | L3 amd | L3 amd | L3 amd | L0");
    let unsaid = case.held.policy().replace("userspace = \"on an encrypted disk\"\n", "");
    let unsaid = guest.shows(&case, &unsaid).await;
    unsaid.prints("✓ – | L4 amd | L4 amd | L4 amd | L0");
    assert!(!unsaid.why(Component::Userspace).contains("owner-sealed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_11_microcvm_of_which_only_digests_are_known() {
    let case = cases::microcvm_digests();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ – | L2 amd | L2 amd | L2 amd | L2 amd").refused_by(&[]);

    // The row's other half: a userspace that is somewhere else. Counter-check: another kernel's digest.
    let elsewhere = case.held.policy().replace("userspace = \"in the initrd\"\n", "");
    guest.shows(&case, &elsewhere).await.prints("✓ – | L2 amd | L2 amd | L2 amd | L0");
    let other = another(&case.held.policy(), "kernel_sha256");
    guest.shows(&case, &other).await.prints("✓ – | L1 amd | L0 | L0 | L0").refused_by(&["R_LD"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_12_a_kernel_whose_hash_is_not_in_the_launch_digest_is_not_measured() {
    let case = cases::plain_kernel();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ – | L4 amd | L0 | L0 | L0").refused_by(&[]);
    let kernel = judged.why(Component::Kernel);
    assert!(
        kernel.contains("not measured") && kernel.contains("the launch digest is the same whatever it is"),
        "{kernel}"
    );

    // Counter-check: without the rebuild the firmware is its file.
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ – | L3 amd | L0 | L0 | L0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_a_guest_that_the_host_may_debug_shows_nothing_and_is_refused() {
    let case = cases::debuggable();
    let judged = case.start().await.shows(&case, &case.held.policy()).await;
    judged.prints("✗ – | L0 | L0 | L0 | L0").refused_by(&["R_DEBUG"]);
    assert_eq!(judged.live.verdict(), Verdict::Refused(ratls::appraise::Stage::Appraise));
    assert!(Component::ALL.iter().all(|component| judged.why(*component).contains("R_DEBUG")));

    // Counter-check: the same guest without the bit is row 9.
    let case = cases::snpguard_verity();
    let judged = case.start().await.shows(&case, &case.held.policy()).await;
    judged.prints("✓ – | L4 amd | L4 amd | L4 amd | L4 amd").refused_by(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_microcvm_given_page_by_page_and_rebuilt_is_level_4_with_its_userspace() {
    let case = cases::microcvm_rebuilt();
    let guest = case.start().await;
    guest.shows(&case, &case.held.policy()).await.prints("✓ – | L4 amd | L4 amd | L4 amd | L4 amd").refused_by(&[]);
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ – | L3 amd | L3 amd | L3 amd | L3 amd");
}
