//! The evidence of one connection, of one key, and of a bundle: the order of checks of docs/protocol.md, "Verification".
//!
//! Cheap first: everything is made consistent with hashes before any signature is looked at, so that nonsense costs the
//! verifier next to nothing. B is compared with the bytes that the hardware signed, never with a field beside them.

use crate::bundle::Bundle;
use crate::cert::{KeyEvidence, spki_digest};
use crate::channel::{Channel, Freshness};
use crate::credential;
use crate::endorsement::TrustAnchors;
use crate::error::VerifyError;
use crate::evidence::VerifiedEvidence;
use crate::parts::{Part, VerifiedParts};
use crate::pieces::Pieces;
use crate::{aws, azure, gcp, snp, svsm};
use formats::binding::Bind32;
use formats::binding::leaf::{LeafType, Role, leaf_hash};
use formats::binding::merkle::root_from_path;
use formats::binding::{LeafHash, Profile, Purpose, SpkiDigest, Statement, binder};
use formats::time::UnixTime;
use formats::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, PartInfo, TpmEvidence, part};

/// One connection as its client end saw it.
pub struct Connection<'a> {
    /// DER of the one certificate that the server showed, whose CertificateVerify was checked.
    pub leaf_certificate: &'a [u8],
    /// The connection's own exporter value.
    pub bind: Bind32,
    /// Body of the first ATTEST.
    pub attest: &'a [u8],
}

/// Verifies the evidence of a connection whose handshake was full, TLS 1.3 and `evident/1` (the caller asserts those).
pub fn verify_connection(
    connection: &Connection<'_>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<(VerifiedEvidence, Attest), VerifyError> {
    let attest = Attest::parse(connection.attest).map_err(VerifyError::Attest)?;
    if attest.purpose != AttestPurpose::Initial || attest.seq != 0 {
        return Err(VerifyError::Purpose { purpose: attest.purpose, seq: attest.seq });
    }
    let statement = Statement::parse(&attest.statement)?;
    if statement.purpose != Purpose::Batch {
        return Err(VerifyError::StatementPurpose { seen: statement.purpose, wanted: Purpose::Batch });
    }
    let spki = spki_digest(connection.leaf_certificate)?;
    let leaf = leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &connection.bind);
    in_tree(&leaf, attest.index, &attest.siblings, &statement)?;
    let evidence = Signed {
        statement,
        statement_bytes: &attest.statement,
        hardware: &attest.hardware,
        tpm: attest.tpm.as_ref(),
        endorsements: &attest.endorsements,
        parts: &attest.parts,
        spki,
        channel: Channel::Exporter,
    }
    .verify(anchors, now)?;
    Ok((evidence, attest))
}

/// Verifies the evidence in an evidence-bearing leaf. It is bound to the key only, and its age is unknown.
pub fn verify_key(
    leaf_certificate: &[u8],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedEvidence, VerifyError> {
    let evidence = KeyEvidence::from_leaf(leaf_certificate)?;
    let statement = Statement::parse(&evidence.statement)?;
    if statement.purpose != Purpose::Key {
        return Err(VerifyError::StatementPurpose { seen: statement.purpose, wanted: Purpose::Key });
    }
    let spki = spki_digest(leaf_certificate)?;
    if statement.spki != spki {
        return Err(VerifyError::OtherKey { seen: statement.spki, wanted: spki });
    }
    let leaf = leaf_hash(LeafType::Key, Role::Server, &spki, &Bind32::ZERO);
    in_tree(&leaf, 0, &[], &statement)?;
    Signed {
        statement,
        statement_bytes: &evidence.statement,
        hardware: &evidence.hardware,
        tpm: evidence.tpm.as_ref(),
        endorsements: &evidence.endorsements,
        parts: &[],
        spki,
        channel: Channel::Key,
    }
    .verify(anchors, now)
}

/// Verifies a saved bundle again. It was bound to a connection then; now it is evidence in a file. That a key was seen proven is the
/// word of whoever wrote the file, until its reader says that it is his own ([`VerifiedEvidence::witnessed_by_reader`]).
pub fn verify_bundle(
    bundle: &Bundle,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<(VerifiedEvidence, Attest), VerifyError> {
    let connection =
        Connection { leaf_certificate: &bundle.leaf_certificate, bind: bundle.bind, attest: &bundle.attest };
    let (mut evidence, attest) = verify_connection(&connection, anchors, now)?;
    evidence.channel = Channel::None;
    evidence.platform = evidence.platform.no_fresher_than(Freshness::None);
    for listed in attest.parts.iter() {
        if let Some(bytes) = bundle.parts.get(&listed.digest) {
            evidence.add_part(&Part::read(&listed.name, &bytes[..])?, anchors)?;
        }
    }
    if bundle.witnessed_ak {
        credential::witnessed(&mut evidence)?;
    }
    Ok((evidence, attest))
}

fn in_tree(
    leaf: &LeafHash,
    index: u64,
    siblings: &[formats::binding::Sibling],
    statement: &Statement,
) -> Result<(), VerifyError> {
    let root = root_from_path(leaf, index, statement.n.into(), siblings)?;
    if root == statement.root { Ok(()) } else { Err(VerifyError::NotInTree) }
}

/// What came, beside what it is to be bound to.
struct Signed<'a> {
    statement: Statement,
    statement_bytes: &'a [u8],
    hardware: &'a [(HardwareFormat, Vec<u8>)],
    tpm: Option<&'a TpmEvidence>,
    endorsements: &'a [Endorsement],
    parts: &'a [PartInfo],
    spki: SpkiDigest,
    channel: Channel,
}

impl Signed<'_> {
    fn verify(self, anchors: &TrustAnchors, now: UnixTime) -> Result<VerifiedEvidence, VerifyError> {
        logs_are_listed(&self.statement, self.parts)?;
        let b = binder(self.statement_bytes);
        let pieces = Pieces::new(&self.statement, b, self.hardware, self.tpm, self.endorsements, anchors, now)?;
        let platform = match pieces.profile() {
            Profile::Snp => snp::verify(&pieces),
            Profile::AwsSnp => aws::verify(&pieces),
            Profile::GcpSnp => gcp::verify(&pieces),
            Profile::AzureSnp => azure::verify(&pieces),
            Profile::SvsmSnp => svsm::verify(&pieces),
        }?;
        let platform = match self.channel {
            Channel::Exporter => platform,
            Channel::Key => platform.no_fresher_than(Freshness::Stale),
            Channel::None => platform.no_fresher_than(Freshness::None),
        };
        Ok(VerifiedEvidence {
            profile: self.statement.profile,
            platform,
            channel: self.channel,
            listed: self.parts.to_vec(),
            parts: VerifiedParts::default(),
            unbound_tpm: false,
            accounts: Vec::new(),
            statement: Some(self.statement),
            leaf: Some(self.spki),
            at: now,
        })
    }
}

/// An event log that can be asked for is the one that the statement commits to: otherwise it could be any.
fn logs_are_listed(statement: &Statement, parts: &[PartInfo]) -> Result<(), VerifyError> {
    for part in parts.iter().filter(|listed| listed.name == part::EVENT_LOG) {
        let committed = statement.logs.iter().find(|log| log.name == part.name);
        if committed.is_none_or(|log| log.digest != part.digest || log.length != u64::from(part.length)) {
            return Err(VerifyError::Log { name: part.name.clone() });
        }
    }
    Ok(())
}
