//! Unified kernel images: PCR 11 as `systemd-measure` computes it, from an image that is made of Debian's own stub.

use ratls::evidence::tpm::{Bank, PcrValue};
use ratls::reference::{PeImage, Unified};
use std::path::Path;
use std::process::Command;

const MEASURE: &str = "/usr/lib/systemd/systemd-measure";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Sections that systemd-measure has an option for, with content of odd lengths.
fn sections() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        (".linux", "--linux", (0..70_001u32).map(|i| i.to_le_bytes()[0]).collect()),
        (".osrel", "--osrel", b"ID=debian\nVERSION_ID=12\n".to_vec()),
        (".cmdline", "--cmdline", b"root=/dev/vda1 ro quiet".to_vec()),
        (".initrd", "--initrd", vec![7; 4_099]),
    ]
}

#[test]
fn systemd_measure_computes_the_same_register_in_every_phase_and_bank() {
    let dir = tempfile(module_path!());
    let mut measure = Command::new(MEASURE);
    measure.args(["calculate", "--bank=sha256", "--bank=sha384"]);
    for (name, option, content) in sections() {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        measure.arg(format!("{option}={}", path.display()));
    }
    let phases = ["", "enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit:ready"];
    for phase in phases {
        measure.arg(format!("--phase={phase}"));
    }
    let output = measure.output().expect("systemd-measure of Debian's systemd");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let theirs = |bank: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(&format!("11:{bank}=")).map(str::to_owned));
        lines.collect()
    };
    let unified = Unified::of_sections(|name| {
        sections().into_iter().find(|(section, ..)| *section == name).map(|(_, _, content)| content)
    })
    .unwrap();
    for (bank, name) in [(Bank::Sha256, "sha256"), (Bank::Sha384, "sha384")] {
        let ours: Vec<String> = phases
            .iter()
            .map(|phase| {
                let words: Vec<&str> = phase.split(':').filter(|word| !word.is_empty()).collect();
                unified.pcr11(bank, &words).to_string()
            })
            .collect();
        assert_eq!(theirs(name), ours, "{text}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// `objcopy`, as systemd's documentation makes a unified image of the stub.
#[test]
fn sections_of_an_image_made_of_the_stub_are_those_that_went_in() {
    let dir = tempfile(module_path!());
    let mut objcopy = Command::new("objcopy");
    for (place, (name, _, content)) in sections().into_iter().enumerate() {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        objcopy.arg("--add-section").arg(format!("{name}={}", path.display()));
        objcopy.arg("--change-section-vma").arg(format!("{name}={:#x}", 0x1_0000_0000u64 + 0x100_0000 * place as u64));
    }
    let image = dir.join("image.efi");
    let output = objcopy.arg(STUB).arg(&image).output().expect("objcopy of Debian's binutils, and systemd-boot-efi");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&image).unwrap();
    let image = PeImage::parse(&bytes).unwrap();
    let unified = Unified::of(&image).unwrap();
    for (name, _, content) in sections() {
        assert_eq!(unified.digest(name, Bank::Sha256), Some(Bank::Sha256.hash(&[&content])), "{name}");
    }
    let stub = std::fs::read(STUB).unwrap();
    let plain = PeImage::parse(&stub).unwrap();
    assert!(Unified::of(&plain).is_none());
    assert_ne!(plain.digest(Bank::Sha256), image.digest(Bank::Sha256));
    assert_ne!(unified.pcr11(Bank::Sha256, &[]), PcrValue::filled(Bank::Sha256, 0));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn tempfile(name: &str) -> std::path::PathBuf {
    let unique =
        format!("evident-{}-{}-{:?}", name.replace("::", "-"), std::process::id(), std::thread::current().id());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
