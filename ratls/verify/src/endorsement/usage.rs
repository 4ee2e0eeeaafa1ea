//! Which of the certificates and lists that were given does anything verified rest on?
//!
//! A chain is built from whatever helps, so a certificate of another machine beside the right one changes nothing, and goes
//! unnoticed. Whoever gave it believes that it was judged. This tells: it verifies nothing anew, and decides nothing.

use super::certificate::Certificate;
use super::crl::Crl;
use super::key::PublicKey;
use super::signed::Hierarchy;

/// Why a certificate or a list was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnusedReason {
    /// Roots are built in or named by the operator, never taken from what comes with evidence.
    Root,
    /// It is for a key that signed nothing here, or issued no certificate that counts.
    OtherKey,
    /// No certificate that counts was issued by the authority of this list.
    OtherIssuer,
}

/// A certificate or a list as it was given, and what it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialUse {
    /// Its subject, or the issuer of a list; for people.
    pub label: String,
    pub is_list: bool,
    /// `None` where it was used.
    pub unused: Option<UnusedReason>,
}

/// `keys` are those that signed what was verified, `inner` the certificates that came inside of verified evidence.
pub(crate) fn uses(certificates: &[&[u8]], crls: &[&[u8]], keys: &[PublicKey], inner: &[&[u8]]) -> Vec<MaterialUse> {
    let parsed: Vec<_> = certificates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    let mut used: Vec<bool> =
        parsed.iter().map(|certificate| certificate.key().is_ok_and(|key| keys.contains(&key))).collect();
    // Upwards until nothing is added: at most once for each certificate.
    for _ in 0..parsed.len() {
        let above: Vec<bool> = parsed.iter().map(|authority| issued_any(authority, &parsed, &used)).collect();
        for (used, above) in used.iter_mut().zip(above) {
            *used |= above;
        }
    }
    let inner: Vec<_> = inner.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    let counting = parsed.iter().zip(&used).filter(|(_, used)| **used).map(|(certificate, _)| certificate);
    let issuers: Vec<&[u8]> = counting.chain(&inner).map(Certificate::issuer).collect();
    let of_certificates = parsed.iter().zip(&used).map(|(certificate, used)| MaterialUse {
        label: certificate.label(),
        is_list: false,
        unused: match (certificate.subject() == certificate.issuer(), used) {
            (true, _) => Some(UnusedReason::Root),
            (false, true) => None,
            (false, false) => Some(UnusedReason::OtherKey),
        },
    });
    let of_lists = crls.iter().filter_map(|der| Crl::parse(der).ok()).map(|crl| MaterialUse {
        label: crl.issuer_label(),
        is_list: true,
        unused: (!issuers.contains(&crl.issuer())).then_some(UnusedReason::OtherIssuer),
    });
    of_certificates.chain(of_lists).collect()
}

/// Whether this authority signed a certificate that is used. Names alone would not tell: clouds have several CAs of one name.
fn issued_any(authority: &Certificate<'_>, certificates: &[Certificate<'_>], used: &[bool]) -> bool {
    let Ok(key) = authority.key() else { return false };
    let signed = |certificate: &Certificate<'_>| {
        [Hierarchy::Amd, Hierarchy::Cloud].iter().any(|kind| certificate.verify_signature(&key, *kind).is_ok())
    };
    let below = certificates.iter().zip(used).filter(|(_, used)| **used).map(|(certificate, _)| certificate);
    below.filter(|certificate| certificate.issuer() == authority.subject()).any(signed)
}
