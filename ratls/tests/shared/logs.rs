//! Event logs for tests: written from the profile, so that a mistake of the parser has to be made twice.

use ratls::crypto::{sha256, sha384};
use ratls::evidence::event_log::EventType;
use ratls::evidence::tpm::{Bank, PcrValue, PcrValues};
use std::collections::BTreeMap;

/// A log in the making: SHA-1 (of nothing in particular), SHA-256 and SHA-384.
#[derive(Clone)]
pub struct Log {
    pub records: Vec<Record>,
}

#[derive(Clone)]
pub struct Record {
    pub pcr: u32,
    pub kind: EventType,
    /// What is hashed.
    pub measured: Vec<u8>,
    pub data: Vec<u8>,
}

pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// UEFI_VARIABLE_DATA.
pub fn variable(vendor: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let (characters, length) = ((name.len() / 2) as u64, data.len() as u64);
    [&vendor, &characters.to_le_bytes()[..], &length.to_le_bytes(), &name, data].concat()
}

impl Log {
    pub fn new() -> Log {
        Log { records: Vec::new() }
    }

    /// An event whose digest is the hash of its data.
    pub fn event(mut self, pcr: u32, kind: EventType, data: &[u8]) -> Log {
        self.records.push(Record { pcr, kind, measured: data.to_vec(), data: data.to_vec() });
        self
    }

    /// An event whose digest is the hash of something else.
    pub fn measured(mut self, pcr: u32, kind: EventType, measured: &[u8], data: &[u8]) -> Log {
        self.records.push(Record { pcr, kind, measured: measured.to_vec(), data: data.to_vec() });
        self
    }

    /// EV_IPL of grub, with the prefix that no digest covers.
    pub fn grub(self, prefix: &str, text: &str) -> Log {
        let data = format!("{prefix}{text}\0");
        self.measured(8, EventType::IPL, text.as_bytes(), data.as_bytes())
    }

    pub fn separator(self, pcr: u32) -> Log {
        self.event(pcr, EventType::SEPARATOR, &[0; 4])
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut log = header(&[(4, 20), (11, 32), (12, 48)]);
        for record in &self.records {
            log.extend(record.bytes());
        }
        log
    }

    /// What a TPM would hold after these events, from reset.
    pub fn pcrs(&self, bank: Bank) -> BTreeMap<u8, PcrValue> {
        let reset = |pcr| PcrValue::filled(bank, if (17..23).contains(&pcr) { 0xFF } else { 0 });
        let mut pcrs: BTreeMap<u8, PcrValue> = (0..24).map(|pcr| (pcr, reset(pcr))).collect();
        for record in self.records.iter().filter(|record| record.kind != EventType::NO_ACTION) {
            let value = pcrs.get_mut(&u8::try_from(record.pcr).unwrap()).unwrap();
            *value = value.extended(bank.hash(&[&record.measured]).as_bytes());
        }
        pcrs
    }

    pub fn quoted(&self, bank: Bank) -> PcrValues {
        let pcrs = self.pcrs(bank);
        PcrValues::new(bank, pcrs.iter().map(|(pcr, value)| (*pcr, value.as_bytes()))).unwrap()
    }

    /// The place of the first record that this holds for.
    pub fn position(&self, holds: impl Fn(&Record) -> bool) -> usize {
        self.records.iter().position(holds).expect("no such record")
    }
}

impl Record {
    /// Changes what is hashed and what is said, alike.
    pub fn change(&mut self, change: impl Fn(&mut Vec<u8>)) {
        change(&mut self.measured);
        change(&mut self.data);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let no_action = self.kind == EventType::NO_ACTION;
        let digests: [(u16, Vec<u8>); 3] = [
            (4, vec![if no_action { 0 } else { 0x51 }; 20]),
            (11, if no_action { vec![0; 32] } else { sha256(&[&self.measured]).as_bytes().to_vec() }),
            (12, if no_action { vec![0; 48] } else { sha384(&[&self.measured]).as_bytes().to_vec() }),
        ];
        let mut bytes = [self.pcr.to_le_bytes(), self.kind.0.to_le_bytes(), 3u32.to_le_bytes()].concat();
        for (algorithm, digest) in digests {
            bytes.extend(algorithm.to_le_bytes());
            bytes.extend(digest);
        }
        bytes.extend((self.data.len() as u32).to_le_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// The record "Spec ID Event03".
pub fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend((algorithms.len() as u32).to_le_bytes());
    for (id, size) in algorithms {
        data.extend(id.to_le_bytes());
        data.extend(size.to_le_bytes());
    }
    data.push(0);
    let mut record = [0u32.to_le_bytes(), 3u32.to_le_bytes()].concat();
    record.extend([0; 20]);
    record.extend((data.len() as u32).to_le_bytes());
    [record, data].concat()
}

pub const GLOBAL: [u8; 16] = *b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c";
pub const IMAGE_SECURITY: [u8; 16] = *b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f";

/// The command line of [`good`].
pub const COMMAND_LINE: &str = "/vmlinuz-6.8.0-45 root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f ro console=ttyS0";

/// A boot of firmware, shim, grub and Linux in which nothing is odd. SIMULATED, PROVES NOTHING.
pub fn good() -> Log {
    let image = |path: &str| {
        let path = [utf16(path), vec![0, 0]].concat();
        let node = [&[4, 4][..], &(path.len() as u16 + 4).to_le_bytes(), &path, &[0x7F, 0xFF, 4, 0]].concat();
        [&[0; 24][..], &(node.len() as u64).to_le_bytes(), &node].concat()
    };
    let version = [utf16("GCE Virtual Firmware v2"), vec![0, 0]].concat();
    let host = [&b"GCE NonHostInfo\0\x04"[..], &[0; 15]].concat();
    let mut log = Log::new()
        .event(0, EventType::S_CRTM_VERSION, &version)
        .event(0, EventType::NONHOST_INFO, &host)
        .event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(GLOBAL, "SecureBoot", &[1]))
        .event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(GLOBAL, "PK", b"a platform key"))
        .event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(GLOBAL, "KEK", b"a key exchange key"))
        .event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(IMAGE_SECURITY, "db", b"a certificate"))
        .event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(IMAGE_SECURITY, "dbx", b""))
        .separator(7)
        .event(4, EventType::EFI_ACTION, b"Calling EFI Application from Boot Option");
    for pcr in 0..7 {
        log = log.separator(pcr);
    }
    log.event(7, EventType::VARIABLE_AUTHORITY, &variable(IMAGE_SECURITY, "db", b"a certificate"))
        .measured(4, EventType::BOOT_SERVICES_APPLICATION, b"the hash of shim", &image("\\EFI\\debian\\shimx64.efi"))
        .measured(14, EventType::IPL, b"the MOK list", b"MokList\0")
        .measured(4, EventType::BOOT_SERVICES_APPLICATION, b"the hash of grub", &image("\\EFI\\debian\\grubx64.efi"))
        .measured(9, EventType::IPL, b"the text of grub.cfg", b"(hd0,gpt15)/EFI/debian/grub.cfg\0")
        .grub("grub_cmd: ", "set timeout=0")
        .grub("grub_cmd: ", &format!("linux {COMMAND_LINE}"))
        .measured(9, EventType::IPL, b"the kernel", b"/vmlinuz-6.8.0-45\0")
        .grub("kernel_cmdline: ", COMMAND_LINE)
        .grub("grub_cmd: ", "initrd /initrd.img-6.8.0-45")
        .measured(9, EventType::IPL, b"the initrd", b"/initrd.img-6.8.0-45\0")
        .event(5, EventType::EFI_ACTION, b"Exit Boot Services Invocation")
        .event(5, EventType::EFI_ACTION, b"Exit Boot Services Returned with Success")
}
