//! One record of the list: what was measured, in the words of its template.

use std::fmt;

use crate::bytes::{ReadError, Reader};

/// Longest path that a template holds (PATH_MAX of Linux, with its NUL).
const MAX_PATH: usize = 4_096;
/// IMA_EVENT_NAME_LEN_MAX + 1: how long the name is that the template `ima` hashes.
pub(super) const OLD_NAME: usize = 256;

/// A record.
#[derive(Clone, PartialEq, Eq)]
pub struct ImaEntry {
    pub(super) number: usize,
    /// The template hash in the list is all zero: the kernel saw the file change while it was measured.
    pub(super) violation: bool,
    /// As it stands in the list. Nothing but a replay with padded SHA-1 looks at it.
    pub(super) template_hash: Box<[u8]>,
    /// What the kernel hashed, and extended as a hash.
    pub(super) hashed: Box<[u8]>,
    pub(super) template: Template,
    pub(super) file: Option<FileDigest>,
    pub(super) path: String,
    pub(super) extra: Box<[u8]>,
}

/// The shapes of records (ima_template.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// `d|n`, SHA-1 or MD5.
    Ima,
    /// `d-ng|n-ng`.
    ImaNg,
    /// `d-ngv2|n-ng`.
    ImaNgV2,
    /// `d-ng|n-ng|sig`.
    ImaSig,
    /// `d-ngv2|n-ng|sig`.
    ImaSigV2,
    /// `d-ng|n-ng|buf`: no file but a buffer, such as a command line given to kexec.
    ImaBuf,
    /// `d-ng|n-ng|sig|d-modsig|modsig`.
    ImaModsig,
    /// One that this version does not read. Its hash is replayed; what it says is not known.
    Other,
}

/// The digest of a file, as the kernel computed it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest {
    pub algorithm: String,
    pub digest: Box<[u8]>,
    /// The digest is one of fs-verity (`d-ngv2`), not of the content.
    pub verity: bool,
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.verity { "verity:" } else { "" };
        write!(f, "{kind}{}:{}", self.algorithm, hex::encode(&self.digest))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ImaEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} ({:?} {:?} {:?})", self.number, self.template, self.file, self.path)
    }
}

impl ImaEntry {
    /// Its place in the list, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
    pub fn template(&self) -> Template {
        self.template
    }
    /// Whether the measurement is void: the file was open for writing while it was measured, or the reverse.
    pub fn is_violation(&self) -> bool {
        self.violation
    }
    /// `None` for a template that this version does not read.
    pub fn file(&self) -> Option<&FileDigest> {
        self.file.as_ref()
    }
    /// The file's path, or the name of an event such as `boot_aggregate`. The kernel writes `_` for each space.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// The signature (`ima-sig`) or the buffer (`ima-buf`); empty where there is none.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }
}

impl Template {
    pub(super) fn named(name: &[u8]) -> Template {
        match name {
            b"ima" => Template::Ima,
            b"ima-ng" => Template::ImaNg,
            b"ima-ngv2" => Template::ImaNgV2,
            b"ima-sig" => Template::ImaSig,
            b"ima-sigv2" => Template::ImaSigV2,
            b"ima-buf" => Template::ImaBuf,
            b"ima-modsig" => Template::ImaModsig,
            _ => Template::Other,
        }
    }

    /// Fields after digest and name.
    const fn more_fields(self) -> usize {
        match self {
            Template::Ima | Template::ImaNg | Template::ImaNgV2 | Template::Other => 0,
            Template::ImaSig | Template::ImaSigV2 | Template::ImaBuf => 1,
            Template::ImaModsig => 3,
        }
    }
}

/// What the data of a record says; `None` where it is not what its template demands.
pub(super) struct Fields<'a> {
    pub(super) file: FileDigest,
    pub(super) path: String,
    pub(super) extra: &'a [u8],
}

/// Reads the data of every template but `ima`: each field is `u32 length ‖ bytes`, and nothing follows.
pub(super) fn fields(template: Template, data: &[u8]) -> Option<Fields<'_>> {
    let mut reader = Reader::new(data);
    let typed = matches!(template, Template::ImaNgV2 | Template::ImaSigV2);
    let file = digest(field(&mut reader).ok()?, typed)?;
    let name = field(&mut reader).ok()?;
    let path = path(name.strip_suffix(&[0])?)?;
    let mut extra: &[u8] = &[];
    for index in 0..template.more_fields() {
        let value = field(&mut reader).ok()?;
        if index == 0 {
            extra = value;
        }
    }
    reader.finish().ok()?;
    Some(Fields { file, path, extra })
}

pub(super) fn path(name: &[u8]) -> Option<String> {
    let plain = !name.is_empty() && name.len() < MAX_PATH && !name.contains(&0);
    plain.then(|| String::from_utf8(name.to_vec()).ok())?
}

fn field<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ReadError> {
    let length = reader.u32_le()?;
    reader.take(usize::try_from(length).unwrap_or(usize::MAX))
}

/// `d-ng`: `algorithm ‖ ":\0" ‖ digest`. `d-ngv2`: `type ‖ ":" ‖` the same.
fn digest(field: &[u8], typed: bool) -> Option<FileDigest> {
    let colon = field.windows(2).position(|pair| pair == b":\0")?;
    let (head, rest) = field.split_at_checked(colon)?;
    let head = std::str::from_utf8(head).ok()?;
    let (verity, algorithm) = match head.split_once(':') {
        Some(("ima", algorithm)) if typed => (false, algorithm),
        Some(("verity", algorithm)) if typed => (true, algorithm),
        None if !typed => (false, head),
        _ => return None,
    };
    let digest = rest.strip_prefix(b":\0")?;
    // crypto/hash_info.c; the digest of a violation is left zero, or out.
    let size = match algorithm {
        "md5" => 16,
        "sha1" => 20,
        "sha256" => 32,
        "sha384" => 48,
        "sha512" => 64,
        _ => return None,
    };
    let right = digest.len() == size || digest.is_empty();
    right.then(|| FileDigest { algorithm: algorithm.to_owned(), digest: digest.into(), verity })
}
