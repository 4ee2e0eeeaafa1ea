//! Roots, intermediates, leaves and the CRL of the simulated AMD, of the shape that AMD's have.
//!
//! Shape: platforms.md §3.1 and §3.3, and the certificates themselves: names with OU first, PSS parameters with the
//! trailer field where the ARK signs and without it where ASK and ASVK do, leaf extensions in AMD's order and not in that of their
//! numbers. Only O differs ("EVIDENT simulator: proves nothing"), and CRL points, which lead to `.invalid` and not to AMD.
//!
//! Keys are as weak as the disk they lie on. A VCEK or VLEK is derived from a secret of the "chip", as in hardware: another
//! reported TCB, chip or cloud provider is another key.

use crate::amd_sp::{Tcb, Vek};
use crate::{der, pem};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384};
use ratls::crypto;
use ratls::evidence::snp::ChipId;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use std::fmt;

/// Modulus of ARK, ASK and ASVK. AMD's have 4096 bits; 2048 is quicker to make, for tests that make many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaSize {
    Bits2048,
    Bits4096,
}

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

/// The authorities of one product and the secret of one chip. The private half is never shown by `Debug`.
pub struct Pki {
    product: Product,
    chip_secret: [u8; 32],
    ark: Signer,
    ask: Signer,
    asvk: Signer,
}

pub(crate) struct Signer {
    key: rsa::KeyPair,
    certificate: Vec<u8>,
}

/// Everything that a leaf certificate says, so that a test can change one thing of it.
#[derive(Clone, Debug)]
pub struct LeafTemplate {
    pub issuer: Authority,
    /// 0 on AMD's.
    pub serial: u64,
    pub common_name: String,
    pub validity: Validity,
    /// P-384, uncompressed, 97 bytes.
    pub public_key: Vec<u8>,
    /// In the order of the certificate.
    pub extensions: Vec<Extension>,
}

/// One extension, never critical on AMD's leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub oid: Vec<u32>,
    pub critical: bool,
    /// What stands in extnValue.
    pub value: Vec<u8>,
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

impl Pki {
    /// New keys, certificates valid for [`Validity::LONG`]. Takes some 0.3 s with 2048 bits and seconds with 4096.
    pub fn generate(product: Product, size: RsaSize) -> Pki {
        Pki::generate_valid(product, size, Validity::LONG)
    }

    /// The same with another validity of ARK, ASK and ASVK.
    pub fn generate_valid(product: Product, size: RsaSize, validity: Validity) -> Pki {
        let new_key = || {
            rsa::KeyPair::generate(match size {
                RsaSize::Bits2048 => rsa::KeySize::Rsa2048,
                RsaSize::Bits4096 => rsa::KeySize::Rsa4096,
            })
            .expect("the system gives random numbers")
        };
        let certify = |authority, key: &rsa::KeyPair, ark: &rsa::KeyPair| {
            let tbs = authority_tbs(product, authority, key, ark, validity);
            signed(&tbs, Trailer::Explicit, ark)
        };
        let (ark, ask, asvk) = (new_key(), new_key(), new_key());
        Pki {
            product,
            chip_secret: random(),
            ask: Signer { certificate: certify(Authority::Ask, &ask, &ark), key: ask },
            asvk: Signer { certificate: certify(Authority::Asvk, &asvk, &ark), key: asvk },
            ark: Signer { certificate: certify(Authority::Ark, &ark, &ark), key: ark },
        }
    }

    pub fn product(&self) -> Product {
        self.product
    }

    /// The certificate of an authority, DER.
    pub fn certificate(&self, authority: Authority) -> &[u8] {
        &self.signer(authority).certificate
    }

    /// The file that a policy names under `[roots] simulator`: the notice, then the ARK's certificate as PEM.
    pub fn root_pem(&self) -> String {
        format!("{}\n{}", crate::NOTICE, pem::encode("CERTIFICATE", &self.ark.certificate))
    }

    /// The serial number of an authority's certificate, as a CRL names it.
    pub fn serial(&self, authority: Authority) -> u64 {
        serial(self.product, authority)
    }

    /// A CRL signed by the ARK that names `revoked` serial numbers.
    pub fn crl(&self, revoked: &[u64], this_update: UnixTime, next_update: UnixTime) -> Vec<u8> {
        let entries: Vec<u8> = revoked
            .iter()
            .flat_map(|serial| der::sequence(&[&der::integer(*serial), &der::time(this_update)]))
            .collect();
        // An empty list is left out, not written as an empty SEQUENCE (RFC 5280 §5.1.2.6).
        let entries = if entries.is_empty() { entries } else { der::sequence(&[&entries]) };
        let tbs = der::sequence(&[
            &der::integer(CRL_V2),
            &pss(Trailer::Explicit),
            &name(&common_name(self.product, Authority::Ark)),
            &der::time(this_update),
            &der::time(next_update),
            &entries,
            &der::context(
                0,
                &der::sequence(&[
                    &extension(AUTHORITY_KEY_ID, false, &authority_key_id(&self.ark.key)),
                    &extension(CRL_NUMBER, false, &der::integer(1)),
                ]),
            ),
        ]);
        signed(&tbs, Trailer::Explicit, &self.ark.key)
    }

    /// Signs a leaf.
    pub fn issue(&self, leaf: &LeafTemplate) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> =
            leaf.extensions.iter().map(|e| extension(&e.oid, e.critical, &e.value)).collect();
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let key = der::sequence(&[
            &der::sequence(&[&der::oid(OID_EC), &der::oid(OID_P384)]),
            &der::bit_string(&leaf.public_key),
        ]);
        let tbs = der::sequence(&[
            &der::context(0, &der::integer(V3)),
            &der::integer(leaf.serial),
            &pss(Trailer::Default),
            &name(&common_name(self.product, leaf.issuer)),
            &validity_der(leaf.validity),
            &name(&leaf.common_name),
            &key,
            &der::context(3, &der::sequence(&extensions)),
        ]);
        signed(&tbs, Trailer::Default, &self.signer(leaf.issuer).key)
    }

    /// The chip's id: 64 bytes, of which Turin uses the first 8.
    pub fn chip_id(&self) -> ChipId {
        let mut id = *crypto::sha512(&[b"chip id", &self.chip_secret]).as_bytes();
        if self.product == Product::Turin {
            id[8..].fill(0);
        }
        ChipId::from_bytes(id)
    }

    /// The key that signs reports, a function of all that hardware derives it from.
    pub(crate) fn vek(&self, vek: &Vek, chip_id: &ChipId, tcb: u64) -> EcdsaKeyPair {
        let (kind, whose): (&[u8], &[u8]) = match vek {
            Vek::Vcek => (b"VCEK", chip_id.as_bytes()),
            Vek::Vlek { csp } => (b"VLEK", csp.as_bytes()),
        };
        let scalar = crypto::hmac_sha384(&self.chip_secret, &[kind, &tcb.to_le_bytes(), whose]);
        let rfc5915 = der::sequence(&[&der::integer(1), &der::octet_string(scalar.as_slice())]);
        // A hash is no scalar of P-384 with probability 2^-190.
        EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, &rfc5915)
            .expect("a hash of 48 bytes is a scalar of P-384")
    }

    /// What must be kept to be the same simulator tomorrow: secret, then key and certificate of each authority.
    pub(crate) fn to_parts(&self) -> [Vec<u8>; 7] {
        let key = |signer: &Signer| signer.key.as_der().expect("an RSA key has a PKCS#8 form").as_ref().to_vec();
        let certificate = |signer: &Signer| signer.certificate.clone();
        [
            self.chip_secret.to_vec(),
            key(&self.ark),
            certificate(&self.ark),
            key(&self.ask),
            certificate(&self.ask),
            key(&self.asvk),
            certificate(&self.asvk),
        ]
    }

    /// The reverse of [`Pki::to_parts`]; `None` where a part is not what it should be.
    pub(crate) fn from_parts(product: Product, parts: [Vec<u8>; 7]) -> Option<Pki> {
        let [secret, ark, ark_certificate, ask, ask_certificate, asvk, asvk_certificate] = parts;
        let signer =
            |key: &[u8], certificate| rsa::KeyPair::from_pkcs8(key).ok().map(|key| Signer { key, certificate });
        Some(Pki {
            product,
            chip_secret: secret.try_into().ok()?,
            ark: signer(&ark, ark_certificate)?,
            ask: signer(&ask, ask_certificate)?,
            asvk: signer(&asvk, asvk_certificate)?,
        })
    }

    fn signer(&self, authority: Authority) -> &Signer {
        match authority {
            Authority::Ark => &self.ark,
            Authority::Ask => &self.ask,
            Authority::Asvk => &self.asvk,
        }
    }
}

impl fmt::Display for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: roots of a simulated {}", crate::NOTICE, self.product)
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("product", &self.product).finish_non_exhaustive()
    }
}

impl LeafTemplate {
    /// The leaf that AMD would issue for this key.
    pub fn new(
        product: Product,
        vek: &Vek,
        tcb: &Tcb,
        chip_id: &ChipId,
        public_key: &[u8],
        validity: Validity,
    ) -> Self {
        let (issuer, common_name) = match vek {
            Vek::Vcek => (Authority::Ask, "SEV-VCEK"),
            Vek::Vlek { .. } => (Authority::Asvk, "SEV-VLEK"),
        };
        let mut extensions = vec![
            Extension::integer(&[1], 0),
            // Only Milan's VCEKs name a stepping.
            Extension::text(
                &[2],
                &match (product, vek) {
                    (Product::Milan, Vek::Vcek) => "Milan-B0".to_owned(),
                    _ => product.to_string(),
                },
            ),
        ];
        let spl = |number, value: u8| Extension::integer(&[3, number], value.into());
        // Order and absence of numbers as in AMD's certificates.
        extensions.extend(match product {
            Product::Turin => vec![
                spl(9, tcb.fmc),
                spl(1, tcb.bootloader),
                spl(2, tcb.tee),
                spl(3, tcb.snp),
                spl(5, 0),
                spl(6, 0),
                spl(7, 0),
                spl(8, tcb.microcode),
            ],
            _ => vec![
                spl(1, tcb.bootloader),
                spl(2, tcb.tee),
                spl(4, 0),
                spl(5, 0),
                spl(6, 0),
                spl(7, 0),
                spl(3, tcb.snp),
                spl(8, tcb.microcode),
            ],
        });
        extensions.push(match vek {
            Vek::Vcek => Extension::raw(
                &[4],
                match product {
                    Product::Turin => &chip_id.as_bytes()[..8],
                    _ => chip_id.as_bytes(),
                },
            ),
            Vek::Vlek { csp } => Extension::text(&[5], csp),
        });
        LeafTemplate {
            issuer,
            serial: 0,
            common_name: common_name.to_owned(),
            validity,
            public_key: public_key.to_vec(),
            extensions,
        }
    }
}

impl Extension {
    /// An INTEGER under AMD's arc 1.3.6.1.4.1.3704.1.
    pub fn integer(suffix: &[u32], value: u64) -> Self {
        Extension::raw(suffix, &der::integer(value))
    }

    /// An IA5String under AMD's arc.
    pub fn text(suffix: &[u32], value: &str) -> Self {
        Extension::raw(suffix, &der::ia5_string(value))
    }

    /// Bytes as they are, under AMD's arc.
    pub fn raw(suffix: &[u32], value: &[u8]) -> Self {
        Extension { oid: [&[1, 3, 6, 1, 4, 1, 3704, 1], suffix].concat(), critical: false, value: value.to_vec() }
    }
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

fn authority_tbs(
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
    der::sequence(&[
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
    ])
}

/// AMD's numbers: product, 00 or 01 for the VLEK branch, then 00 for the root.
fn serial(product: Product, authority: Authority) -> u64 {
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

/// Bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random numbers");
    bytes
}
