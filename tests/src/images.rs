//! Images that a hypervisor would launch: with the tables that decide their launch digest, and nothing in them that could run.

const PAGE: usize = 4096;

/// Sixteen pages with metadata, a hash table and a reset block, as the tables at the end say.
pub(crate) fn amd_sev_firmware() -> Vec<u8> {
    const HASH_TABLE: u128 = 0x7255_371f_3a3b_4b04_927b_1da6_efa8_d454;
    const RESET_BLOCK: u128 = 0x00f7_71de_1a7e_4fcb_890e_68c7_7e2f_b44e;
    const META_DATA: u128 = 0xdc88_6566_984a_4798_a75e_5585_a7bf_67cc;
    const TABLE: u128 = 0x96b5_82de_1fb2_45f7_baea_a366_c55a_082d;
    let number = |n: u32| n.to_le_bytes();
    // Address, size, type: SEC_MEM, SECRETS, CPUID, KERNEL_HASHES.
    let sections =
        [[0x80_0000, 0x9000, 1_u32], [0x80_D000, 0x1000, 2], [0x80_E000, 0x1000, 3], [0x81_0000, 0x1000, 0x10]];
    let mut metadata = [&b"ASEV"[..], &number(16 + 12 * 4), &number(1), &number(4)].concat();
    metadata.extend(sections.iter().flatten().flat_map(|field| number(*field)));
    let entry = |guid: u128, data: &[u8]| {
        let size = u16::try_from(data.len() + 18).expect("an entry is short");
        [data, &size.to_le_bytes(), &mixed_endian(guid)].concat()
    };
    // The area's address and size, the reset vector, the distance of the metadata from the end.
    let end = 32 + 18 + (18 + 8) + 2 * (18 + 4) + metadata.len();
    let entries = [
        entry(HASH_TABLE, &[number(0x81_0C00), number(0x400)].concat()),
        entry(RESET_BLOCK, &number(0x80_B004)),
        entry(META_DATA, &number(u32::try_from(end).expect("the tables are short"))),
    ]
    .concat();
    let size = u16::try_from(entries.len() + 18).expect("the tables are short");
    let tail = [&metadata[..], &entries, &size.to_le_bytes(), &mixed_endian(TABLE), &[0x90; 32]].concat();
    let mut firmware = vec![0xF4; 16 * PAGE - tail.len()];
    firmware.extend(tail);
    firmware
}

/// A GUID as firmware stores it: the first three groups little-endian.
fn mixed_endian(guid: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid.to_be_bytes();
    let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(tail) = bytes.get_mut(8..) {
        tail.copy_from_slice(&rest);
    }
    bytes
}

/// An IGVM file for SEV-SNP as COCONUT-SVSM's: pages of SVSM and OVMF, secrets, CPUID, one vCPU (igvm_defs 0.4, version 1).
pub(crate) fn svsm_igvm() -> Vec<u8> {
    const SUPPORTED_PLATFORM: u32 = 0x1;
    const PAGE_DATA: u32 = 0x302;
    const VP_CONTEXT: u32 = 0x304;
    const SEV_SNP: u8 = 2;
    /// Directives with this bit are for SEV-SNP.
    const MASK: [u8; 4] = [1, 0, 0, 0];
    const DATA_AT: usize = 1024;
    let number = |n: usize| u32::try_from(n).expect("the file is small").to_le_bytes();
    let header = |kind: u32, content: &[&[u8]]| {
        let content = content.concat();
        let mut bytes = [&kind.to_le_bytes()[..], &number(content.len()), &content].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    // Types of data: 0 an ordinary page, 1 secrets, 2 CPUID.
    let page = |gpa: u64, offset: usize, kind: u16| {
        header(PAGE_DATA, &[&gpa.to_le_bytes(), &MASK, &number(offset), &[0; 4], &kind.to_le_bytes(), &[0; 2]])
    };
    let headers = [
        header(SUPPORTED_PLATFORM, &[&MASK, &[0, SEV_SNP, 1, 0], &[0; 8]]),
        page(0x80_0000, DATA_AT, 0),
        page(0xFFC0_0000, DATA_AT + PAGE, 0),
        page(0x80_D000, 0, 1),
        page(0x80_E000, 0, 2),
        header(VP_CONTEXT, &[&0xFFFF_FFFF_F000_u64.to_le_bytes(), &MASK, &number(DATA_AT + 2 * PAGE), &[0; 8]]),
    ]
    .concat();
    let total = DATA_AT + 3 * PAGE;
    let mut file = [&b"IGVM"[..], &number(1), &number(24), &number(headers.len()), &number(total), &[0; 4]].concat();
    file.extend(headers);
    file.resize(DATA_AT, 0);
    for filling in [0x5E, 0xF4, 0x90] {
        file.extend([filling; PAGE]);
    }
    file
}
