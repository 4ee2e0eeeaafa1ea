//! What became of each piece that was given in files: verified, confirmed by something verified, unsigned, or not used.
//!
//! A piece that is passed over without a word looks as if it had been judged. So each is accounted for, and what nothing signs is
//! called that, however well it parses.

use crate::endorsement::usage::{self, UnusedReason};
use crate::endorsement::{PublicKey, VerifiedAk};
use crate::given::{AkFile, Files};
use crate::parts::VerifiedParts;
use crate::report::VerifiedReport;
use crate::tpm::VerifiedTpm;
use formats::evidence::event_log::{Comparison, Replay};
use formats::evidence::tpm::PcrValues;

/// Which piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PieceKind {
    Report,
    HclBlob,
    SvsmManifest,
    NitroDocument,
    Quote,
    Registers,
    AttestationKey,
    EventLog,
    ImaList,
    FirmwareEndorsement,
    Certificate,
    RevocationList,
}

impl PieceKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            PieceKind::Report => "report",
            PieceKind::HclBlob => "HCL blob",
            PieceKind::SvsmManifest => "SVSM manifest",
            PieceKind::NitroDocument => "NitroTPM document",
            PieceKind::Quote => "quote",
            PieceKind::Registers => "register values",
            PieceKind::AttestationKey => "attestation key",
            PieceKind::EventLog => "event log",
            PieceKind::ImaList => "IMA list",
            PieceKind::FirmwareEndorsement => "firmware endorsement",
            PieceKind::Certificate => "certificate",
            PieceKind::RevocationList => "revocation list",
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceFate {
    /// Signed, and the signature was verified.
    Verified,
    /// Something that was verified names it or agrees with it; what.
    Confirmed(&'static str),
    /// It was read, and nothing that was given signs it; why not.
    Unsigned(String),
    /// Nothing rests on it; why not.
    Unused(String),
}

impl PieceFate {
    pub const fn as_str(&self) -> &'static str {
        match self {
            PieceFate::Verified => "verified",
            PieceFate::Confirmed(_) => "confirmed",
            PieceFate::Unsigned(_) => "unsigned",
            PieceFate::Unused(_) => "not used",
        }
    }

    /// By what it is confirmed, or why it is not.
    pub fn why(&self) -> Option<&str> {
        match self {
            PieceFate::Verified => None,
            PieceFate::Confirmed(by) => Some(by),
            PieceFate::Unsigned(why) | PieceFate::Unused(why) => Some(why),
        }
    }

    /// Whether somebody's signature stands behind it.
    pub const fn is_signed(&self) -> bool {
        matches!(self, PieceFate::Verified | PieceFate::Confirmed(_))
    }
}

/// One piece and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceAccount {
    pub kind: PieceKind,
    /// Of a certificate or a list: whose. Not escaped.
    pub label: Option<String>,
    pub fate: PieceFate,
}

/// In a line, for people.
impl std::fmt::Display for PieceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(label) = &self.label {
            write!(f, " {label}")?;
        }
        write!(f, ": {}", self.fate.as_str())?;
        self.fate.why().map_or(Ok(()), |why| write!(f, ", {why}"))
    }
}

/// What verification came to, as far as pieces are concerned.
pub(super) struct Outcome<'a> {
    pub(super) report: Option<&'a VerifiedReport>,
    pub(super) tpm: Option<&'a VerifiedTpm>,
    pub(super) ak: Option<&'a VerifiedAk>,
    /// The key whose quote was good; a document may stand in for it among the registers.
    pub(super) quoting_key: Option<PublicKey>,
    /// The key that the paravisor names.
    pub(super) named_key: Option<PublicKey>,
    pub(super) parts: &'a VerifiedParts,
}

/// An account of every piece, in the order of [`PieceKind`].
pub(super) fn accounts(files: &Files<'_>, outcome: &Outcome<'_>) -> Vec<PieceAccount> {
    let mut accounts = Vec::new();
    let mut add = |given: bool, kind, fate: &dyn Fn() -> PieceFate| {
        if given {
            accounts.push(PieceAccount { kind, label: None, fate: fate() });
        }
    };
    add(files.report.is_some(), PieceKind::Report, &|| PieceFate::Verified);
    add(files.hcl.is_some(), PieceKind::HclBlob, &|| PieceFate::Verified);
    add(files.svsm.is_some(), PieceKind::SvsmManifest, &|| PieceFate::Confirmed("the report is over its hash"));
    add(files.nitro.is_some(), PieceKind::NitroDocument, &|| PieceFate::Verified);
    add(files.quote.is_some(), PieceKind::Quote, &|| quote(outcome));
    add(files.pcrs.is_some(), PieceKind::Registers, &|| registers(files, outcome));
    add(files.ak.is_some(), PieceKind::AttestationKey, &|| key(files, outcome));
    add(files.event_log.is_some(), PieceKind::EventLog, &|| event_log(files, outcome));
    add(files.ima_list.is_some(), PieceKind::ImaList, &|| ima_list(files, outcome));
    add(files.endorsement.is_some(), PieceKind::FirmwareEndorsement, &|| endorsement(outcome));
    accounts.extend(material(files, outcome));
    accounts
}

fn quote(outcome: &Outcome<'_>) -> PieceFate {
    match outcome.tpm {
        Some(tpm) if tpm.proof().is_proven() && tpm.quote().is_some() => PieceFate::Verified,
        _ => PieceFate::Confirmed("its signature is by the key that was given, for which nobody vouches"),
    }
}

fn registers(files: &Files<'_>, outcome: &Outcome<'_>) -> PieceFate {
    if files.quote.is_some() {
        return PieceFate::Confirmed("the quote is over their hash");
    }
    match (outcome.tpm.map(VerifiedTpm::pcrs), &files.pcrs) {
        (Some(signed), Some(given)) if signed.bank() != given.bank() => PieceFate::Unused(format!(
            "they are of bank {}, and the document signs those of {}",
            given.bank(),
            signed.bank()
        )),
        (Some(_), _) => PieceFate::Confirmed("the document holds the same"),
        (None, _) => PieceFate::Unsigned("no quote and no document was given that signs them".to_owned()),
    }
}

fn key(files: &Files<'_>, outcome: &Outcome<'_>) -> PieceFate {
    let Some(key) = files.ak.as_ref().map(AkFile::key) else {
        return PieceFate::Unused("no key was given".to_owned());
    };
    let certified = outcome.ak.or(outcome.tpm.and_then(|tpm| tpm.proof().certificate()));
    if certified.is_some_and(|ak| *ak.key() == key) {
        PieceFate::Verified
    } else if outcome.named_key.as_ref() == Some(&key) {
        PieceFate::Confirmed("the paravisor names it")
    } else if outcome.quoting_key.as_ref() == Some(&key) {
        PieceFate::Confirmed("the quote is by it; nobody vouches for it")
    } else {
        PieceFate::Unused("nothing that was given is signed by it, and no report names it".to_owned())
    }
}

/// Of a log or a list beside which nothing signs registers.
fn unsigned_record(files: &Files<'_>) -> String {
    match &files.pcrs {
        Some(_) => "it does not contradict the register values that were given, and nothing signs those".to_owned(),
        None => "no quote and no document was given whose registers it could lead to".to_owned(),
    }
}

fn event_log(files: &Files<'_>, outcome: &Outcome<'_>) -> PieceFate {
    let Some(signed) = outcome.tpm.map(VerifiedTpm::pcrs) else {
        return PieceFate::Unsigned(unsigned_record(files));
    };
    let replay = outcome.parts.event_log().and_then(|log| Replay::of(log, signed.bank()));
    let Some(replay) = replay else {
        return PieceFate::Unsigned(format!("it has no digests of bank {}, whose registers are signed", signed.bank()));
    };
    let compared = |wanted: fn(&Comparison) -> bool| -> Vec<u8> {
        (0..24).filter(|pcr| replay.mentions(*pcr) && wanted(&replay.compare(*pcr, signed))).collect()
    };
    let different = compared(|seen| matches!(seen, Comparison::Different { .. }));
    let equal = compared(|seen| *seen == Comparison::Equal);
    if !different.is_empty() {
        return PieceFate::Unsigned(format!("the signed values of PCR {different:?} are not those that it leads to"));
    }
    if equal.is_empty() {
        return PieceFate::Unsigned("no register that it speaks of is signed".to_owned());
    }
    PieceFate::Confirmed("it leads to the signed registers")
}

fn ima_list(files: &Files<'_>, outcome: &Outcome<'_>) -> PieceFate {
    let Some(signed) = outcome.tpm.map(VerifiedTpm::pcrs) else {
        return PieceFate::Unsigned(unsigned_record(files));
    };
    match outcome.parts.ima_list().map(|list| list.replay(signed)) {
        Some(Ok(prefix)) if !prefix.entries().is_empty() => PieceFate::Confirmed("it leads to the signed PCR 10"),
        Some(Err(mismatch)) => PieceFate::Unsigned(mismatch.to_string()),
        Some(Ok(_)) | None => PieceFate::Unsigned("the signed PCR 10 was never extended".to_owned()),
    }
}

fn endorsement(outcome: &Outcome<'_>) -> PieceFate {
    match (outcome.parts.gce_endorsement(), outcome.parts.refused_endorsement()) {
        (Some(_), _) => PieceFate::Verified,
        (None, Some(refusal)) => PieceFate::Unused(refusal.to_string()),
        (None, None) => PieceFate::Unused("it was not judged".to_owned()),
    }
}

fn material(files: &Files<'_>, outcome: &Outcome<'_>) -> Vec<PieceAccount> {
    let certified = outcome.ak.or(outcome.tpm.and_then(|tpm| tpm.proof().certificate()));
    let vek = outcome.report.map(|report| PublicKey::P384(*report.vek().public_key()));
    let keys: Vec<PublicKey> = vek.into_iter().chain(certified.map(|ak| ak.key().clone())).collect();
    let document = outcome.tpm.and_then(VerifiedTpm::document).map(|verified| verified.document());
    let bundle = document.iter().flat_map(|document| document.cabundle());
    let leaf = document.iter().map(|document| document.certificate());
    let inner: Vec<&[u8]> = leaf.chain(bundle.map(Vec::as_slice)).collect();
    let account = |seen: usage::MaterialUse| PieceAccount {
        kind: if seen.is_list { PieceKind::RevocationList } else { PieceKind::Certificate },
        label: Some(seen.label),
        fate: match seen.unused {
            None => PieceFate::Verified,
            Some(UnusedReason::Root) => PieceFate::Unused(
                "roots are built in or named by the policy, never taken from files of evidence".to_owned(),
            ),
            Some(UnusedReason::OtherKey) => PieceFate::Unused(
                "it is for another key than those that signed what was given, and issued none of their certificates"
                    .to_owned(),
            ),
            Some(UnusedReason::OtherIssuer) => {
                PieceFate::Unused("its issuer issued no certificate that anything here rests on".to_owned())
            }
        },
    };
    usage::uses(&files.certificates, &files.crls, &keys, &inner).into_iter().map(account).collect()
}

/// Registers that a document signed, and the same ones as they were given: the first of those asked about that differs.
pub(super) fn first_difference(
    signed: &PcrValues,
    given: &PcrValues,
    asked: impl Fn(u8) -> bool,
) -> Option<(u8, String, String)> {
    if signed.bank() != given.bank() {
        return None;
    }
    given.iter().filter(|(pcr, _)| asked(*pcr)).find_map(|(pcr, value)| match signed.value(pcr) {
        Some(wanted) if wanted == value => None,
        Some(wanted) => Some((pcr, value.to_string(), wanted.to_string())),
        None => Some((pcr, value.to_string(), "no value for it".to_owned())),
    })
}
