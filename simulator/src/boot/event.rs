//! Events as firmware, shim, GRUB and systemd-stub write them, one function each.
//!
//! Sources: TCG PC Client Platform Firmware Profile 1.05, §10.4 (structures of UEFI events); UEFI 2.10 §5.3 and §10.3 (GPT, device paths);
//! what GRUB, the kernel's stub and systemd-stub log.

use super::log::{Event, kind};
use crate::tpm::objects::Bank;

pub const GLOBAL_VARIABLE: u128 = 0x8BE4_DF61_93CA_11D2_AA0D_00E0_9803_2B8C;
pub const IMAGE_SECURITY: u128 = 0xD719_B2CB_3D3A_4596_A3BC_DAD0_0E67_656F;
pub const SHIM: u128 = 0x605D_AB50_E046_4300_ABB6_3DD8_10DD_8B23;

pub fn separator(pcr: u32) -> Event {
    Event::of(pcr, kind::SEPARATOR, [0; 4])
}

pub fn action(pcr: u32, text: &str) -> Event {
    Event::of(pcr, kind::EFI_ACTION, text)
}

/// S_CRTM_VERSION: a text with its terminator.
pub fn crtm_version(text: &str) -> Event {
    Event::of(0, kind::S_CRTM_VERSION, utf16z(text))
}

/// What GCE says of the machine below: technology 4 is SEV-SNP.
pub fn gce_nonhost_info(technology: u8) -> Event {
    Event::of(0, kind::NONHOST_INFO, [&b"GCE NonHostInfo\0"[..], &[technology], &[0; 15]].concat())
}

/// UEFI_PLATFORM_FIRMWARE_BLOB: where it lies and how long it is; the digest is that of the content.
pub fn firmware_blob(content: &[u8]) -> Event {
    let data = [&0xFFC8_4000_u64.to_le_bytes()[..], &0x0037_C000_u64.to_le_bytes()].concat();
    Event { pcr: 0, kind: kind::PLATFORM_FIRMWARE_BLOB, measured: content.to_vec(), data }
}

/// UEFI_VARIABLE_DATA of a Secure Boot setting.
pub fn secure_boot_variable(vendor: u128, name: &str, value: &[u8]) -> Event {
    Event::of(7, kind::VARIABLE_DRIVER_CONFIG, variable(vendor, name, value))
}

/// The entry of a database that let something start.
pub fn authority(vendor: u128, name: &str, value: &[u8]) -> Event {
    Event::of(7, kind::VARIABLE_AUTHORITY, variable(vendor, name, value))
}

/// A Boot#### variable: the digest is that of its value alone.
pub fn boot_variable(name: &str, value: &[u8]) -> Event {
    Event { pcr: 1, kind: kind::VARIABLE_BOOT, measured: value.to_vec(), data: variable(GLOBAL_VARIABLE, name, value) }
}

/// An image that the firmware started from this path: the digest is of the image (Authenticode), here of a text that stands for it.
pub fn application(path: &str, image: &[u8]) -> Event {
    let file = utf16z(path);
    let node = u16::try_from(file.len() + 4).expect("a path is short").to_le_bytes();
    // Media, file path; then the end of the entire path.
    let device_path = [&[4, 4][..], &node, &file, &[0x7F, 0xFF, 4, 0]].concat();
    let words = [0x7E00_0000_u64, 0x000E_8000, 0, u64::try_from(device_path.len()).expect("a path is short")];
    let mut data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    data.extend(device_path);
    Event { pcr: 4, kind: kind::BOOT_SERVICES_APPLICATION, measured: image.to_vec(), data }
}

/// UEFI_GPT_DATA of a disk with these partitions (names up to 36 characters).
pub fn gpt(partitions: &[&str]) -> Event {
    let header = [
        &b"EFI PART"[..],
        &0x0001_0000_u32.to_le_bytes(),
        &92_u32.to_le_bytes(),
        // CRC (not checked by anybody who only hashes it) and reserved.
        &[0; 8],
        &1_u64.to_le_bytes(),
        &0x01FF_FFFF_u64.to_le_bytes(),
        &34_u64.to_le_bytes(),
        &0x01FF_FFDE_u64.to_le_bytes(),
        &[0x5D; 16],
        &2_u64.to_le_bytes(),
        &128_u32.to_le_bytes(),
        &128_u32.to_le_bytes(),
        &[0; 4],
    ]
    .concat();
    let count = u64::try_from(partitions.len()).expect("a few partitions");
    let mut data = [header, count.to_le_bytes().to_vec()].concat();
    for (number, name) in (1_u64..).zip(partitions) {
        let mut entry = [&[0x0F; 16][..], &[0xA0; 16]].concat();
        entry.extend([number * 2048, number * 2048 + 2047, 0].iter().flat_map(|word| word.to_le_bytes()));
        entry.extend(utf16(name));
        entry.resize(128, 0);
        data.extend(entry);
    }
    Event::of(5, kind::GPT, data)
}

/// What GRUB did or passed on: prefix and text are logged, the text alone is measured.
pub fn grub_text(prefix: &str, text: &str) -> Event {
    Event { pcr: 8, kind: kind::IPL, measured: text.as_bytes().to_vec(), data: format!("{prefix}: {text}\0").into() }
}

/// A file that GRUB read.
pub fn grub_file(name: &str, content: &[u8]) -> Event {
    Event { pcr: 9, kind: kind::IPL, measured: content.to_vec(), data: format!("{name}\0").into() }
}

/// One of shim's lists.
pub fn mok(name: &str, content: &[u8]) -> Event {
    Event { pcr: 14, kind: kind::IPL, measured: content.to_vec(), data: format!("{name}\0").into() }
}

/// What the kernel's EFI stub measured under this tag: the initrd that it was given.
pub fn stub_initrd(content: &[u8]) -> Event {
    let name = b"Linux initrd\0";
    let size = u32::try_from(name.len()).expect("a name is short").to_le_bytes();
    let data = [&0x8F3B_22EC_u32.to_le_bytes()[..], &size, name].concat();
    Event { pcr: 9, kind: kind::EVENT_TAG, measured: content.to_vec(), data }
}

/// A section of a unified kernel image: its name with the terminator, then its content, both in PCR 11.
pub fn unified_section(name: &str, content: &[u8]) -> [Event; 2] {
    let event = |measured: Vec<u8>| Event { pcr: 11, kind: kind::IPL, measured, data: utf16z(name) };
    [event(format!("{name}\0").into()), event(content.to_vec())]
}

/// EFI_SIGNATURE_LIST with one X.509 certificate of this owner.
pub fn signature_list(owner: u128, certificate: &[u8]) -> Vec<u8> {
    const X509: u128 = 0xA5C0_59A1_94E4_4AA7_87B5_AB15_5C2B_F072;
    let size = |extra: usize| u32::try_from(certificate.len() + extra).expect("a certificate is short").to_le_bytes();
    [&guid(X509)[..], &size(44), &[0; 4], &size(16), &guid(owner), certificate].concat()
}

/// EFI_SIGNATURE_DATA: what authorities are logged as.
pub fn signature_data(owner: u128, certificate: &[u8]) -> Vec<u8> {
    [&guid(owner)[..], certificate].concat()
}

fn variable(vendor: u128, name: &str, value: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let word = |n: usize| u64::try_from(n).expect("variables are short").to_le_bytes();
    [&guid(vendor)[..], &word(name.len() / 2), &word(value.len()), &name, value].concat()
}

/// A GUID as UEFI stores it: the first three groups little-endian.
fn guid(value: u128) -> [u8; 16] {
    let mut bytes = value.to_be_bytes();
    if let Some(group) = bytes.get_mut(..4) {
        group.reverse();
    }
    bytes.swap(4, 5);
    bytes.swap(6, 7);
    bytes
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16z(text: &str) -> Vec<u8> {
    utf16(&format!("{text}\0"))
}

/// All banks that an emulated log has.
pub const BANKS: [Bank; 3] = [Bank::Sha1, Bank::Sha256, Bank::Sha384];
