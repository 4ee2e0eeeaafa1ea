//! One line of the audit log: what was judged, how, and where its evidence is; chained to the line before.
//!
//! The chain is over the bytes of the lines as they stand in the file: `prev` is the SHA-256 of the whole line before, without
//! its newline. What a verdict was made of can so be found again, and no line can be changed, taken out or put in without
//! every later one showing it. That lines were cut off at the end, only somebody who noted the head elsewhere can tell.

use ratls::appraise::{AttestationResult, Severity};
use ratls::binding::Bind32;
use ratls::bundle::Bundle;
use ratls::crypto::sha256;
use ratls::digest::Sha256Digest;
use ratls::time::UnixTime;
use ratls::wire::attest::{Attest, Sibling};
use serde::{Deserialize, Serialize};

/// `prev` of the first line.
pub(super) const GENESIS: Sha256Digest = Sha256Digest::from_bytes([0; 32]);
/// The version of the line's format.
pub(super) const VERSION: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) v: u64,
    pub(super) seq: u64,
    pub(super) prev: Sha256Digest,
    /// RFC 3339: the time that validity was judged at.
    pub(super) at: String,
    pub(super) guest: String,
    pub(super) address: String,
    pub(super) verdict: String,
    pub(super) refused_by: Option<String>,
    /// Ids of the fatal findings, in their order.
    pub(super) fatal: Vec<String>,
    /// The trust table in words.
    pub(super) levels: String,
    pub(super) simulated: bool,
    pub(super) policy: Sha256Digest,
    /// The list of the files that the policy named when it was loaded.
    pub(super) files: Sha256Digest,
    /// Statement and evidence of the batch, archived once: a bundle without what belongs to this connection alone.
    pub(super) evidence: Sha256Digest,
    pub(super) connection: OwnPart,
    /// An AK was proven by a credential that this client made for this connection. That cannot be repeated: the line is the witness.
    pub(super) ak_witnessed: bool,
}

/// What belongs to one connection: with it the archived evidence becomes the bundle again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnPart {
    pub(super) bind32: Sha256Digest,
    /// Index and path in the tree; absent where the evidence did not parse and was archived whole.
    pub(super) place: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) index: u64,
    pub(super) path: Vec<Sha256Digest>,
}

/// A bundle as it is archived, and what is kept in the line.
pub(super) fn split(bundle: &Bundle) -> (Vec<u8>, OwnPart) {
    let (attest, place) = match Attest::parse(&bundle.attest) {
        Ok(mut attest) => {
            let path = attest.siblings.iter().map(|sibling| Sha256Digest::from_bytes(*sibling.as_bytes())).collect();
            let place = Place { index: attest.index, path };
            attest.index = 0;
            attest.siblings = Vec::new();
            (attest.encode(), Some(place))
        }
        Err(_) => (bundle.attest.clone(), None),
    };
    let archived = Bundle {
        attest,
        parts: bundle.parts.clone(),
        leaf_certificate: bundle.leaf_certificate.clone(),
        bind: Bind32::ZERO,
        received: UnixTime::from_secs(0),
        witnessed_ak: false,
    };
    let bind32 = Sha256Digest::from_bytes(*bundle.bind.as_bytes());
    (archived.encode(), OwnPart { bind32, place })
}

/// The bundle again; `None` where the archived one is none.
pub(super) fn join(archived: &[u8], own: &OwnPart, at: UnixTime, ak_witnessed: bool) -> Option<Bundle> {
    let mut bundle = Bundle::parse(archived).ok()?;
    if let Some(place) = &own.place {
        let mut attest = Attest::parse(&bundle.attest).ok()?;
        attest.index = place.index;
        attest.siblings = place.path.iter().map(|digest| Sibling::from_bytes(*digest.as_bytes())).collect();
        bundle.attest = attest.encode();
    }
    bundle.bind = Bind32::from_exporter(*own.bind32.as_bytes());
    bundle.received = at;
    bundle.witnessed_ak = ak_witnessed;
    Some(bundle)
}

/// The ids that decided, each once, in the order of the findings.
pub(super) fn fatal(result: &AttestationResult) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for finding in result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal) {
        if !ids.iter().any(|id| id == finding.id()) {
            ids.push(finding.id().to_owned());
        }
    }
    ids
}

pub(super) fn digest(line: &[u8]) -> Sha256Digest {
    sha256(&[line])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_does_not_parse_is_kept_whole() {
        let bundle = Bundle {
            attest: b"no ATTEST".to_vec(),
            parts: Default::default(),
            leaf_certificate: vec![1, 2],
            bind: Bind32::from_exporter([7; 32]),
            received: UnixTime::from_secs(5),
            witnessed_ak: false,
        };
        let (archived, own) = split(&bundle);
        assert!(own.place.is_none());
        let back = join(&archived, &own, UnixTime::from_secs(5), false).unwrap();
        assert!(back.encode() == bundle.encode());
        assert!(!hex::encode(&archived).contains(&"07".repeat(32)), "what is one connection's stays in the line");
    }
}
