//! Event data, read strictly as the type that the log claims, and what ties it to the digest that was extended.
//!
//! A register covers the digest and nothing else. Data counts as [`Reading::Bound`] only where it was hashed again to the digest and
//! parses as its type to the last byte. Everything else is a [`Reading::Claimed`]: worth showing, never worth a decision.
//!
//! What cannot be told from a digest even so: which prefix stood before a text of grub (a command may be shown as a command
//! line, with the same hash), and which register-9 digest belongs to which name. Who decides on such texts must account for every
//! event of the register.

use super::event::{Event, EventType};
use crate::bytes::{ReadError, Reader};
use crate::guid::UefiGuid;

/// Data of an event, with what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// Hashed again, it gives the digest that was extended.
    Bound(Data<'a>),
    /// The log says so, and nothing confirms it.
    Claimed(Data<'a>),
    /// Of a type that this version does not read, or not what its type demands.
    Unread,
}

impl<'a> Reading<'a> {
    /// What a decision may rest on.
    pub fn bound(&self) -> Option<&Data<'a>> {
        match self {
            Reading::Bound(data) => Some(data),
            Reading::Claimed(_) | Reading::Unread => None,
        }
    }
    /// What may be shown.
    pub fn claimed(&self) -> Option<&Data<'a>> {
        match self {
            Reading::Bound(data) | Reading::Claimed(data) => Some(data),
            Reading::Unread => None,
        }
    }
}

/// Data by the type of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// EV_SEPARATOR: 0 in a normal boot.
    Separator(u32),
    /// EV_EFI_ACTION, EV_ACTION.
    Action(&'a str),
    /// EV_S_CRTM_VERSION with a text; other firmware has a GUID there.
    Version(String),
    /// EV_NONHOST_INFO.
    NonHostInfo(&'a [u8]),
    /// EV_EFI_VARIABLE_*.
    Variable(Variable<'a>),
    /// EV_EFI_GPT_EVENT.
    Gpt(Gpt),
    /// EV_EFI_BOOT_SERVICES_APPLICATION and drivers: always a claim, since what was extended is the hash of the image.
    Image(ImageLoad),
    /// EV_IPL of grub in PCR 8.
    Grub(GrubText<'a>),
    /// EV_IPL of systemd-stub: a command line in UTF-16.
    Text(String),
    /// EV_IPL elsewhere: the name of what was hashed. Always a claim.
    Name(String),
    /// EV_EVENT_TAG: an id and what it is called. Always a claim.
    Tag { id: u32, name: String },
}

/// The tag of the Linux EFI stub for an initrd that it loaded (drivers/firmware/efi/libstub/efistub.h).
pub const TAG_INITRD: u32 = 0x8F3B_22EC;
/// The same for the kernel's command line in UTF-16.
pub const TAG_LOAD_OPTIONS: u32 = 0x8F3B_22ED;

/// A text that grub ran or handed on. Which of these it was is grub's prefix, which no digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrubText<'a> {
    pub role: GrubRole,
    pub text: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrubRole {
    Command,
    KernelCommandLine,
    ModuleCommandLine,
}

/// UEFI_VARIABLE_DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    pub vendor: UefiGuid,
    pub name: String,
    pub data: &'a [u8],
}

/// EFI_GLOBAL_VARIABLE: SecureBoot, PK, KEK.
pub const GLOBAL: UefiGuid = UefiGuid::new(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
/// EFI_IMAGE_SECURITY_DATABASE: db, dbx.
pub const IMAGE_SECURITY: UefiGuid = UefiGuid::new(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);
/// SHIM_LOCK: shim's own variables.
pub const SHIM_LOCK: UefiGuid = UefiGuid::new(0x605d_ab50, 0xe046, 0x4300, 0xabb6_3dd8_10dd_8b23);

/// UEFI_GPT_DATA: the disk that was booted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    pub disk: UefiGuid,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub kind: UefiGuid,
    pub unique: UefiGuid,
    pub first_block: u64,
    pub last_block: u64,
    pub name: String,
}

/// UEFI_IMAGE_LOAD_EVENT: where the image lay. Addresses change with each boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLoad {
    pub length: u64,
    /// The file's path, where the device path names one.
    pub path: Option<String>,
}

impl Event {
    /// Reads the data as what the event's type says it is.
    pub fn read(&self) -> Reading<'_> {
        let data = self.data();
        let hashed = |parts: &[&[u8]]| self.is_digest_of(parts);
        let (read, bound) = match self.kind() {
            EventType::SEPARATOR => (separator(data), hashed(&[data])),
            EventType::ACTION | EventType::EFI_ACTION => (action(data), hashed(&[data])),
            EventType::S_CRTM_VERSION => (utf16_text(data).map(Data::Version), hashed(&[data])),
            EventType::NONHOST_INFO => (Some(Data::NonHostInfo(data)), hashed(&[data])),
            EventType::VARIABLE_DRIVER_CONFIG | EventType::VARIABLE_BOOT2 => {
                (variable(data).map(Data::Variable), hashed(&[data]))
            }
            EventType::VARIABLE_AUTHORITY => match authority(data) {
                Some((variable, measured)) => (Some(Data::Variable(variable)), hashed(&[measured])),
                None => (None, false),
            },
            // Only the content of the variable is hashed, so a name is a claim. EDK2 did so until VARIABLE_BOOT2.
            EventType::VARIABLE_BOOT => (variable(data).map(Data::Variable), false),
            EventType::GPT_EVENT | EventType::GPT_EVENT2 => (gpt(data).ok().map(Data::Gpt), hashed(&[data])),
            EventType::BOOT_SERVICES_APPLICATION
            | EventType::BOOT_SERVICES_DRIVER
            | EventType::RUNTIME_SERVICES_DRIVER => (image_load(data).ok().map(Data::Image), false),
            EventType::IPL if self.pcr() == 8 => match grub_text(data) {
                // The hash is over the text without the prefix and without the NUL.
                Some(grub) => (Some(Data::Grub(grub)), hashed(&[grub.text.as_bytes()])),
                None => (utf16_text(data).map(Data::Text), hashed(&[data])),
            },
            // What hashes to the digest is the measured text itself, not a name for it.
            EventType::IPL if utf16_text(data).is_some() && hashed(&[data]) => (utf16_text(data).map(Data::Text), true),
            EventType::IPL => (name(data).map(Data::Name), false),
            EventType::EVENT_TAG => (tag(data).ok().flatten(), false),
            _ => (None, false),
        };
        match read {
            Some(data) if bound => Reading::Bound(data),
            Some(data) => Reading::Claimed(data),
            None => Reading::Unread,
        }
    }
}

fn separator(data: &[u8]) -> Option<Data<'_>> {
    Some(Data::Separator(u32::from_le_bytes(data.try_into().ok()?)))
}

/// Text without a NUL (PFP 1.05, section 10.4.1: "the string is not NUL-terminated").
fn action(data: &[u8]) -> Option<Data<'_>> {
    let text = std::str::from_utf8(data).ok()?;
    text.bytes().all(|b| (0x20..0x7F).contains(&b)).then_some(Data::Action(text))
}

fn utf16(data: &[u8]) -> Option<String> {
    let (units, rest) = data.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).collect::<Result<String, _>>().ok()
}

/// UTF-16 that ends in one NUL and holds no other control character.
fn utf16_text(data: &[u8]) -> Option<String> {
    let text = utf16(data)?;
    let text = text.strip_suffix('\0')?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// `guid ‖ u64 characters ‖ u64 bytes ‖ name in UTF-16 without NUL ‖ data`, and nothing after it.
fn variable(data: &[u8]) -> Option<Variable<'_>> {
    let (variable, rest) = variable_and_rest(data)?;
    rest.is_empty().then_some(variable)
}

/// An authority and the bytes of it that are hashed. Versions of shim before 15.3 take the size of their structure, padding
/// included, for the size of its head: five bytes of zero follow, which are hashed, and one of whatever, which is not.
fn authority(data: &[u8]) -> Option<(Variable<'_>, &[u8])> {
    let (variable, rest) = variable_and_rest(data)?;
    match rest {
        [] => Some((variable, data)),
        [0, 0, 0, 0, 0, _] => Some((variable, data.get(..data.len().checked_sub(1)?)?)),
        _ => None,
    }
}

fn variable_and_rest(data: &[u8]) -> Option<(Variable<'_>, &[u8])> {
    let mut reader = Reader::new(data);
    let vendor = UefiGuid::from_bytes(reader.array().ok()?);
    let characters = usize::try_from(reader.u64_le().ok()?).ok()?;
    let length = usize::try_from(reader.u64_le().ok()?).ok()?;
    let name = utf16(reader.take(characters.checked_mul(2)?).ok()?)?;
    let data = reader.take(length).ok()?;
    let text = !name.is_empty() && !name.chars().any(char::is_control);
    text.then(|| (Variable { vendor, name, data }, reader.remaining()))
}

/// Header of 92 bytes, a count, entries of 128 bytes (UEFI 2.10, section 5.3; PFP 1.05, table 32).
fn gpt(data: &[u8]) -> Result<Gpt, ReadError> {
    const ENTRY: usize = 128;
    let malformed = || ReadError::Trailing { offset: 0, left: data.len() };
    let mut reader = Reader::new(data);
    if reader.take(8)? != b"EFI PART" {
        return Err(malformed());
    }
    // Revision, header size, two checksums, own and other place, first and last usable block: 48 bytes.
    reader.take(48)?;
    let disk = UefiGuid::from_bytes(reader.array()?);
    // Place, number, size and checksum of the entries: 20 bytes.
    reader.take(20)?;
    let count = usize::try_from(reader.u64_le()?).map_err(|_| malformed())?;
    if count.checked_mul(ENTRY) != Some(reader.left()) {
        return Err(malformed());
    }
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, unique) = (UefiGuid::from_bytes(reader.array()?), UefiGuid::from_bytes(reader.array()?));
        let (first_block, last_block, _attributes) = (reader.u64_le()?, reader.u64_le()?, reader.u64_le()?);
        let name = utf16(reader.take(72)?).ok_or_else(malformed)?;
        let name = name.trim_end_matches('\0').to_owned();
        partitions.push(Partition { kind, unique, first_block, last_block, name });
    }
    reader.finish()?;
    Ok(Gpt { disk, partitions })
}

/// `u64 address ‖ u64 length ‖ u64 link address ‖ u64 bytes ‖ device path`.
fn image_load(data: &[u8]) -> Result<ImageLoad, ReadError> {
    let mut reader = Reader::new(data);
    let (_address, length, _link_address) = (reader.u64_le()?, reader.u64_le()?, reader.u64_le()?);
    let bytes = usize::try_from(reader.u64_le()?).unwrap_or(usize::MAX);
    let mut nodes = Reader::new(reader.take(bytes)?);
    reader.finish()?;
    let mut path = None;
    while nodes.left() > 0 {
        let (kind, subkind, length) = (nodes.u8()?, nodes.u8()?, nodes.u16_le()?);
        let body = nodes.take(usize::from(length).saturating_sub(4))?;
        // Media device path, file path (UEFI 2.10, section 10.3.5.4).
        if (kind, subkind) == (4, 4) {
            path = utf16_text(body);
        }
    }
    Ok(ImageLoad { length, path })
}

/// Prefixes of grub 2.04 and later, then those of grub as Ubuntu and others had it before.
const GRUB_PREFIXES: [(&str, GrubRole); 6] = [
    ("grub_cmd: ", GrubRole::Command),
    ("kernel_cmdline: ", GrubRole::KernelCommandLine),
    ("module_cmdline: ", GrubRole::ModuleCommandLine),
    ("grub_kernel_cmdline ", GrubRole::KernelCommandLine),
    ("grub_module_cmdline ", GrubRole::ModuleCommandLine),
    ("grub_cmd ", GrubRole::Command),
];

fn grub_text(data: &[u8]) -> Option<GrubText<'_>> {
    let text = std::str::from_utf8(data.strip_suffix(&[0])?).ok()?;
    let (prefix, role) = GRUB_PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix))?;
    let text = text.strip_prefix(prefix)?;
    (!text.contains('\0')).then_some(GrubText { role: *role, text })
}

/// What an event without data of its own is called: ASCII with or without NUL, or UTF-16 as systemd-stub writes it.
fn name(data: &[u8]) -> Option<String> {
    let plain = data.strip_suffix(&[0]).unwrap_or(data);
    if !plain.is_empty() && plain.iter().all(|b| (0x20..0x7F).contains(b)) {
        return std::str::from_utf8(plain).ok().map(str::to_owned);
    }
    utf16_text(data)
}

fn tag(data: &[u8]) -> Result<Option<Data<'_>>, ReadError> {
    let mut reader = Reader::new(data);
    let id = reader.u32_le()?;
    let length = usize::try_from(reader.u32_le()?).unwrap_or(usize::MAX);
    let body = reader.take(length)?;
    reader.finish()?;
    Ok(name(body).map(|name| Data::Tag { id, name }))
}
