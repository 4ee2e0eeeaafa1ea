//! Somebody who built files from source again, and signs that: an in-toto statement with SLSA provenance in a DSSE envelope.
//!
//! in-toto attestation framework, spec/v1; slsa.dev/provenance/v1; secure-systems-lab/dsse, protocol.md. Nobody built anything here.

use crate::pem::base64;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ratls::crypto;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// SubjectPublicKeyInfo of an ed25519 key, up to the key (RFC 8410).
const ED25519: [u8; 12] = [0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0];

/// One rebuilder and its key.
pub struct Rebuilder {
    key: Ed25519KeyPair,
}

/// Repository and commit.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub uri: &'a str,
    pub commit: &'a str,
}

impl Rebuilder {
    /// With a new key.
    pub fn generate() -> Self {
        Rebuilder { key: Ed25519KeyPair::generate().expect("the system gives random numbers") }
    }

    /// As a policy names it: the base64 of a SubjectPublicKeyInfo.
    pub fn public_key(&self) -> String {
        base64(&[&ED25519, self.key.public_key().as_ref()].concat())
    }

    /// The envelope that says: these files came out of this source. Names and source are put into JSON as they are.
    pub fn statement(&self, source: Source<'_>, files: &[(&str, &[u8])]) -> Vec<u8> {
        let subject = |(name, bytes): &(&str, &[u8])| {
            format!(r#"{{"name":"{name}","digest":{{"sha256":"{}"}}}}"#, crypto::sha256(&[bytes]))
        };
        let subjects: Vec<String> = files.iter().map(subject).collect();
        let Source { uri, commit } = source;
        let payload = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{{"buildDefinition":{{"resolvedDependencies":[{{"uri":"{uri}","digest":{{"gitCommit":"{commit}"}}}}]}},"runDetails":{{}}}}}}"#,
            subjects.join(",")
        );
        // DSSE's encoding of type and payload before it is signed.
        let message = format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len());
        let signature = base64(self.key.sign(message.as_bytes()).as_ref());
        let payload = base64(payload.as_bytes());
        format!(r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"{payload}","signatures":[{{"sig":"{signature}"}}]}}"#)
            .into_bytes()
    }
}
