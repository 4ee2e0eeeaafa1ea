//! A [`Boot`] in sentences. What the log says without a digest that confirms it is marked as a claim.
//!
//! Everything that comes from a log is escaped: it was written by a guest, and goes to a terminal or a page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::keys::Keys;
use super::{Boot, File, LineSource, MAX_LINES, Seen, State};
use formats::evidence::event_log::data::GrubRole;
use formats::text::Untrusted;

/// One thing that the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// What it is about, in a word or two.
    pub subject: &'static str,
    pub text: String,
    /// It rests on digests that were extended. Whether the registers were quoted is the sentence about registers.
    pub bound: bool,
}

impl Boot {
    /// What was booted, from the firmware up.
    pub fn sentences(&self) -> Vec<Sentence> {
        let mut all = Vec::new();
        self.firmware(&mut all);
        self.secure_boot_words(&mut all);
        self.programs(&mut all);
        self.kernel_words(&mut all);
        self.unified_image(&mut all);
        self.rest(&mut all);
        self.confirmation(&mut all);
        all
    }

    fn firmware(&self, all: &mut Vec<Sentence>) {
        match (&self.firmware_version, &self.technology) {
            (None, None) => say(all, "firmware", true, "The log does not say which firmware ran.".to_owned()),
            (version, technology) => {
                let mut text = "The firmware calls itself ".to_owned();
                match version {
                    Some(version) => write!(text, "{}", Untrusted(&version.value).quoted()),
                    None => write!(text, "nothing"),
                }
                .expect(WRITES);
                if let Some(technology) = technology {
                    write!(text, ", and says that it runs under {}", technology.value).expect(WRITES);
                }
                text.push_str(". The registers do not cover its bytes.");
                let bound = version.as_ref().is_none_or(|v| v.bound) && technology.as_ref().is_none_or(|t| t.bound);
                say(all, "firmware", bound, text);
            }
        }
    }

    fn secure_boot_words(&self, all: &mut Vec<Sentence>) {
        match &self.secure_boot {
            None => say(all, "Secure Boot", true, "The state of Secure Boot was not measured.".to_owned()),
            Some(state) => {
                let text = if state.value {
                    "Secure Boot is on."
                } else {
                    "Secure Boot is off: nobody vouches for what runs."
                };
                say(all, "Secure Boot", state.bound, text.to_owned());
            }
        }
        for key in &self.keys {
            let what = Untrusted(&key.value.name).clipped();
            say(all, "Secure Boot keys", key.bound, format!("{what} holds {}.", holds(&key.value.keys)));
        }
        for authority in &self.authorities {
            let names = authority.value.keys.names.iter().map(|name| Untrusted(name).quoted());
            let who = names.collect::<Vec<_>>().join(", ");
            let who = if who.is_empty() { format!("the digest {}", authority.value.keys.digest) } else { who };
            let text = format!("{} vouched, from {}.", who, Untrusted(&authority.value.name).clipped());
            say(all, "authority", authority.bound, text);
        }
        if let Some(level) = &self.sbat_level {
            let text =
                format!("shim runs nothing that SBAT level {} revokes.", Untrusted(&level.value.to_string()).clipped());
            say(all, "SBAT", level.bound, text);
        }
        if !self.mok.is_empty() {
            let names: Vec<_> = self.mok.iter().map(file).collect();
            say(all, "MOK", true, format!("shim measured {}.", names.join(", ")));
        }
    }

    fn programs(&self, all: &mut Vec<Sentence>) {
        for (place, image) in (1..).zip(&self.images) {
            let path =
                image.path.as_deref().map_or("an image without a path".to_owned(), |text| Untrusted(text).clipped());
            let text = format!("Program {place}: {path}, Authenticode {}.", image.digest);
            say(all, "boot program", true, text);
        }
        let commands = self.grub.iter().filter(|line| line.value.role == GrubRole::Command).count();
        if !self.grub.is_empty() {
            let text = format!("grub ran {commands} commands and read {} files.", self.files.len());
            say(all, "grub", self.grub.iter().all(|line| line.bound), text);
        }
    }

    fn kernel_words(&self, all: &mut Vec<Sentence>) {
        let version = self.command_line().and_then(|line| line.kernel_version());
        if self.stub.sections.is_empty()
            && let Some(kernel) = self.kernel()
        {
            let version =
                version.map(|version| format!(", version {}", Untrusted(version).clipped())).unwrap_or_default();
            say(all, "kernel", true, format!("The kernel is {}{version}.", file(&kernel)));
        }
        let mut told = BTreeSet::new();
        // What grub read, the EFI stub measures again.
        for initrd in self.initrds().into_iter().filter(|initrd| told.insert(initrd.digest)) {
            say(all, "initrd", true, format!("The initrd is {}.", file(&initrd)));
        }
        if let Some(line) = self.command_line() {
            let by: Vec<_> = self.command_lines.iter().filter(|m| m.line.is_some()).map(|m| by(m.source)).collect();
            let text = format!(
                "The kernel command line is {}, measured by {}.",
                Untrusted(line.text()).quoted(),
                by.join(" and by ")
            );
            say(all, "command line", true, text);
            match line.verity_root_hash() {
                Some((key, hash)) => {
                    say(all, "root", true, format!("It names the dm-verity root hash {hash} ({key})."));
                    let doubtful = line.doubtful_words(key, &[]);
                    if !doubtful.is_empty() {
                        let words: Vec<String> = doubtful.iter().map(|word| Untrusted(word).quoted()).collect();
                        let text = format!("Beside that hash, these may change what runs: {}.", words.join(", "));
                        say(all, "root", true, text);
                    }
                }
                None => {
                    say(all, "root", true, "It names no dm-verity root hash: it binds no root file system.".to_owned())
                }
            }
            for key in line.repeated() {
                say(all, "command line", true, format!("{key} stands in it more than once; its readers may disagree."));
            }
            for weakness in line.weaknesses() {
                say(all, "command line", true, format!("{} stands in it: {}.", weakness.word, weakness.why));
            }
        }
        if self.command_lines.len() > MAX_LINES {
            let text = format!("{} command lines were measured, and none is read.", self.command_lines.len());
            say(all, "command line", true, text);
            return;
        }
        for measured in self.command_lines.iter().filter(|measured| measured.line.is_none()) {
            let text = format!(
                "{} measured a command line with the digest {}; its text is not known.",
                by(measured.source),
                measured.digest
            );
            say(all, "command line", true, text);
        }
        let mut lines: Vec<_> = self.command_lines.iter().filter_map(|measured| measured.line.as_deref()).collect();
        lines.dedup();
        if lines.len() > 1 {
            for line in lines {
                say(
                    all,
                    "command line",
                    true,
                    format!("One of several command lines: {}.", Untrusted(line.text()).quoted()),
                );
            }
        }
    }

    fn unified_image(&self, all: &mut Vec<Sentence>) {
        for section in &self.stub.sections {
            let text = format!("The unified kernel image has {} with digest {}.", section.name, section.digest);
            say(all, "unified kernel image", true, text);
        }
        if !self.stub.unread.is_empty() {
            let text = format!("{} events of PCR 11 are no section of a unified kernel image.", self.stub.unread.len());
            say(all, "unified kernel image", true, text);
        }
    }

    fn rest(&self, all: &mut Vec<Sentence>) {
        if let Some(disk) = &self.disk {
            let count = disk.value.partitions.len();
            say(all, "disk", disk.bound, format!("The disk is {} with {count} partitions.", disk.value.disk));
        }
        for anomaly in &self.anomalies {
            say(all, "odd", true, format!("{anomaly}."));
        }
    }

    fn confirmation(&self, all: &mut Vec<Sentence>) {
        if self.registers.iter().all(|register| register.state == State::Unquoted) {
            let text = "No quote was given: the log is what somebody wrote down, and nothing confirms it.";
            say(all, "registers", true, text.to_owned());
            return;
        }
        // The kernel fills it while the guest runs, and keeps a list of its own.
        let logged = |pcr: u8| pcr != IMA_PCR || self.register(IMA_PCR).is_some_and(|register| register.events > 0);
        let list = |holds: &dyn Fn(&State) -> bool| {
            let found = self.registers.iter().filter(|register| logged(register.pcr) && holds(&register.state));
            let found = found.map(|r| r.pcr.to_string());
            found.collect::<Vec<_>>().join(", ")
        };
        let confirmed = list(&|state| matches!(state, State::Confirmed | State::ConfirmedWithPhases(_)));
        say(all, "registers", true, format!("The quote confirms the log's story of PCR {confirmed}."));
        let unexplained = list(&|state| matches!(state, State::Unexplained { .. }));
        if !unexplained.is_empty() {
            say(all, "registers", true, format!("The log does not explain PCR {unexplained}."));
        }
        let absent = list(&|state| *state == State::NotQuoted);
        if !absent.is_empty() {
            say(all, "registers", true, format!("The quote leaves out PCR {absent}."));
        }
        for register in &self.registers {
            if let State::ConfirmedWithPhases(phases) = &register.state {
                say(all, "boot phase", true, format!("systemd has passed {}.", phases.join(", ")));
            }
        }
    }

    /// Files that grub was told to load as initrd, by the names that its log gives them.
    pub fn initrds(&self) -> Vec<File> {
        let commands = self.grub.iter().filter(|line| line.value.role == GrubRole::Command);
        let named: BTreeSet<&str> = commands
            .filter_map(|line| line.value.text.strip_prefix("initrd ").or(line.value.text.strip_prefix("initrdefi ")))
            .flat_map(str::split_ascii_whitespace)
            .collect();
        let loaded = |file: &&File| {
            file.name.as_deref().is_some_and(|name| named.contains(name) || name == super::interpret::STUB_INITRD)
        };
        self.files.iter().filter(loaded).cloned().collect()
    }
}

/// Of Linux's IMA.
const IMA_PCR: u8 = 10;

const WRITES: &str = "a String can be written to";

fn say(all: &mut Vec<Sentence>, subject: &'static str, bound: bool, text: String) {
    let text = if bound { text } else { format!("{text} (Only a claim: its digest says something else.)") };
    all.push(Sentence { subject, text, bound });
}

pub(super) fn file(file: &File) -> String {
    match &file.name {
        Some(name) => format!("{} ({})", Untrusted(name).clipped(), file.digest),
        None => file.digest.to_string(),
    }
}

pub(super) fn by(source: LineSource) -> &'static str {
    match source {
        LineSource::Grub => "grub",
        LineSource::LoadOptions => "the kernel's EFI stub",
        LineSource::Section => "systemd-stub, as a section",
        LineSource::Override => "systemd-stub, as an override",
    }
}

/// What is in a variable of keys.
pub fn holds(keys: &Keys) -> String {
    let names: Vec<_> = keys.names.iter().map(|name| Untrusted(name).quoted()).collect();
    let mut parts = Vec::new();
    if !names.is_empty() {
        parts.push(names.join(", "));
    }
    if keys.hashes > 0 {
        parts.push(format!("{} image hashes", keys.hashes));
    }
    if parts.is_empty() {
        parts.push("nothing that this version reads".to_owned());
    }
    format!("{} (SHA-256 {})", parts.join(" and "), keys.digest)
}

/// For facts with a name: the value, and whether it is only a claim.
pub(super) fn worth<T: std::fmt::Display>(seen: &Seen<T>) -> String {
    let claim = if seen.bound { "" } else { " (a claim)" };
    format!("{}{claim}", Untrusted(&seen.value.to_string()).clipped())
}
