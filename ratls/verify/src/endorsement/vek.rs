//! What a VCEK or VLEK certificate says of the chip, its firmware and its provider.
//!
//! AMD puts this into private extensions (AMD 57230, table of VCEK extensions), which are found by OID and
//! never by position. Read here and true only if the chain holds. structVersion (.1) is not read: no revision gives it a
//! meaning that a verifier could act on.

use super::certificate::{Certificate, CertificateError};
use super::der::{self, IA5_STRING, OCTET_STRING};
use formats::evidence::snp::ChipId;
use formats::tcb::{Product, TcbLayout, TcbVersion};
use std::fmt;

/// 1.3.6.1.4.1.3704.1, AMD's arc for these extensions.
const ARC: [u8; 8] = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x9C, 0x78, 0x01];

/// The two kinds of versioned endorsement key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VekKind {
    /// Of one chip at one TCB.
    Vcek,
    /// Of one cloud provider at one TCB; it says nothing about the chip.
    Vlek,
}

impl VekKind {
    /// The common name of such a certificate.
    pub const fn common_name(self) -> &'static str {
        match self {
            VekKind::Vcek => "SEV-VCEK",
            VekKind::Vlek => "SEV-VLEK",
        }
    }

    /// Kind and product of the keys that an intermediate CA of this common name issues.
    fn of_issuer(common_name: &str) -> Option<(VekKind, Product)> {
        let product = common_name.strip_prefix("SEV-")?;
        match product.strip_prefix("VLEK-") {
            Some(product) => Some((VekKind::Vlek, Product::from_name(product)?)),
            None => Some((VekKind::Vcek, Product::from_name(product)?)),
        }
    }
}

impl fmt::Display for VekKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VekKind::Vcek => "VCEK",
            VekKind::Vlek => "VLEK",
        })
    }
}

/// Why a leaf is refused, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VekError {
    #[error("{subject} was issued by {issuer}, which does not issue such keys for a known product")]
    Issuer { subject: &'static str, issuer: String },
    #[error("extension {extension} is missing")]
    Missing { extension: &'static str },
    #[error("extension {extension} is malformed")]
    Malformed { extension: &'static str },
    #[error("extension {extension} is {seen}, but reserved and so 0")]
    Reserved { extension: &'static str, seen: u8 },
    #[error("a {kind} has extension {extension}, which belongs to the other kind")]
    WrongKind { kind: VekKind, extension: &'static str },
    #[error("the key cannot be used")]
    Key(#[source] CertificateError),
}

/// What a leaf says.
#[derive(Clone, Debug)]
pub(super) struct VekClaims {
    pub(super) kind: VekKind,
    /// From the name of the issuer.
    pub(super) product: Product,
    /// As the leaf has it, such as `Milan-B0`. AMD got it wrong on some parts.
    pub(super) product_name: String,
    pub(super) tcb: TcbVersion,
    /// VCEK only.
    pub(super) chip_id: Option<ChipId>,
    /// VLEK only.
    pub(super) csp: Option<String>,
    pub(super) public_key: [u8; 97],
}

impl VekClaims {
    /// `kind` is what the leaf's common name said.
    pub(super) fn read(leaf: &Certificate<'_>, kind: VekKind) -> Result<Self, VekError> {
        let issuer = || VekError::Issuer { subject: kind.common_name(), issuer: leaf.issuer_cn().to_owned() };
        let (issued, product) = VekKind::of_issuer(leaf.issuer_cn()).ok_or_else(issuer)?;
        if issued != kind {
            return Err(issuer());
        }
        let extensions = Extensions(leaf);
        let (chip_id, csp) = match kind {
            VekKind::Vcek => {
                extensions.refuse(CSP_ID, kind)?;
                (Some(extensions.hw_id(product)?), None)
            }
            VekKind::Vlek => {
                extensions.refuse(HW_ID, kind)?;
                (None, Some(extensions.text(CSP_ID)?))
            }
        };
        Ok(VekClaims {
            kind,
            product,
            product_name: extensions.text(PRODUCT_NAME)?,
            tcb: extensions.tcb(product.layout())?,
            chip_id,
            csp,
            public_key: leaf.p384_key().map_err(VekError::Key)?,
        })
    }
}

/// Name and OID below the arc.
type Extension = (&'static str, &'static [u8]);

const PRODUCT_NAME: Extension = ("productName", &[2]);
const BL_SPL: Extension = ("blSPL", &[3, 1]);
const TEE_SPL: Extension = ("teeSPL", &[3, 2]);
const SNP_SPL: Extension = ("snpSPL", &[3, 3]);
/// Reserved: .3.4 to .3.7.
const RESERVED_SPLS: [Extension; 4] = [("spl4", &[3, 4]), ("spl5", &[3, 5]), ("spl6", &[3, 6]), ("spl7", &[3, 7])];
const UCODE_SPL: Extension = ("ucodeSPL", &[3, 8]);
const FMC_SPL: Extension = ("fmcSPL", &[3, 9]);
const HW_ID: Extension = ("hwID", &[4]);
const CSP_ID: Extension = ("cspID", &[5]);

struct Extensions<'a, 'b>(&'b Certificate<'a>);

impl<'a> Extensions<'a, '_> {
    fn find(&self, (_, suffix): Extension) -> Option<&'a [u8]> {
        self.0.extension(&[&ARC[..], suffix].concat())
    }

    fn value(&self, extension: Extension) -> Result<&'a [u8], VekError> {
        self.find(extension).ok_or(VekError::Missing { extension: extension.0 })
    }

    fn refuse(&self, extension: Extension, kind: VekKind) -> Result<(), VekError> {
        match self.find(extension) {
            None => Ok(()),
            Some(_) => Err(VekError::WrongKind { kind, extension: extension.0 }),
        }
    }

    fn number(&self, extension: Extension) -> Result<u8, VekError> {
        der::small_integer(self.value(extension)?).map_err(|_| VekError::Malformed { extension: extension.0 })
    }

    fn text(&self, extension: Extension) -> Result<String, VekError> {
        let malformed = VekError::Malformed { extension: extension.0 };
        match der::only(self.value(extension)?, IA5_STRING).ok().and_then(|text| std::str::from_utf8(text).ok()) {
            Some(text) if !text.is_empty() && text.bytes().all(|b| matches!(b, 0x20..=0x7E)) => Ok(text.to_owned()),
            _ => Err(malformed),
        }
    }

    fn tcb(&self, layout: TcbLayout) -> Result<TcbVersion, VekError> {
        for reserved in RESERVED_SPLS {
            if self.find(reserved).is_some() {
                match self.number(reserved)? {
                    0 => {}
                    seen => return Err(VekError::Reserved { extension: reserved.0, seen }),
                }
            }
        }
        let (bl, tee) = (self.number(BL_SPL)?, self.number(TEE_SPL)?);
        let (snp, ucode) = (self.number(SNP_SPL)?, self.number(UCODE_SPL)?);
        match layout {
            TcbLayout::Turin => Ok(TcbVersion::new_turin(self.number(FMC_SPL)?, bl, tee, snp, ucode)),
            TcbLayout::MilanGenoa if self.find(FMC_SPL).is_some() => match self.number(FMC_SPL)? {
                0 => Ok(TcbVersion::new_milan_genoa(bl, tee, snp, ucode)),
                seen => Err(VekError::Reserved { extension: FMC_SPL.0, seen }),
            },
            TcbLayout::MilanGenoa => Ok(TcbVersion::new_milan_genoa(bl, tee, snp, ucode)),
        }
    }

    /// Raw bytes or an OCTET STRING: 64 bytes, or for Turin also 8, which a report fills up with zeros.
    fn hw_id(&self, product: Product) -> Result<ChipId, VekError> {
        let value = self.value(HW_ID)?;
        let bytes = match value.len() {
            66 | 10 => der::only(value, OCTET_STRING).map_err(|_| VekError::Malformed { extension: HW_ID.0 })?,
            _ => value,
        };
        let mut id = [0; ChipId::LEN];
        match (bytes.len(), product) {
            (ChipId::LEN, _) => id.copy_from_slice(bytes),
            (8, Product::Turin) => id[..8].copy_from_slice(bytes),
            _ => return Err(VekError::Malformed { extension: HW_ID.0 }),
        }
        Ok(ChipId::from_bytes(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_name_kind_and_product() {
        assert_eq!(VekKind::of_issuer("SEV-Milan"), Some((VekKind::Vcek, Product::Milan)));
        assert_eq!(VekKind::of_issuer("SEV-VLEK-Genoa"), Some((VekKind::Vlek, Product::Genoa)));
        for other in ["SEV-", "SEV-milan", "SEV-VLEK", "SEV-VLEK-", "SEV-VCEK", "ARK-Milan", "SEV-Milan ", ""] {
            assert_eq!(VekKind::of_issuer(other), None, "{other}");
        }
    }
}
