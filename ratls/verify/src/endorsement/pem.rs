//! PEM or DER as operators and key services deliver it, to the DER that everything else takes.

use super::MAX_CERTIFICATES;
use super::certificate::Certificate;
use super::der;
use super::key::PublicKey;
use formats::bytes::Reader;
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

/// The certificates in a file: in DER, one after the other, or in PEM; up to eight. What pads a certificate that was read from a
/// TPM's NV index is cut off, in PEM too. Their contents are not looked at.
pub fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let found = blocks(file, "CERTIFICATE")?;
    let mut certificates = Vec::new();
    for bytes in found {
        match elements(&bytes) {
            Some(elements) => certificates.extend(elements.into_iter().map(<[u8]>::to_vec)),
            None => certificates.push(bytes), // whoever parses it says what is wrong
        }
    }
    if certificates.len() > MAX_CERTIFICATES { Err(PemError::TooMany) } else { Ok(certificates) }
}

/// The revocation lists in a file, likewise.
pub fn crls(file: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    blocks(file, "X509 CRL")
}

/// A key as operators have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    Key(PublicKey),
    /// DER of a certificate, and the key that it is for. Nothing of it is verified.
    Certificate(Vec<u8>, PublicKey),
}

/// A public key, or a certificate for one, in DER or PEM. What pads a certificate that was read from a TPM's NV index is cut off.
pub fn key(file: &[u8]) -> Result<KeyFile, PemError> {
    let wanted = "PUBLIC KEY";
    if file.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLarge { seen: file.len() });
    }
    let (label, der) = if file.first() == Some(&der::SEQUENCE) {
        (String::new(), unpadded(file).ok_or(PemError::Malformed)?.to_vec())
    } else {
        let block = Pem::iter_from_buffer(file).next().ok_or(PemError::Nothing { wanted })?;
        let block = block.map_err(|_| PemError::Malformed)?;
        (block.label, block.contents)
    };
    let certificate = || {
        let key = Certificate::parse(&der).ok()?.key().ok()?;
        Some(KeyFile::Certificate(der.clone(), key))
    };
    let plain = || PublicKey::from_spki(&der).or_else(|_| PublicKey::rsa_pkcs1(&der)).ok().map(KeyFile::Key);
    let found = match label.as_str() {
        "CERTIFICATE" => certificate(),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => plain(),
        "" => plain().or_else(certificate),
        other => return Err(PemError::Label { seen: other.to_owned(), wanted }),
    };
    found.ok_or(PemError::Malformed)
}

/// One element, if nothing but padding follows it: TPMs fill their indexes up with zeros or ones.
fn unpadded(file: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(file);
    let element = der::element(&mut reader, der::SEQUENCE).ok()?;
    is_padding(reader.remaining()).then_some(element.raw)
}

/// One element after the other, if nothing but padding follows the last.
fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while found.is_empty() || !is_padding(rest) {
        let element = der::element(&mut Reader::new(rest), der::SEQUENCE).ok()?.raw;
        rest = rest.get(element.len()..)?;
        found.push(element);
    }
    Some(found)
}

fn is_padding(bytes: &[u8]) -> bool {
    [0, 0xFF].iter().any(|pad| bytes.iter().all(|byte| byte == pad))
}

fn blocks(file: &[u8], wanted: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    if file.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLarge { seen: file.len() });
    }
    if file.first() == Some(&der::SEQUENCE) {
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
    fn what_pads_a_certificate_of_an_nv_index_is_cut_off_in_der_and_in_pem() {
        let one = vec![0x30, 1, 7];
        for pad in [0, 0xFF] {
            let padded = [&one[..], &[pad; 40]].concat();
            assert_eq!(certificates(&padded), Ok(vec![one.clone()]), "{pad}");
            let text = pem_of(&padded);
            assert_eq!(certificates(text.as_bytes()), Ok(vec![one.clone()]), "{pad}");
        }
        assert_eq!(certificates(&one.repeat(2)), Ok(vec![one.clone(); 2]), "one after the other");
        assert_eq!(certificates(&one.repeat(9)), Err(PemError::TooMany));
        let odd = [&one[..], &[0, 0xFF]].concat();
        assert_eq!(certificates(&odd), Ok(vec![odd.clone()]), "left as it is, for the parser to refuse");
    }

    fn pem_of(der: &[u8]) -> String {
        let text = data_encoding::BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn refuses_other_blocks_too_many_and_nothing() {
        assert!(matches!(crls(BLOCK.as_bytes()), Err(PemError::Label { .. })));
        assert_eq!(certificates(BLOCK.repeat(9).as_bytes()), Err(PemError::TooMany));
        assert_eq!(certificates(b""), Err(PemError::Nothing { wanted: "CERTIFICATE" }));
        assert_eq!(certificates(b"-----BEGIN CERTIFICATE-----\nMAA=\n"), Err(PemError::Malformed));
    }
}
