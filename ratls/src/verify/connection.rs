//! The evidence of one connection, of one key, and of a bundle: the order of checks of docs/protocol.md, "Verification".
//!
//! Cheap first: everything is made consistent with hashes before any signature is looked at, so that nonsense costs the
//! verifier next to nothing. B is compared with the bytes that the hardware signed, never with a field beside them.

use crate::binding::leaf::{Bind32, LeafType, Role, leaf_hash};
use crate::binding::merkle::{PathError, root_from_path};
use crate::binding::{Binder, LeafHash, Profile, Purpose, SpkiDigest, Statement, StatementError, binder};
use crate::bundle::{Bundle, BundleError};
use crate::cert::{CertError, KeyEvidence, spki_digest};
use crate::crypto::constant_time_eq;
use crate::endorsement::TrustAnchors;
use crate::evidence::snp::{Report, ReportError};
use crate::time::UnixTime;
use crate::verify::evidence::{Channel, Freshness, VerifiedEvidence};
use crate::verify::report::{ReportRefusal, verify_report};
use crate::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use crate::wire::cbor::CborError;

/// Why evidence is not authentic, not fresh or not bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    #[error("the ATTEST frame does not parse: {0}")]
    Attest(#[source] CborError),
    #[error("ATTEST has purpose {purpose:?} and seq {seq}; the first one of a connection is Initial with seq 0")]
    Purpose { purpose: AttestPurpose, seq: u64 },
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Certificate(#[from] CertError),
    #[error("the statement is for {seen:?}, wanted {wanted:?}: leaf type and purpose must match")]
    StatementPurpose { seen: Purpose, wanted: Purpose },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("this connection is not in the tree that the statement names: the evidence is of another connection")]
    NotInTree,
    #[error("the statement names key {seen}, the certificate has {wanted}")]
    OtherKey { seen: SpkiDigest, wanted: SpkiDigest },
    #[error("evidence of platform {0} is not supported by this version")]
    UnsupportedProfile(Profile),
    #[error("there is no SNP report in the ATTEST")]
    NoReport,
    #[error("hardware evidence of a kind that profile {0} does not have")]
    UnexpectedHardware(Profile),
    #[error("the report does not parse: {0}")]
    Report(#[source] ReportError),
    #[error("REPORT_DATA is not B: the report was not asked for with this statement")]
    ReportData { seen: String, wanted: Binder },
    #[error(transparent)]
    Refused(#[from] ReportRefusal),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("an endorsement of media type {0:?} is unknown")]
    EndorsementType(String),
}

impl VerifyError {
    /// The check's stable identifier.
    pub fn id(&self) -> &'static str {
        match self {
            VerifyError::Attest(_) => "B_ATTEST",
            VerifyError::Purpose { .. } | VerifyError::StatementPurpose { .. } => "B_PURPOSE",
            VerifyError::Statement(_) => "B_STATEMENT",
            VerifyError::Certificate(_) => "B_CERTIFICATE",
            VerifyError::Path(_) => "B_PATH",
            VerifyError::NotInTree => "B_CHANNEL",
            VerifyError::OtherKey { .. } => "B_KEY",
            VerifyError::UnsupportedProfile(_) | VerifyError::UnexpectedHardware(_) => "B_PROFILE",
            VerifyError::NoReport => "B_NO_REPORT",
            VerifyError::Report(_) => "R_PARSE",
            VerifyError::ReportData { .. } => "R_FRESH",
            VerifyError::Refused(refusal) => refusal.id(),
            VerifyError::Bundle(_) => "B_BUNDLE",
            VerifyError::EndorsementType(_) => "E_TYPE",
        }
    }
}

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
    let report = report_of(&attest, &statement)?;
    let evidence = Signed { statement, statement_bytes: &attest.statement, report, endorsements: &attest.endorsements }
        .verify(anchors, now, spki, Channel::Exporter, Freshness::Connect)?;
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
        report: &evidence.report,
        endorsements: &evidence.endorsements,
    }
    .verify(anchors, now, spki, Channel::Key, Freshness::Stale)
}

/// Verifies a saved bundle again. It was bound to a connection then; now it is evidence in a file.
pub fn verify_bundle(
    bundle: &Bundle,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<(VerifiedEvidence, Attest), VerifyError> {
    let connection =
        Connection { leaf_certificate: &bundle.leaf_certificate, bind: bundle.bind, attest: &bundle.attest };
    let (mut evidence, attest) = verify_connection(&connection, anchors, now)?;
    evidence.channel = Channel::None;
    evidence.hw_freshness = Freshness::None;
    Ok((evidence, attest))
}

fn in_tree(
    leaf: &LeafHash,
    index: u64,
    siblings: &[crate::binding::Sibling],
    statement: &Statement,
) -> Result<(), VerifyError> {
    let root = root_from_path(leaf, index, statement.n.into(), siblings)?;
    if root == statement.root { Ok(()) } else { Err(VerifyError::NotInTree) }
}

fn report_of<'a>(attest: &'a Attest, statement: &Statement) -> Result<&'a [u8], VerifyError> {
    if statement.profile != Profile::Snp {
        return Err(VerifyError::UnsupportedProfile(statement.profile));
    }
    match &attest.hardware[..] {
        [] => Err(VerifyError::NoReport),
        [(HardwareFormat::SnpReport, report)] => Ok(report),
        _ => Err(VerifyError::UnexpectedHardware(statement.profile)),
    }
}

struct Signed<'a> {
    statement: Statement,
    statement_bytes: &'a [u8],
    report: &'a [u8],
    endorsements: &'a [Endorsement],
}

impl Signed<'_> {
    fn verify(
        self,
        anchors: &TrustAnchors,
        now: UnixTime,
        spki: SpkiDigest,
        channel: Channel,
        hw_freshness: Freshness,
    ) -> Result<VerifiedEvidence, VerifyError> {
        if self.statement.profile != Profile::Snp {
            return Err(VerifyError::UnsupportedProfile(self.statement.profile));
        }
        let wanted = binder(self.statement_bytes);
        let report = Report::parse(self.report).map_err(VerifyError::Report)?;
        if !constant_time_eq(report.report_data().as_bytes(), wanted.as_bytes()) {
            return Err(VerifyError::ReportData { seen: report.report_data().to_string(), wanted });
        }
        let (mut certificates, mut crls) = (vec![], vec![]);
        for endorsement in self.endorsements {
            match endorsement.media_type.as_str() {
                media::CERTIFICATE => certificates.push(&endorsement.bytes[..]),
                media::CRL => crls.push(&endorsement.bytes[..]),
                other => return Err(VerifyError::EndorsementType(other.to_owned())),
            }
        }
        let report = verify_report(self.report, &certificates, &crls, anchors, now)?;
        Ok(VerifiedEvidence {
            profile: self.statement.profile,
            report,
            channel,
            hw_freshness,
            statement: Some(self.statement),
            leaf: Some(spki),
            at: now,
        })
    }
}
