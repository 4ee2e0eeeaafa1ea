//! The attack catalogue of platforms.md §9, N01–N24, on a simulated guest, each by one change of a good case.
//!
//! Every test begins with a case that is accepted, shown by the same judge, and ends with the one finding that the change causes.

mod guest;

use guest::{MILAN, NOW, Seen, attest, certificate, good, roots, seen};
use ratls::appraise::{Identity, Severity};
use ratls::binding::{Bind32, binder};
use ratls::endorsement::table::{CertificateTable, TableError, TableItem};
use ratls::evidence::snp::{HostData, KeyDigest, ReportId};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::wire::attest::media;
use simulator::amd_sp::{SIGNED_LEN, certificate_table, guid};
use simulator::{Authority, Config, Validity, Vek};

const CSP: &str = "CN=cc-simulated.example";

/// The good Milan guest but for this change of it.
fn with(change: impl FnOnce(&mut Config)) -> Seen {
    good().judge().accepted();
    let mut config = Config::new(Product::Milan);
    change(&mut config);
    seen(&MILAN, config)
}

/// The good Milan case but for this change of what the client has.
fn after(change: impl FnOnce(&mut Seen)) -> Seen {
    let mut case = good();
    case.judge().accepted();
    change(&mut case);
    case
}

/// The good Milan case, but its report says something else and is correctly signed again.
fn forged(change: impl FnOnce(&mut [u8; SIGNED_LEN])) -> Seen {
    after(|case| case.attest = attest(&case.sp, &case.leaf, &case.bind, 1, change))
}

fn vlek() -> Vek {
    Vek::Vlek { csp: CSP.to_owned() }
}

/// A policy for VLEKs of [`CSP`].
fn accept_vlek(case: &mut Seen) {
    case.replace_policy("signing_keys = [\"vcek\"]", &format!("signing_keys = [\"vlek\"]\ncsp = [\"{CSP}\"]"));
}

#[test]
fn plat_n01_refuses_a_guest_that_the_host_may_debug() {
    with(|guest| guest.policy |= 1 << 19).judge().refused_for("R_DEBUG");
}

#[test]
fn plat_n02_refuses_a_guest_that_a_migration_agent_may_move() {
    with(|guest| guest.policy |= 1 << 18).judge().refused_for("R_MIG");
}

#[test]
fn plat_n02_the_opt_in_covers_only_a_guest_without_an_agent() {
    let opt_in = |agent: [u8; 32]| {
        let mut case = with(|guest| {
            guest.policy |= 1 << 18;
            guest.report_id_ma = ReportId::from_bytes(agent);
        });
        case.snp_policy("migrate_ma = \"allow-unused\"");
        case.judge()
    };
    opt_in([0xFF; 32]).accepted_with("R_MIG", Severity::Warning);
    opt_in([0x11; 32]).refused_for("R_MIG");
}

#[test]
fn plat_n03_refuses_a_report_of_less_privileged_code() {
    for vmpl in 1..=3 {
        with(|guest| guest.vmpl = vmpl).judge().refused_for("R_VMPL");
    }
}

#[test]
fn plat_n04_a_device_that_answers_for_another_vmpl_than_0_is_not_believed() {
    // `sev` asks for VMPL 1 where nothing is said; the attester says 0, and looks whether it got that.
    use attester::{DeviceError, DeviceReport};
    let answer = |vmpl| {
        let case = with(|guest| guest.vmpl = vmpl);
        let report = case.sp.report_with(&[7; 64], |_| ());
        DeviceReport::over(&[7; 64], report, Vec::new()).and_then(|report| report.at_vmpl(0))
    };
    assert!(answer(0).is_ok());
    assert!(matches!(answer(1), Err(DeviceError::WrongVmpl { seen: 1, wanted: 0 })));
}

#[test]
fn plat_n05_refuses_the_evidence_of_another_connection() {
    after(|case| case.bind = Bind32::from_exporter([0xB2; 32])).judge().refused_for("B_CHANNEL");
}

#[test]
fn plat_n05_refuses_an_older_report_of_the_same_guest() {
    after(|case| {
        let mut newer = attest(&case.sp, &case.leaf, &case.bind, 2, |_| ());
        newer.hardware = case.attest.hardware.clone();
        case.attest = newer;
    })
    .judge()
    .refused_for("R_FRESH");
}

#[test]
fn plat_n05_compares_every_byte_of_report_data() {
    for i in 0..64 {
        let case = good();
        let changed = attest(&case.sp, &case.leaf, &case.bind, 1, |report| report[0x50 + i] ^= 1);
        Seen { attest: changed, ..case }.judge().refused_for("R_FRESH");
    }
    good().judge().accepted();
}

#[test]
fn plat_n06_refuses_a_report_that_names_only_the_key() {
    after(|case| {
        let spki = *ratls::cert::spki_digest(&case.leaf).unwrap().as_bytes();
        case.attest = attest(&case.sp, &case.leaf, &case.bind, 1, |report| {
            report[0x50..0x90].fill(0);
            report[0x50..0x70].copy_from_slice(&spki);
        });
    })
    .judge()
    .refused_for("R_FRESH");
}

#[test]
fn plat_n07_refuses_a_masked_chip_key() {
    // As firmware does it, with a signature of zeros; then with a real signature, to see that the bit alone suffices.
    after(|case| {
        let mut config = case.sp.config().clone();
        config.mask_chip_key = true;
        let mut masked = simulator::SimulatedAmdSp::new(&MILAN, config);
        *case.report() = masked.report(binder(&case.attest.statement).as_bytes()).unwrap();
    })
    .judge()
    .refused_for("R_MASK");
    forged(|report| report[0x48] |= 1 << 1).judge().refused_for("R_MASK");
    // SIGNING_KEY 7: signed by none.
    forged(|report| report[0x48] |= 7 << 2).judge().refused_for("R_MASK");
}

#[test]
fn plat_n08_refuses_a_report_without_chip_id_under_a_vcek() {
    forged(|report| report[0x1A0..0x1E0].fill(0)).judge().refused_for("E_CHIP_ID");
}

#[test]
fn plat_n08_refuses_a_report_of_another_chip() {
    forged(|report| report[0x1DF] ^= 1).judge().refused_for("E_CHIP_ID");
}

#[test]
fn plat_n08_accepts_a_report_without_chip_id_under_a_vlek_but_not_as_a_machine() {
    let mut case = with(|guest| guest.vek = vlek());
    accept_vlek(&mut case);
    case.judge().accepted();
    case.replace_policy("\"vlek\"]", "\"vlek\", \"vcek\"]");
    let machine = format!("[identity]\nchip_ids = [\"{}\"]", case.sp.chip_id());
    case.replace_policy("identity = \"any\"", &machine);
    case.judge().refused_for("I_VLEK");
}

#[test]
fn plat_n09_refuses_a_vlek_where_the_policy_wants_a_vcek() {
    with(|guest| guest.vek = vlek()).judge().refused_for("R_KEYSEL");
}

#[test]
fn plat_n09_refuses_a_report_that_names_the_other_kind_of_key() {
    // SIGNING_KEY says VLEK, the certificate is of a VCEK.
    forged(|report| report[0x48] |= 1 << 2).judge().refused_for("R_KEYSEL");
}

#[test]
fn plat_n10_refuses_a_vlek_of_another_cloud() {
    let under = |csp: &str| {
        let mut case = with(|guest| guest.vek = Vek::Vlek { csp: csp.to_owned() });
        accept_vlek(&mut case);
        case.judge()
    };
    under(CSP).accepted();
    for other in ["CN=cc-simulated.example.org", "CN=cc-simulated", "cn=cc-simulated.example"] {
        under(other).refused_for("I_CSP");
    }
}

#[test]
fn plat_n11_refuses_a_genuine_key_of_an_older_tcb() {
    with(|guest| guest.reported_tcb.snp -= 1).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n11_refuses_a_guest_that_was_launched_on_an_older_tcb() {
    let mut case = with(|guest| guest.launch_tcb.snp -= 1);
    case.judge().accepted();
    case.policy.push_str("[snp.minimum_launch_tcb]\nmilan = { bl = 4, tee = 0, snp = 24, ucode = 219 }\n");
    case.judge().refused_for_the("launch_tcb", "R_TCB");
}

#[test]
fn plat_n11_refuses_a_certificate_of_another_tcb_than_the_report() {
    after(|case| {
        let mut leaf = case.sp.leaf_template();
        let spl = leaf.extensions.iter_mut().find(|e| e.oid.ends_with(&[3, 3])).unwrap();
        *spl = simulator::Extension::integer(&[3, 3], 25);
        *case.vek() = MILAN.issue(&leaf);
    })
    .judge()
    .refused_for("R_TCB");
}

#[test]
fn plat_n12_a_higher_component_does_not_make_up_for_a_lower_one() {
    // As numbers these are far above the floor: microcode is the highest byte.
    let case = with(|guest| {
        for tcb in [&mut guest.reported_tcb, &mut guest.committed_tcb, &mut guest.current_tcb] {
            (tcb.snp, tcb.microcode) = (0, 255);
        }
    });
    let judgement = case.judge();
    let fatal: Vec<_> = judgement.findings.iter().filter(|f| f.severity() == Severity::Fatal).collect();
    assert!(fatal.iter().all(|f| f.id() == "R_TCB") && fatal.len() == 2, "{judgement:?}");
}

#[test]
fn plat_n12_a_turin_tcb_is_read_as_turins() {
    let turin = roots(Product::Turin);
    seen(&turin, Config::new(Product::Turin)).judge().accepted();
    // Its SNP version stands in a byte that Milan's layout does not look at.
    let mut older = Config::new(Product::Turin);
    older.reported_tcb.snp -= 1;
    seen(&turin, older).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n12_a_product_without_a_floor_is_refused() {
    let mut case = with(|_| ());
    case.replace_policy("milan = {", "genoa = {");
    case.judge().refused_for_the("product", "R_TCB");
}

#[test]
fn plat_n13_floors_hold_for_what_the_host_can_go_back_to() {
    with(|guest| guest.committed_tcb.snp -= 1).judge().refused_for_the("committed_tcb", "R_TCB");
}

#[test]
fn plat_n13_refuses_a_tcb_above_the_one_that_runs() {
    let beyond = with(|guest| guest.current_tcb.snp -= 1);
    beyond.judge().refused_for("R_TCB");
}

#[test]
fn plat_n13_shows_provisional_firmware() {
    with(|guest| guest.current_tcb.snp += 1).judge().accepted_with("R_TCB", Severity::Warning);
}

#[test]
fn plat_n14_shows_smt_and_refuses_it_where_the_policy_says_so() {
    good().judge().accepted_with("R_PLATFORM", Severity::Info);
    // Off on the machine, but allowed to come back; then neither.
    let mut case = with(|guest| guest.platform_info &= !1);
    case.replace_policy("smt = \"allow\"", "smt = \"refuse\"");
    case.judge().refused_for("R_POLICY");
    let mut case = with(|guest| {
        guest.platform_info &= !1;
        guest.policy &= !(1 << 16);
    });
    case.replace_policy("smt = \"allow\"", "smt = \"refuse\"");
    case.judge().accepted();
}

#[test]
fn plat_n14_refuses_missing_restrictions_that_the_policy_requires() {
    for (name, bit) in [
        ("single-socket", 20),
        ("mem-aes-256-xts", 22),
        ("rapl-disabled", 23),
        ("ciphertext-hiding", 24),
        ("page-swap-disabled", 25),
    ] {
        let require = |mut case: Seen| {
            case.snp_policy(&format!("require_policy = [\"{name}\"]"));
            case.judge()
        };
        require(with(|guest| guest.policy |= 1 << bit)).accepted();
        require(good()).refused_for("R_POLICY");
    }
    for (name, bit) in [("rapl-disabled", 3), ("ciphertext-hiding", 4)] {
        let require = |mut case: Seen| {
            case.snp_policy(&format!("require_platform_info = [\"{name}\"]"));
            case.judge()
        };
        require(with(|guest| guest.platform_info |= 1 << bit)).accepted();
        require(good()).refused_for("R_PLATFORM");
    }
}

#[test]
fn plat_n15_shows_memory_that_was_not_checked_for_aliases_and_refuses_it_on_demand() {
    let mut case = with(|guest| guest.platform_info &= !(1 << 5));
    case.judge().accepted_with("R_PLATFORM", Severity::Warning);
    case.snp_policy("require_platform_info = [\"alias-check-complete\"]");
    case.judge().refused_for("R_PLATFORM");
    after(|case| case.snp_policy("require_platform_info = [\"alias-check-complete\"]")).judge().accepted();
}

#[test]
fn plat_n16_refuses_a_product_that_the_policy_distrusts() {
    after(|case| case.snp_policy("distrust_products = [\"genoa\"]")).judge().accepted();
    after(|case| case.snp_policy("distrust_products = [\"milan\"]")).judge().refused_for("R_PRODUCT");
}

#[test]
fn plat_n17_refuses_microcode_below_the_floor() {
    with(|guest| guest.reported_tcb.microcode -= 1).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n18_refuses_missing_mitigations() {
    for (key, change) in [
        ("launch", (|guest| guest.launch_mit_vector = 0x3D) as fn(&mut Config)),
        ("current", |guest| guest.current_mit_vector = 0x3D),
    ] {
        let require = |report_version, change: fn(&mut Config)| {
            let mut case = with(|guest| {
                guest.report_version = report_version;
                change(guest);
            });
            case.snp_policy(&format!("mitigations = {{ {key} = 0x2 }}"));
            case.judge()
        };
        require(5, |_| ()).accepted();
        require(5, change).refused_for("R_MITIGATION");
        // Reports of an older version have no such field.
        require(3, |_| ()).refused_for("R_MITIGATION");
    }
}

#[test]
fn plat_n19_an_id_block_that_nobody_pinned_proves_no_owner() {
    let case = with(|guest| guest.id_key_digest = KeyDigest::from_bytes([0x33; 48]));
    let judgement = case.judge();
    judgement.accepted_with("R_ID", Severity::Cap);
    assert_eq!(judgement.identity, Identity::Any);
}

#[test]
fn plat_n19_only_the_pinned_key_is_the_owner() {
    let under = |digest: [u8; 48]| {
        let mut case = with(|guest| guest.id_key_digest = KeyDigest::from_bytes(digest));
        let owner = format!("[identity.launch_identity]\nid_key_digest = \"{}\"\nmin_guest_svn = 0", "33".repeat(48));
        case.replace_policy("identity = \"any\"", &owner);
        case.judge()
    };
    let owned = under([0x33; 48]);
    owned.accepted_without("R_ID");
    assert_eq!(owned.identity, Identity::Owner);
    under([0x34; 48]).refused_for("I_LAUNCH");
    under([0; 48]).refused_for("I_LAUNCH");
}

#[test]
fn plat_n20_host_data_proves_nothing_without_the_measurement() {
    let named = HostData::from_bytes([0x66; 32]);
    let mut case = with(|guest| guest.host_data = named);
    case.snp_policy(&format!("host_data = [\"{named}\"]"));
    case.judge().accepted();
    let measurement = case.sp.config().measurement.to_string();
    case.replace_policy(&measurement, &"ab".repeat(48));
    case.judge().refused_for("R_LD");
}

#[test]
fn plat_n20_host_data_is_compared_where_it_is_named_and_nowhere_else() {
    let mut case = with(|guest| guest.host_data = HostData::from_bytes([0x67; 32]));
    case.judge().accepted();
    case.snp_policy(&format!("host_data = [\"{}\"]", "66".repeat(32)));
    case.judge().refused_for("R_HOST");
}

#[test]
fn plat_n21_refuses_a_root_that_comes_with_the_evidence() {
    let theirs = roots(Product::Milan);
    let mut case = seen(&theirs, Config::new(Product::Milan));
    case.judge().accepted();
    case.roots = good().roots;
    case.judge().refused_for("E_ROOT");
    // It sends its root too; a root of the right name makes no difference.
    case.attest.endorsements.push(certificate(theirs.certificate(Authority::Ark).to_vec()));
    case.judge().refused_for("E_ROOT");
}

#[test]
fn plat_n21_refuses_a_simulators_root_that_the_policy_does_not_name() {
    let case = after(|case| case.roots = ratls::endorsement::TrustAnchors::amd());
    case.judge().refused_for("E_ROOT");
    // Verified under another policy's roots, it is still refused by a policy that names none.
    after(|case| case.replace_policy("[roots]\nsimulator = \"root.pem\"\n", "")).judge().refused_for("S_SIMULATED");
}

/// Replaces the stapled list; `None` takes it away.
fn staple(case: &mut Seen, crl: Option<Vec<u8>>) {
    case.attest.endorsements.retain(|e| e.media_type != media::CRL);
    case.attest
        .endorsements
        .extend(crl.map(|bytes| ratls::wire::attest::Endorsement { media_type: media::CRL.to_owned(), bytes }));
}

fn one_hour(secs: i64) -> (UnixTime, UnixTime) {
    (UnixTime::from_secs(NOW.as_secs() + secs), UnixTime::from_secs(NOW.as_secs() + secs + 3600))
}

#[test]
fn plat_n22_a_missing_list_is_shown_and_refused_where_it_is_required() {
    let mut case = after(|case| staple(case, None));
    case.judge().accepted_with("E_CRL_ABSENT", Severity::Warning);
    case.policy.push_str("[endorsements]\ncrl = \"require\"\n");
    case.judge().refused_for("E_CRL_ABSENT");
    after(|case| case.policy.push_str("[endorsements]\ncrl = \"require\"\n")).judge().accepted_without("E_CRL_ABSENT");
}

#[test]
fn plat_n22_refuses_a_stale_list_and_one_of_the_future() {
    for offset in [-3601, 1] {
        let (this_update, next_update) = one_hour(offset);
        let case = after(|case| staple(case, Some(MILAN.crl(&[], this_update, next_update))));
        case.judge().refused_for("E_CRL");
    }
    let (this_update, next_update) = one_hour(-1800);
    after(|case| staple(case, Some(MILAN.crl(&[], this_update, next_update)))).judge().accepted();
}

#[test]
fn plat_n22_refuses_a_list_that_the_root_did_not_sign() {
    let forged = roots(Product::Milan).crl(&[], Validity::LONG.not_before, Validity::LONG.not_after);
    after(|case| staple(case, Some(forged))).judge().refused_for("E_CRL");
}

#[test]
fn plat_n22_refuses_a_key_whose_issuer_was_revoked() {
    let (this_update, next_update) = one_hour(-1800);
    let revoked = MILAN.crl(&[MILAN.serial(Authority::Ask)], this_update, next_update);
    after(|case| staple(case, Some(revoked))).judge().refused_for("E_REVOKED");
}

#[test]
fn plat_n23_a_certificate_table_is_read_within_its_bounds_only() {
    let sp = good().sp;
    let table = sp.certificate_table();
    let parsed = CertificateTable::parse(&table).unwrap();
    assert!(parsed.certificates().eq(sp.certificates().iter().map(Vec::as_slice)));

    let patched = |offset: usize, value: u32| {
        let mut table = table.clone();
        table[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        CertificateTable::parse(&table).map(drop)
    };
    // Offset and length of the first entry stand at 16 and 20.
    let length = u32::try_from(table.len()).unwrap();
    for (offset, value) in [(16, u32::MAX), (16, length), (16, 0), (20, u32::MAX), (20, length)] {
        let refused = patched(offset, value);
        assert!(matches!(refused, Err(TableError::Bounds { index: 0, .. })), "{offset} {value}: {refused:?}");
    }
}

#[test]
fn plat_n23_a_certificate_table_has_everything_once_and_an_end() {
    let twice = certificate_table(&[(guid::VCEK, b"one"), (guid::VCEK, b"two")]);
    assert_eq!(CertificateTable::parse(&twice), Err(TableError::Duplicate { item: TableItem::Vcek }));

    // Twice something that nobody uses is nobody's business.
    let unknown = certificate_table(&[([9; 16], b"one"), ([9; 16], b"two"), (guid::VCEK, b"three")]);
    assert_eq!(CertificateTable::parse(&unknown).unwrap().get(TableItem::Vcek), Some(&b"three"[..]));

    let whole = certificate_table(&[(guid::VCEK, b"")]);
    assert!(CertificateTable::parse(&whole).is_ok());
    for cut in 1..whole.len() {
        assert_eq!(CertificateTable::parse(&whole[..cut]), Err(TableError::Unterminated), "{cut}");
    }
    let large = certificate_table(&[(guid::VCEK, &[0; 0x4000])]);
    assert_eq!(CertificateTable::parse(&large), Err(TableError::TooLarge { seen: large.len() }));
}

#[test]
fn plat_n24_two_reports_with_the_same_fields_but_other_bytes_are_not_the_same() {
    // Bit 6 of platform_info has no name and no reader, so a parser and encoder of fields would lose the change.
    after(|case| case.report()[0x40] ^= 1 << 6).judge().refused_for("R_SIG");
    forged(|report| report[0x40] ^= 1 << 6).judge().accepted();
}

#[test]
fn plat_n24_reserved_bytes_refuse_even_where_they_are_signed() {
    for reserved in [0x4C, 0x18B, 0x1EB, 0x1EF, 0x1F8, 0x208, 0x29F] {
        let mut case = forged(|report| report[reserved] = 1);
        let report = case.report().clone();
        assert_eq!(refusal(&case, &report), "R_RESERVED", "{reserved:#x}");
    }
}

#[test]
fn plat_n24_no_byte_of_a_report_can_be_changed() {
    let mut case = good();
    let report = case.report().clone();
    for i in 0..report.len() {
        for mask in [0x01, 0x80] {
            let mut changed = report.clone();
            changed[i] ^= mask;
            let refused = refusal(&case, &changed);
            assert!(refused.starts_with("R_") || refused.starts_with("E_"), "{i:#x}: {refused}");
        }
    }
}

/// Why the verifier refuses this report under the certificates of this case, whatever connection it came over.
fn refusal(case: &Seen, report: &[u8]) -> &'static str {
    let certificates: Vec<&[u8]> = case.attest.endorsements[..2].iter().map(|e| e.bytes.as_slice()).collect();
    ratls::verify::verify_report(report, &certificates, &[], &case.roots, NOW).unwrap_err().id()
}
