//! Bytes → [`EventLog`], strictly (TCG PC Client Platform Firmware Profile 1.05, sections 10.2 and 10.4; all little-endian).
//!
//! The first record has the old format and names the algorithms; every record after it has exactly one digest of each of them.
//! Logs in the old format alone hold SHA-1 digests: they are refused by name, because no quote over SHA-1 is accepted.

use super::EventLog;
use super::event::{Event, EventType};
use crate::bytes::{ReadError, Reader};
use crate::evidence::tpm::{Bank, PcrValue};

/// Largest log that is read: 1 MiB, what a part of the wire may have (docs/protocol.md, "Limits").
pub const MAX_LOG: usize = 1 << 20;
/// Most records. A guest that boots through grub has about 120; a record has at least 16 bytes.
pub const MAX_EVENTS: usize = 8_192;
/// Most algorithms in the header: TPM2_NUM_PCR_BANKS of the TPM 2.0 reference implementation.
pub const MAX_ALGORITHMS: usize = 16;

/// Registers of a TPM (PC Client Platform TPM Profile, section 4.6).
const PCRS: u32 = 24;
const HASH_SHA1: u16 = 0x0004;
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// The old formats: TCG 1.2 for BIOS and for EFI.
const OLD_SIGNATURES: [&[u8; 16]; 2] = [b"Spec ID Event00\0", b"Spec ID Event02\0"];

/// Why bytes are not an event log that evidence can rest on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    #[error("the event log has {seen} bytes, at most {MAX_LOG} are read")]
    TooLong { seen: usize },
    #[error("the event log has more than {MAX_EVENTS} events")]
    TooManyEvents,
    #[error("the event log is a TCG 1.2 log with SHA-1 digests only")]
    Sha1,
    #[error("the log is a CC event log (CCEL): it is about registers of TDX, not about those of a TPM")]
    ConfidentialComputing,
    #[error("the event log does not begin with the record \"Spec ID Event03\"")]
    Header,
    #[error("the header of the event log has {what} {seen}, wanted {wanted}")]
    HeaderField { what: &'static str, seen: u32, wanted: &'static str },
    #[error("the header of the event log declares algorithm 0x{0:04x} twice")]
    AlgorithmTwice(u16),
    #[error("the header of the event log says that digests of algorithm 0x{algorithm:04x} have {seen} bytes")]
    DigestSize { algorithm: u16, seen: u16 },
    #[error("event {event} has {seen} digests; the header declares {wanted}")]
    DigestCount { event: usize, seen: u32, wanted: usize },
    #[error("event {event} has no digest, or a second one, of algorithm 0x{algorithm:04x} as the header declares them")]
    Digest { event: usize, algorithm: u16 },
    #[error("event {event} is of PCR {seen}; a TPM has registers 0 to 23")]
    Pcr { event: usize, seen: u32 },
    #[error("bytes other than 0xFF follow the end mark of the event log at byte {offset}")]
    Padding { offset: usize },
    #[error("the event log ends within a record")]
    Truncated(#[from] ReadError),
}

#[derive(Clone, Copy)]
struct Algorithm {
    id: u16,
    size: usize,
}

impl EventLog {
    /// Reads a log as the kernel's `binary_bios_measurements` has it. Refuses what is not read to the last byte.
    pub fn parse(bytes: &[u8]) -> Result<EventLog, EventLogError> {
        if bytes.len() > MAX_LOG {
            return Err(EventLogError::TooLong { seen: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let algorithms = header(&mut reader)?;
        let banks: Vec<Bank> = algorithms.iter().filter_map(|a| Bank::from_algorithm(a.id)).collect();
        if banks.is_empty() {
            return Err(EventLogError::Sha1);
        }
        let mut events = Vec::new();
        while reader.left() > 0 {
            let offset = reader.offset();
            let pcr = reader.u32_le()?;
            if pcr == u32::MAX {
                if reader.remaining().iter().any(|byte| *byte != 0xFF) {
                    return Err(EventLogError::Padding { offset });
                }
                break;
            }
            if events.len() == MAX_EVENTS {
                return Err(EventLogError::TooManyEvents);
            }
            events.push(event(&mut reader, events.len() + 1, pcr, &algorithms)?);
        }
        Ok(EventLog { events, banks })
    }
}

/// TCG_PCClientPCREvent with TCG_EfiSpecIdEvent as its data.
fn header(reader: &mut Reader<'_>) -> Result<Vec<Algorithm>, EventLogError> {
    let (pcr, kind) = (reader.u32_le()?, EventType(reader.u32_le()?));
    let digest: [u8; 20] = reader.array()?;
    let size = reader.u32_le()?;
    let data = take(reader, size)?;
    // TDX's firmware puts the same header into measurement register 1, which it numbers from there (UEFI 2.10, §38.4).
    if pcr == 1 && kind == EventType::NO_ACTION && data.starts_with(SIGNATURE) {
        return Err(EventLogError::ConfidentialComputing);
    }
    if pcr != 0 || kind != EventType::NO_ACTION || digest != [0; 20] {
        // A log without a header is one of the old kind, unless its first record makes no sense there either.
        let old = pcr < PCRS && kind.name().is_some();
        return Err(if old { EventLogError::Sha1 } else { EventLogError::Header });
    }
    let mut reader = Reader::new(data);
    let signature: [u8; 16] = reader.array()?;
    if OLD_SIGNATURES.contains(&&signature) {
        return Err(EventLogError::Sha1);
    }
    if &signature != SIGNATURE {
        return Err(EventLogError::Header);
    }
    let _platform_class = reader.u32_le()?;
    let (_minor, major, _errata, uintn) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let field = |what, seen, wanted| Err(EventLogError::HeaderField { what, seen, wanted });
    if major != 2 {
        return field("major version", major.into(), "2");
    }
    // 1: UINTN of 32 bits, 2: of 64. SEV-SNP guests are 64-bit; old firmware of GCE says 2 as well.
    if !matches!(uintn, 1 | 2) {
        return field("uintnSize", uintn.into(), "1 or 2");
    }
    let count = reader.u32_le()?;
    let known = usize::try_from(count).ok().filter(|count| (1..=MAX_ALGORITHMS).contains(count));
    let Some(count) = known else { return field("number of algorithms", count, "1 to 16") };
    let mut algorithms: Vec<Algorithm> = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, size) = (reader.u16_le()?, reader.u16_le()?);
        if algorithms.iter().any(|a| a.id == id) {
            return Err(EventLogError::AlgorithmTwice(id));
        }
        let right = match (id, Bank::from_algorithm(id)) {
            (HASH_SHA1, _) => size == 20,
            (_, Some(bank)) => usize::from(size) == bank.size(),
            // SHA-512, SM3 and SHA-3 have 32 to 64.
            (_, None) => (20..=64).contains(&size),
        };
        if !right {
            return Err(EventLogError::DigestSize { algorithm: id, seen: size });
        }
        algorithms.push(Algorithm { id, size: size.into() });
    }
    let vendor = reader.u8()?;
    reader.take(vendor.into())?;
    reader.finish()?;
    Ok(algorithms)
}

/// TCG_PCR_EVENT2 after its first field.
fn event(reader: &mut Reader<'_>, number: usize, pcr: u32, algorithms: &[Algorithm]) -> Result<Event, EventLogError> {
    let index = u8::try_from(pcr).ok().filter(|_| pcr < PCRS);
    let pcr = index.ok_or(EventLogError::Pcr { event: number, seen: pcr })?;
    let kind = EventType(reader.u32_le()?);
    let count = reader.u32_le()?;
    if usize::try_from(count) != Ok(algorithms.len()) {
        return Err(EventLogError::DigestCount { event: number, seen: count, wanted: algorithms.len() });
    }
    let (mut sha256, mut sha384) = (None, None);
    let mut seen: Vec<u16> = Vec::with_capacity(algorithms.len());
    for _ in algorithms {
        let id = reader.u16_le()?;
        let declared = algorithms.iter().find(|a| a.id == id).filter(|_| !seen.contains(&id));
        let size = declared.ok_or(EventLogError::Digest { event: number, algorithm: id })?.size;
        seen.push(id);
        let digest = reader.take(size)?;
        match Bank::from_algorithm(id) {
            Some(bank @ Bank::Sha256) => sha256 = PcrValue::new(bank, digest),
            Some(bank @ Bank::Sha384) => sha384 = PcrValue::new(bank, digest),
            None => {}
        }
    }
    let size = reader.u32_le()?;
    Ok(Event { number, pcr, kind, sha256, sha384, data: take(reader, size)?.into() })
}

/// A length of the log is at most what is left of it, so nothing is allocated for more than was received.
fn take<'a>(reader: &mut Reader<'a>, size: u32) -> Result<&'a [u8], ReadError> {
    reader.take(usize::try_from(size).unwrap_or(usize::MAX))
}
