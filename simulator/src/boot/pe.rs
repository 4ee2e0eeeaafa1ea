//! A unified kernel image: a PE file whose sections systemd-stub reads, and what firmware hashes of it.
//!
//! Microsoft, "PE Format"; "Windows Authenticode Portable Executable Signature Format", 2008. Nothing in the file could run.

/// Where the PE header is, and behind it the optional header of PE32+ with sixteen directories.
const PE: usize = 0x40;
const OPTIONAL: usize = PE + 24;
const OPTIONAL_BYTES: usize = 240;
const SECTION_BYTES: usize = 40;
/// Sections begin at multiples of it in the file.
const ALIGNMENT: usize = 512;
/// What a signature changes: the checksum, and the entry of the certificate table.
const UNHASHED: [(usize, usize); 2] = [(OPTIONAL + 64, 4), (OPTIONAL + 112 + 4 * 8, 8)];

/// An image with these sections, unsigned.
pub fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let headers = (OPTIONAL + OPTIONAL_BYTES + SECTION_BYTES * sections.len()).next_multiple_of(ALIGNMENT);
    let mut file = Vec::new();
    let to = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        file.resize(at, 0);
        file.extend(bytes);
    };
    to(&mut file, 0, b"MZ");
    to(&mut file, 0x3C, &word(PE));
    // x86-64; then the number of sections.
    to(&mut file, PE, b"PE\0\0\x64\x86");
    to(&mut file, PE + 6, &half(sections.len()));
    // Executable, with large addresses.
    to(&mut file, PE + 20, &[half(OPTIONAL_BYTES), half(0x22)].concat());
    to(&mut file, OPTIONAL, &half(0x020B));
    to(&mut file, OPTIONAL + 32, &[word(0x1000), word(ALIGNMENT)].concat());
    to(&mut file, OPTIONAL + 60, &word(headers));
    // An EFI application.
    to(&mut file, OPTIONAL + 68, &half(10));
    to(&mut file, OPTIONAL + 108, &word(16));
    file.resize(OPTIONAL + OPTIONAL_BYTES, 0);
    let (mut start, mut address) = (headers, 0x1000);
    for (name, content) in sections {
        let raw = content.len().next_multiple_of(ALIGNMENT);
        let mut header = name.as_bytes().to_vec();
        header.resize(8, 0);
        header.extend([content.len(), address, raw, start].map(word).concat());
        header.resize(SECTION_BYTES - 4, 0);
        header.extend(0x4000_0040_u32.to_le_bytes());
        file.extend(header);
        (start, address) = (start + raw, address + content.len().next_multiple_of(0x1000));
    }
    file.resize(headers, 0);
    for (_, content) in sections {
        file.extend(*content);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}

/// The bytes of [`image`] that its Authenticode hash is over.
pub fn hashed(image: &[u8]) -> Vec<u8> {
    let is_hashed = |at: &usize| !UNHASHED.iter().any(|(from, length)| (*from..from + length).contains(at));
    (0..).zip(image).filter(|(at, _)| is_hashed(at)).map(|(_, byte)| *byte).collect()
}

fn word(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("an emulated image is small").to_le_bytes()
}

fn half(n: usize) -> [u8; 2] {
    u16::try_from(n).expect("a field of a header").to_le_bytes()
}
