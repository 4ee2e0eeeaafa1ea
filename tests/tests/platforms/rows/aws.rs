//! Rows 1 to 3: EC2.

use attester::platform::Boot;
use ratls::appraise::levels::Component;
use ratls::appraise::{Signed, summary, whose_connection};
use ratls::binding::quote_binder;
use ratls::wire::attest::HardwareFormat;

use crate::cases;
use crate::quoting::another_key_quotes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_01_aws_with_a_document_and_everything_rebuilt() {
    let case = cases::aws_rebuilt();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L4 amd | L4 vtpm | L4 vtpm | L4 vtpm").refused_by(&[]);
    let kernel = judged.why(Component::Kernel);
    assert!(kernel.contains("guest.efi") && kernel.contains("git+https://source.example/guest"), "{kernel}");

    // Counter-checks: no rebuilds, no image, no file of the firmware.
    guest.shows(&case, &case.held.without(&["rebuild"])).await.prints("✓ ✓ | L3 amd | L3 vtpm | L3 vtpm | L3 vtpm");
    guest.shows(&case, &case.held.without(&["image"])).await.prints("✓ ✓ | L4 amd | L4 vtpm | L4 vtpm | L2 vtpm");
    let pinned =
        case.held.without(&["launch"]).replacen("[snp]\n", &format!("[snp]\nmeasurements = [{}]\n", digest(&case)), 1);
    guest.shows(&case, &pinned).await.prints("✓ ✓ | L2 amd | L2 vtpm | L2 vtpm | L2 vtpm");
}

/// The measurement of its guest, as TOML.
fn digest(case: &cases::Case) -> String {
    let line = case.simulated.lines().find_map(|line| line.strip_prefix("measurement = "));
    line.expect("it names its measurement").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_02_aws_with_a_distributions_digests_and_no_record_of_the_userspace() {
    let case = cases::aws_distribution();
    let guest = case.start().await;
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✓ | L4 amd | L2 vtpm | L2 vtpm | L0").refused_by(&[]);
    let userspace = judged.why(Component::Userspace);
    assert!(userspace.contains("not measured") && userspace.contains("no list of IMA"), "{userspace}");

    // Counter-check: without the distribution's digests the registers are compared with nothing.
    let open = guest.shows(&case, &case.held.without(&["event_log"])).await;
    open.prints("✓ ✓ | L4 amd | L1 vtpm | L1 vtpm | L0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_03_aws_without_a_document_and_with_an_ak_of_the_guests_own() {
    let case = cases::aws_rebuilt();
    let guest = case.start().await;
    guest.shows(&case, &case.held.policy()).await.prints("✓ ✓ | L4 amd | L4 vtpm | L4 vtpm | L4 vtpm");
    let tpm = guest.tpm();
    let key = another_key_quotes(&tpm, &[0; 32]).public;
    guest.boot(|honest| Boot { ak: Some(key), event_log: honest.event_log.clone(), ak_certificate: None });
    guest.change(move |gathered, binder| {
        gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument);
        let question = quote_binder(binder, &gathered.report);
        gathered.tpm = Some(another_key_quotes(&tpm, question.as_bytes()));
    });
    let judged = guest.shows(&case, &case.held.policy()).await;
    judged.prints("✓ ✗ | L4 amd | L0 | L0 | L0").refused_by(&["T_AK_UNPROVEN"]);
    let boot = judged.why(Component::Boot);
    assert!(boot.contains("nobody but the guest vouches for its key"), "{boot}");
    // A user who does without the TPM sees the same table.
    let without = case.held.policy().replace("vtpm = \"document\"\nmax_document_age = \"10m\"", "vtpm = \"none\"");
    guest.shows(&case, &without).await.prints("✓ ✗ | L4 amd | L0 | L0 | L0").refused_by(&[]);
    assert!(whose_connection(judged.live.levels()).ends_with("nothing here shows which software."));
}

/// Behind genuine firmware a host can start a system of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_inspect_says_of_aws_does_not_claim_the_system_from_the_amd_sp_alone() {
    for case in [cases::aws_rebuilt(), cases::aws_distribution()] {
        let judged = case.start().await.shows(&case, &case.held.policy()).await;
        super::claims_no_system_from_the_amd_sp(judged.live.levels());
    }
    // Where the AMD-SP does say which system it is, the sentence does too.
    let case = cases::snpguard_verity();
    let judged = case.start().await.shows(&case, &case.held.policy()).await;
    assert!(whose_connection(judged.live.levels()).starts_with("This connection ends inside the attested guest"));
    let [(_, proven)] = summary(judged.live.levels(), Signed::Now).try_into().unwrap();
    assert!(proven.contains("the kernel (L4)") && proven.ends_with("AMD's hardware signed it"), "{proven}");
}
