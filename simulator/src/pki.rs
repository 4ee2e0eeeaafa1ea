//! Keys and certificates of the simulated AMD: ARK, ASK, ASVK, and one chip's secret.
//!
//! Keys are as weak as the disk they lie on. A VCEK or VLEK is derived from the secret of the "chip", as in hardware: another
//! reported TCB, chip or cloud provider is another key.

use crate::amd_sp::Vek;
use crate::leaf::LeafTemplate;
use crate::x509::{self, Authority, Validity};
use crate::{der, pem};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
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

/// The authorities of one product and the secret of one chip. The private half is never shown by `Debug`.
pub struct Pki {
    product: Product,
    chip_secret: [u8; 32],
    ark: Signer,
    ask: Signer,
    asvk: Signer,
}

struct Signer {
    key: rsa::KeyPair,
    certificate: Vec<u8>,
}

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
        let certify =
            |authority, key: &rsa::KeyPair, ark: &rsa::KeyPair| x509::authority(product, authority, key, ark, validity);
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
        x509::serial(self.product, authority)
    }

    /// A CRL signed by the ARK that names `revoked` serial numbers.
    pub fn crl(&self, revoked: &[u64], this_update: UnixTime, next_update: UnixTime) -> Vec<u8> {
        x509::crl(self.product, revoked, this_update, next_update, &self.ark.key)
    }

    /// Signs a leaf.
    pub fn issue(&self, leaf: &LeafTemplate) -> Vec<u8> {
        x509::leaf(self.product, leaf, &self.signer(leaf.issuer).key)
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

/// Bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random numbers");
    bytes
}
