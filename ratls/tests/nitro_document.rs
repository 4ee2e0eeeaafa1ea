//! A NitroTPM document that came off a real instance: it verifies within its three hours, and one change refuses each time.

mod shared;

use ratls::endorsement::{NitroRefusal, TrustAnchors, VerifiedNitro, verify_nitro_document};
use ratls::evidence::nitro::{NitroDocument, NitroError};
use ratls::evidence::tpm::Bank;
use ratls::time::UnixTime;
use serde_json::Value;

struct Fixture {
    document: Vec<u8>,
    json: Value,
}

fn fixture(test: &str) -> Option<Fixture> {
    let file = shared::folder(test)?.join("tpm-aws/test-nitro-fixture.json");
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let document = hex::decode(json["attestation"]["nitro"]["document"].as_str().unwrap()).unwrap();
    Some(Fixture { document, json })
}

fn at(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

fn inside() -> UnixTime {
    at("2026-02-03T10:30:00Z")
}

fn verify(document: &[u8], now: UnixTime) -> Result<VerifiedNitro, NitroRefusal> {
    verify_nitro_document(document, &[], &TrustAnchors::amd(), now)
}

/// The document with its payload changed; the signature stays what it was.
fn changed(document: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = document.windows(from.len()).position(|w| w == from).expect("the document holds it");
    let mut changed = document.to_vec();
    changed[at..at + to.len()].copy_from_slice(to);
    changed
}

#[test]
fn the_document_verifies_and_says_what_the_fixture_says() {
    let Some(Fixture { document, json }) = fixture("the_document_verifies_and_says_what_the_fixture_says") else {
        return;
    };
    let verified = verify(&document, inside()).unwrap();
    assert!(!verified.simulated());
    assert_eq!(verified.not_after(), at("2026-02-03T13:12:02Z"));
    let seen = verified.document();
    assert_eq!(seen.module_id(), "i-01cfb383223e42522-tpm0000000000000000");
    assert_eq!(seen.timestamp_ms(), 1_770_113_522_437);
    assert_eq!(hex::encode(seen.nonce().unwrap()), json["nonce"].as_str().unwrap());
    assert_eq!(seen.user_data(), None);
    let ak = &json["ak_pubkeys"]["ecc_p256"];
    let point = format!("04{}{}", ak["x"].as_str().unwrap(), ak["y"].as_str().unwrap());
    assert_eq!(hex::encode(seen.public_key().unwrap()), point);
    assert_eq!(seen.pcrs().bank(), Bank::Sha384);
    let pcrs = json["pcrs"]["sha384"].as_object().unwrap();
    assert_eq!(seen.pcrs().indices().count(), pcrs.len());
    for (index, value) in pcrs {
        assert_eq!(
            seen.pcrs().value(index.parse().unwrap()).unwrap().to_string(),
            value.as_str().unwrap(),
            "PCR {index}"
        );
    }
}

#[test]
fn plat_n49_it_holds_from_a_minute_before_its_first_second_to_its_last_only() {
    let Some(f) = fixture("plat_n49_it_holds_from_a_minute_before_its_first_second_to_its_last_only") else { return };
    for (time, holds) in [
        ("2026-02-03T10:10:58Z", false),
        // AWS does not backdate: a clock that is slow by up to a minute is let pass.
        ("2026-02-03T10:10:59Z", true),
        ("2026-02-03T10:11:59Z", true),
        ("2026-02-03T13:12:02Z", true),
        ("2026-02-03T13:12:03Z", false),
        ("2026-11-25T00:00:00Z", false),
    ] {
        match verify(&f.document, at(time)) {
            Ok(_) => assert!(holds, "{time}"),
            Err(refused) => assert_eq!((holds, refused.id()), (false, "N_VALIDITY"), "{time}"),
        }
    }
}

#[test]
fn plat_n49_a_root_of_somebody_else_an_unsigned_algorithm_and_another_signer_refuse() {
    let Some(f) = fixture("plat_n49_a_root_of_somebody_else_an_unsigned_algorithm_and_another_signer_refuse") else {
        return;
    };
    let id = |document: &[u8]| verify(document, inside()).unwrap_err().id();
    assert_eq!(id(&changed(&f.document, &[0x44, 0xA1, 0x01, 0x38, 0x22], &[0x44, 0xA1, 0x01, 0x38, 0x23])), "N_ALG");
    assert_eq!(id(&changed(&f.document, &[0x44, 0xA1, 0x01, 0x38, 0x22], &[0x44, 0xA1, 0x01, 0x38, 0x06])), "N_ALG");
    let parsed = NitroDocument::parse(&f.document).unwrap();
    // The key of the root that the document brings, changed in its last byte.
    let root = &parsed.cabundle()[0];
    let point = root.windows(4).position(|w| w == [0x03, 0x62, 0x00, 0x04]).unwrap() + 3;
    let mut other_key = root[point..point + 97].to_vec();
    other_key[96] ^= 1;
    assert_eq!(id(&changed(&f.document, &root[point..point + 97], &other_key)), "N_ROOT");
    assert_eq!(id(&changed(&f.document, b"i-01cfb383223e42522-tpm", b"i-01cfb383223e42523-tpm")), "N_SIG");
    // A leaf that the CA did not sign: its last byte is of the CA's signature.
    let leaf = parsed.certificate();
    let mut other_leaf = leaf.to_vec();
    *other_leaf.last_mut().unwrap() ^= 1;
    assert_eq!(id(&changed(&f.document, leaf, &other_leaf)), "N_CHAIN");
}

#[test]
fn no_changed_byte_passes() {
    let Some(f) = fixture("no_changed_byte_passes") else { return };
    for byte in 0..f.document.len() {
        if byte % 5 != 0 && byte > 64 {
            continue;
        }
        let mut changed = f.document.clone();
        changed[byte] ^= 1 << (byte % 8);
        assert!(verify(&changed, inside()).is_err(), "byte {byte}");
    }
    for len in (0..f.document.len()).step_by(11) {
        assert_eq!(verify(&f.document[..len], inside()).unwrap_err().id(), "N_PARSE", "{len} bytes");
    }
    let longer = [&f.document[..], &[0xFF]].concat();
    assert_eq!(verify(&longer, inside()).unwrap_err().id(), "N_PARSE");
}

/// The enclave's document in the evidence folder lies in an envelope of four bytes before and something behind.
#[test]
fn the_document_of_an_enclave_is_refused_by_name() {
    let Some(folder) = shared::folder("the_document_of_an_enclave_is_refused_by_name") else { return };
    let file = std::fs::read(folder.join("refuse/nitro-enclave-not-nitrotpm.bin")).unwrap();
    assert_eq!(verify(&file, inside()).unwrap_err().id(), "N_ENCLAVE", "as it lies there");
    let alone = &file[4..4 + 4526];
    assert!(matches!(NitroDocument::parse(alone), Err(NitroError::Enclave)), "and without its envelope");
}

/// `openssl` on the same bytes: the leaf's key over the Sig_structure.
#[test]
fn openssl_agrees_on_the_signature() {
    let Some(f) = fixture("openssl_agrees_on_the_signature") else { return };
    let document = NitroDocument::parse(&f.document).unwrap();
    let dir = std::env::temp_dir().join(format!("evident-nitro-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("leaf.der"), document.certificate()).unwrap();
    std::fs::write(dir.join("signed"), document.signed_bytes()).unwrap();
    let integer = |half: &[u8]| {
        let digits: Vec<u8> = half.iter().copied().skip_while(|b| *b == 0).collect();
        let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
        let body = [sign, &digits].concat();
        [vec![2, u8::try_from(body.len()).unwrap()], body].concat()
    };
    let (r, s) = document.signature().split_at(48);
    let body = [integer(r), integer(s)].concat();
    let der = [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat();
    std::fs::write(dir.join("sig"), der).unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new("openssl").current_dir(&dir).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["x509", "-inform", "der", "-in", "leaf.der", "-noout", "-pubkey", "-out", "key.pem"]);
    run(&["dgst", "-sha384", "-verify", "key.pem", "-signature", "sig", "signed"]);
    std::fs::remove_dir_all(dir).unwrap();
}
