//! Azure's machines: what the paravisor says of itself.

use super::*;

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|i| text.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize])));
    }
    text
}

const VM: &str = "7df7b373-b947-4aaa-96e5-c358f2a03d20";
pub(super) const GOOD: &str = r#""console-enabled":false,"secure-boot":true,"tpm-enabled":true"#;

pub(super) fn azure(configuration: &str, user_data: bool) -> Guest {
    let lab = Lab::new("azure");
    lab.root("/CN=Azure Virtual TPM Root Certificate Authority 2023", P256, &["-sha256"]);
    let tpm = SoftTpm::azure();
    let n = base64url(&tpm.modulus());
    let data = if user_data { format!(",\"user-data\":\"{}\"", hex::encode(B)) } else { String::new() };
    let json = format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}],"vm-configuration":{{{configuration},"vmUniqueId":"{VM}"}}{data}}}"#
    );
    let mut over = [0; 64];
    over[..32].copy_from_slice(sha256(&[json.as_bytes()]).as_bytes());
    let report = sp().report(&over).unwrap();
    let length = u32::try_from(json.len()).unwrap();
    let mut blob = b"HCLA".to_vec();
    [2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0].iter().for_each(|word: &u32| blob.extend(word.to_le_bytes()));
    blob.extend(&report);
    [20 + length, 1, 2, 1, length].iter().for_each(|word: &u32| blob.extend(word.to_le_bytes()));
    blob.extend(json.as_bytes());
    let mut guest = Guest::of(report, lab.anchors());
    guest.hcl = Some(blob);
    guest.tpm = Some(tpm);
    guest
}

#[test]
fn a_guest_of_azure_is_accepted_and_each_thing_that_its_paravisor_admits_is_refused() {
    let rules = format!("[identity.tpm]\nazure_vm_ids = [\"{VM}\"]");
    let judge = |guest: &Guest, more: &str| fatal(&guest.judge(&policy("azure-snp", &guest.report, &rules, more)));
    let guest = azure(GOOD, true);
    accepted(&guest.judge(&policy("azure-snp", &guest.report, &rules, "")));
    assert_eq!(judge(&guest, "[azure]\nak_certificate = \"require\"\n"), ["T_AK_NO_CERT"]);
    for (wrong, id, allow) in [
        (
            r#""console-enabled":true,"secure-boot":true,"tpm-enabled":true"#,
            "Z_CONSOLE",
            "[azure]\nconsole = \"allow\"\n",
        ),
        (
            r#""console-enabled":false,"secure-boot":false,"tpm-enabled":true"#,
            "Z_SECURE_BOOT",
            "[azure]\ninsecure_boot = \"allow\"\n",
        ),
        (r#""console-enabled":false,"secure-boot":true,"tpm-enabled":false"#, "Z_TPM", ""),
    ] {
        let guest = azure(wrong, true);
        assert_eq!(judge(&guest, ""), [id]);
        assert_eq!(judge(&guest, allow).is_empty(), !allow.is_empty(), "{id}");
    }
    let other = format!("[identity.tpm]\nazure_vm_ids = [\"{}\"]", VM.replace('7', "8"));
    assert_eq!(fatal(&guest.judge(&policy("azure-snp", &guest.report, &other, ""))), ["I_TPM"]);
}

#[test]
fn plat_n46_n47_a_report_without_the_guests_data_holds_every_level_down() {
    let guest = azure(GOOD, false);
    let result = guest.judge(&policy("azure-snp", &guest.report, ANY, ""));
    assert!(result.findings().iter().any(|f| f.id() == "Z_STALE" && f.severity() == Severity::Cap), "{result}");
}
