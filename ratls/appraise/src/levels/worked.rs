//! Worked results, as claims of each deployment: what a correct engine prints. The whole way, from a guest that
//! serves to the table, is in the tests of the whole system.

use super::{Claim, Component, Cover, Inputs, Level, Levels, Matched, Named, Provenance, RootState, Row, View, judge};
use Component::{Boot, Firmware, Kernel, Userspace};
use measure::reference::test_support::{rebuild, recomputed};
use measure::reference::{Part, SourceProof};
use verify::{Link, Root};

fn file(component: Component) -> (Part, &'static str) {
    match component {
        Firmware => (Part::Firmware, "OVMF.fd"),
        Boot => (Part::Loader, "shim"),
        Kernel => (Part::Kernel, "vmlinuz"),
        Userspace => (Part::Image, "root.img"),
    }
}

pub(super) fn binary(component: Component) -> Matched {
    Matched::Binary(recomputed(b"m", &[file(component)]).equals(b"m").unwrap())
}

pub(super) fn source(component: Component) -> Matched {
    let (part, name) = file(component);
    let proof = recomputed(b"m", &[(part, name)]).equals(b"m").unwrap();
    Matched::Source(SourceProof::new(proof, &[part], &[rebuild(name)]).unwrap())
}

pub(super) fn digest() -> Matched {
    Matched::Digest(Provenance::Own)
}

pub(super) fn claim(component: Component, root: Root, link: Link, matched: Matched) -> Claim {
    let measured_by = match component {
        Firmware => vec![],
        Boot => vec![Firmware],
        Kernel => vec![Boot],
        Userspace => vec![Kernel],
    };
    Claim { component, root, link, cover: Cover::Full, matched, measured_by, says: vec![], notes: vec![] }
}

/// What the launch measurement covers, or enforces.
fn launch(component: Component, matched: Matched) -> Claim {
    let link = if component == Firmware { Link::Direct } else { Link::VerifiedByMeasured };
    claim(component, Root::AmdSp, link, matched)
}

fn vendor(component: Component, matched: Matched) -> Claim {
    claim(component, Root::Vtpm, Link::VendorPki, matched)
}

fn asserted(component: Component, matched: Matched) -> Claim {
    claim(component, Root::Vtpm, Link::FirmwareAsserted, matched)
}

fn unauthentic() -> RootState {
    RootState { authentic: false, because: "nobody vouches for the AK".to_owned(), ..RootState::sound() }
}

fn with_vtpm(vtpm: RootState, claims: Vec<Claim>) -> Inputs {
    Inputs { amd_sp: RootState::sound(), vtpm: Some(vtpm), claims }
}

fn without_vtpm(claims: Vec<Claim>) -> Inputs {
    Inputs { amd_sp: RootState::sound(), vtpm: None, claims }
}

fn shown(levels: &Levels) -> String {
    let row = |row| match row {
        Row::Ok => "✓",
        Row::Failed => "✗",
        Row::Absent => "–",
    };
    let mut text = format!("{} {}", row(levels.amd_sp()), row(levels.vtpm()));
    for cell in levels.cells() {
        let anchor = cell.anchor().map_or("", |root| match root {
            Root::AmdSp => " amd",
            Root::Vtpm => " vtpm",
        });
        text.push_str(&format!(" | {}{anchor}", cell.level()));
    }
    text
}

#[track_caller]
fn prints(inputs: &Inputs, wanted: &str) {
    let levels = judge(inputs, View::Strict);
    assert_eq!(shown(&levels), wanted, "{:#?}", levels.cells().iter().map(|c| c.why()).collect::<Vec<_>>());
}

#[test]
fn aws_with_a_nitro_document_and_everything_rebuilt() {
    let claims = vec![
        launch(Firmware, source(Firmware)),
        vendor(Boot, source(Boot)),
        vendor(Kernel, source(Kernel)),
        vendor(Userspace, source(Userspace)),
    ];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L4 amd | L4 vtpm | L4 vtpm | L4 vtpm");
}

#[test]
fn aws_with_a_distribution_s_digests_and_no_record_of_the_userspace() {
    let claims = vec![launch(Firmware, source(Firmware)), vendor(Boot, digest()), vendor(Kernel, digest())];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L4 amd | L2 vtpm | L2 vtpm | L0");
}

#[test]
fn aws_with_an_ak_that_nobody_vouches_for() {
    let claims = vec![
        launch(Firmware, source(Firmware)),
        vendor(Boot, source(Boot)),
        // The guest's own hash of the AK in REPORT_DATA links nothing.
        claim(Kernel, Root::Vtpm, Link::GuestAsserted, source(Kernel)),
    ];
    prints(&with_vtpm(unauthentic(), claims), "✓ ✗ | L4 amd | L0 | L0 | L0");
}

fn azure_before_user_data() -> Inputs {
    let claims = vec![
        launch(Firmware, digest()),
        vendor(Boot, binary(Boot)),
        vendor(Kernel, binary(Kernel)),
        vendor(Userspace, digest()),
    ];
    Inputs {
        amd_sp: RootState { fresh: false, bound: false, ..RootState::sound() },
        ..with_vtpm(RootState::sound(), claims)
    }
}

#[test]
fn azure_before_user_data_reached_the_report() {
    prints(&azure_before_user_data(), "✗ ✓ | L0 | L0 | L0 | L0");
}

#[test]
fn the_relaxed_view_shows_what_the_vtpm_alone_says_and_no_firmware() {
    let levels = judge(&azure_before_user_data(), View::Relaxed);
    assert_eq!(shown(&levels), "✗ ✓ | L0 | L3 vtpm | L3 vtpm | L2 vtpm");
}

#[test]
fn azure_with_user_data_and_only_the_signer_pinned() {
    let claims = vec![
        launch(Firmware, Matched::Signer("id key".to_owned())),
        asserted(Boot, binary(Boot)),
        asserted(Kernel, binary(Kernel)),
        asserted(Userspace, source(Userspace)),
    ];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L1 amd | L1 amd | L1 amd | L1 amd");
}

#[test]
fn azure_with_user_data_and_an_ima_list_that_was_not_compared() {
    let userspace = Claim { cover: Cover::Partial, ..asserted(Userspace, Matched::Nothing) };
    let claims = vec![launch(Firmware, digest()), asserted(Boot, digest()), asserted(Kernel, digest()), userspace];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L2 amd | L2 amd | L2 amd | L1 amd");
}

#[test]
fn gcp_with_the_endorsement_alone() {
    let pcr_0 = Claim { cover: Cover::None, ..vendor(Firmware, digest()) };
    let claims = vec![
        pcr_0,
        launch(Firmware, Matched::Digest(Provenance::Vendor)),
        vendor(Boot, binary(Boot)),
        vendor(Kernel, binary(Kernel)),
    ];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L2 amd | L2 vtpm | L2 vtpm | L0");
}

#[test]
fn gcp_with_the_firmware_in_hand_and_an_own_image_from_source() {
    let claims = vec![
        launch(Firmware, binary(Firmware)),
        vendor(Boot, source(Boot)),
        vendor(Kernel, source(Kernel)),
        vendor(Userspace, source(Userspace)),
    ];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L3 amd | L3 vtpm | L3 vtpm | L3 vtpm");
}

#[test]
fn snpguard_with_verity_and_everything_rebuilt() {
    let claims = Component::ALL.map(|component| launch(component, source(component))).to_vec();
    prints(&without_vtpm(claims), "✓ – | L4 amd | L4 amd | L4 amd | L4 amd");
}

#[test]
fn snpguard_with_an_encrypted_disk_is_sealed_by_its_owner_and_not_measured() {
    let mut claims: Vec<_> = [Firmware, Boot, Kernel].map(|c| launch(c, source(c))).to_vec();
    claims.push(Claim {
        cover: Cover::None,
        notes: vec!["owner-sealed: whoever has the disk's key made it".to_owned()],
        ..launch(Userspace, Matched::Nothing)
    });
    let inputs = without_vtpm(claims);
    prints(&inputs, "✓ – | L4 amd | L4 amd | L4 amd | L0");
    assert!(judge(&inputs, View::Strict).cell(Userspace).why().contains("owner-sealed"));
}

#[test]
fn microcvm_of_which_only_digests_are_known() {
    let userspace = Claim { measured_by: vec![Firmware], ..launch(Userspace, digest()) };
    let mut claims: Vec<_> = [Firmware, Boot, Kernel].map(|c| launch(c, digest())).to_vec();
    prints(&without_vtpm(claims.clone()), "✓ – | L2 amd | L2 amd | L2 amd | L0");
    claims.push(userspace);
    prints(&without_vtpm(claims), "✓ – | L2 amd | L2 amd | L2 amd | L2 amd");
}

#[test]
fn a_kernel_that_no_hash_table_names_is_not_measured() {
    let kernel = Claim { cover: Cover::None, ..launch(Kernel, source(Kernel)) };
    prints(&without_vtpm(vec![launch(Firmware, source(Firmware)), kernel]), "✓ – | L4 amd | L0 | L0 | L0");
}

#[test]
fn e_vtpm_with_its_ak_proven_and_everything_rebuilt() {
    let claims = vec![
        launch(Firmware, source(Firmware)),
        asserted(Boot, source(Boot)),
        asserted(Kernel, source(Kernel)),
        asserted(Userspace, source(Userspace)),
    ];
    prints(&with_vtpm(RootState::sound(), claims), "✓ ✓ | L4 amd | L4 amd | L4 amd | L4 amd");
}

#[test]
fn e_vtpm_with_its_ak_not_proven() {
    let claims = vec![
        launch(Firmware, source(Firmware)),
        asserted(Boot, source(Boot)),
        asserted(Kernel, source(Kernel)),
        asserted(Userspace, source(Userspace)),
    ];
    prints(&with_vtpm(unauthentic(), claims), "✓ ✗ | L4 amd | L0 | L0 | L0");
}

#[test]
fn a_debuggable_guest_shows_nothing_whatever_matched() {
    let claims = Component::ALL.map(|component| launch(component, source(component))).to_vec();
    let amd_sp = RootState { fatal: vec![findings::ReportCheck::Debug.into()], ..RootState::sound() };
    let inputs = Inputs { amd_sp, ..without_vtpm(claims) };
    prints(&inputs, "✗ – | L0 | L0 | L0 | L0");
    assert!(judge(&inputs, View::Strict).cell(Firmware).why().contains("R_DEBUG"));
}

#[test]
fn records_that_contradict_each_other_take_every_level() {
    let says = |value: &str| vec![Named { what: "firmware SHA-384", value: value.to_owned() }];
    let with = |value: &str| {
        let from_log = Claim { says: says(value), ..asserted(Firmware, digest()) };
        let claims = vec![Claim { says: says("aa"), ..launch(Firmware, source(Firmware)) }, from_log];
        judge(&with_vtpm(RootState::sound(), claims), View::Strict)
    };
    assert_eq!(shown(&with("aa")), "✓ ✓ | L4 amd | L0 | L0 | L0");
    let torn = with("bb");
    assert_eq!(torn.contradictions().len(), 1);
    assert_eq!(shown(&torn), "✓ ✓ | L0 | L0 | L0 | L0");
}

#[test]
fn what_an_unauthentic_root_says_contradicts_nothing() {
    let says = |value: &str| vec![Named { what: "firmware SHA-384", value: value.to_owned() }];
    let claims = vec![
        Claim { says: says("aa"), ..launch(Firmware, digest()) },
        Claim { says: says("bb"), ..asserted(Firmware, digest()) },
    ];
    assert!(judge(&with_vtpm(unauthentic(), claims), View::Strict).contradictions().is_empty());
}

#[test]
fn each_cell_says_why_and_what_would_raise_it() {
    let claims = vec![launch(Firmware, digest()), launch(Kernel, binary(Kernel))];
    let levels = judge(&without_vtpm(claims), View::Strict);
    assert_eq!(
        levels.cell(Firmware).why(),
        "L2: the digest equals the one you pinned; give the firmware file to reach L3"
    );
    assert_eq!(levels.cell(Boot).why(), "L0: nothing in the evidence measures what boots the kernel");
    let kernel = levels.cell(Kernel).why();
    assert!(kernel.starts_with("L0: the digest was recomputed from vmlinuz (SHA-256 "), "{kernel}");
    assert!(kernel.ends_with("Alone it would be L3; what boots the kernel measured or started it and is itself at L0"));
}

#[test]
fn a_proof_about_other_files_is_worth_a_digest() {
    let levels = judge(&without_vtpm(vec![launch(Firmware, source(Kernel))]), View::Strict);
    assert_eq!(levels.cell(Firmware).level(), Level::L2);
}
