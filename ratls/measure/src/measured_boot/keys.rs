//! Keys of Secure Boot: whose they are, in words. Nothing is verified here; what a certificate calls itself is only shown.

use x509_parser::prelude::{FromDer as _, X509Certificate};

use formats::bytes::{ReadError, Reader};
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::guid::UefiGuid;

/// EFI_CERT_X509_GUID.
const CERT_X509: UefiGuid = UefiGuid::new(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072);
/// EFI_CERT_SHA256_GUID.
const CERT_SHA256: UefiGuid = UefiGuid::new(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328);
/// Most certificates that are named; db of a PC has fewer than ten.
const MAX_NAMED: usize = 32;

/// A key variable (PK, KEK, db, dbx), or an authority's entry of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// SHA-256 of the variable's content: `tail -c +5` of the file in efivarfs gives the same.
    pub digest: Sha256Digest,
    /// Subjects of the certificates in it.
    pub names: Vec<String>,
    /// Image hashes in it.
    pub hashes: usize,
}

impl Keys {
    /// Reads EFI_SIGNATURE_LISTs (UEFI 2.10, section 32.4.1). What does not read as such has a digest and no names.
    pub fn lists(content: &[u8]) -> Keys {
        let mut keys = Keys { digest: sha256(&[content]), names: Vec::new(), hashes: 0 };
        let mut reader = Reader::new(content);
        while reader.left() > 0 {
            if keys.list(&mut reader).is_err() {
                return Keys { names: Vec::new(), hashes: 0, ..keys };
            }
        }
        keys
    }

    fn list(&mut self, reader: &mut Reader<'_>) -> Result<(), ReadError> {
        let kind = UefiGuid::from_bytes(reader.array()?);
        let (size, header, entry) = (length(reader)?, length(reader)?, length(reader)?);
        let mut entries = Reader::new(reader.take(size.saturating_sub(28))?);
        entries.take(header)?;
        while entries.left() > 0 {
            // An entry has its owner's GUID and at least a byte; so this ends.
            let mut one = Reader::new(entries.take(entry.max(17))?);
            one.take(16)?;
            match kind {
                CERT_X509 if self.names.len() < MAX_NAMED => self.names.extend(subject(one.remaining())),
                CERT_SHA256 => self.hashes += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads what vouched for an image: EFI_SIGNATURE_DATA with an owner, or a bare certificate as old versions of shim give it.
    pub fn authority(content: &[u8]) -> Keys {
        let owned = content.get(16..).and_then(subject);
        let names = owned.or_else(|| subject(content)).into_iter().collect();
        Keys { digest: sha256(&[content]), names, hashes: 0 }
    }
}

fn length(reader: &mut Reader<'_>) -> Result<usize, ReadError> {
    Ok(usize::try_from(reader.u32_le()?).unwrap_or(usize::MAX))
}

/// The common name, else the whole subject.
fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject();
    let common = name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).map(str::to_owned);
    Some(common.unwrap_or_else(|| name.to_string())).filter(|name| !name.is_empty())
}
