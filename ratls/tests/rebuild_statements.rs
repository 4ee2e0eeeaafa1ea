//! Statements of rebuilders, signed by OpenSSL, checked by the core. Skipped by name where there is no `openssl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ratls::digest::Sha256Digest;
use ratls::reference::{RebuildError, Rebuilder, Rebuilders, TrustedKey};
use serde_json::{Value, json};

struct Signer {
    name: &'static str,
    key: PathBuf,
    ed25519: bool,
}

fn openssl(args: &[&str]) -> Output {
    let output = Command::new("openssl").args(args).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Signer {
    fn new(folder: &Path, name: &'static str, ed25519: bool) -> Signer {
        let key = folder.join(format!("{name}.pem"));
        let path = key.to_str().unwrap();
        match ed25519 {
            true => openssl(&["genpkey", "-algorithm", "ed25519", "-out", path]),
            false => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path]),
        };
        Signer { name, key, ed25519 }
    }

    fn rebuilder(&self) -> Rebuilder {
        let pem = openssl(&["pkey", "-in", self.key.to_str().unwrap(), "-pubout"]).stdout;
        let key = TrustedKey::parse(std::str::from_utf8(&pem).unwrap()).unwrap();
        Rebuilder { name: self.name.to_owned(), key }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let file = self.key.with_extension("message");
        std::fs::write(&file, message).unwrap();
        let (key, file) = (self.key.to_str().unwrap(), file.to_str().unwrap());
        match self.ed25519 {
            true => openssl(&["pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", file]).stdout,
            false => openssl(&["dgst", "-sha256", "-sign", key, file]).stdout,
        }
    }

    fn envelope(&self, payload: &str, kind: &str) -> Vec<u8> {
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        let signature = json!({"keyid": "a hint", "sig": base64(&self.sign(message.as_bytes()))});
        json!({"payloadType": kind, "payload": base64(payload.as_bytes()), "signatures": [signature]})
            .to_string()
            .into()
    }
}

const IN_TOTO: &str = "application/vnd.in-toto+json";

fn digest(byte: u8) -> Sha256Digest {
    Sha256Digest::from_bytes([byte; 32])
}

fn statement(sha256: Sha256Digest, commit: &str) -> Value {
    let source = json!({"uri": "git+https://example.org/edk2", "digest": {"gitCommit": commit}});
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "OVMF.fd", "digest": {"sha256": sha256.to_string()}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": {"resolvedDependencies": [source]}, "runDetails": {}},
    })
}

struct World {
    _folder: tempfile::TempDir,
    signers: [Signer; 3],
    stranger: Signer,
}

fn world(test: &str) -> Option<World> {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: {test}: no openssl");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let signer = |name, ed25519| Signer::new(folder.path(), name, ed25519);
    let signers = [signer("alice", true), signer("bob", false), signer("carol", true)];
    Some(World { stranger: signer("mallory", true), signers, _folder: folder })
}

impl World {
    fn rebuilders(&self, at_least: usize) -> Rebuilders {
        Rebuilders::new(self.signers.iter().map(Signer::rebuilder).collect(), at_least).unwrap()
    }
}

fn check(rebuilders: &Rebuilders, envelopes: &[Vec<u8>]) -> Result<Vec<ratls::reference::Rebuild>, RebuildError> {
    let named: Vec<_> = envelopes.iter().map(|bytes| ("s.json", bytes.as_slice())).collect();
    rebuilders.check(&named)
}

#[test]
fn two_rebuilders_who_agree_prove_a_rebuild_and_one_does_not() {
    let Some(world) = world("two_rebuilders_who_agree_prove_a_rebuild_and_one_does_not") else { return };
    let [alice, bob, carol] = &world.signers;
    let text = statement(digest(1), "0123abc").to_string();
    let both = [alice.envelope(&text, IN_TOTO), bob.envelope(&text, IN_TOTO)];
    let rebuilds = check(&world.rebuilders(2), &both).unwrap();
    assert_eq!(rebuilds.len(), 1);
    assert_eq!(rebuilds[0].sha256(), &digest(1));
    assert_eq!(rebuilds[0].source(), "git+https://example.org/edk2 at 0123abc");
    assert_eq!(rebuilds[0].by(), ["alice", "bob"]);

    let few = RebuildError::TooFew { at_least: 2, best: 1 };
    assert_eq!(check(&world.rebuilders(2), &both[..1]).unwrap_err(), few);
    let twice = [both[0].clone(), alice.envelope(&text, IN_TOTO)];
    assert_eq!(check(&world.rebuilders(2), &twice).unwrap_err(), few, "one key counts once");
    let other_source = [both[0].clone(), bob.envelope(&statement(digest(1), "4567def").to_string(), IN_TOTO)];
    assert_eq!(check(&world.rebuilders(2), &other_source).unwrap_err(), few);
    let other_file = [both[0].clone(), bob.envelope(&statement(digest(2), "0123abc").to_string(), IN_TOTO)];
    assert_eq!(check(&world.rebuilders(2), &other_file).unwrap_err(), few);
    assert!(check(&world.rebuilders(1), &[carol.envelope(&text, IN_TOTO)]).is_ok());
}

#[test]
fn a_statement_counts_only_as_it_was_signed_by_somebody_who_is_trusted() {
    let Some(world) = world("a_statement_counts_only_as_it_was_signed") else { return };
    let [alice, ..] = &world.signers;
    let one = world.rebuilders(1);
    let text = statement(digest(1), "0123abc").to_string();
    assert!(check(&one, &[alice.envelope(&text, IN_TOTO)]).is_ok());
    let not_signed = RebuildError::NotSigned { file: "s.json".to_owned() };
    assert_eq!(check(&one, &[world.stranger.envelope(&text, IN_TOTO)]).unwrap_err(), not_signed);

    let mut envelope: Value = serde_json::from_slice(&alice.envelope(&text, IN_TOTO)).unwrap();
    let payload = statement(digest(2), "0123abc").to_string();
    envelope["payload"] = data_encoding::BASE64.encode(payload.as_bytes()).into();
    assert_eq!(check(&one, &[envelope.to_string().into()]).unwrap_err(), not_signed);
    // The type is under the signature too.
    let other_type = alice.envelope(&text, "application/json");
    assert!(matches!(check(&one, std::slice::from_ref(&other_type)), Err(RebuildError::PayloadType { .. })));
    let mut retyped: Value = serde_json::from_slice(&other_type).unwrap();
    retyped["payloadType"] = IN_TOTO.into();
    assert_eq!(check(&one, &[retyped.to_string().into()]).unwrap_err(), not_signed);
}

#[test]
fn refuses_statements_that_name_no_file_or_no_source() {
    let Some(world) = world("refuses_statements_that_name_no_file_or_no_source") else { return };
    let [alice, ..] = &world.signers;
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = statement(digest(1), "0123abc");
        change(&mut value);
        check(&world.rebuilders(1), &[alice.envelope(&value.to_string(), IN_TOTO)])
    };
    assert!(refused(&|_| {}).is_ok());
    for (pointer, value, says) in [
        ("/_type", json!("https://in-toto.io/Statement/v9"), "_type"),
        ("/subject", json!([]), "no subject"),
        ("/subject/0/digest", json!({"sha1": "00"}), "no sha256"),
        ("/subject/0/digest/sha256", json!("00"), "64 hex digits"),
        ("/predicateType", json!("https://example.org/test/v1"), "no SLSA provenance"),
        ("/predicate/buildDefinition/resolvedDependencies", json!([]), "from which source"),
        ("/predicate/buildDefinition/resolvedDependencies/0/digest", json!({}), "from which source"),
    ] {
        let error = refused(&|v| *v.pointer_mut(pointer).unwrap() = value.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{pointer}: {error}");
    }
    let old = refused(&|v| {
        v["_type"] = "https://in-toto.io/Statement/v0.1".into();
        v["predicateType"] = "https://slsa.dev/provenance/v0.2".into();
        let source = json!({"uri": "git+https://example.org/edk2", "digest": {"sha1": "89ab"}});
        v["predicate"] = json!({"invocation": {"configSource": source}});
    });
    assert_eq!(old.unwrap()[0].source(), "git+https://example.org/edk2 at 89ab");
}

#[test]
fn one_key_under_two_names_is_one_rebuilder() {
    let Some(world) = world("one_key_under_two_names_is_one_rebuilder") else { return };
    let one = world.signers[0].rebuilder();
    let other = Rebuilder { name: "other".to_owned(), ..one.clone() };
    let error = Rebuilders::new(vec![one.clone(), other], 1).unwrap_err();
    assert_eq!(error, RebuildError::SameKey("alice".to_owned(), "other".to_owned()));
    for at_least in [0, 2] {
        let error = Rebuilders::new(vec![one.clone()], at_least).unwrap_err();
        assert_eq!(error, RebuildError::AtLeast { at_least, named: 1 });
    }
}
