//! What a VCEK or VLEK certificate says, as a value that a test can change one thing of.
//!
//! AMD's extensions (AMD 57230), in the order in which AMD's certificates have them and not in that of their numbers.

use crate::amd_sp::{Tcb, Vek};
use crate::der;
use crate::x509::{Authority, Validity};
use ratls::evidence::snp::ChipId;
use ratls::tcb::Product;

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
