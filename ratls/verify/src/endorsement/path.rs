//! From a leaf to a cloud's root, at a time: RFC 5280 as far as these hierarchies need it, and stricter where they allow it.
//!
//! The certificates and lists are untrusted, in any order, and may be more than needed. Names decide which signatures are tried,
//! signatures and the pinned roots decide the rest; a root among the certificates is not even looked at. Every certificate, the
//! root too, must be valid at the given time, and every CA must say that it is one, that it signs certificates, and that it may
//! have so many CAs below it. What is critical and not handled refuses. What a leaf must be is its caller's question.
//!
//! Not checked: certificate policies, and names that a CA is limited to (a CA with name constraints is refused).

use super::authority::{Authority, Place};
use super::certificate::{BASIC_CONSTRAINTS, Certificate, CertificateError, EXTENDED_KEY_USAGE, KEY_USAGE};
use super::crl::{Crl, CrlError, CrlStatus, Issuer};
use super::roots::TrustAnchors;
use super::signed::{Hierarchy, SignedError};
use super::{MAX_CERTIFICATES, MAX_CRLS};
use formats::time::UnixTime;

/// CAs between leaf and root. AWS has three, Microsoft two.
const MAX_INTERMEDIATES: u32 = 4;
/// Signatures that one search for a path checks: as many as a path of AWS has, for each certificate that may be given.
const MAX_SIGNATURES: u32 = 4 * 8;

/// Why there is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    #[error("{seen} {what} were given, at most {max} are looked at")]
    TooMany { what: &'static str, seen: usize, max: usize },
    #[error("certificate {index} is refused")]
    Certificate { index: usize, source: CertificateError },
    #[error("{subject} does not lead to a root that is trusted here: its issuer {issuer} is neither one nor given")]
    Root { subject: String, issuer: String },
    #[error("{subject} cannot issue certificates here")]
    NotIssuer { subject: String, source: CertificateError },
    #[error("{subject} is refused as issued by {issuer}")]
    Signed { subject: String, issuer: String, source: SignedError },
    #[error("more than {MAX_INTERMEDIATES} CAs stand above {subject}, or too many signatures were tried")]
    TooLong { subject: String },
    #[error(
        "{subject} is valid from {not_before} to {not_after}, and now is {now}; if that is not the time, the clock here is wrong"
    )]
    Validity { subject: String, not_before: UnixTime, not_after: UnixTime, now: UnixTime },
    #[error("{subject} was revoked by {issuer}")]
    Revoked { subject: String, issuer: String },
    #[error(transparent)]
    Crl(#[from] CrlError),
}

/// Which question a path failed, for ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Chain,
    Root,
    Extension,
    Validity,
    Revoked,
    Crl,
}

impl PathError {
    pub(super) fn question(&self) -> Question {
        match self {
            PathError::Certificate { source, .. } | PathError::NotIssuer { source, .. }
                if source.is_about_extensions() =>
            {
                Question::Extension
            }
            PathError::TooMany { .. }
            | PathError::Certificate { .. }
            | PathError::NotIssuer { .. }
            | PathError::Signed { .. }
            | PathError::TooLong { .. } => Question::Chain,
            PathError::Root { .. } => Question::Root,
            PathError::Validity { .. } => Question::Validity,
            PathError::Revoked { .. } => Question::Revoked,
            PathError::Crl(_) => Question::Crl,
        }
    }

    /// How far the attempt came. Of several that failed, the one that came furthest is told.
    fn depth(&self) -> u8 {
        match self {
            PathError::TooMany { .. } | PathError::Certificate { .. } => 0,
            PathError::Root { .. } => 1,
            PathError::Signed { .. } => 2,
            PathError::TooLong { .. } => 3,
            PathError::NotIssuer { .. } => 4,
            PathError::Validity { .. } => 5,
            PathError::Crl(_) => 6,
            PathError::Revoked { .. } => 7,
        }
    }
}

/// What is asked of a path.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) place: Place,
    /// An extended key usage that a CA must name if it has any: DER contents, and as text.
    pub(super) use_of_cas: Option<(&'static [u8], &'static str)>,
}

/// A path that holds.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) simulated: bool,
    pub(super) crl: CrlStatus,
    /// The authority nearest to the leaf whose list a certificate of the path announces and that did not come.
    pub(super) missing_list: Option<String>,
    /// Until when all of it is valid.
    pub(super) not_after: UnixTime,
}

/// Certificates and lists as they came, parsed.
pub(super) struct Pool<'a> {
    certificates: Vec<Certificate<'a>>,
    crls: Vec<Crl<'a>>,
}

impl<'a> Pool<'a> {
    /// Refuses what cannot be parsed, even where a path would not need it.
    pub(super) fn parse(certificates: &[&'a [u8]], crls: &[&'a [u8]]) -> Result<Self, PathError> {
        for (what, seen, max) in
            [("certificates", certificates.len(), MAX_CERTIFICATES), ("revocation lists", crls.len(), MAX_CRLS)]
        {
            if seen > max {
                return Err(PathError::TooMany { what, seen, max });
            }
        }
        let mut pool = Pool { certificates: Vec::new(), crls: Vec::new() };
        for (index, der) in certificates.iter().enumerate() {
            if certificates.iter().take(index).all(|before| before != der) {
                let parsed = Certificate::parse(der).map_err(|source| PathError::Certificate { index, source })?;
                pool.certificates.push(parsed);
            }
        }
        pool.crls = crls.iter().map(|der| Crl::parse(der)).collect::<Result<_, _>>()?;
        Ok(pool)
    }

    /// Adds a certificate that comes with this program. It is no root, and needs one as any other.
    pub(super) fn with_known(mut self, der: &'a [u8]) -> Self {
        self.certificates.extend(Certificate::parse(der));
        self
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Certificate<'a>> {
        self.certificates.iter()
    }

    /// A path from `leaf`, which need not be of the pool.
    pub(super) fn path(
        &self,
        leaf: &Certificate<'_>,
        rules: Rules,
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Result<Path, PathError> {
        let mut search = Search { pool: self, rules, anchors, now, signatures: 0 };
        search.above(leaf, 0)
    }
}

struct Search<'s, 'a> {
    pool: &'s Pool<'a>,
    rules: Rules,
    anchors: &'s TrustAnchors,
    now: UnixTime,
    signatures: u32,
}

impl Search<'_, '_> {
    /// A path above `subject`, which has `below` CAs and a leaf below it, or is the leaf.
    fn above(&mut self, subject: &Certificate<'_>, below: u32) -> Result<Path, PathError> {
        let issuer = subject.issuer_label();
        let mut refused = PathError::Root { subject: subject.label(), issuer };
        let pool = self.pool;
        for anchor in self.anchors.at(self.rules.place, subject.issuer()) {
            match self.below_root(subject, anchor, below) {
                Ok(path) => return Ok(path),
                Err(error) => refused = deeper(refused, error),
            }
        }
        for ca in pool.certificates.iter().filter(|ca| ca.subject() == subject.issuer() && ca.issuer() != ca.subject())
        {
            match self.below_ca(subject, ca, below) {
                Ok(path) => return Ok(path),
                Err(error) => refused = deeper(refused, error),
            }
        }
        Err(refused)
    }

    fn below_root(&mut self, subject: &Certificate<'_>, root: &Authority, below: u32) -> Result<Path, PathError> {
        self.signed(subject, &Issuer::of_authority(root))?;
        if let Some(allowed) = root.max_below.filter(|allowed| below > *allowed) {
            let source = CertificateError::PathLength { allowed, seen: below };
            return Err(PathError::NotIssuer { subject: root.label.clone(), source });
        }
        self.valid(&root.label, root.not_before, root.not_after)?;
        self.valid(&subject.label(), subject.not_before(), subject.not_after())?;
        let crl = self.revocation(subject, &Issuer::of_authority(root))?;
        Ok(Path {
            simulated: root.simulated,
            crl,
            missing_list: missing_list(subject, &root.label, crl),
            not_after: root.not_after.min(subject.not_after()),
        })
    }

    fn below_ca(&mut self, subject: &Certificate<'_>, ca: &Certificate<'_>, below: u32) -> Result<Path, PathError> {
        if below == MAX_INTERMEDIATES {
            return Err(PathError::TooLong { subject: subject.label() });
        }
        let issuer = self.issuer(ca, below).map_err(|source| PathError::NotIssuer { subject: ca.label(), source })?;
        self.signed(subject, &issuer)?;
        self.valid(&subject.label(), subject.not_before(), subject.not_after())?;
        let path = self.above(ca, below + 1)?;
        let crl = self.revocation(subject, &issuer)?;
        Ok(Path {
            crl: crl.and(path.crl),
            missing_list: missing_list(subject, &issuer.label, crl).or(path.missing_list),
            not_after: path.not_after.min(subject.not_after()),
            ..path
        })
    }

    fn issuer(&self, ca: &Certificate<'_>, below: u32) -> Result<Issuer, CertificateError> {
        ca.only_critical(&[BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE])?;
        let key = ca.ca_key()?;
        ca.check_path_length(below)?;
        if let Some((oid, text)) = self.rules.use_of_cas
            && ca.extended_use(oid)? == Some(false)
        {
            return Err(CertificateError::ExtendedUse { oid: text });
        }
        Ok(Issuer {
            label: ca.label(),
            subject: ca.subject().to_vec(),
            key,
            key_id: ca.subject_key_id().map(<[u8]>::to_vec),
            may_sign_lists: ca.may_sign_lists(),
            hierarchy: Hierarchy::Cloud,
        })
    }

    fn signed(&mut self, subject: &Certificate<'_>, issuer: &Issuer) -> Result<(), PathError> {
        self.signatures += 1;
        if self.signatures > MAX_SIGNATURES {
            return Err(PathError::TooLong { subject: subject.label() });
        }
        subject.verify_signature(&issuer.key, Hierarchy::Cloud).map_err(|source| PathError::Signed {
            subject: subject.label(),
            issuer: issuer.label.clone(),
            source,
        })
    }

    fn valid(&self, subject: &str, not_before: UnixTime, not_after: UnixTime) -> Result<(), PathError> {
        let now = self.now;
        if !not_before.has_begun(now) || now > not_after {
            return Err(PathError::Validity { subject: subject.to_owned(), not_before, not_after, now });
        }
        Ok(())
    }

    fn revocation(&self, subject: &Certificate<'_>, issuer: &Issuer) -> Result<CrlStatus, PathError> {
        let mut status = CrlStatus::Absent;
        for crl in self.pool.crls.iter().filter(|crl| crl.is_issued_by(issuer)) {
            crl.verify_signature(issuer)?;
            if crl.names(subject.serial()) {
                return Err(PathError::Revoked { subject: subject.label(), issuer: issuer.label.clone() });
            }
            status = status.and(CrlStatus::Checked { next_update: crl.holds(issuer, self.now)? });
        }
        Ok(status)
    }
}

/// Whose list is wanted and not there: a certificate that announces none is on none.
fn missing_list(subject: &Certificate<'_>, issuer: &str, seen: CrlStatus) -> Option<String> {
    (seen == CrlStatus::Absent && subject.announces_list()).then(|| issuer.to_owned())
}

fn deeper(known: PathError, new: PathError) -> PathError {
    if new.depth() > known.depth() { new } else { known }
}
