//! The guest's TLS key and the two certificates over it: the lean leaf of `evident/1` and the evidence-bearing leaf.
//!
//! The key is made in memory at start, never written, and new for each process. Both leaves are self-signed: what makes
//! the key worth something is evidence, not the certificate.

use std::net::IpAddr;

use anyhow::{Context, Result};
use proxy_core::tls::ServerIdentity;
use ratls::binding::SpkiDigest;
use ratls::cert::{CMW_OID, KeyEvidence, spki_digest};
use ratls::time::UnixTime;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long a leaf is valid; the evidence-bearing one is renewed hourly.
const VALID_SECS: i64 = 24 * 3600;
/// The lean leaf carries no time of its own: it ends with the process.
const LEAN_VALID_SECS: i64 = 10 * 365 * 24 * 3600;
/// Clocks of clients may be behind.
const BACKDATE_SECS: i64 = 3600;

/// The key of this process.
pub struct GuestKey {
    pair: KeyPair,
    names: Vec<String>,
    spki: SpkiDigest,
}

impl GuestKey {
    /// Draws a new P-256 key.
    pub fn generate(names: &[String], now: UnixTime) -> Result<Self> {
        let pair = KeyPair::generate().context("cannot make a TLS key")?;
        let mut key = GuestKey { pair, names: names.to_vec(), spki: SpkiDigest::from_bytes([0; 32]) };
        let lean = key.leaf(None, now, LEAN_VALID_SECS)?;
        key.spki = spki_digest(&lean).context("the certificate just made does not parse")?;
        Ok(key)
    }

    /// Digest of the key, as leaves and statements name it.
    pub fn spki(&self) -> SpkiDigest {
        self.spki
    }

    /// The leaf that attested connections get.
    pub fn lean_identity(&self, now: UnixTime) -> Result<ServerIdentity> {
        Ok(self.identity(self.leaf(None, now, LEAN_VALID_SECS)?))
    }

    /// The leaf that ordinary clients get.
    pub fn evidence_identity(&self, evidence: &KeyEvidence, now: UnixTime) -> Result<ServerIdentity> {
        Ok(self.identity(self.leaf(Some(evidence), now, VALID_SECS)?))
    }

    fn identity(&self, leaf: CertificateDer<'static>) -> ServerIdentity {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()));
        ServerIdentity { chain: vec![leaf], key }
    }

    fn leaf(&self, evidence: Option<&KeyEvidence>, now: UnixTime, valid: i64) -> Result<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = self.names.first().map_or("evident guest", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = self.names.iter().map(|name| alt_name(name)).collect::<Result<_>>()?;
        params.not_before = date(now.as_secs() - BACKDATE_SECS)?;
        params.not_after = date(now.as_secs() + valid)?;
        if let Some(evidence) = evidence {
            params.custom_extensions.push(CustomExtension::from_oid_content(CMW_OID, evidence.encode_extension()));
        }
        Ok(params.self_signed(&self.pair).context("cannot sign the leaf certificate")?.der().clone())
    }
}

fn alt_name(name: &str) -> Result<SanType> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(Ia5String::try_from(name).with_context(|| format!("{name:?} is not a DNS name"))?),
    })
}

fn date(secs: i64) -> Result<time::OffsetDateTime> {
    time::OffsetDateTime::from_unix_timestamp(secs).context("the system clock is absurd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratls::wire::attest::HardwareFormat;

    #[test]
    fn both_leaves_are_of_the_same_key_and_the_lean_one_is_small() {
        let now = UnixTime::from_secs(1_800_000_000);
        let key = GuestKey::generate(&["llm.example".into(), "10.0.0.1".into()], now).unwrap();
        let evidence = KeyEvidence {
            statement: vec![1],
            hardware: vec![(HardwareFormat::SnpReport, vec![2; 1184])],
            tpm: None,
            endorsements: vec![],
        };
        let lean = key.lean_identity(now).unwrap();
        let full = key.evidence_identity(&evidence, now).unwrap();
        assert_eq!(spki_digest(&lean.chain[0]), Ok(key.spki()));
        assert_eq!(spki_digest(&full.chain[0]), Ok(key.spki()));
        assert!(lean.chain[0].len() < 500, "{}", lean.chain[0].len());
        assert_eq!(KeyEvidence::from_leaf(&full.chain[0]), Ok(evidence));
        proxy_core::tls::config::check_key(&lean).unwrap();
    }
}
