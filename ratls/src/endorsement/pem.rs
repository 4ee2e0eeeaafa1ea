//! PEM or DER as operators and key services deliver it, to the DER that everything else takes.

use super::MAX_CERTIFICATES;
use x509_parser::pem::Pem;

/// Bytes of one PEM file: eight certificates and their text.
const MAX_PEM_BYTES: usize = 256 * 1024;

/// Why a file is neither PEM nor DER.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    #[error("the file has {seen} bytes, at most {MAX_PEM_BYTES} are read")]
    TooLarge { seen: usize },
    #[error("the file is neither DER nor PEM with a block {wanted:?}")]
    Nothing { wanted: &'static str },
    #[error("the PEM is malformed")]
    Malformed,
    #[error("a PEM block is {seen:?}, wanted {wanted:?}")]
    Label { seen: String, wanted: &'static str },
    #[error("more than {MAX_CERTIFICATES} PEM blocks")]
    TooMany,
}

/// The certificates in a file: one in DER, or any number up to eight in PEM. Their contents are not looked at.
pub fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    blocks(file, "CERTIFICATE")
}

/// The revocation lists in a file, likewise.
pub fn crls(file: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    blocks(file, "X509 CRL")
}

fn blocks(file: &[u8], wanted: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    if file.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLarge { seen: file.len() });
    }
    if file.first() == Some(&super::der::SEQUENCE) {
        return Ok(vec![file.to_vec()]);
    }
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(file) {
        let block = block.map_err(|_| PemError::Malformed)?;
        if block.label != wanted {
            return Err(PemError::Label { seen: block.label, wanted });
        }
        if found.len() == MAX_CERTIFICATES {
            return Err(PemError::TooMany);
        }
        found.push(block.contents);
    }
    if found.is_empty() { Err(PemError::Nothing { wanted }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn takes_der_as_it_is_and_pem_block_by_block() {
        assert_eq!(certificates(&[0x30, 0]), Ok(vec![vec![0x30, 0]]));
        assert_eq!(certificates(BLOCK.repeat(2).as_bytes()), Ok(vec![vec![0x30, 0]; 2]));
        assert_eq!(certificates(format!("a title\n{BLOCK}").as_bytes()), Ok(vec![vec![0x30, 0]]));
    }

    #[test]
    fn refuses_other_blocks_too_many_and_nothing() {
        assert!(matches!(crls(BLOCK.as_bytes()), Err(PemError::Label { .. })));
        assert_eq!(certificates(BLOCK.repeat(9).as_bytes()), Err(PemError::TooMany));
        assert_eq!(certificates(b""), Err(PemError::Nothing { wanted: "CERTIFICATE" }));
        assert_eq!(certificates(b"-----BEGIN CERTIFICATE-----\nMAA=\n"), Err(PemError::Malformed));
    }
}
