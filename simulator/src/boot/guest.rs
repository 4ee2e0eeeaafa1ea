//! A guest that boots: firmware of one cloud, shim and GRUB or a unified kernel image, a kernel with a measured command line.

use super::event::{
    BANKS, GLOBAL_VARIABLE, IMAGE_SECURITY, SHIM, action, application, authority, boot_variable, crtm_version,
    firmware_blob, gce_nonhost_info, gpt, grub_file, grub_text, mok, secure_boot_variable, separator, signature_data,
    signature_list, stub_initrd, unified_section,
};
use super::log::{Event, Log};
use super::pe;
use crate::tpm::objects::Bank;

/// Whose firmware measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Azure,
    Gce,
    Aws,
    /// OVMF under an SVSM.
    Svsm,
}

/// What the firmware starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// shim, GRUB, a kernel from /boot.
    Grub,
    /// systemd-stub with kernel, initrd and command line in one image.
    Unified,
}

/// All that decides what is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    pub firmware: Firmware,
    pub loader: Loader,
    pub secure_boot: bool,
    pub command_line: String,
    /// As in the kernel's name.
    pub version: String,
    /// What stands for the bytes of the kernel; another text is another kernel.
    pub kernel: String,
    pub initrd: String,
}

/// The root hash in the command line of an emulated guest.
pub const ROOT_HASH: &str = "5e1f0c39d41e6c3f8e2f6a6d51c2a4d7b9e80f1273645546a7b8c9dadbecfd0e";
const SHIM_IMAGE: &[u8] = b"simulated shim";
const GRUB_IMAGE: &[u8] = b"simulated GRUB";
const GRUB_CONFIG: &[u8] = b"search.fs_uuid simulated root\n";
/// Owner of the entries in an emulated machine's signature databases.
const OWNER: u128 = 0x77FA_9ABD_0359_4D32_BD60_28F4_E78F_784B;

impl Guest {
    /// The guest that a policy for this cloud accepts.
    pub fn new(firmware: Firmware) -> Self {
        let loader = match firmware {
            Firmware::Azure | Firmware::Gce => Loader::Grub,
            Firmware::Aws | Firmware::Svsm => Loader::Unified,
        };
        Guest {
            firmware,
            loader,
            secure_boot: true,
            command_line: format!(
                "root=/dev/mapper/root ro systemd.verity_root_data=LABEL=root roothash={ROOT_HASH} quiet"
            ),
            version: "6.12.0-simulated".to_owned(),
            kernel: "simulated kernel 6.12".to_owned(),
            initrd: "simulated initrd".to_owned(),
        }
    }

    /// Names and contents of its unified kernel image, in the order in which systemd-stub measures them.
    pub fn sections(&self) -> [(&'static str, String); 5] {
        [
            (".linux", self.kernel.clone()),
            (".osrel", "ID=simulated\n".to_owned()),
            (".cmdline", self.command_line.clone()),
            (".initrd", self.initrd.clone()),
            (".uname", self.version.clone()),
        ]
    }

    /// Its unified kernel image as a file.
    pub fn unified_image(&self) -> Vec<u8> {
        let sections = self.sections();
        let sections: Vec<(&str, &[u8])> = sections.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        pe::image(&sections)
    }

    /// Names and contents of what GRUB's way of booting runs and reads before the kernel.
    pub fn loaders() -> [(&'static str, &'static [u8]); 3] {
        [("shimx64.efi", SHIM_IMAGE), ("grubx64.efi", GRUB_IMAGE), ("grub.cfg", GRUB_CONFIG)]
    }

    /// The command line as GRUB hands it on: with the kernel's file before it.
    pub fn grub_command_line(&self) -> String {
        format!("{} {}", self.kernel_file(), self.command_line)
    }

    /// What GRUB runs beside the command that hands on the command line.
    pub fn grub_commands(&self) -> [String; 2] {
        ["search.fs_uuid 5e1f0c39 root".to_owned(), format!("initrd /initrd.img-{}", self.version)]
    }

    fn kernel_file(&self) -> String {
        format!("/vmlinuz-{}", self.version)
    }

    /// What it measured, from reset to the kernel's first instruction.
    pub fn log(&self) -> Log {
        let banks = match self.firmware {
            // AWS's OVMF switches SHA-1 off.
            Firmware::Aws => vec![Bank::Sha256, Bank::Sha384],
            _ => BANKS.to_vec(),
        };
        let mut events = self.firmware_events();
        events.extend(self.secure_boot_events());
        let boot_order = boot_variable("BootOrder", &[0, 0]);
        let calling = action(4, "Calling EFI Application from Boot Option");
        events.extend([boot_order, calling]);
        events.extend((0..8).map(separator));
        events.push(gpt(&["EFI System", "boot", "root"]));
        if self.secure_boot {
            events.push(authority(IMAGE_SECURITY, "db", &signature_data(OWNER, b"simulated certificate of the db")));
        }
        events.extend(match self.loader {
            Loader::Grub => self.grub_events(),
            Loader::Unified => self.unified_events(),
        });
        events.push(action(5, "Exit Boot Services Invocation"));
        events.push(action(5, "Exit Boot Services Returned with Success"));
        Log { banks, events }
    }

    fn firmware_events(&self) -> Vec<Event> {
        match self.firmware {
            // SEV-SNP is technology 4: only this PCR 0 says that the firmware believed it.
            Firmware::Gce => vec![crtm_version("GCE Virtual Firmware v2"), gce_nonhost_info(4)],
            Firmware::Azure => vec![crtm_version("Hyper-V UEFI Release v4.1"), firmware_blob(b"simulated Azure UEFI")],
            Firmware::Aws => vec![crtm_version("1.0"), firmware_blob(b"simulated EC2 OVMF")],
            Firmware::Svsm => {
                vec![crtm_version("edk2-stable202408-svsm"), firmware_blob(b"simulated OVMF below an SVSM")]
            }
        }
    }

    fn secure_boot_events(&self) -> Vec<Event> {
        let list = |what: &[u8]| if self.secure_boot { signature_list(OWNER, what) } else { Vec::new() };
        vec![
            secure_boot_variable(GLOBAL_VARIABLE, "SecureBoot", &[u8::from(self.secure_boot)]),
            secure_boot_variable(GLOBAL_VARIABLE, "PK", &list(b"simulated platform key")),
            secure_boot_variable(GLOBAL_VARIABLE, "KEK", &list(b"simulated key exchange key")),
            secure_boot_variable(IMAGE_SECURITY, "db", &list(b"simulated certificate of the db")),
            secure_boot_variable(IMAGE_SECURITY, "dbx", &list(b"simulated revocation")),
        ]
    }

    fn grub_events(&self) -> Vec<Event> {
        let (kernel_file, initrd_file) = (&self.kernel_file(), &format!("/initrd.img-{}", self.version));
        let [search, initrd] = self.grub_commands();
        let command_line = self.grub_command_line();
        let mut events = vec![
            application("\\EFI\\BOOT\\BOOTX64.EFI", SHIM_IMAGE),
            mok("MokList", b"simulated MokList"),
            mok("MokListX", b"simulated MokListX"),
            mok("MokListTrusted", b"\x01"),
        ];
        if self.secure_boot {
            events.push(authority(SHIM, "SbatLevel", b"sbat,1,2024010900\n"));
            events.push(authority(SHIM, "Shim", b"simulated vendor certificate"));
        }
        events.extend([
            application("\\EFI\\BOOT\\grubx64.efi", GRUB_IMAGE),
            grub_file("(hd0,gpt1)/EFI/debian/grub.cfg", GRUB_CONFIG),
            grub_text("grub_cmd", &search),
            grub_text("grub_cmd", &format!("linux {command_line}")),
            grub_file(kernel_file, self.kernel.as_bytes()),
            application(kernel_file, self.kernel.as_bytes()),
            grub_text("kernel_cmdline", &command_line),
            grub_text("grub_cmd", &initrd),
            grub_file(initrd_file, self.initrd.as_bytes()),
            stub_initrd(self.initrd.as_bytes()),
        ]);
        events
    }

    fn unified_events(&self) -> Vec<Event> {
        let image = self.unified_image();
        let sections = self.sections();
        let mut events = vec![application("\\EFI\\BOOT\\BOOTX64.EFI", &pe::hashed(&image))];
        events.extend(sections.iter().flat_map(|(name, content)| unified_section(name, content.as_bytes())));
        events.push(application("", self.kernel.as_bytes()));
        events.push(stub_initrd(self.initrd.as_bytes()));
        events
    }
}

/// The digest of an event's content in one bank, for a reference in a policy.
pub fn reference(bank: Bank, content: &[u8]) -> String {
    hex::encode(bank.hash(content))
}
