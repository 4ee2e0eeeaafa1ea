//! What a guest booted, read from its event log: facts with a name, in place of registers and hashes.
//!
//! ```text
//! registers     what each register means, as data
//! interpret     EventLog (× quote) → Boot
//! read          the same for many quotes over one log
//! command_line  words of a kernel command line
//! lines         command lines that were measured, and whose text a digest is
//! keys          whose keys Secure Boot has
//! stub          sections of a unified kernel image, boot phases
//! words         a Boot in sentences
//! unexplained   which event, left out, would make a log lead to a register
//! diff          what differs between two boots, in terms of meaning
//! ```
//!
//! A fact is worth what stands under it. [`Seen::bound`] says that the data hashes to the digest in the log; [`Register::state`]
//! says whether the quoted register confirms the log. Both must hold before a decision may rest on a fact, and even then the
//! register is worth no more than the TPM that signed. What is accepted is not judged here.

pub mod command_line;
pub mod diff;
mod interpret;
pub mod keys;
mod lines;
mod neutral;
mod read;
pub mod registers;
pub mod stub;
pub mod unexplained;
pub mod words;

use std::fmt;

use command_line::CommandLine;
use formats::evidence::event_log::data::{Gpt, GrubRole};
use formats::evidence::event_log::{Anomaly, EventLog};
use formats::evidence::tpm::{Bank, PcrValue, PcrValues};
use keys::Keys;
use stub::Stub;

pub use lines::LineDigests;
pub use lines::{LineSource, MAX_CMDLINE_BYTES, MAX_LINES, MeasuredLine};
pub use neutral::{USR_KEYS, VerityBinding};
pub use read::ReadLog;

/// Everything that a log says, as far as this version reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Boot {
    pub bank: Bank,
    pub registers: Vec<Register>,
    pub anomalies: Vec<Anomaly>,
    pub firmware_version: Option<Seen<String>>,
    pub technology: Option<Seen<Technology>>,
    pub secure_boot: Option<Seen<bool>>,
    pub keys: Vec<Seen<KeyVariable>>,
    pub authorities: Vec<Seen<KeyVariable>>,
    pub sbat_level: Option<Seen<SbatLevel>>,
    pub images: Vec<Image>,
    pub disk: Option<Seen<Gpt>>,
    pub grub: Vec<Seen<GrubLine>>,
    pub files: Vec<File>,
    pub command_lines: Vec<MeasuredLine>,
    pub stub: Stub,
    pub mok: Vec<File>,
}

/// A fact of the log, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    pub value: T,
    pub pcr: u8,
    pub event: usize,
    /// The data hashes to the digest that the log has. Nothing else may be decided on.
    pub bound: bool,
}

/// A register, and what the quote says of the log's story of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub pcr: u8,
    /// Events that extended it.
    pub events: usize,
    pub state: State,
}

/// How the story of a register compares with its quoted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is a log and no quote: nothing is confirmed.
    Unquoted,
    /// The quote leaves this register out.
    NotQuoted,
    /// It holds its reset value, and the log does not mention it.
    Untouched,
    /// The log replays to it.
    Confirmed,
    /// The log and then these phases of systemd replay to it.
    ConfirmedWithPhases(Vec<&'static str>),
    /// Nothing that is known replays to it.
    Unexplained { replayed: PcrValue, quoted: PcrValue },
}

impl State {
    /// The word for programs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            State::Unquoted => "unquoted",
            State::NotQuoted => "not-quoted",
            State::Untouched => "untouched",
            State::Confirmed | State::ConfirmedWithPhases(_) => "confirmed",
            State::Unexplained { .. } => "unexplained",
        }
    }

    /// Whether the events of the log are the whole story of the register.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, State::Untouched | State::Confirmed | State::ConfirmedWithPhases(_))
    }
}

/// What the firmware of GCE found itself to run on (`GCE NonHostInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Technology {
    None,
    Sev,
    SevEs,
    Tdx,
    SevSnp,
    Unknown(u8),
}

/// A variable of Secure Boot and the keys in it: `PK`, `KEK`, `db`, `dbx`, `MokList`…
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVariable {
    pub name: String,
    pub keys: Keys,
}

/// What shim enforces against revoked boot programs: a date, and the least generation of each component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbatLevel {
    pub date: u64,
    pub generations: Vec<(String, u32)>,
}

/// A PE image that was started. Its digest is the one that Secure Boot signs (Authenticode).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub digest: PcrValue,
    pub event: usize,
    /// Where it was loaded from: only a claim.
    pub path: Option<String>,
}

/// A digest with the name that the log gives it, which is only a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub digest: PcrValue,
    pub event: usize,
    pub pcr: u8,
    pub name: Option<String>,
}

/// A text of grub. Its role is only a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrubLine {
    pub role: GrubRole,
    pub text: String,
}

impl Boot {
    /// Reads a log in a bank. With a quote, every register is compared with it; a quote of another bank compares nothing.
    /// `None` where the log has no digests of the bank.
    pub fn interpret(log: &EventLog, bank: Bank, quoted: Option<&PcrValues>) -> Option<Boot> {
        interpret::interpret(log, bank, quoted)
    }

    pub fn bank(&self) -> Bank {
        self.bank
    }
    /// All 24, in their order.
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }
    pub fn register(&self, pcr: u8) -> Option<&Register> {
        self.registers.get(usize::from(pcr))
    }
    pub fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }
    pub fn firmware_version(&self) -> Option<&Seen<String>> {
        self.firmware_version.as_ref()
    }
    pub fn technology(&self) -> Option<&Seen<Technology>> {
        self.technology.as_ref()
    }
    pub fn secure_boot(&self) -> Option<&Seen<bool>> {
        self.secure_boot.as_ref()
    }
    /// PK, KEK, db, dbx, as they were measured before the separator.
    pub fn keys(&self) -> &[Seen<KeyVariable>] {
        &self.keys
    }
    /// What vouched for images.
    pub fn authorities(&self) -> &[Seen<KeyVariable>] {
        &self.authorities
    }
    pub fn sbat_level(&self) -> Option<&Seen<SbatLevel>> {
        self.sbat_level.as_ref()
    }
    /// Images in the order in which they were started.
    pub fn images(&self) -> &[Image] {
        &self.images
    }
    pub fn disk(&self) -> Option<&Seen<Gpt>> {
        self.disk.as_ref()
    }
    pub fn grub(&self) -> &[Seen<GrubLine>] {
        &self.grub
    }
    /// Digests in PCR 9: what grub read, what the EFI stub loaded.
    pub fn files(&self) -> &[File] {
        &self.files
    }
    /// Where there are more than [`MAX_LINES`], none has a text.
    pub fn command_lines(&self) -> &[MeasuredLine] {
        &self.command_lines
    }
    pub fn stub(&self) -> &Stub {
        &self.stub
    }
    /// Digests in PCR 14.
    pub fn mok(&self) -> &[File] {
        &self.mok
    }

    /// The one command line that every measured one agrees with, as far as texts are known. `None` where none is known, or two differ.
    pub fn command_line(&self) -> Option<&CommandLine> {
        let mut texts = self.command_lines.iter().filter_map(|measured| measured.line.as_deref());
        let first = texts.next()?;
        texts.all(|text| text == first).then_some(first)
    }

    /// The kernel, where the log has one that is not hidden in a unified image: the file that the command line of grub names,
    /// else the last image that was started. Its name is a claim; its digest is not.
    pub fn kernel(&self) -> Option<File> {
        let named = self.grub.iter().find(|line| line.value.role == GrubRole::KernelCommandLine).and_then(|line| {
            let path = line.value.text.split_ascii_whitespace().next()?;
            self.files.iter().find(|file| file.name.as_deref() == Some(path))
        });
        match named {
            Some(file) => Some(file.clone()),
            None => self.images.last().map(|image| File {
                digest: image.digest,
                event: image.event,
                pcr: 4,
                name: image.path.clone(),
            }),
        }
    }
}

impl fmt::Display for Technology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Technology::None => f.write_str("no memory encryption"),
            Technology::Sev => f.write_str("SEV"),
            Technology::SevEs => f.write_str("SEV-ES"),
            Technology::Tdx => f.write_str("TDX"),
            Technology::SevSnp => f.write_str("SEV-SNP"),
            Technology::Unknown(byte) => write!(f, "technology {byte}"),
        }
    }
}

impl SbatLevel {
    /// `sbat,1,DATE` and then `component,generation` in lines (shim's SBAT.md).
    pub fn parse(text: &str) -> Option<SbatLevel> {
        let mut lines = text.trim_end_matches(['\n', '\0']).lines();
        let first: Vec<&str> = lines.next()?.split(',').collect();
        let ["sbat", _, date] = first.as_slice() else { return None };
        let generations = lines.map(|line| {
            let (component, generation) = line.split_once(',')?;
            Some((component.to_owned(), generation.split(',').next()?.parse().ok()?))
        });
        Some(SbatLevel { date: date.parse().ok()?, generations: generations.collect::<Option<_>>()? })
    }

    /// The least generation that is allowed to run; 0 for a component that the level does not name.
    pub fn generation(&self, component: &str) -> u32 {
        self.generations.iter().find(|(name, _)| name == component).map_or(0, |(_, generation)| *generation)
    }
}

impl fmt::Display for SbatLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date)?;
        for (component, generation) in &self.generations {
            write!(f, ", {component} {generation}")?;
        }
        Ok(())
    }
}
