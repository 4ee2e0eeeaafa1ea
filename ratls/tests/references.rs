//! `[[reference]]` in policies: what files in hand and rebuilds make of a launch digest. The evidence is a simulated report with
//! the digest of the files, through the real verifier, and one that hardware signed.

#![allow(clippy::unwrap_used)]

#[path = "shared/mod.rs"]
mod shared;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ratls::appraise::levels::{Cell, Component, Level};
use ratls::appraise::{AttestationResult, appraise};
use ratls::crypto::sha256;
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::Measurement;
use ratls::policy::{AppraisalPolicy, FileProblem, PolicyError, ReferenceFiles};
use ratls::reference::VerityFormat;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{Root, VerifiedEvidence, verify_report};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The files beside a policy.
#[derive(Clone, Default)]
struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    fn with(mut self, name: &'static str, bytes: &[u8]) -> Files {
        self.0.insert(name, bytes.to_vec());
        self
    }
}

impl ReferenceFiles for Files {
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem> {
        let bytes = self.0.get(name).ok_or_else(|| FileProblem(format!("cannot read {name}")))?;
        assert!(bytes.len() <= max);
        Ok(bytes.clone())
    }
    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        self.read(name, usize::MAX)?.chunks(1000).for_each(each);
        Ok(())
    }
}

/// An image in edk2's layout, with or without a section for kernel hashes.
fn firmware(takes_hashes: bool) -> Vec<u8> {
    let mut metadata = b"ASEV".to_vec();
    let mut sections = vec![(0x80_0000_u32, 0x9000_u32, 1_u32), (0x80_D000, 0x1000, 2), (0x80_E000, 0x1000, 3)];
    if takes_hashes {
        sections.push((0x81_0000, 0x1000, 0x10));
    }
    let count = u32::try_from(sections.len()).unwrap();
    metadata.extend([16 + 12 * count, 1, count].map(u32::to_le_bytes).concat());
    metadata.extend(sections.iter().flat_map(|(gpa, size, kind)| [*gpa, *size, *kind].map(u32::to_le_bytes).concat()));
    let entry = |data: &[u8], guid: &str| {
        let size = u16::try_from(data.len() + 18).unwrap();
        [data, &size.to_le_bytes(), &hex::decode(guid).unwrap()].concat()
    };
    let mut table = [
        entry(&1024_u32.to_le_bytes(), "666588dc4a989847a75e5585a7bf67cc"),
        entry(&[0x81_0C00_u32, 0x400].map(u32::to_le_bytes).concat(), "1f3755723b3a044b927b1da6efa8d454"),
        entry(&0x80_B004_u32.to_le_bytes(), "de71f7007e1acb4f890e68c77e2fb44e"),
    ]
    .concat();
    let size = u16::try_from(table.len() + 18).unwrap();
    table.extend(size.to_le_bytes());
    table.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());
    let mut image = vec![7; 8192];
    let end = image.len();
    image[end - 1024..][..metadata.len()].copy_from_slice(&metadata);
    image[end - 32 - table.len()..end - 32].copy_from_slice(&table);
    image
}

fn files() -> Files {
    Files::default().with("OVMF.fd", &firmware(true)).with("vmlinuz", b"a kernel").with("initrd.img", b"an initrd")
}

const GUEST: &str = r#"
[[reference]]
kind = "launch"
firmware = "OVMF.fd"
kernel = "vmlinuz"
initrd = "initrd.img"
cmdline = "console=ttyS0 ro"
kernel_hashes = "enforced by this firmware"
vmm = ["qemu"]
vcpus = [1, 2]
vcpu_types = ["EPYC-v4"]
"#;

fn text(references: &str, snp: &str) -> String {
    format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[roots]\nsimulator = \"root.pem\"\n[snp]\n{snp}\n\
         signing_keys = [\"vcek\"]\nsmt = \"allow\"\n[snp.minimum_tcb.milan]\nbl = 3\ntee = 0\nsnp = 20\nucode = 200\n{references}"
    )
}

fn load(references: &str, files: &Files) -> Result<AppraisalPolicy, PolicyError> {
    let mut policy = AppraisalPolicy::parse(&text(references, ""), "policy.toml")?;
    policy.load_references(&mut files.clone())?;
    Ok(policy)
}

fn policy(references: &str, files: &Files) -> AppraisalPolicy {
    load(references, files).unwrap_or_else(|e| panic!("{e}"))
}

/// The digest of the second machine that the policy allows.
fn digest(policy: &AppraisalPolicy) -> Measurement {
    policy.only().unwrap().references().launches()[0].digests().last().unwrap()
}

fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

/// What becomes of a report with this launch digest.
fn judged(policy: &AppraisalPolicy, measurement: Measurement) -> AttestationResult {
    let mut config = Config::new(Product::Milan);
    config.measurement = measurement;
    let mut sp = SimulatedAmdSp::new(pki(), config);
    let report = sp.report(&[7; 64]).unwrap();
    let (certificates, crl) = (sp.certificates(), sp.crl());
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let anchors = TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap();
    let report = verify_report(&report, &certificates, &[&crl], &anchors, NOW).unwrap();
    appraise(Some(policy), VerifiedEvidence::offline(report, NOW))
}

fn cell(result: &AttestationResult, component: Component) -> &Cell {
    result.levels_if_fresh().cell(component)
}

#[track_caller]
fn levels(result: &AttestationResult) -> [u8; 4] {
    Component::ALL.map(|component| match cell(result, component).level() {
        Level::L0 => 0,
        Level::L1 => 1,
        Level::L2 => 2,
        Level::L3 => 3,
        Level::L4 => 4,
    })
}

fn is_fatal(result: &AttestationResult, id: &str) -> bool {
    result.findings().iter().any(|f| f.id() == id && f.severity() == ratls::appraise::Severity::Fatal)
}

#[test]
fn files_in_hand_are_worth_level_3_up_to_the_kernel() {
    let policy = policy(GUEST, &files());
    let result = judged(&policy, digest(&policy));
    assert!(!is_fatal(&result, "R_LD"), "{result}");
    assert_eq!(levels(&result), [3, 3, 3, 0], "{result}");
    let kernel = cell(&result, Component::Kernel);
    assert_eq!(kernel.anchor(), Some(Root::AmdSp));
    let in_hand: Vec<_> = kernel.proof().unwrap().in_hand().iter().map(|a| a.name.as_str()).collect();
    assert_eq!(in_hand, ["OVMF.fd", "vmlinuz", "initrd.img", "console=ttyS0 ro"]);
    assert!(kernel.proof().unwrap().recipe().contains("2 vCPUs of type EPYC"), "{}", kernel.proof().unwrap().recipe());

    // One mutation: another kernel was launched.
    let other = self::policy(GUEST, &files().with("vmlinuz", b"another kernel"));
    let result = judged(&policy, digest(&other));
    assert!(is_fatal(&result, "R_LD"), "{result}");
    assert_eq!(levels(&result), [1, 0, 0, 0], "{result}");
}

#[test]
fn a_digest_in_place_of_a_file_is_level_2_for_that_component_only() {
    let sum = sha256(&[b"a kernel"]);
    let text = GUEST.replace("kernel = \"vmlinuz\"", &format!("kernel_sha256 = \"{sum}\""));
    let policy = policy(&text, &files());
    assert_eq!(digest(&policy), digest(&self::policy(GUEST, &files())), "the same guest");
    let result = judged(&policy, digest(&policy));
    assert_eq!(levels(&result), [3, 3, 2, 0], "{result}");
}

#[test]
fn plat_n26_without_the_claim_that_the_firmware_compares_hashes_the_kernel_is_level_0() {
    let text = GUEST.replace("kernel_hashes = \"enforced by this firmware\"\n", "");
    let policy = policy(&text, &files());
    let result = judged(&policy, digest(&policy));
    assert_eq!(levels(&result), [3, 0, 0, 0], "{result}");
    let notes = cell(&result, Component::Kernel).notes().join(" ");
    assert!(notes.contains("does not say that this firmware refuses another one"), "{notes}");
}

#[test]
fn plat_n25_a_recipe_without_a_kernel_covers_none_and_a_firmware_that_ignores_hashes_is_refused_with_one() {
    let alone = "[[reference]]\nkind = \"launch\"\nfirmware = \"OVMF.fd\"\nvmm = [\"ec2\"]\nvcpus = [1]\n";
    let policy = policy(alone, &files());
    let result = judged(&policy, digest(&policy));
    assert_eq!(levels(&result), [3, 0, 0, 0], "{result}");

    let error = load(GUEST, &files().with("OVMF.fd", &firmware(false))).unwrap_err().to_string();
    assert!(error.contains("policy.toml:") && error.contains("reference[0]"), "{error}");
    assert!(error.contains("its launch digest says nothing of the kernel"), "{error}");
}

#[test]
fn plat_n51_a_firmware_that_is_not_the_one_in_hand_is_refused() {
    let gce = "[[reference]]\nkind = \"launch\"\nfirmware = \"ovmf.fd\"\nvmm = [\"gce\", \"gce-genoa\"]\nvcpus = [1, 2, 4, 8]\n";
    let current = policy(gce, &Files::default().with("ovmf.fd", &firmware(false)));
    assert_eq!(levels(&judged(&current, digest(&current)))[0], 3);
    let mut older = firmware(false);
    older[0] ^= 1;
    let older = policy(gce, &Files::default().with("ovmf.fd", &older));
    let result = judged(&current, digest(&older));
    assert!(is_fatal(&result, "R_LD"), "{result}");
    assert_eq!(levels(&result)[0], 1);
}

#[test]
fn plat_n27_a_policy_names_at_most_64_machines() {
    let counts: Vec<_> = (1..=65).map(|n| n.to_string()).collect();
    let text = GUEST.replace("[1, 2]", &format!("[{}]", counts.join(", ")));
    let error = load(&text, &files()).unwrap_err();
    assert_eq!(error.key(), "reference[0].vcpus");
    assert!(error.to_string().contains("65 combinations"), "{error}");
    let eight = policy(&GUEST.replace("[1, 2]", "[8]"), &files());
    let why = policy(GUEST, &files()).only().unwrap().references().launches()[0].explain(&digest(&eight)).unwrap();
    assert_eq!(ratls::launch::would_match(&why), "it would match with vcpus = 8");
    let result = judged(&policy(GUEST, &files()), digest(&eight));
    let finding = result.findings().iter().find(|f| f.id() == "R_LD").unwrap();
    assert_eq!(finding.help(), "it would match with vcpus = 8");
}

#[test]
fn a_command_line_that_names_a_thing_twice_is_refused() {
    let root = "ab".repeat(32);
    let with = |cmdline: &str| {
        let text = GUEST.replace("console=ttyS0 ro", cmdline);
        load(&format!("{text}verity_key = \"verity_roothash\"\n"), &files())
    };
    assert!(with(&format!("ro verity_roothash={root}")).is_ok());
    for (cmdline, says) in [
        ("ro".to_owned(), "has no verity_roothash="),
        (format!("verity_roothash={root} verity_roothash={}", "cd".repeat(32)), "twice"),
        ("verity_roothash=abcd".to_owned(), "no root hash of 64 hex digits"),
    ] {
        let error = with(&cmdline).unwrap_err().to_string();
        assert!(error.contains(says), "{cmdline}: {error}");
    }
}

fn verity(image: &[u8]) -> (String, Files) {
    let mut hasher = VerityFormat::new(None, None, vec![0xAB]).unwrap().hasher();
    hasher.update(image);
    let root = hasher.finish().unwrap().root();
    let text = GUEST.replace("console=ttyS0 ro", &format!("ro verity_roothash={root}"));
    (format!("{text}verity_key = \"verity_roothash\"\n"), files().with("root.img", image))
}

const IMAGE: &str = "[[reference]]\nkind = \"verity\"\nimage = \"root.img\"\nsalt = \"ab\"\n";

#[test]
fn an_image_whose_root_hash_is_in_the_command_line_is_level_3_and_another_one_level_2() {
    let (guest, files) = verity(&[5; 3 * 4096]);
    let by_digest = policy(&guest, &files);
    assert_eq!(levels(&judged(&by_digest, digest(&by_digest))), [3, 3, 3, 2]);

    let with_image = policy(&format!("{guest}{IMAGE}"), &files);
    let result = judged(&with_image, digest(&with_image));
    assert_eq!(levels(&result), [3, 3, 3, 3], "{result}");
    let proof = cell(&result, Component::Userspace).proof().unwrap();
    assert_eq!(proof.in_hand()[0].sha256, sha256(&[&[5; 3 * 4096]]));

    let other = policy(&format!("{guest}{IMAGE}"), &files.with("root.img", &[6; 3 * 4096]));
    assert_eq!(levels(&judged(&other, digest(&other))), [3, 3, 3, 2]);
}

#[test]
fn a_build_of_one_s_own_lifts_what_it_made_and_nothing_above_it() {
    let build = |files: &[&[u8]]| {
        let sums: Vec<_> = files.iter().map(|bytes| format!("\"{}\"", sha256(&[bytes]))).collect();
        let (command, source) = ("nix build .#guest", "https://example.org/guest at 0123abc");
        format!(
            "[[reference]]\nkind = \"own-build\"\ncommand = \"{command}\"\nsource = \"{source}\"\nsha256 = [{}]\n",
            sums.join(", ")
        )
    };
    let image = [5; 2 * 4096];
    let (guest, files) = verity(&image);
    let firmware = firmware(true);
    let all: [&[u8]; 4] = [&firmware, b"a kernel", b"an initrd", &image];
    let judged = |built: &[&[u8]]| {
        let policy = policy(&format!("{guest}{IMAGE}{}", build(built)), &files);
        judged(&policy, digest(&policy))
    };
    let result = judged(&all);
    assert_eq!(levels(&result), [4, 4, 4, 4], "{result}");
    let source = cell(&result, Component::Firmware).source().unwrap();
    assert_eq!(source.rebuilds()[0].by(), ["own build: nix build .#guest"]);

    // The firmware is not rebuilt: it holds down what it enforces.
    let result = judged(&all[1..]);
    assert_eq!(levels(&result), [3, 3, 3, 3], "{result}");
    let notes = cell(&result, Component::Firmware).notes().join(" ");
    assert!(notes.contains("no rebuild of the firmware OVMF.fd"), "{notes}");
    assert_eq!(levels(&judged(&all[..3])), [4, 4, 4, 3]);
}

#[test]
fn a_userspace_in_the_initrd_stands_as_the_initrd_does() {
    let policy = policy(&format!("{GUEST}userspace = \"in the initrd\"\n"), &files());
    assert_eq!(levels(&judged(&policy, digest(&policy))), [3, 3, 3, 3]);
}

#[test]
fn listed_digests_are_level_2_with_their_provenance() {
    let seen = Measurement::from_bytes([9; 48]);
    for (from, says) in [("own", "you pinned"), ("vendor", "its maker signed"), ("learned", "learned from")] {
        let text = format!("[[reference]]\nkind = \"digest\"\nmeasurements = [\"{seen}\"]\nfrom = \"{from}\"\n");
        let policy = policy(&text, &Files::default());
        let result = judged(&policy, seen);
        assert!(!is_fatal(&result, "R_LD"), "{result}");
        assert_eq!(levels(&result), [2, 0, 0, 0], "{result}");
        let why = cell(&result, Component::Firmware).why();
        assert!(why.contains(says), "{from}: {why}");
    }
}

#[test]
fn a_guest_given_page_by_page_is_direct() {
    let list = "version = 1\n\
        [[page]]\ntype = \"normal\"\ngpa = 0x200000\nfile = \"loader\"\nfill = \"zeros\"\ncovers = \"firmware\"\n\
        [[page]]\ntype = \"normal\"\ngpa = 0x100000\nfile = \"vmlinuz\"\nfill = \"zeros\"\ncovers = \"kernel\"\n\
        [[page]]\ntype = \"normal\"\ngpa = 0x300000\nfile = \"initrd.img\"\nfill = \"zeros\"\ncovers = \"initrd\"\n\
        [[page]]\ntype = \"normal\"\ngpa = 0x400000\nbytes = \"726f00\"\nfill = \"zeros\"\ncovers = \"cmdline\"\n\
        [[page]]\ntype = \"vmsa\"\ngpa = 0xfffffffff000\nfile = \"vmsa\"\n";
    let files = files().with("pages.toml", list.as_bytes()).with("loader", b"a loader").with("vmsa", &[1; 4096]);
    let reference = "[[reference]]\nkind = \"pages\"\nlist = \"pages.toml\"\nuserspace = \"in the initrd\"\n";
    let policy = self::policy(reference, &files);
    let result = judged(&policy, digest(&policy));
    assert_eq!(levels(&result), [3, 3, 3, 3], "{result}");

    let without = files.clone().with("pages.toml", list.replace("covers = \"kernel\"\n", "").as_bytes());
    let policy = self::policy(reference, &without);
    let result = judged(&policy, digest(&policy));
    assert_eq!(levels(&result), [3, 3, 0, 3], "a recipe without a kernel covers none: {result}");
}

#[test]
fn a_reference_with_files_matches_nothing_before_they_are_loaded() {
    let loaded = policy(GUEST, &files());
    let unloaded = AppraisalPolicy::parse(&text(GUEST, ""), "policy.toml").unwrap();
    assert_eq!(unloaded.only().unwrap().references().files(), ["OVMF.fd", "vmlinuz", "initrd.img"]);
    let result = judged(&unloaded, digest(&loaded));
    assert!(is_fatal(&result, "R_LD"), "{result}");
}

#[test]
fn refuses_references_that_mean_nothing_or_two_things() {
    let with = |from: &str, to: &str| GUEST.replacen(from, to, 1);
    for (references, says) in [
        (with("kind = \"launch\"", "kind = \"guess\""), "\"launch\" or"),
        (with("kind = \"launch\"\n", ""), "reference[0].kind: missing"),
        (with("firmware = \"OVMF.fd\"\n", ""), "firmware = \"FILE\""),
        (with("firmware = \"OVMF.fd\"", "firmware = \"none.fd\""), "cannot read none.fd"),
        (with("cmdline = \"console=ttyS0 ro\"\n", ""), "cmdline: missing"),
        (with("kernel = \"vmlinuz\"\n", ""), "no effect beside the other keys"),
        (with("kernel_hashes = \"enforced by this firmware\"", "kernel_hashes = true"), "wanted a string"),
        (with("kernel_hashes = \"enforced by this firmware\"", "kernel_hashes = \"yes\""), "enforced by this firmware"),
        (with("vcpus = [1, 2]", "vcpus = []"), "empty list"),
        (with("vcpus = [1, 2]", "vcpus = [0]"), "number of vCPUs"),
        (with("vcpu_types = [\"EPYC-v4\"]", ""), "vcpu_types: missing"),
        (with("vcpu_types = [\"EPYC-v4\"]", "vcpu_types = [\"Opteron\"]"), "EPYC-v4"),
        (with("vmm = [\"qemu\"]", "vmm = [\"xen\"]"), "\"ec2\""),
        (with("initrd = \"initrd.img\"", "initrd = \"initrd.img\"\ninitrd_sha256 = \"11\""), "not both"),
        (with("vmm =", "userspace = \"in the initrd\"\nverity_key = \"x\"\nvmm ="), "in the initrd or in an image"),
        (with("vmm =", "firmwre = 1\nvmm ="), "unknown key"),
        ("[[reference]]\nkind = \"digest\"\nmeasurements = [\"00\"]\nfrom = \"own\"\n".to_owned(), "96 hex digits"),
        ("[[reference]]\nkind = \"own-build\"\ncommand = \"make\"\nsha256 = [\"11\"]\n".to_owned(), "source: missing"),
        (IMAGE.replace("salt = \"ab\"\n", ""), "salt"),
        (IMAGE.replace("\"ab\"", "\"a\""), "hex"),
        (IMAGE.replace("salt", "data_block_size = 1000\nsalt"), "power of two"),
    ] {
        let error = load(&references, &files()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    // Neither a list of digests nor a reference for them.
    let error = load(IMAGE, &files().with("root.img", &[0; 4096])).map(|_| ()).unwrap_err();
    assert_eq!(error.key(), "snp.measurements");
}

/// The report, its certificates, and the digests of everything that was launched stand beside each other. Nobody gave the files.
#[test]
fn a_report_that_hardware_signed_is_level_2_from_the_digests_beside_it() {
    let test = "a_report_that_hardware_signed_is_level_2_from_the_digests_beside_it";
    let Some(folder) = shared::folder(test) else { return };
    let case = shared::authentic(test).into_iter().find(|case| case.id == "milan-v3-vcek-a20e02a2").unwrap();
    let bytes = std::fs::read(folder.join("launch/sev_snp_attestation.bin")).unwrap();
    let start = bytes.windows(16).position(|w| w == b"{\"os_image_hash\"").unwrap();
    let mut stream = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<serde_json::Value>();
    let config = stream.next().unwrap().unwrap();
    let inputs: serde_json::Value = serde_json::from_str(config["sev_snp_measurement"].as_str().unwrap()).unwrap();
    let sections: Vec<_> = inputs["ovmf_sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{{ gpa = {}, size = {}, type = {} }}", s["gpa"], s["size"], s["section_type"]))
        .collect();
    let reference = format!(
        "[[reference]]\nkind = \"launch\"\nfirmware_digest = {}\n\
         layout = {{ reset_eip = {}, hash_table = {}, sections = [{}] }}\n\
         kernel_sha256 = {}\ninitrd_sha256 = {}\ncmdline = {}\nkernel_hashes = \"enforced by this firmware\"\n\
         vmm = [\"qemu\"]\nvcpus = [1, {}]\nvcpu_types = [{}]\nverity_key = \"dstack.rootfs_hash\"\nneutral_words = {}\n",
        inputs["ovmf_hash"],
        inputs["sev_es_reset_eip"],
        inputs["sev_hashes_table_gpa"],
        sections.join(", "),
        inputs["kernel_hash"],
        inputs["initrd_hash"],
        inputs["base_cmdline"],
        inputs["vcpus"],
        inputs["vcpu_type"],
        // What its initrd makes of these is known from its source; the line itself does not say it.
        serde_json::json!([
            "init=/init",
            "mce=off",
            "oops=panic",
            "pci=noearly",
            "pci=nommconf",
            "random.trust_cpu=y",
            "random.trust_bootloader=n",
            "no-kvmclock",
            "dstack.rootfs_size=490713088"
        ]),
    );
    let text = text(&reference, "").replace("[roots]\nsimulator = \"root.pem\"\n", "");
    let policy = AppraisalPolicy::parse(&text, "policy.toml").unwrap_or_else(|e| panic!("{e}"));
    let report = verify_report(&case.report, &case.certificates(), &[], &TrustAnchors::amd(), case.at()).unwrap();
    let result = appraise(Some(&policy), VerifiedEvidence::offline(report, case.at()));
    assert!(!is_fatal(&result, "R_LD"), "{result}");
    assert_eq!(levels(&result), [2, 2, 2, 2], "{result}");
    let why = cell(&result, Component::Firmware).why();
    assert!(why.contains("give the firmware file to reach L3"), "{why}");

    // One mutation: another kernel.
    let other = text.replacen("kernel_sha256 = \"dd", "kernel_sha256 = \"de", 1);
    assert_ne!(other, text);
    let policy = AppraisalPolicy::parse(&other, "policy.toml").unwrap();
    let report = verify_report(&case.report, &case.certificates(), &[], &TrustAnchors::amd(), case.at()).unwrap();
    let result = appraise(Some(&policy), VerifiedEvidence::offline(report, case.at()));
    assert!(is_fatal(&result, "R_LD"), "{result}");
}
