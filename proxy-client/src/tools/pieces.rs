//! The files of `evident-client verify`: read, and brought into the forms that verification takes.

use std::path::{Path, PathBuf};

use ratls::endorsement::pem::{self, KeyFile, PemError};
use ratls::endorsement::table::{CertificateTable, TableItem};
use ratls::evidence::svsm::Nonce;
use ratls::evidence::tpm::{Bank, PcrValues, Public, Quoted};
use ratls::findings::{Check, ClaimsCheck, EndorsementCheck, QuoteCheck};
use ratls::verify::{AkFile, Files, QuoteFiles, SvsmFiles};
use serde_json::{Map, Value};

use super::input::{self, ReadFileError};
use super::verify::VerifyArgs;

/// Bytes in hex, of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenNonce(pub(super) Vec<u8>);

/// 64 bytes in hex, of a flag; fewer are filled up with zeros, as the tools that ask for reports do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenReportData(pub(super) [u8; 64]);

const MAX_NONCE: usize = 64;

pub(super) fn nonce(text: &str) -> Result<GivenNonce, String> {
    let bytes =
        hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|_| "wanted hex digits, two for each byte")?;
    match bytes.len() {
        1..=MAX_NONCE => Ok(GivenNonce(bytes)),
        seen => Err(format!("{seen} bytes; wanted 1 to {MAX_NONCE}")),
    }
}

pub(super) fn report_data(text: &str) -> Result<GivenReportData, String> {
    let GivenNonce(bytes) = nonce(text)?;
    let mut filled = [0; MAX_NONCE];
    for (place, byte) in filled.iter_mut().zip(bytes) {
        *place = byte;
    }
    Ok(GivenReportData(filled))
}

/// More than any report, blob, quote or key; the parsers say what was wrong with a length.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Eight certificates in PEM and the text around them.
const MAX_CERTIFICATE_FILE_BYTES: usize = 256 * 1024;
/// A list in PEM is a third longer than in DER.
const MAX_CRL_FILE_BYTES: usize = 2 * ratls::endorsement::MAX_CRL_BYTES;
/// Most of a log that is read.
const MAX_EVENT_LOG_BYTES: usize = 1 << 20;
const MAX_IMA_LOG_BYTES: usize = 16 << 20;

/// A file whose contents cannot be what its flag says. The peer's fault where the file is evidence.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}", path.display())]
pub(super) struct PieceError {
    pub(super) flag: &'static str,
    pub(super) path: PathBuf,
    source: PieceProblem,
}

impl PieceError {
    /// The check that failed.
    pub(super) fn check(&self) -> Check {
        match (&self.source, self.flag) {
            (PieceProblem::Pem(_), "--cert" | "--crl") => EndorsementCheck::File.into(),
            (PieceProblem::Pcrs(_), _) => QuoteCheck::Selection.into(),
            (PieceProblem::Nonce { .. }, _) => ClaimsCheck::Manifest.into(),
            (PieceProblem::Pem(_) | PieceProblem::Key, _) => QuoteCheck::Key.into(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PieceProblem {
    #[error(transparent)]
    Pem(PemError),
    #[error("it is neither a TPMT_PUBLIC, nor a public key or a certificate in PEM or DER")]
    Key,
    #[error("{0}")]
    Pcrs(String),
    #[error("it has {seen} bytes, wanted 64")]
    Nonce { seen: usize },
}

/// Contents of the files, which [`Pieces::files`] lends.
#[derive(Default)]
pub(super) struct Pieces {
    report: Option<Vec<u8>>,
    hcl: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
    nonce: Option<Nonce>,
    report_data: Option<[u8; 64]>,
    quote_nonce: Option<Vec<u8>>,
    nitro: Option<Vec<u8>>,
    quote: Option<(Vec<u8>, Vec<u8>)>,
    pcrs: Option<PcrValues>,
    ak: Option<AkFile>,
    event_log: Option<Vec<u8>>,
    ima_log: Option<Vec<u8>>,
    endorsement: Option<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// What could not be read, and what was read and is wrong.
pub(super) enum Refused {
    Read(ReadFileError),
    Piece(PieceError),
}

impl From<ReadFileError> for Refused {
    fn from(error: ReadFileError) -> Self {
        Refused::Read(error)
    }
}

impl Pieces {
    pub(super) fn read(args: &VerifyArgs) -> Result<Pieces, Refused> {
        let piece = |path: &Option<PathBuf>, max| path.as_deref().map(|path| input::read(path, max)).transpose();
        let mut pieces = Pieces {
            report: piece(&args.snp_report, MAX_PIECE_BYTES)?,
            hcl: piece(&args.hcl, MAX_PIECE_BYTES)?,
            manifest: piece(&args.svsm_manifest, MAX_PIECE_BYTES)?,
            nitro: piece(&args.nitro_document, MAX_PIECE_BYTES)?,
            quote: piece(&args.quote, MAX_PIECE_BYTES)?.zip(piece(&args.quote_signature, MAX_PIECE_BYTES)?),
            event_log: piece(&args.event_log, MAX_EVENT_LOG_BYTES)?,
            ima_log: piece(&args.ima_log, MAX_IMA_LOG_BYTES)?,
            endorsement: piece(&args.firmware_endorsement, MAX_PIECE_BYTES)?,
            report_data: args.report_data.as_ref().map(|given| given.0),
            quote_nonce: args.nonce.as_ref().map(|given| given.0.clone()),
            ..Pieces::default()
        };
        for path in &args.cert {
            let file = input::read(path, MAX_CERTIFICATE_FILE_BYTES)?;
            if !pieces.add_table(&file) {
                let found = pem::certificates(&file).map_err(PieceProblem::Pem).map_err(failed("--cert", path))?;
                pieces.certificates.extend(found);
            }
        }
        for path in &args.crl {
            let file = input::read(path, MAX_CRL_FILE_BYTES)?;
            let found = pem::crls(&file).map_err(PieceProblem::Pem).map_err(failed("--crl", path))?;
            pieces.crls.extend(found);
        }
        if let Some(path) = &args.ak {
            let (ak, certificate) = key(&input::read(path, MAX_PIECE_BYTES)?).map_err(failed("--ak", path))?;
            pieces.ak = Some(ak);
            pieces.certificates.extend(certificate);
        }
        if let Some(path) = &args.pcrs {
            let wanted = pieces.quote.as_ref().and_then(|(attest, _)| bank_of(attest));
            let file = input::read(path, MAX_PIECE_BYTES)?;
            pieces.pcrs = Some(pcrs(&file, wanted).map_err(PieceProblem::Pcrs).map_err(failed("--pcrs", path))?);
        }
        if let Some(path) = &args.svsm_nonce {
            let file = input::read(path, MAX_PIECE_BYTES)?;
            let nonce = <[u8; 64]>::try_from(&file[..]).map_err(|_| PieceProblem::Nonce { seen: file.len() });
            pieces.nonce = Some(Nonce::from_bytes(nonce.map_err(failed("--svsm-nonce", path))?));
        }
        Ok(pieces)
    }

    /// Takes what is in the certificate table of an extended report (`auxblob`), as tools save it; whether the file is one.
    fn add_table(&mut self, file: &[u8]) -> bool {
        let items = [TableItem::Vcek, TableItem::Vlek, TableItem::Ask, TableItem::Ark];
        let Ok(table) = CertificateTable::parse(file) else { return false };
        let found: Vec<&[u8]> = items.into_iter().filter_map(|item| table.get(item)).collect();
        self.certificates.extend(found.iter().map(|der| der.to_vec()));
        self.crls.extend(table.get(TableItem::Crl).map(<[u8]>::to_vec));
        if self.endorsement.is_none() {
            self.endorsement = table.get(TableItem::LaunchEndorsement).map(<[u8]>::to_vec);
        }
        !found.is_empty()
    }

    pub(super) fn files(&self) -> Files<'_> {
        Files {
            report: self.report.as_deref(),
            hcl: self.hcl.as_deref(),
            svsm: self.manifest.as_deref().zip(self.nonce).map(|(manifest, nonce)| SvsmFiles { manifest, nonce }),
            report_data: self.report_data,
            nonce: self.quote_nonce.clone(),
            nitro: self.nitro.as_deref(),
            quote: self.quote.as_ref().map(|(attest, signature)| QuoteFiles { attest, signature }),
            pcrs: self.pcrs.clone(),
            ak: self.ak.clone(),
            event_log: self.event_log.as_deref(),
            ima_list: self.ima_log.as_deref(),
            endorsement: self.endorsement.as_deref(),
            certificates: self.certificates.iter().map(Vec::as_slice).collect(),
            crls: self.crls.iter().map(Vec::as_slice).collect(),
        }
    }

    pub(super) fn report(&self) -> Option<&[u8]> {
        self.report.as_deref()
    }
}

fn failed(flag: &'static str, path: &Path) -> impl FnOnce(PieceProblem) -> Refused + use<> {
    let path = path.to_owned();
    move |source| Refused::Piece(PieceError { flag, path, source })
}

/// A TPMT_PUBLIC, alone or in a TPM2B; else a public key or a certificate, which is then one of the certificates as well.
fn key(file: &[u8]) -> Result<(AkFile, Option<Vec<u8>>), PieceProblem> {
    let sized = |rest: &[u8]| file.get(..2) == Some(&u16::try_from(rest.len()).unwrap_or(0).to_be_bytes()[..]);
    let area = match file.get(2..) {
        Some(rest) if sized(rest) => rest,
        _ => file,
    };
    if let Ok(public) = Public::parse(area) {
        return Ok((AkFile::Area(Box::new(public)), None));
    }
    match pem::key(file) {
        Ok(KeyFile::Key(key)) => Ok((AkFile::Key(key), None)),
        Ok(KeyFile::Certificate(der, key)) => Ok((AkFile::Key(key), Some(der))),
        Err(_) => Err(PieceProblem::Key),
    }
}

/// The bank that a quote selects first.
fn bank_of(attest: &[u8]) -> Option<Bank> {
    let quoted = Quoted::parse(attest).ok()?;
    Bank::from_algorithm(quoted.selections.first()?.algorithm)
}

/// `{"0": "hex", …}`, or the same below the name of a bank: `{"sha256": {"0": "hex", …}}`.
fn pcrs(file: &[u8], wanted: Option<Bank>) -> Result<PcrValues, String> {
    let json: Map<String, Value> = serde_json::from_slice(file).map_err(|error| error.to_string())?;
    let banks = [Bank::Sha256, Bank::Sha384];
    let below = |bank: Bank| json.get(bank.as_str()).and_then(Value::as_object).map(|values| (Some(bank), values));
    let named = wanted.and_then(below).or_else(|| banks.into_iter().find_map(below));
    let nested = json.values().any(Value::is_object);
    let (bank, values) = match named {
        Some(found) => found,
        None if nested => return Err("no values of bank sha256 or sha384".to_owned()),
        None => (None, &json),
    };
    let mut found = Vec::new();
    for (index, value) in values {
        let number: u8 = index.parse().map_err(|_| format!("{index:?} is no register"))?;
        let text = value.as_str().ok_or_else(|| format!("the value of PCR {index} is no text"))?;
        let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text));
        found.push((number, bytes.map_err(|_| format!("the value of PCR {index} is not hex"))?));
    }
    let by_length = || banks.into_iter().find(|bank| found.iter().all(|(_, value)| value.len() == bank.size()));
    let bank = bank.or_else(by_length).ok_or("the values are neither all of SHA-256 nor all of SHA-384")?;
    PcrValues::new(bank, found.iter().map(|(index, value)| (*index, &value[..]))).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_flat_and_by_bank() {
        let (a, b) = ("11".repeat(32), "22".repeat(48));
        let flat = pcrs(format!("{{\"0\": \"{a}\", \"7\": \"0x{a}\"}}").as_bytes(), None).unwrap();
        assert_eq!((flat.bank(), flat.indices().collect::<Vec<_>>()), (Bank::Sha256, vec![0, 7]));
        let both =
            format!("{{\"sha1\": {{\"0\": \"00\"}}, \"sha256\": {{\"0\": \"{a}\"}}, \"sha384\": {{\"0\": \"{b}\"}}}}");
        assert_eq!(pcrs(both.as_bytes(), None).unwrap().bank(), Bank::Sha256);
        assert_eq!(pcrs(both.as_bytes(), Some(Bank::Sha384)).unwrap().bank(), Bank::Sha384);
        for bad in [
            "{\"sha1\": {\"0\": \"00\"}}".to_owned(),
            "[]".to_owned(),
            "{\"0\": 7}".to_owned(),
            "{\"0\": \"zz\"}".to_owned(),
            "{\"24\": \"".to_owned() + &a + "\"}",
            format!("{{\"0\": \"{a}\", \"1\": \"{b}\"}}"),
        ] {
            assert!(pcrs(bad.as_bytes(), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in [&b""[..], b"\x00", b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", &[0x30, 0x82]]
        {
            assert!(matches!(key(bad), Err(PieceProblem::Key)), "{bad:x?}");
        }
    }
}
