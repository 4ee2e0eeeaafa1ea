//! Bytes → [`ImaList`] (ima_measurements_show() of the kernel). Integers are those of an x86 host, little-endian.

use super::entry::{FileDigest, ImaEntry, OLD_NAME, Template, fields, path};
use super::{IMA_PCR, ImaList};
use crate::bytes::{ReadError, Reader};

/// Largest list that is read.
pub const MAX_IMA_LIST: usize = 16 << 20;
/// Most entries: as many as fit in the largest list at the 100 bytes of a short one.
pub const MAX_ENTRIES: usize = 160_000;
/// Longest name of a template (MAX_TEMPLATE_NAME_LEN).
const MAX_NAME: usize = 255;
/// Most bytes of one entry: a path, a signature (an XATTR has at most 64 KiB), a buffer of the same.
const MAX_ENTRY: usize = 256 << 10;
/// Lengths of the hashes in a list: SHA-1, and the bank's in lists of later kernels.
const HASH_LENGTHS: [usize; 4] = [20, 32, 48, 64];

/// Why bytes are not a list of IMA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImaError {
    #[error("the IMA list has {seen} bytes, at most {MAX_IMA_LIST} are read")]
    TooLong { seen: usize },
    #[error("the IMA list has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    #[error("the IMA list does not begin with a record of a known hash length")]
    Start,
    #[error("entry {entry} is of PCR {seen}; IMA extends PCR {IMA_PCR}")]
    Pcr { entry: usize, seen: u32 },
    #[error("entry {entry} has {what} of {seen} bytes, at most {max}")]
    Length { entry: usize, what: &'static str, seen: u32, max: usize },
    #[error("the IMA list ends within a record")]
    Truncated(#[from] ReadError),
}

impl ImaList {
    /// Reads a list as `binary_runtime_measurements` has it, or `…_sha1`, `…_sha256`, `…_sha384`: the length of its hashes is
    /// seen from the first record.
    pub fn parse(bytes: &[u8]) -> Result<ImaList, ImaError> {
        if bytes.len() > MAX_IMA_LIST {
            return Err(ImaError::TooLong { seen: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let hash_len = hash_length(bytes)?;
        let mut entries = Vec::new();
        while reader.left() > 0 {
            if entries.len() == MAX_ENTRIES {
                return Err(ImaError::TooManyEntries);
            }
            entries.push(entry(&mut reader, entries.len(), hash_len)?);
        }
        Ok(ImaList { entries, hash_len })
    }
}

/// A list does not say how long its hashes are. The first record does, since its template's name stands behind the hash; an empty
/// list has the old length.
fn hash_length(bytes: &[u8]) -> Result<usize, ImaError> {
    let fits = |length: usize| {
        let mut reader = Reader::new(bytes);
        reader.take(4 + length).ok()?;
        let name_len = usize::try_from(reader.u32_le().ok()?).ok().filter(|len| *len <= MAX_NAME)?;
        let name = reader.take(name_len).ok()?;
        (Template::named(name) != Template::Other).then_some(length)
    };
    match bytes {
        [] => Ok(20),
        _ => HASH_LENGTHS.into_iter().find_map(fits).ok_or(ImaError::Start),
    }
}

/// `u32 pcr ‖ hash ‖ u32 length ‖ name of the template ‖ data`.
fn entry(reader: &mut Reader<'_>, number: usize, hash_len: usize) -> Result<ImaEntry, ImaError> {
    let pcr = reader.u32_le()?;
    if pcr != u32::from(IMA_PCR) {
        return Err(ImaError::Pcr { entry: number, seen: pcr });
    }
    let template_hash = reader.take(hash_len)?;
    let name = bounded(reader, number, "a template name", MAX_NAME)?;
    let template = Template::named(name);
    let unread = ImaEntry {
        number,
        violation: template_hash.iter().all(|byte| *byte == 0),
        template_hash: template_hash.into(),
        hashed: Box::default(),
        template: Template::Other,
        file: None,
        path: String::new(),
        extra: Box::default(),
    };
    if template == Template::Ima {
        return old(reader, unread);
    }
    let data = bounded(reader, number, "data", MAX_ENTRY)?;
    let hashed: Box<[u8]> = data.into();
    Ok(match fields(template, data).filter(|_| template != Template::Other) {
        Some(fields) => ImaEntry {
            hashed,
            template,
            file: Some(fields.file),
            path: fields.path,
            extra: fields.extra.into(),
            ..unread
        },
        None => ImaEntry { hashed, ..unread },
    })
}

/// The template `ima`: 20 bytes of digest without a length, then the name; hashed with the name padded to 256 bytes.
fn old(reader: &mut Reader<'_>, unread: ImaEntry) -> Result<ImaEntry, ImaError> {
    let digest = reader.take(20)?;
    let name = bounded(reader, unread.number, "a name", OLD_NAME - 1)?;
    let mut hashed = [digest, name].concat();
    hashed.resize(20 + OLD_NAME, 0);
    let hashed = hashed.into_boxed_slice();
    let file = FileDigest { algorithm: "sha1".to_owned(), digest: digest.into(), verity: false };
    Ok(match path(name) {
        Some(path) => ImaEntry { hashed, template: Template::Ima, file: Some(file), path, ..unread },
        None => ImaEntry { hashed, ..unread },
    })
}

fn bounded<'a>(reader: &mut Reader<'a>, entry: usize, what: &'static str, max: usize) -> Result<&'a [u8], ImaError> {
    let seen = reader.u32_le()?;
    let length = usize::try_from(seen).ok().filter(|length| *length <= max);
    Ok(reader.take(length.ok_or(ImaError::Length { entry, what, seen, max })?)?)
}
