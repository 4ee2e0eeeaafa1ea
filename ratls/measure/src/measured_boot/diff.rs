//! What differs between two boots, in terms of meaning: `kernel 6.8.0-45 → 6.8.0-47; command line unchanged`.

use std::collections::BTreeSet;

use super::words::{file, holds, worth};
use super::{Boot, File};
use formats::text::Untrusted;

/// One thing that both boots have something to say about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: &'static str,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Unchanged,
    /// Both have it, and differ: in words, the first and the second.
    Changed(String),
}

impl Difference {
    pub fn is_change(&self) -> bool {
        self.change != Change::Unchanged
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.change {
            Change::Unchanged => write!(f, "{} unchanged", self.subject),
            Change::Changed(how) => write!(f, "{} {how}", self.subject),
        }
    }
}

/// Everything that can be compared, changed or not, from the firmware up. What neither has is left out.
pub fn diff(a: &Boot, b: &Boot) -> Vec<Difference> {
    let mut all = Vec::new();
    let firmware = |boot: &Boot| {
        let version = boot.firmware_version.as_ref().map(|v| format!("{:?}", worth(v)));
        let technology = boot.technology.as_ref().map(|t| format!("under {}", worth(t)));
        let words: Vec<_> = version.into_iter().chain(technology).collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    compare(&mut all, "firmware", firmware(a), firmware(b));
    let state = |boot: &Boot| boot.secure_boot.as_ref().map(|on| if on.value { "on" } else { "off" }.to_owned());
    compare(&mut all, "Secure Boot", state(a), state(b));
    keys(&mut all, a, b);
    compare(&mut all, "SBAT level", a.sbat_level.as_ref().map(worth), b.sbat_level.as_ref().map(worth));
    programs(&mut all, a, b);
    kernel(&mut all, a, b);
    files(&mut all, "initrd", &a.initrds(), &b.initrds());
    command_line(&mut all, a, b);
    sections(&mut all, a, b);
    grub(&mut all, a, b);
    files(&mut all, "MOK", &a.mok, &b.mok);
    let disk = |boot: &Boot| {
        boot.disk.as_ref().map(|disk| format!("{} with {} partitions", disk.value.disk, disk.value.partitions.len()))
    };
    compare(&mut all, "disk", disk(a), disk(b));
    all
}

/// The changes in a line, then what stayed: `kernel 6.8.0-45 → 6.8.0-47; command line unchanged; firmware unchanged`.
pub fn summary(differences: &[Difference]) -> String {
    let (changed, same): (Vec<&Difference>, Vec<_>) = differences.iter().partition(|d| d.is_change());
    changed.iter().chain(&same).map(|d| d.to_string()).collect::<Vec<_>>().join("; ")
}

fn push(all: &mut Vec<Difference>, subject: &'static str, change: Change) {
    all.push(Difference { subject, change });
}

fn compare(all: &mut Vec<Difference>, subject: &'static str, a: Option<String>, b: Option<String>) {
    match (a, b) {
        (None, None) => {}
        (Some(a), Some(b)) if a == b => push(all, subject, Change::Unchanged),
        (a, b) => {
            let word = |side: Option<String>| side.unwrap_or_else(|| "none".to_owned());
            push(all, subject, Change::Changed(format!("{} → {}", word(a), word(b))));
        }
    }
}

fn keys(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    let mut changes = Vec::new();
    for name in ["PK", "KEK", "db", "dbx"] {
        let of = |boot: &Boot| boot.keys.iter().find(|key| key.value.name == name).map(|key| key.value.keys.clone());
        match (of(a), of(b)) {
            (a, b) if a == b => {}
            (a, b) => {
                let word = |keys: Option<super::keys::Keys>| keys.as_ref().map_or("none".to_owned(), holds);
                changes.push(format!("{name}: {} → {}", word(a), word(b)));
            }
        }
    }
    list(all, "Secure Boot keys", changes, !a.keys.is_empty() || !b.keys.is_empty());
}

/// A list of changes, or nothing to compare.
fn list(all: &mut Vec<Difference>, subject: &'static str, changes: Vec<String>, there: bool) {
    match changes.is_empty() {
        true if there => push(all, subject, Change::Unchanged),
        true => {}
        false => push(all, subject, Change::Changed(format!("changed: {}", changes.join("; ")))),
    }
}

fn programs(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    let mut changes = Vec::new();
    for place in 0..a.images.len().max(b.images.len()) {
        let (one, other) = (a.images.get(place), b.images.get(place));
        if one.map(|image| image.digest) == other.map(|image| image.digest) {
            continue;
        }
        let word = |image: Option<&super::Image>| match image {
            Some(image) => format!(
                "{} {}",
                image.path.as_deref().map_or("an image".to_owned(), |text| Untrusted(text).clipped()),
                image.digest
            ),
            None => "none".to_owned(),
        };
        changes.push(format!("program {}: {} → {}", place + 1, word(one), word(other)));
    }
    list(all, "boot programs", changes, !a.images.is_empty());
}

/// By its version where its name tells one, else by its digest. The same version with another digest is no small thing.
fn kernel(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    let of = |boot: &Boot| {
        let version = boot.command_line().and_then(|line| line.kernel_version()).map(|text| Untrusted(text).clipped());
        (version, boot.kernel().map(|kernel| kernel.digest))
    };
    let change = match (of(a), of(b)) {
        ((_, None), (_, None)) => return,
        ((_, one), (_, other)) if one == other => Change::Unchanged,
        ((Some(one), _), (Some(other), _)) if one != other => Change::Changed(format!("{one} → {other}")),
        ((_, one), (version, other)) => {
            let word =
                |digest: Option<formats::evidence::tpm::PcrValue>| digest.map_or("none".to_owned(), |d| d.to_string());
            let version = version.map(|v| format!("{v} with another content: ")).unwrap_or_default();
            Change::Changed(format!("{version}{} → {}", word(one), word(other)))
        }
    };
    push(all, "kernel", change);
}

/// Without the name of the kernel's file, which the line about the kernel tells.
fn command_line(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    let change = match (a.command_line(), b.command_line()) {
        (None, None) => return,
        (Some(one), Some(other)) => {
            let (mut gone, mut new) = one.difference(other);
            if one.kernel_version().is_some() && other.kernel_version().is_some() {
                let first = |line: &super::command_line::CommandLine, words: &mut Vec<&str>| {
                    words.retain(|word| Some(*word) != line.text().split_ascii_whitespace().next());
                };
                first(one, &mut gone);
                first(other, &mut new);
            }
            match (gone.is_empty(), new.is_empty()) {
                (true, true) => Change::Unchanged,
                _ => {
                    let gone = gone.iter().map(|word| format!("-{}", Untrusted(word).clipped()));
                    let new = new.iter().map(|word| format!("+{}", Untrusted(word).clipped()));
                    Change::Changed(gone.chain(new).collect::<Vec<_>>().join(" "))
                }
            }
        }
        (None, Some(_)) => Change::Changed("not known → known".to_owned()),
        (Some(_), None) => Change::Changed("known → not known".to_owned()),
    };
    push(all, "command line", change);
}

fn sections(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    let of = |boot: &Boot, name| boot.stub.sections.iter().find(|s| s.name == name).map(|s| s.digest);
    let changed = super::stub::SECTIONS.iter().filter(|name| of(a, **name) != of(b, **name));
    let changes = changed.map(|name| (*name).to_owned()).collect();
    list(all, "unified kernel image", changes, !a.stub.sections.is_empty());
}

fn grub(all: &mut Vec<Difference>, a: &Boot, b: &Boot) {
    fn texts(boot: &Boot) -> Vec<&str> {
        boot.grub.iter().map(|line| line.value.text.as_str()).collect()
    }
    let (one, other) = (texts(a), texts(b));
    let only = |a: &[&str], b: &[&str]| {
        let known: BTreeSet<&&str> = b.iter().collect();
        a.iter().filter(|text| !known.contains(text)).count()
    };
    let change = match (only(&one, &other), only(&other, &one)) {
        _ if one.is_empty() && other.is_empty() => return,
        _ if one == other => Change::Unchanged,
        (0, 0) => Change::Changed("run in another order".to_owned()),
        (gone, new) => Change::Changed(format!("changed: {gone} no longer run, {new} new")),
    };
    push(all, "grub commands", change);
}

fn files(all: &mut Vec<Difference>, subject: &'static str, a: &[File], b: &[File]) {
    let digests = |files: &[File]| files.iter().map(|file| file.digest).collect::<Vec<_>>();
    if a.is_empty() && b.is_empty() {
        return;
    }
    if digests(a) == digests(b) {
        push(all, subject, Change::Unchanged);
        return;
    }
    let words = |files: &[File]| match files {
        [] => "none".to_owned(),
        files => files.iter().map(file).collect::<Vec<_>>().join(", "),
    };
    push(all, subject, Change::Changed(format!("{} → {}", words(a), words(b))));
}
