//! A TPM's quote, written a second time from the documents: every field can be wrong before it is signed. PROVES NOTHING.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use ratls::crypto::{sha256, sha384};
use ratls::wire::attest::TpmEvidence;

enum Key {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

/// An AK and what it says of the registers.
pub struct SoftTpm {
    key: Key,
    attributes: u32,
    scheme: u16,
    pub pcrs: BTreeMap<u8, Vec<u8>>,
}

/// Everything that a quote says, before it is signed.
#[derive(Clone)]
pub struct Quote {
    pub magic: u32,
    pub kind: u16,
    pub qualified_signer: Vec<u8>,
    pub extra_data: Vec<u8>,
    /// Algorithm and bitmap.
    pub selections: Vec<(u16, [u8; 3])>,
    pub pcr_digest: Vec<u8>,
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

pub fn bitmap(indices: impl IntoIterator<Item = u8>) -> [u8; 3] {
    let mut map = [0; 3];
    indices.into_iter().for_each(|index| map[usize::from(index / 8)] |= 1 << (index % 8));
    map
}

/// Sixteen registers that differ.
fn registers() -> BTreeMap<u8, Vec<u8>> {
    (0..16).map(|index| (index, sha256(&[&[index]]).as_bytes().to_vec())).collect()
}

impl SoftTpm {
    /// RSA-2048 with Azure's template.
    pub fn azure() -> Self {
        let key = Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        SoftTpm { key, attributes: 0x0005_0472, scheme: 0x0014, pcrs: registers() }
    }

    /// RSA-2048 that signs with PSS.
    pub fn pss() -> Self {
        SoftTpm { scheme: 0x0016, ..Self::azure() }
    }

    /// P-256 with GCE's template.
    pub fn gce() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        SoftTpm { key: Key::P256(key), attributes: 0x0005_0072, scheme: 0x0018, pcrs: registers() }
    }

    pub fn with_attributes(self, attributes: u32) -> Self {
        SoftTpm { attributes, ..self }
    }

    /// Modulus of an RSA key.
    pub fn modulus(&self) -> Vec<u8> {
        let Key::Rsa(key) = &self.key else { panic!("an RSA key") };
        // PKCS#1 of 2048 bit: two headers of four bytes, a zero, the modulus.
        key.public_key().as_ref()[9..265].to_vec()
    }

    /// The point of an elliptic key.
    pub fn point(&self) -> Vec<u8> {
        let Key::P256(key) = &self.key else { panic!("a P-256 key") };
        key.public_key().as_ref().to_vec()
    }

    pub fn spki(&self) -> Vec<u8> {
        match &self.key {
            Key::Rsa(key) => {
                AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key()).unwrap().as_ref().to_vec()
            }
            Key::P256(key) => {
                AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key()).unwrap().as_ref().to_vec()
            }
        }
    }

    /// TPMT_PUBLIC.
    pub fn public(&self) -> Vec<u8> {
        let attributes = self.attributes.to_be_bytes();
        let scheme = [&[0, 0x10][..], &self.scheme.to_be_bytes(), &[0, 0x0B]].concat();
        match &self.key {
            Key::Rsa(_) => {
                [&[0, 1, 0, 0x0B][..], &attributes, &[0, 0], &scheme, &[8, 0, 0, 0, 0, 0], &sized(&self.modulus())]
                    .concat()
            }
            Key::P256(_) => {
                let point = self.point();
                let (x, y) = point[1..].split_at(32);
                [&[0, 0x23, 0, 0x0B][..], &attributes, &[0, 0], &scheme, &[0, 3, 0, 0x10], &sized(x), &sized(y)]
                    .concat()
            }
        }
    }

    fn name(bytes: &[&[u8]]) -> Vec<u8> {
        [&[0, 0x0B][..], sha256(bytes).as_bytes()].concat()
    }

    /// What a quote over all registers and this question says.
    pub fn says(&self, question: &[u8]) -> Quote {
        let values: Vec<&[u8]> = self.pcrs.values().map(Vec::as_slice).collect();
        let endorsement = 0x4000_000Bu32.to_be_bytes();
        Quote {
            magic: 0xFF54_4347,
            kind: 0x8018,
            qualified_signer: Self::name(&[&endorsement, &Self::name(&[&self.public()])]),
            extra_data: question.to_vec(),
            selections: vec![(0x0B, bitmap(self.pcrs.keys().copied()))],
            pcr_digest: sha256(&values).as_bytes().to_vec(),
        }
    }

    /// The same, changed and then signed.
    pub fn quote(&self, question: &[u8], change: impl FnOnce(&mut Quote)) -> TpmEvidence {
        let mut quote = self.says(question);
        change(&mut quote);
        let mut attest = [&quote.magic.to_be_bytes()[..], &quote.kind.to_be_bytes()].concat();
        attest.extend([sized(&quote.qualified_signer), sized(&quote.extra_data)].concat());
        attest.extend(1_000u64.to_be_bytes());
        attest.extend([0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
        attest.extend(u32::try_from(quote.selections.len()).unwrap().to_be_bytes());
        for (algorithm, map) in &quote.selections {
            attest.extend([&algorithm.to_be_bytes()[..], &[3], map].concat());
        }
        attest.extend(sized(&quote.pcr_digest));
        TpmEvidence {
            signature: self.sign(&attest),
            attest,
            bank: 0x0B,
            pcrs: self.pcrs.clone(),
            public: self.public(),
        }
    }

    /// TPMT_SIGNATURE.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let head = [&self.scheme.to_be_bytes()[..], &[0, 0x0B]].concat();
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; 256];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if self.scheme == 0x16 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).unwrap();
                [&head[..], &sized(&signature)].concat()
            }
            Key::P256(key) => {
                let signature = key.sign(&random, message).unwrap();
                let (r, s) = signature.as_ref().split_at(32);
                [&head[..], &sized(r), &sized(s)].concat()
            }
        }
    }
}

/// A quote over values that are not SHA-256's.
pub fn sha384_digest(values: &[&[u8]]) -> Vec<u8> {
    sha384(values).as_bytes().to_vec()
}
