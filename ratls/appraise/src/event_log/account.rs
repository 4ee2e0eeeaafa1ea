//! Each event of the registers that rules speak of: does a rule name it?

use std::collections::BTreeMap;

use super::Held;
use crate::policy::event_log::{EventLogRules, JUDGED, Listed, MeasuredDigest};
use crate::policy::{Bindings, Budget};
use formats::digest::Sha256Digest;
use formats::evidence::event_log::data::{Data, GrubRole, TAG_LOAD_OPTIONS};
use formats::evidence::event_log::{Event, EventLog, EventType};
use formats::evidence::tpm::{Bank, PcrValue};
use measure::measured_boot::command_line::CommandLine;
use measure::measured_boot::stub::Section;
use measure::measured_boot::{Boot, KeyVariable, LineDigests, MAX_LINES, MeasuredLine, Seen};
use measure::reference::{BootReference, Part};

/// What every boot measures, and that names nobody's choice.
const ACTIONS: [&str; 6] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Failure",
    "Exit Boot Services Returned with Success",
    "Booting to Setup",
];

/// What came of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every event of it is one that each boot has, or one that a rule names.
    Matched,
    /// The policy says that it is not looked at.
    Ignored,
    /// No rule speaks of it, or its rules leave the rest open; these events are compared with nothing.
    Open(Vec<usize>),
    /// Rules speak of it, and these events are named by none.
    Unexpected(Vec<usize>),
}

pub(super) struct Account {
    pub(super) outcomes: BTreeMap<u8, Outcome>,
    /// Command lines that no pattern matches.
    pub(super) wrong_lines: Vec<MeasuredLine>,
    /// The digest of the kernel that was started is on the list.
    pub(super) kernel_listed: bool,
    /// The command line: as the log has it, or as the policy gave it where only its digest was measured. `None` where one of those
    /// that were measured is not known or says something else: it may be the one that the kernel went by.
    pub(super) line: Option<CommandLine>,
    /// A line was measured as a digest, and nobody knows what it says.
    pub(super) unread_line: bool,
}

impl Account {
    pub(super) fn of(rules: &EventLogRules, held: Held<'_>, log: &EventLog, boot: &Boot) -> Account {
        let (lines, budget) = (BTreeMap::new(), Budget::new());
        let common = common(boot.bank);
        let mut teller = Teller {
            rules,
            files: held.files,
            boot,
            common,
            budget,
            lines,
            right: LineDigests::default(),
            bindings: None,
            given: Vec::new(),
            unread: false,
        };
        let mut wrong_lines = Vec::new();
        if !rules.names_lines() {
            teller.unread = boot.command_lines.iter().any(|measured| measured.line.is_none());
        } else {
            for measured in &boot.command_lines {
                let right = boot.command_lines.len() <= MAX_LINES && teller.line(measured);
                teller.lines.insert(measured.event, right);
                match right {
                    true => teller.right.insert(measured),
                    false => wrong_lines.push(measured.clone()),
                }
            }
        }
        let mut outcomes = BTreeMap::new();
        for pcr in JUDGED {
            outcomes.insert(pcr, teller.register(log, pcr));
        }
        let kernel_listed = kernel(boot).is_some_and(|digest| {
            on(&rules.kernel, &digest) || held.files.is_some_and(|files| files.knows_as(Part::Kernel, &digest))
        });
        let unread_line = teller.unread;
        let line = teller.agreed().filter(|_| wrong_lines.is_empty() && !unread_line);
        Account { outcomes, wrong_lines, kernel_listed, line, unread_line }
    }

    pub(super) fn unexpected(&self) -> Vec<usize> {
        let of = |outcome: &Outcome| match outcome {
            Outcome::Unexpected(events) => events.clone(),
            Outcome::Matched | Outcome::Ignored | Outcome::Open(_) => Vec::new(),
        };
        self.outcomes.values().flat_map(of).collect()
    }

    pub(super) fn outcome(&self, pcr: u8) -> &Outcome {
        self.outcomes.get(&pcr).unwrap_or(&Outcome::Ignored)
    }
}

struct Teller<'a> {
    rules: &'a EventLogRules,
    files: Option<&'a BootReference>,
    boot: &'a Boot,
    /// What every boot measures.
    common: Vec<PcrValue>,
    budget: Budget,
    /// By the event that measured it: whether a pattern matches.
    lines: BTreeMap<usize, bool>,
    /// The lines for which one does.
    right: LineDigests,
    /// What the variables of the matching pattern stood for.
    bindings: Option<Bindings>,
    /// Texts of the policy whose digests were measured, where the log has no text.
    given: Vec<CommandLine>,
    /// A digest was measured for which no text is known.
    unread: bool,
}

impl Teller<'_> {
    fn register(&mut self, log: &EventLog, pcr: u8) -> Outcome {
        if self.rules.ignored.contains(&pcr) {
            return Outcome::Ignored;
        }
        let events =
            log.extending(pcr).filter(|event| !event.digest(self.boot.bank).is_some_and(|d| self.common.contains(d)));
        let events: Vec<&Event> = events.collect();
        let unnamed: Vec<usize> = match pcr {
            // The stub's events are known by their place.
            11 => self.unnamed_sections(),
            _ => events.into_iter().filter(|event| !self.names(event)).map(Event::number).collect(),
        };
        match unnamed.is_empty() {
            true => Outcome::Matched,
            false if self.speaks_of(pcr) => Outcome::Unexpected(unnamed),
            false => Outcome::Open(unnamed),
        }
    }

    /// Whether a rule is about this register, and none of them says `any` of the rest.
    fn speaks_of(&self, pcr: u8) -> bool {
        let rules = self.rules;
        let grub_kernel = self.boot.kernel().is_some_and(|kernel| kernel.pcr == 9);
        let files = self.files.is_some();
        match pcr {
            2 | 3 => !rules.boot_programs.is_empty(),
            4 => files || !rules.boot_programs.is_empty() || (!rules.kernel.is_empty() && !grub_kernel),
            5 => !rules.disk.is_empty(),
            7 => !rules.secure_boot_keys.is_empty() || !rules.authorities.is_empty(),
            8 => match &rules.grub_commands {
                Listed::Any => false,
                Listed::These(_) => true,
                Listed::Nothing => rules.names_lines(),
            },
            9 => {
                let kernel = files || (!rules.kernel.is_empty() && grub_kernel) || !rules.initrd.is_empty();
                !matches!(rules.files, Listed::Any) && (kernel || rules.files != Listed::Nothing)
            }
            11 => {
                files
                    || !rules.sections.is_empty()
                    || !rules.kernel.is_empty()
                    || rules.names_lines()
                    || !rules.initrd.is_empty()
            }
            12 => rules.names_lines(),
            13 => matches!(rules.files, Listed::These(_)),
            14 => !rules.mok.is_empty(),
            _ => false,
        }
    }

    fn names(&mut self, event: &Event) -> bool {
        let Some(digest) = event.digest(self.boot.bank).copied() else { return false };
        let rules = self.rules;
        match event.pcr() {
            // Of the firmware's own registers the rules name no event; they are no part of a component that is covered here.
            0 | 1 => true,
            4 if self.in_hand(&digest) || on(&rules.kernel, &digest) => true,
            2..=4 => on(&rules.boot_programs, &digest),
            5 => on(&rules.disk, &digest),
            7 => self.names_in_secure_boot(event),
            8 => self.names_text(event),
            9 => match event.read().claimed() {
                Some(Data::Tag { id: TAG_LOAD_OPTIONS, .. }) => self.is_right_line(event),
                _ if self.in_hand(&digest) => true,
                _ => [&rules.kernel[..], &rules.initrd, rules.files.these()].iter().any(|list| on(list, &digest)),
            },
            12 => self.is_right_line(event),
            13 => on(rules.files.these(), &digest),
            14 => on(&rules.mok, &digest),
            _ => false,
        }
    }

    fn names_in_secure_boot(&self, event: &Event) -> bool {
        // Read once already, unless it is of somebody else than the specification's owners of keys.
        if let Some(key) = of(event, &self.boot.keys).or(of(event, &self.boot.authorities)) {
            return key.bound && self.names_keys(event.kind(), &key.value.name, &key.value.keys.digest);
        }
        let reading = event.read();
        let Some(Data::Variable(variable)) = reading.bound() else { return false };
        // The rule on the state of Secure Boot has its own finding.
        let state = event.kind() == EventType::VARIABLE_DRIVER_CONFIG && variable.name == "SecureBoot";
        state || self.names_keys(event.kind(), &variable.name, &formats::crypto::sha256(&[variable.data]))
    }

    fn names_keys(&self, kind: EventType, name: &str, content: &Sha256Digest) -> bool {
        match kind {
            EventType::VARIABLE_DRIVER_CONFIG => {
                self.rules.secure_boot_keys.get(name).is_some_and(|list| list.contains(content))
            }
            EventType::VARIABLE_AUTHORITY if name == "SbatLevel" && self.rules.sbat.is_some() => true,
            EventType::VARIABLE_AUTHORITY => self.rules.authorities.contains(content),
            _ => false,
        }
    }

    /// A text of grub, or of an old stub: a right command line, the command that hands it on, or a command on the list.
    fn names_text(&mut self, event: &Event) -> bool {
        if self.lines.contains_key(&event.number()) {
            return self.is_right_line(event);
        }
        let Ok(at) = self.boot.grub.binary_search_by_key(&event.number(), |line| line.event) else { return false };
        let Some(grub) = self.boot.grub.get(at).filter(|line| line.bound).map(|line| &line.value) else { return false };
        let handed_on = ["linux ", "linuxefi "].iter().find_map(|command| grub.text.strip_prefix(command));
        if grub.role == GrubRole::Command && handed_on.is_some_and(|text| self.right.have(text)) {
            return true;
        }
        let (rules, text) = (self.rules, grub.text.as_str());
        rules.grub_commands.these().iter().any(|p| p.matches(text, &rules.variables, &mut self.budget).is_some())
    }

    fn is_right_line(&self, event: &Event) -> bool {
        self.lines.get(&event.number()).copied().unwrap_or(false)
    }

    /// Whether a pattern of the policy matches. An exact text needs only the digest; a pattern needs the text.
    fn line(&mut self, measured: &MeasuredLine) -> bool {
        let rules = self.rules;
        for pattern in &rules.command_lines {
            let text = measured.line.as_deref().map(CommandLine::text);
            let variants = text.map(|text| [text.to_owned(), format!("BOOT_IMAGE={text}")]).into_iter().flatten();
            let found = match pattern.exact() {
                Some(text) => measured.is(text).then(Bindings::new),
                None => variants
                    .map(|text| pattern.matches(&text, &rules.variables, &mut self.budget))
                    .find_map(|bindings| bindings),
            };
            // All lines must agree on what the variables stand for.
            if let Some(found) = found
                && self.bindings.as_ref().is_none_or(|before| *before == found)
            {
                self.bindings = Some(found);
                self.given.extend(pattern.exact().filter(|_| measured.line.is_none()).map(CommandLine::parse));
                return true;
            }
        }
        let listed = on(&rules.command_line_digests, &measured.digest);
        self.unread |= listed && measured.line.is_none();
        listed
    }

    /// The text that all lines have which were measured.
    fn agreed(&self) -> Option<CommandLine> {
        let mut known =
            self.boot.command_lines.iter().filter_map(|measured| measured.line.as_deref()).chain(&self.given);
        let first = known.next()?;
        known.all(|other| without_image(other) == without_image(first)).then(|| first.clone())
    }

    fn unnamed_sections(&self) -> Vec<usize> {
        let rules = self.rules;
        let named = |section: &&Section| match section.name {
            ".cmdline" => self.lines.get(&section.event).copied().unwrap_or(false),
            _ if self.in_hand(&section.digest) => true,
            ".linux" => on(&rules.kernel, &section.digest),
            ".initrd" => on(&rules.initrd, &section.digest),
            name => rules.sections.get(name).is_some_and(|list| on(list, &section.digest)),
        };
        let unnamed = self.boot.stub.sections.iter().filter(|section| !named(section)).map(|section| section.event);
        unnamed.chain(self.boot.stub.unread.iter().copied()).collect()
    }

    fn in_hand(&self, digest: &PcrValue) -> bool {
        self.files.is_some_and(|files| files.knows(digest))
    }
}

/// As a loader and the kernel may both have it.
fn without_image(line: &CommandLine) -> &str {
    line.text().strip_prefix("BOOT_IMAGE=").unwrap_or(line.text())
}

/// The digest of what was started as the kernel.
pub(super) fn kernel(boot: &Boot) -> Option<PcrValue> {
    let section = boot.stub.sections.iter().find(|section| section.name == ".linux");
    section.map(|section| section.digest).or_else(|| boot.kernel().map(|kernel| kernel.digest))
}

/// Separators, and actions that each boot goes through: their digests are those of known bytes.
pub(super) fn is_common(event: &Event) -> bool {
    event.is_digest_of(&[&[0; 4]]) || ACTIONS.iter().any(|action| event.is_digest_of(&[action.as_bytes()]))
}

/// The same as a list, for a log with many events.
fn common(bank: Bank) -> Vec<PcrValue> {
    let actions = ACTIONS.iter().map(|action| action.as_bytes());
    actions.chain([&[0; 4][..]]).map(|measured| bank.hash(&[measured])).collect()
}

/// The variable that this event measured; they stand in the order of events.
fn of<'a>(event: &Event, variables: &'a [Seen<KeyVariable>]) -> Option<&'a Seen<KeyVariable>> {
    variables.get(variables.binary_search_by_key(&event.number(), |variable| variable.event).ok()?)
}

fn on(list: &[MeasuredDigest], digest: &PcrValue) -> bool {
    list.iter().any(|listed| listed.as_bytes() == digest.as_bytes())
}
