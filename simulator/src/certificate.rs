//! X.509 certificates of the clouds' authorities, built and signed. AMD's are in [`crate::x509`].
//!
//! Every name has an organisation that says what it is; roots keep the common name of the real root
//! whose place they take, by which a policy's file of roots is read.

use crate::der;
use crate::x509::Validity;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384};
use ratls::crypto;

pub(crate) const ORGANIZATION: &str = "EVIDENT simulator: proves nothing";

const OID_RSA: &[u32] = &[1, 2, 840, 113549, 1, 1, 1];
const OID_EC: &[u32] = &[1, 2, 840, 10045, 2, 1];
const OID_P256: &[u32] = &[1, 2, 840, 10045, 3, 1, 7];
const OID_P384: &[u32] = &[1, 3, 132, 0, 34];
const RSA_WITH_SHA256: &[u32] = &[1, 2, 840, 113549, 1, 1, 11];
const RSA_WITH_SHA384: &[u32] = &[1, 2, 840, 113549, 1, 1, 12];
const ECDSA_WITH_SHA384: &[u32] = &[1, 2, 840, 10045, 4, 3, 3];
const COMMON_NAME: &[u32] = &[2, 5, 4, 3];
const ORGANIZATION_NAME: &[u32] = &[2, 5, 4, 10];

/// A private key and how it signs certificates.
pub(crate) enum Key {
    RsaSha256(rsa::KeyPair),
    RsaSha384(rsa::KeyPair),
    P384(EcdsaKeyPair),
}

impl Key {
    /// SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Key::RsaSha256(key) | Key::RsaSha384(key) => spki_rsa(key.public_key().as_ref()),
            Key::P384(key) => spki_ec(key.public_key().as_ref()),
        }
    }

    fn algorithm(&self) -> Vec<u8> {
        match self {
            Key::RsaSha256(_) => der::sequence(&[&der::oid(RSA_WITH_SHA256), &der::null()]),
            Key::RsaSha384(_) => der::sequence(&[&der::oid(RSA_WITH_SHA384), &der::null()]),
            Key::P384(_) => der::sequence(&[&der::oid(ECDSA_WITH_SHA384)]),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |key: &rsa::KeyPair, padding| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, message, &mut signature).expect("an RSA key of 2048 bits or more signs");
            signature
        };
        match self {
            Key::RsaSha256(key) => rsa(key, &RSA_PKCS1_SHA256),
            Key::RsaSha384(key) => rsa(key, &RSA_PKCS1_SHA384),
            Key::P384(key) => key.sign(&random, message).expect("a P-384 key signs").as_ref().to_vec(),
        }
    }
}

/// PKCS#1 `RSAPublicKey` in a SubjectPublicKeyInfo.
pub(crate) fn spki_rsa(pkcs1: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::sequence(&[&der::oid(OID_RSA), &der::null()]), &der::bit_string(pkcs1)])
}

/// The same from a modulus, with exponent 65537.
pub(crate) fn spki_modulus(modulus: &[u8]) -> Vec<u8> {
    spki_rsa(&der::sequence(&[&der::unsigned(modulus), &der::integer(65537)]))
}

/// An uncompressed point on P-256 (65 bytes) or P-384.
pub(crate) fn spki_ec(point: &[u8]) -> Vec<u8> {
    let curve = if point.len() == 65 { OID_P256 } else { OID_P384 };
    der::sequence(&[&der::sequence(&[&der::oid(OID_EC), &der::oid(curve)]), &der::bit_string(point)])
}

/// A distinguished name, attribute by attribute.
pub(crate) fn name(attributes: &[(&[u32], &str)]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, text)| der::set_of_one(&der::sequence(&[&der::oid(kind), &der::utf8_string(text)])))
        .collect();
    der::sequence(&sets.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The name of an authority: who it is not, then its common name.
pub(crate) fn authority_name(common_name: &str) -> Vec<u8> {
    name(&[(ORGANIZATION_NAME, ORGANIZATION), (COMMON_NAME, common_name)])
}

/// What a certificate says.
pub(crate) struct Template<'a> {
    pub(crate) serial: u64,
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) validity: Validity,
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Vec<Vec<u8>>,
}

/// The certificate, signed.
pub(crate) fn issue(template: &Template<'_>, key: &Key) -> Vec<u8> {
    let validity = der::sequence(&[&der::time(template.validity.not_before), &der::time(template.validity.not_after)]);
    let tbs = der::sequence(&[
        &der::context(0, &der::integer(2)),
        &der::integer(template.serial),
        &key.algorithm(),
        template.issuer,
        &validity,
        template.subject,
        template.spki,
        &der::context(3, &der::sequence(&[&template.extensions.concat()])),
    ]);
    der::sequence(&[&tbs, &key.algorithm(), &der::bit_string(&key.sign(&tbs))])
}

/// A CA certificate with at most so many CAs below it.
pub(crate) fn authority(
    serial: u64,
    (issuer, issuer_key): (&[u8], &Key),
    (subject, key): (&[u8], &Key),
    below: Option<u64>,
    further: Vec<Vec<u8>>,
) -> Vec<u8> {
    let constraints = match below {
        Some(below) => ca(below),
        None => extension(&[2, 5, 29, 19], true, &der::sequence(&[&der::boolean_true()])),
    };
    let mut extensions =
        vec![constraints, may_certify(), subject_key_id(&key.spki()), authority_key_id(&issuer_key.spki())];
    extensions.extend(further);
    let spki = key.spki();
    issue(&Template { serial, issuer, subject, validity: Validity::LONG, spki: &spki, extensions }, issuer_key)
}

pub(crate) fn extension(oid: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean_true() } else { Vec::new() };
    der::sequence(&[&der::oid(oid), &critical, &der::octet_string(value)])
}

/// keyUsage digitalSignature, critical.
pub(crate) fn may_sign() -> Vec<u8> {
    extension(&[2, 5, 29, 15], true, &der::named_bits(0b1000_0000))
}

/// keyUsage keyCertSign and cRLSign, critical.
pub(crate) fn may_certify() -> Vec<u8> {
    extension(&[2, 5, 29, 15], true, &der::named_bits(0b0000_0110))
}

/// basicConstraints of a CA with at most so many CAs below it.
pub(crate) fn ca(below: u64) -> Vec<u8> {
    extension(&[2, 5, 29, 19], true, &der::sequence(&[&der::boolean_true(), &der::integer(below)]))
}

/// basicConstraints of no CA.
pub(crate) fn no_ca() -> Vec<u8> {
    extension(&[2, 5, 29, 19], true, &der::sequence(&[]))
}

pub(crate) fn extended_use(oids: &[&[u32]]) -> Vec<u8> {
    let oids: Vec<Vec<u8>> = oids.iter().map(|oid| der::oid(oid)).collect();
    extension(&[2, 5, 29, 37], false, &der::sequence(&[&oids.concat()]))
}

/// Where the issuer's certificate can be fetched (authorityInfoAccess, id-ad-caIssuers).
pub(crate) fn issuer_at(uri: &str) -> Vec<u8> {
    let place = der::context_primitive(6, uri.as_bytes());
    let description = der::sequence(&[&der::oid(&[1, 3, 6, 1, 5, 5, 7, 48, 2]), &place]);
    extension(&[1, 3, 6, 1, 5, 5, 7, 1, 1], false, &der::sequence(&[&description]))
}

pub(crate) fn subject_key_id(spki: &[u8]) -> Vec<u8> {
    extension(&[2, 5, 29, 14], false, &der::octet_string(&key_id(spki)))
}

pub(crate) fn authority_key_id(spki: &[u8]) -> Vec<u8> {
    extension(&[2, 5, 29, 35], false, &der::sequence(&[&der::context_primitive(0, &key_id(spki))]))
}

/// The leftmost 160 bits of the SHA-256 of the key (RFC 7093 §2).
fn key_id(spki: &[u8]) -> Vec<u8> {
    crypto::sha256(&[spki]).as_bytes().iter().take(20).copied().collect()
}
