//! Rows 7 and 8: Google Compute Engine.

use ratls::appraise::levels::Component;

use crate::cases;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_07_gcp_with_googles_endorsement_alone_and_the_kernel_in_hand() {
    let case = cases::gcp_endorsed();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L2 amd | L2 vtpm | L2 vtpm | L0").refused_by(&[]);
    let firmware = judged.why(Component::Firmware);
    assert!(firmware.contains("its maker signed"), "{firmware}");
    assert!(
        firmware.contains("Google's word") && firmware.contains("the root gce-tcb-root.pem that you name"),
        "{firmware}"
    );
    assert!(judged.why(Component::Kernel).contains("Alone it would be L3"), "{}", judged.why(Component::Kernel));

    // Counter-checks: an endorsement that is too old, none that the policy rests on, and no file of the kernel.
    let old = case.held.policy().replace("min_svn = 1", "min_svn = 2");
    guest.shows(&case, &old).await.prints("✓ ✓ | L1 amd | L1 vtpm | L1 vtpm | L0").refused_by(&["G_SVN"]);
    let other = format!("[snp]\nmeasurements = [\"{}\"]\n", "5e".repeat(48));
    let unnamed = case.held.policy().replacen("[snp]\n", &other, 1);
    let unnamed = unnamed.replace("endorsement_root = \"gce-tcb-root.pem\"\nmin_svn = 1\n", "");
    guest.shows(&case, &unnamed).await.prints("✓ ✓ | L1 amd | L1 vtpm | L1 vtpm | L0").refused_by(&["R_LD"]);
    let no_files = case.held.without(&["boot", "event_log"]);
    guest.shows(&case, &no_files).await.prints("✓ ✓ | L2 amd | L1 vtpm | L1 vtpm | L0");
    // A list of one's own is not widened by Google's.
    let own = case.held.policy().replacen("[snp]\n", &other, 1);
    guest.shows(&case, &own).await.refused_by(&["R_LD"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_08_gcp_with_the_firmware_recomputed_and_an_own_image_from_source() {
    let case = cases::gcp_recomputed();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L3 amd | L3 vtpm | L3 vtpm | L3 vtpm").refused_by(&[]);
    let userspace = judged.why(Component::Userspace);
    assert!(userspace.contains("Alone it would be L4"), "{userspace}");

    // Counter-checks: without rebuilds nothing is held down any more; without the image the userspace is a digest.
    let unbuilt = guest.shows(&case, &case.held.without(&["rebuild"])).await;
    unbuilt.prints("✓ ✓ | L3 amd | L3 vtpm | L3 vtpm | L3 vtpm");
    assert!(!unbuilt.why(Component::Userspace).contains("Alone it would be"));
    guest.shows(&case, &case.held.without(&["image"])).await.prints("✓ ✓ | L3 amd | L3 vtpm | L3 vtpm | L2 vtpm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_inspect_says_of_gcp_does_not_claim_the_system_from_the_amd_sp_alone() {
    for case in [cases::gcp_endorsed(), cases::gcp_recomputed()] {
        let judged = case.start().await.shows(&case, &case.held.policy()).await;
        super::claims_no_system_from_the_amd_sp(judged.live.levels());
    }
}
