//! Certificates and CRLs of AMD's shape, built and signed.
//!
//! Shape: that of AMD's certificates: names with OU first, PSS parameters with the trailer field where the
//! ARK signs and without it where ASK and ASVK do. Only O differs ("EVIDENT simulator: proves nothing"), and the CRL points, which
//! lead to `.invalid` and not to AMD.

use crate::der;
use crate::leaf::LeafTemplate;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA384};
use ratls::crypto;
use ratls::tcb::Product;
use ratls::time::UnixTime;

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

impl Validity {
    /// 2020-01-01T00:00:00Z to 2049-12-31T23:59:59Z: valid whenever a test or a demonstration runs.
    pub const LONG: Validity =
        Validity { not_before: UnixTime::from_secs(1_577_836_800), not_after: UnixTime::from_secs(2_524_607_999) };
}

/// Which authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    Ark,
    /// Signs VCEKs.
    Ask,
    /// Signs VLEKs.
    Asvk,
}

const ORGANIZATION: &str = "EVIDENT simulator: proves nothing";

const COUNTRY: &[u32] = &[2, 5, 4, 6];
const OID_SHA384: &[u32] = &[2, 16, 840, 1, 101, 3, 4, 2, 2];
const OID_MGF1: &[u32] = &[1, 2, 840, 113549, 1, 1, 8];
const OID_RSA_PSS: &[u32] = &[1, 2, 840, 113549, 1, 1, 10];
const OID_RSA: &[u32] = &[1, 2, 840, 113549, 1, 1, 1];
const OID_EC: &[u32] = &[1, 2, 840, 10045, 2, 1];
const OID_P384: &[u32] = &[1, 3, 132, 0, 34];
const SUBJECT_KEY_ID: &[u32] = &[2, 5, 29, 14];
const KEY_USAGE: &[u32] = &[2, 5, 29, 15];
const BASIC_CONSTRAINTS: &[u32] = &[2, 5, 29, 19];
const CRL_NUMBER: &[u32] = &[2, 5, 29, 20];
const CRL_POINTS: &[u32] = &[2, 5, 29, 31];
const AUTHORITY_KEY_ID: &[u32] = &[2, 5, 29, 35];
/// keyCertSign and cRLSign in the first byte of KeyUsage (RFC 5280 §4.2.1.3).
const CERT_SIGN: u8 = 0b0000_0100;
const CRL_SIGN: u8 = 0b0000_0010;
/// Version 3 of a certificate, version 2 of a CRL.
const V3: u64 = 2;
const CRL_V2: u64 = 1;

/// The certificate of an authority, signed by the ARK.
pub(crate) fn authority(
    product: Product,
    authority: Authority,
    key: &rsa::KeyPair,
    ark: &rsa::KeyPair,
    validity: Validity,
) -> Vec<u8> {
    let subject_key_id = extension(SUBJECT_KEY_ID, false, &der::octet_string(&key_id(key)));
    let usage = |bits| extension(KEY_USAGE, true, &der::named_bits(bits));
    let extensions = match authority {
        Authority::Ark => [
            usage(CERT_SIGN | CRL_SIGN),
            subject_key_id,
            extension(BASIC_CONSTRAINTS, true, &der::sequence(&[&der::boolean_true()])),
        ]
        .concat(),
        Authority::Ask | Authority::Asvk => [
            subject_key_id,
            extension(AUTHORITY_KEY_ID, false, &authority_key_id(ark)),
            extension(BASIC_CONSTRAINTS, true, &der::sequence(&[&der::boolean_true(), &der::integer(0)])),
            usage(CERT_SIGN),
        ]
        .concat(),
    };
    let tbs = der::sequence(&[
        &der::context(0, &der::integer(V3)),
        &der::integer(serial(product, authority)),
        &pss(Trailer::Explicit),
        &name(&common_name(product, Authority::Ark)),
        &validity_der(validity),
        &name(&common_name(product, authority)),
        &der::sequence(&[
            &der::sequence(&[&der::oid(OID_RSA), &der::null()]),
            &der::bit_string(key.public_key().as_ref()),
        ]),
        &der::context(3, &der::sequence(&[&extensions, &crl_point(product, authority)])),
    ]);
    signed(&tbs, Trailer::Explicit, ark)
}

/// A CRL of the ARK.
pub(crate) fn crl(
    product: Product,
    revoked: &[u64],
    this_update: UnixTime,
    next_update: UnixTime,
    ark: &rsa::KeyPair,
) -> Vec<u8> {
    let entries: Vec<u8> =
        revoked.iter().flat_map(|serial| der::sequence(&[&der::integer(*serial), &der::time(this_update)])).collect();
    // An empty list is left out, not written as an empty SEQUENCE (RFC 5280 §5.1.2.6).
    let entries = if entries.is_empty() { entries } else { der::sequence(&[&entries]) };
    let extensions = der::sequence(&[
        &extension(AUTHORITY_KEY_ID, false, &authority_key_id(ark)),
        &extension(CRL_NUMBER, false, &der::integer(1)),
    ]);
    let tbs = der::sequence(&[
        &der::integer(CRL_V2),
        &pss(Trailer::Explicit),
        &name(&common_name(product, Authority::Ark)),
        &der::time(this_update),
        &der::time(next_update),
        &entries,
        &der::context(0, &extensions),
    ]);
    signed(&tbs, Trailer::Explicit, ark)
}

/// A leaf as the template says, signed by `issuer`, which should be the key of the authority that it names.
pub(crate) fn leaf(product: Product, leaf: &LeafTemplate, issuer: &rsa::KeyPair) -> Vec<u8> {
    let extensions: Vec<u8> = leaf.extensions.iter().flat_map(|e| extension(&e.oid, e.critical, &e.value)).collect();
    let key =
        der::sequence(&[&der::sequence(&[&der::oid(OID_EC), &der::oid(OID_P384)]), &der::bit_string(&leaf.public_key)]);
    let tbs = der::sequence(&[
        &der::context(0, &der::integer(V3)),
        &der::integer(leaf.serial),
        &pss(Trailer::Default),
        &name(&common_name(product, leaf.issuer)),
        &validity_der(leaf.validity),
        &name(&leaf.common_name),
        &key,
        &der::context(3, &der::sequence(&[&extensions])),
    ]);
    signed(&tbs, Trailer::Default, issuer)
}

/// AMD's numbers: product, 00 or 01 for the VLEK branch, then 00 for the root.
pub(crate) fn serial(product: Product, authority: Authority) -> u64 {
    let product = match product {
        Product::Milan => 0x01_0000,
        Product::Genoa => 0x02_0000,
        Product::Turin => 0x03_0000,
    };
    product
        + match authority {
            Authority::Ark => 0,
            Authority::Ask => 0x0001,
            Authority::Asvk => 0x0101,
        }
}

fn common_name(product: Product, authority: Authority) -> String {
    match authority {
        Authority::Ark => format!("ARK-{product}"),
        Authority::Ask => format!("SEV-{product}"),
        Authority::Asvk => format!("SEV-VLEK-{product}"),
    }
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = |kind: &[u32], text: &str| {
        let value = if kind == COUNTRY { der::printable_string(text) } else { der::utf8_string(text) };
        der::set_of_one(&der::sequence(&[&der::oid(kind), &value]))
    };
    der::sequence(&[
        &attribute(&[2, 5, 4, 11], "Engineering"),
        &attribute(COUNTRY, "US"),
        &attribute(&[2, 5, 4, 7], "Santa Clara"),
        &attribute(&[2, 5, 4, 8], "CA"),
        &attribute(&[2, 5, 4, 10], ORGANIZATION),
        &attribute(&[2, 5, 4, 3], common_name),
    ])
}

fn validity_der(validity: Validity) -> Vec<u8> {
    der::sequence(&[&der::time(validity.not_before), &der::time(validity.not_after)])
}

fn extension(oid: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean_true() } else { Vec::new() };
    der::sequence(&[&der::oid(oid), &critical, &der::octet_string(value)])
}

/// The leftmost 160 bits of the SHA-256 of the key (RFC 7093 §2, method 1).
fn key_id(key: &rsa::KeyPair) -> [u8; 20] {
    let hash = crypto::sha256(&[key.public_key().as_ref()]);
    let mut id = [0; 20];
    id.copy_from_slice(&hash.as_bytes()[..20]);
    id
}

fn authority_key_id(ark: &rsa::KeyPair) -> Vec<u8> {
    der::sequence(&[&der::context_primitive(0, &key_id(ark))])
}

fn crl_point(product: Product, authority: Authority) -> Vec<u8> {
    let branch = if authority == Authority::Asvk { "vlek" } else { "vcek" };
    let uri = format!("https://kds.simulator.invalid/{branch}/v1/{product}/crl");
    let full_name = der::context(0, &der::context_primitive(6, uri.as_bytes()));
    extension(CRL_POINTS, false, &der::sequence(&[&der::sequence(&[&der::context(0, &full_name)])]))
}

/// Whether the PSS parameters write the trailer field, whose only value is the default. AMD's ARK writes it, ASK and ASVK do not.
#[derive(Clone, Copy)]
enum Trailer {
    Default,
    Explicit,
}

fn signed(tbs: &[u8], trailer: Trailer, key: &rsa::KeyPair) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), tbs, &mut signature)
        .expect("an RSA key of 2048 bits or more signs");
    der::sequence(&[tbs, &pss(trailer), &der::bit_string(&signature)])
}

/// RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of 48 bytes.
fn pss(trailer: Trailer) -> Vec<u8> {
    let sha384 = der::sequence(&[&der::oid(OID_SHA384), &der::null()]);
    let parameters = der::sequence(&[
        &der::context(0, &sha384),
        &der::context(1, &der::sequence(&[&der::oid(OID_MGF1), &sha384])),
        &der::context(2, &der::integer(48)),
        &match trailer {
            Trailer::Default => Vec::new(),
            Trailer::Explicit => der::context(3, &der::integer(1)),
        },
    ]);
    der::sequence(&[&der::oid(OID_RSA_PSS), &parameters])
}
