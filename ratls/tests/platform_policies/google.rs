//! Google's machines: the certificate of the vTPM's key, registers, and the endorsement of the firmware.

use super::*;

const VENDOR: &str = "require_roots = [\"amd\", \"csp\"]\n[identity.tpm]\ngce_instance_ids = [\"7\"]";

pub(super) fn gcp(lab: &Lab) -> Guest {
    gcp_with(lab, "")
}

/// With this among the extensions of its key's certificate.
pub(super) fn gcp_with(lab: &Lab, extensions: &str) -> Guest {
    lab.root("/CN=EK\\/AK CA Root", P256, &["-sha256"]);
    let mut tpm = SoftTpm::gce();
    tpm.pcrs.insert(0, hex::decode(PCR0).unwrap());
    let subject = "/O=Google Compute Engine/L=z/OU=p/CN=7";
    let leaf = lab.leaf(subject, &format!("{LEAF}\n{INSTANCE}\n{extensions}"), Some(&tpm.spki()), P256, &["-sha256"]);
    let mut guest = Guest::of(sp().report(&B).unwrap(), lab.anchors());
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    guest.certificates.push(leaf);
    guest
}

#[test]
fn a_guest_of_google_is_accepted_and_said_to_rest_on_google() {
    let lab = Lab::new("gcp");
    let guest = gcp(&lab);
    let more = "[gcp]\nprojects = [\"p\"]\nzones = [\"z\"]\n[tpm]\nrequire_pcrs = [7]\n";
    let result = guest.judge(&policy("gcp-snp", &guest.report, VENDOR, more));
    accepted(&result);
    assert!(result.findings().iter().any(|f| f.id() == "T_VENDOR" && f.severity() == Severity::Warning));
    assert_eq!(result.identity().as_str(), "tpm");
    assert!(result.simulated());
}

#[test]
fn plat_n33_another_instance_project_or_zone_of_google_is_refused() {
    let lab = Lab::new("gcp-place");
    let guest = gcp(&lab);
    let judge = |identity: &str, more: &str| fatal(&guest.judge(&policy("gcp-snp", &guest.report, identity, more)));
    assert_eq!(judge("[identity.tpm]\ngce_instance_ids = [\"8\"]", ""), ["I_TPM"]);
    assert_eq!(judge("[identity.tpm]\nec2_instance_ids = [\"i-07\"]", ""), ["I_TPM"], "a list of another cloud");
    assert_eq!(judge(ANY, "[gcp]\nprojects = [\"q\"]\n"), ["G_PROJECT"]);
    assert_eq!(judge(ANY, "[gcp]\nzones = [\"y\"]\n"), ["G_ZONE"]);
}

#[test]
fn registers_that_differ_or_are_missing_are_refused() {
    let lab = Lab::new("gcp-pcrs");
    let mut guest = gcp(&lab);
    let judge = |guest: &Guest, more: &str| fatal(&guest.judge(&policy("gcp-snp", &guest.report, ANY, more)));
    let value = hex::encode(guest.tpm.as_ref().unwrap().pcrs.get(&4).unwrap());
    assert!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{value}\"\n")).is_empty());
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{}\"\n", "11".repeat(32))), ["T_PCR"]);
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha384]\n4 = \"{}\"\n", "11".repeat(48))), ["T_BANK"]);
    assert_eq!(judge(&guest, "[tpm]\nbanks = [\"sha384\"]\n"), ["T_BANK"]);
    guest.tpm.as_mut().unwrap().pcrs.remove(&4);
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{value}\"\n")), ["Q_SEL"]);
    assert_eq!(judge(&guest, "[tpm]\nrequire_pcrs = [4]\n"), ["Q_SEL"]);
    guest.tpm.as_mut().unwrap().pcrs.insert(0, vec![7; 32]);
    assert_eq!(judge(&guest, ""), ["G_PCR0"], "firmware that ran under something else");
    assert!(judge(&guest, "[gcp]\npcr0 = \"not compared\"\n").is_empty());
}

#[test]
fn a_quote_that_nobody_vouches_for_is_of_another_report_or_missing_is_refused() {
    let lab = Lab::new("gcp-quote");
    let mut guest = gcp(&lab);
    let judge = |guest: &Guest, identity: &str, more: &str| {
        fatal(&guest.judge(&policy("gcp-snp", &guest.report, identity, more)))
    };
    let leaf = guest.certificates.pop().unwrap();
    assert_eq!(judge(&guest, ANY, ""), ["T_AK_UNPROVEN"]);
    assert_eq!(judge(&guest, VENDOR, ""), ["T_AK_UNPROVEN", "T_ROOTS", "I_TPM"]);
    guest.certificates.push(leaf);
    guest.question = question(&sp().report(&[1; 64]).unwrap());
    assert_eq!(judge(&guest, ANY, ""), ["T_UNBOUND"], "the quote names another report");
    guest.tpm = None;
    guest.ak = None;
    // A report alone does not say of which cloud it is; under this policy it lacks the vTPM.
    assert_eq!(judge(&guest, ANY, ""), ["T_MISSING"]);
}

fn proto(number: u8, contents: &[u8]) -> Vec<u8> {
    let (mut len, mut length) = (contents.len(), vec![]);
    while len >= 0x80 {
        length.push(u8::try_from(len & 0x7F).unwrap() | 0x80);
        len >>= 7;
    }
    length.push(u8::try_from(len).unwrap());
    [vec![number << 3 | 2], length, contents.to_vec()].concat()
}

#[test]
fn plat_n51_an_endorsement_is_of_this_measurement_and_not_too_old() {
    let lab = Lab::new("gcp-endorsement");
    let mut guest = gcp(&lab);
    let firmware = Lab::new("gcp-firmware");
    firmware.root("/CN=GCE-cc-tcb-root", RSA, PSS);
    let signer = firmware.leaf("/CN=signer", LEAF, None, RSA, PSS);
    let endorse = |measurement: &[u8]| {
        let entry = proto(2, &[vec![0x08, 2], proto(2, measurement)].concat());
        let snp = proto(7, &[vec![0x08, 3], entry].concat());
        // 1,750,000,000 s, June 2025.
        let time = proto(1, &[0x08, 0x80, 0xE7, 0xBB, 0xC2, 0x06]);
        let golden = [time, proto(4, &signer), proto(5, &[5; 48]), snp].concat();
        firmware.write("golden", &golden);
        let sign = ["dgst", "-sign", "leaf.key", "-out", "sig"];
        firmware.openssl(&[&sign[..], PSS, &["golden"]].concat());
        [proto(1, &golden), proto(2, &firmware.read("sig"))].concat()
    };
    let measurement = *Report::parse(&guest.report).unwrap().measurement().as_bytes();
    guest.anchors = guest.anchors.with_gce_firmware_root(&firmware.read("root.pem")).unwrap();
    guest.endorsement = Some(endorse(&measurement));
    let judge = |guest: &Guest, more: &str| {
        let rules = format!("[gcp]\nendorsement_root = \"tcb.crt\"\n{more}");
        fatal(&guest.judge(&policy("gcp-snp", &guest.report, ANY, &rules)))
    };
    assert!(judge(&guest, "min_svn = 3\nendorsed_not_before = \"2025-06-01T00:00:00Z\"\n").is_empty());
    assert_eq!(judge(&guest, "min_svn = 4\n"), ["G_SVN"]);
    assert_eq!(judge(&guest, "endorsed_not_before = \"2025-07-01T00:00:00Z\"\n"), ["G_OLD"]);
    guest.endorsement = Some(endorse(&[9; 48]));
    assert_eq!(judge(&guest, ""), ["G_MEASUREMENT"], "an endorsement of another firmware");
    guest.endorsement = None;
    assert_eq!(judge(&guest, ""), ["G_MISSING"]);
}
