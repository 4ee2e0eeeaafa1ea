//! AK certificates that came off real vTPMs of Azure and Google: those of confidential VMs verify, and one change refuses each.

mod shared;

use ratls::endorsement::pem;
use ratls::endorsement::{
    AkError, AkIdentity, PublicKey, TrustAnchors, VerifiedAk, azure_ak_keys, gce_ak_keys, verify_azure_ak,
    verify_gce_ak,
};
use ratls::time::UnixTime;
use std::path::Path;
use std::process::Command;

fn at(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

/// Every certificate in a file, or below a name in the JSON of a fixture.
fn read(folder: &Path, file: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    pem::certificates(&bytes).unwrap_or_else(|e| panic!("{file}: {e}"))
}

type Verify = fn(&[&[u8]], &[&[u8]], &PublicKey, &TrustAnchors, UnixTime) -> Result<VerifiedAk, AkError>;
type Keys = fn(&[&[u8]]) -> Result<Vec<PublicKey>, AkError>;

struct Set {
    name: &'static str,
    certificates: Vec<Vec<u8>>,
    at: UnixTime,
    verify: Verify,
    keys: Keys,
    /// As text, for `openssl verify`.
    root: &'static str,
}

impl Set {
    fn slices(&self) -> Vec<&[u8]> {
        self.certificates.iter().map(Vec::as_slice).collect()
    }
    fn key(&self) -> PublicKey {
        (self.keys)(&self.slices()).unwrap().remove(0)
    }
    fn verify_with(&self, certificates: &[&[u8]], at: UnixTime) -> Result<VerifiedAk, AkError> {
        (self.verify)(certificates, &[], &self.key(), &TrustAnchors::amd(), at)
    }
}

/// Leaf first, then its CAs.
fn sets(test: &str) -> Vec<Set> {
    let Some(folder) = shared::folder(test) else { return Vec::new() };
    let (azure, gcp) = (folder.join("tpm-azure-ak"), folder.join("tpm-gcp"));
    let azure_set = |name, files: &[&str]| Set {
        name,
        certificates: files.iter().flat_map(|file| read(&azure, file)).collect(),
        at: at("2026-07-01T00:00:00Z"),
        verify: verify_azure_ak,
        keys: azure_ak_keys,
        root: "azure-vtpm-2023.der",
    };
    let gcp_set = |name, files: &[&str], root| Set {
        name,
        certificates: files.iter().flat_map(|file| read(&gcp, file)).collect(),
        at: at("2026-07-01T00:00:00Z"),
        verify: verify_gce_ak,
        keys: gce_ak_keys,
        root,
    };
    let fixture: serde_json::Value =
        serde_json::from_slice(&std::fs::read(gcp.join("test-gcp-amd-fixture.json")).unwrap()).unwrap();
    let chain = fixture["attestation"]["gcp"]["ak_cert_chain"].as_str().unwrap();
    let mut of_2026 = gcp_set("gce, 2026", &[], "gce-ek-ak.der");
    of_2026.certificates = pem::certificates(chain.as_bytes()).unwrap();
    let v3 = "ca-certs__gcp_ek_ak_ca_intermediate_v3.crt";
    let old = "ca-certs__tpm_ek_intermediate_3.crt";
    vec![
        azure_set(
            "azure, cloud CAs",
            &["azure-tdx-ak.cert-dce8be68.der", "azure-tdx-ak.cert-acad819d.der", "azure-tdx-ak.cert-41a1675d.der"],
        ),
        azure_set("azure, global CA", &["azure_test.go.cert-3fcb21ec.der"]),
        of_2026,
        gcp_set("gce, ecc", &["certificates__pca_tpm_ecc_sign_cert.pem", v3], "gce-ek-ak.der"),
        gcp_set("gce, rsa", &["certificates__pca_tpm_rsa_sign_cert.pem", v3], "gce-ek-ak.der"),
        gcp_set("gce, old, ecc", &["certificates__uca_tpm_ecc_sign_cert.pem", old], "gce-tpm-ek-v1.der"),
        gcp_set("gce, old, rsa", &["certificates__uca_tpm_rsa_sign_cert.pem", old], "gce-tpm-ek-v1.der"),
    ]
}

#[test]
fn certificates_of_every_hierarchy_lead_to_their_root_and_say_whose_key_it_is() {
    let sets = sets("certificates_of_every_hierarchy_lead_to_their_root_and_say_whose_key_it_is");
    for set in &sets {
        let ak = set.verify_with(&set.slices(), set.at).unwrap_or_else(|e| panic!("{}: {e:?}", set.name));
        assert!(!ak.simulated(), "{}", set.name);
        assert_eq!(*ak.key(), set.key(), "{}", set.name);
        let mut reversed = set.slices();
        reversed.reverse();
        assert!(set.verify_with(&reversed, set.at).is_ok(), "{}", set.name);
        match ak.identity() {
            AkIdentity::Azure(vm) => assert_eq!(vm.id().len(), 12),
            AkIdentity::Gce(instance) => {
                assert!(instance.security().is_production && instance.security().tpm_data_always_encrypted);
                assert_eq!(instance.security().security_version, 0);
                let wanted = match set.name {
                    "gce, 2026" => ("us-central1-f", "lockboot", 3_414_240_648_225_485_836),
                    "gce, ecc" | "gce, rsa" => {
                        ("us-central1-a", "google.com:wuale-gcp-testing", 218_557_372_616_137_117)
                    }
                    _ => ("us-central1-a", "google.com:wuale-gcp-testing", instance.instance_id()),
                };
                assert_eq!((instance.zone(), instance.project_id(), instance.instance_id()), wanted, "{}", set.name);
            }
        }
    }
}

/// The second opinion: the same leaf, CAs and root.
#[test]
fn openssl_agrees_on_every_path() {
    let sets = sets("openssl_agrees_on_every_path");
    for set in sets.iter().filter(|set| !set.name.contains("old")) {
        // The old leaves have a critical alternative name with an attribute that openssl does not know.
        let dir =
            std::env::temp_dir().join(format!("evident-ak-{}-{}", std::process::id(), set.name.replace(' ', "_")));
        std::fs::create_dir_all(&dir).unwrap();
        let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify/src/endorsement/roots");
        let to_pem = |der: &Path, name: &str| {
            let out = dir.join(name);
            let ok = Command::new("openssl")
                .args(["x509", "-inform", "der", "-in"])
                .arg(der)
                .arg("-out")
                .arg(&out)
                .status()
                .unwrap();
            assert!(ok.success());
            out
        };
        let mut untrusted = String::new();
        for (index, der) in set.certificates.iter().enumerate() {
            let path = dir.join(format!("{index}.der"));
            std::fs::write(&path, der).unwrap();
            let pem = to_pem(&path, &format!("{index}.pem"));
            if index > 0 {
                untrusted.push_str(&std::fs::read_to_string(pem).unwrap());
            }
        }
        let known = to_pem(&roots.join("azure-vtpm-ca-03.der"), "ca-03.pem");
        untrusted.push_str(&std::fs::read_to_string(known).unwrap());
        let untrusted_file = dir.join("untrusted.pem");
        std::fs::write(&untrusted_file, untrusted).unwrap();
        let root = to_pem(&roots.join(set.root), "root.pem");
        let output = Command::new("openssl")
            .args(["verify", "-no-CApath", "-attime", &set.at.as_secs().to_string(), "-CAfile"])
            .arg(root)
            .arg("-untrusted")
            .arg(untrusted_file)
            .arg(dir.join("0.pem"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", set.name, String::from_utf8_lossy(&output.stderr));
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_certificate_that_is_missing_refuses_with_the_root_as_reason() {
    for set in sets("a_certificate_that_is_missing_refuses_with_the_root_as_reason") {
        let slices = set.slices();
        for missing in 1..slices.len() {
            let mut fewer = slices.clone();
            let gone = fewer.remove(missing);
            let is_root = PublicKeyOf(gone).is_root();
            match set.verify_with(&fewer, set.at) {
                Ok(_) if is_root => {} // a root is pinned, not sent
                other => assert_eq!(other.unwrap_err().id(), "T_AK_ROOT", "{} without {missing}", set.name),
            }
        }
        assert_eq!(set.verify_with(&slices[1..], set.at).unwrap_err().id(), "T_AK_NO_CERT", "{}", set.name);
    }
}

struct PublicKeyOf<'a>(&'a [u8]);

impl PublicKeyOf<'_> {
    fn is_root(&self) -> bool {
        let fingerprint = ratls::crypto::sha256(&[self.0]).to_string();
        fingerprint.starts_with("594759594b9b6152") || fingerprint.starts_with("9bd5285f8fb18502")
    }
}

#[test]
fn every_certificate_of_a_path_must_be_valid_at_the_time() {
    for set in sets("every_certificate_of_a_path_must_be_valid_at_the_time") {
        for time in ["2016-01-01T00:00:00Z", "2200-01-01T00:00:00Z"] {
            let refused = set.verify_with(&set.slices(), at(time)).unwrap_err();
            assert_eq!(refused.id(), "T_AK_VALIDITY", "{} at {time}", set.name);
        }
        let until = set.verify_with(&set.slices(), set.at).unwrap().not_after();
        assert!(set.verify_with(&set.slices(), until).is_ok(), "{}", set.name);
        let after = UnixTime::from_secs(until.as_secs() + 1);
        assert_eq!(set.verify_with(&set.slices(), after).unwrap_err().id(), "T_AK_VALIDITY", "{}", set.name);
    }
}

/// One flipped bit anywhere, in steps that reach every field.
#[test]
fn no_changed_certificate_passes() {
    for set in sets("no_changed_certificate_passes") {
        let key = set.key();
        for index in 0..set.certificates.len() {
            if PublicKeyOf(&set.certificates[index]).is_root() {
                continue; // not looked at
            }
            for byte in (0..set.certificates[index].len()).step_by(7) {
                let mut changed = set.certificates.clone();
                changed[index][byte] ^= 1 << (byte % 8);
                let slices: Vec<&[u8]> = changed.iter().map(Vec::as_slice).collect();
                let seen = (set.verify)(&slices, &[], &key, &TrustAnchors::amd(), set.at);
                assert!(seen.is_err(), "{}: byte {byte} of certificate {index}", set.name);
            }
        }
    }
}

#[test]
fn a_certificate_for_another_key_is_no_certificate_for_this_one() {
    let sets = sets("a_certificate_for_another_key_is_no_certificate_for_this_one");
    for (one, other) in sets.iter().zip(sets.iter().skip(1)) {
        let seen = (one.verify)(&one.slices(), &[], &other.key(), &TrustAnchors::amd(), one.at).unwrap_err();
        assert_eq!(seen.id(), "T_AK_KEY", "{} for the key of {}", one.name, other.name);
    }
}

/// Google's encryption keys have certificates under the same CAs, which name the same instance.
#[test]
fn a_key_that_may_not_sign_is_refused() {
    let Some(folder) = shared::folder("a_key_that_may_not_sign_is_refused") else { return };
    let folder = folder.join("tpm-gcp");
    for (leaf, ca) in [
        ("certificates__pca_tpm_ecc_enc_cert.pem", "ca-certs__gcp_ek_ak_ca_intermediate_v3.crt"),
        ("certificates__pca_tpm_rsa_enc_cert.pem", "ca-certs__gcp_ek_ak_ca_intermediate_v3.crt"),
        ("certificates__uca_tpm_ecc_enc_cert.pem", "ca-certs__tpm_ek_intermediate_3.crt"),
        ("certificates__uca_tpm_rsa_enc_cert.pem", "ca-certs__tpm_ek_intermediate_3.crt"),
    ] {
        let all = [read(&folder, leaf), read(&folder, ca)].concat();
        let slices: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let key = gce_ak_keys(&slices).unwrap().remove(0);
        let seen = verify_gce_ak(&slices, &[], &key, &TrustAnchors::amd(), at("2026-07-01T00:00:00Z")).unwrap_err();
        assert_eq!(seen.id(), "T_AK_USE", "{leaf}: {seen}");
    }
}

/// Microsoft's root says nothing about Google's vTPMs, and the other way round.
#[test]
fn certificates_count_only_for_their_own_platform() {
    for set in sets("certificates_count_only_for_their_own_platform") {
        let other = if set.name.starts_with("azure") { verify_gce_ak } else { verify_azure_ak };
        let seen = other(&set.slices(), &[], &set.key(), &TrustAnchors::amd(), set.at).unwrap_err();
        assert_eq!(seen.id(), "T_AK_NO_CERT", "{}", set.name);
    }
}
