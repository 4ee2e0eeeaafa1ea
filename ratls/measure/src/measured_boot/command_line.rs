//! A kernel command line, read as the kernel does: words, quotes, and which of them decide what is trusted.
//!
//! Programs differ in what a repeated key means (the kernel, an initrd's shell loop, systemd). So a repeated key that matters is
//! shown as what it is: a line on whose meaning its readers may disagree.

use std::collections::BTreeMap;

/// A command line as it was measured, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    text: String,
    words: Vec<Word>,
}

/// `key` or `key=value`, quotes taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub key: String,
    pub value: Option<String>,
}

/// A word that lets somebody in, or takes a protection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakness {
    pub word: &'static str,
    pub why: &'static str,
}

/// Keys that must not be given twice, because what protects the system hangs on them.
const DECISIVE: [&str; 30] = [
    "root",
    "ro",
    "rw",
    "rootflags",
    "rootfstype",
    "init",
    "rdinit",
    "boot",
    "roothash",
    "usrhash",
    "verity_disk",
    "verity_roothash",
    "systemd.verity",
    "systemd.verity_root_data",
    "systemd.verity_root_hash",
    "systemd.verity_root_options",
    "dm_mod.create",
    "ima_policy",
    "ima_appraise",
    "ima_template",
    "ima_hash",
    "lockdown",
    "module.sig_enforce",
    "selinux",
    "enforcing",
    "apparmor",
    "security",
    "lsm",
    "mem_encrypt",
    "systemd.unit",
];

/// `None` for the value: any value, or none.
const WEAKENING: [(&str, Option<&str>, Weakness); 19] = [
    weak("init", Some("/bin/sh"), "a shell without a password is the first program"),
    weak("init", Some("/bin/bash"), "a shell without a password is the first program"),
    weak("rdinit", Some("/bin/sh"), "a shell without a password is the first program"),
    weak("rd.break", None, "the initrd stops at a shell"),
    weak("rd.shell", None, "the initrd may give a shell"),
    weak("break", None, "the initrd stops at a shell"),
    weak("systemd.debug_shell", None, "a root shell without a password"),
    weak("systemd.unit", Some("rescue.target"), "rescue mode"),
    weak("systemd.unit", Some("emergency.target"), "emergency mode"),
    weak("emergency", None, "emergency mode"),
    weak("rescue", None, "rescue mode"),
    weak("single", None, "single-user mode"),
    weak("rw", None, "the root file system is mounted writable"),
    weak("module.sig_enforce", Some("0"), "modules need no signature"),
    weak("lockdown", Some("none"), "root may change the running kernel"),
    weak("mitigations", Some("off"), "mitigations of processor faults are off"),
    weak("mem_encrypt", Some("off"), "memory encryption is off"),
    weak("systemd.setenv", None, "environment of the first program from the command line"),
    weak("kgdboc", None, "a kernel debugger on a console"),
];

const fn weak(
    key: &'static str,
    value: Option<&'static str>,
    why: &'static str,
) -> (&'static str, Option<&'static str>, Weakness) {
    (key, value, Weakness { word: key, why })
}

impl CommandLine {
    pub fn parse(text: &str) -> CommandLine {
        let mut words = Vec::new();
        for word in split(text) {
            if word == "--" {
                // What follows is for the first program.
                break;
            }
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            // The kernel takes dash and underscore in a key for the same.
            words.push(Word { key: key.replace('-', "_"), value });
        }
        CommandLine { text: text.to_owned(), words }
    }

    /// As it was measured.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The value of a key that is given once. `None` where it is absent, without a value, or repeated.
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut found = self.words.iter().filter(|word| word.key == key);
        let first = found.next()?;
        match found.next() {
            None => first.value.as_deref(),
            Some(_) => None,
        }
    }

    /// Keys that decide what is trusted and are given more than once.
    pub fn repeated(&self) -> Vec<&'static str> {
        let count = |key: &str| self.words.iter().filter(|word| word.key == key).count();
        DECISIVE.into_iter().filter(|key| count(key) > 1).collect()
    }

    /// Words that let somebody in, or take a protection away.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        let has = |key: &str, value: Option<&str>| {
            self.words.iter().any(|word| word.key == key && value.is_none_or(|v| word.value.as_deref() == Some(v)))
        };
        WEAKENING.iter().filter(|(key, value, _)| has(key, *value)).map(|(_, _, weakness)| *weakness).collect()
    }

    /// The parameter that carries a root hash of dm-verity, and the hash in lower case. It is a request to the initrd:
    /// whether it is enforced, [`CommandLine::verity_binding`] looks at.
    pub fn verity_root_hash(&self) -> Option<(&'static str, String)> {
        let keys = ["roothash", "verity_roothash", "usrhash"];
        let (key, hash) = keys.into_iter().find_map(|key| Some((key, self.value(key)?)))?;
        let is_hash = hash.len() >= 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then(|| (key, hash.to_ascii_lowercase()))
    }

    /// The version in the name of the image that a loader put first: `BOOT_IMAGE=/vmlinuz-6.8.0-45-generic`.
    pub fn kernel_version(&self) -> Option<&str> {
        let first = self.words.first()?;
        let path = match (first.key.as_str(), &first.value) {
            ("BOOT_IMAGE", Some(value)) => value,
            // Taken from the text: a key has lost its dashes.
            (_, None) => self.text.split_ascii_whitespace().next()?,
            _ => return None,
        };
        let file = path.rsplit('/').next()?;
        ["vmlinuz-", "bzImage-", "linux-", "vmlinux-"].iter().find_map(|prefix| file.strip_prefix(prefix))
    }

    /// The words that only one of two lines has, with how often.
    pub fn difference<'a>(&'a self, other: &'a CommandLine) -> (Vec<&'a str>, Vec<&'a str>) {
        let count = |line: &'a CommandLine| {
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for word in line.text.split_ascii_whitespace() {
                *counts.entry(word).or_default() += 1;
            }
            counts
        };
        let (mine, theirs) = (count(self), count(other));
        let only = |a: &BTreeMap<&'a str, i64>, b: &BTreeMap<&'a str, i64>| {
            a.iter().filter(|(word, n)| b.get(*word).unwrap_or(&0) < *n).map(|(word, _)| *word).collect()
        };
        (only(&mine, &theirs), only(&theirs, &mine))
    }
}

/// next_arg() of lib/cmdline.c: blanks separate, double quotes hold together and are dropped around a value or a word.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut started) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            c if c.is_ascii_whitespace() && !quoted => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            c => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_kernel() {
        let line = CommandLine::parse(" root=LABEL=x  ro dyndbg=\"file a +p\" rd.break -- init=/bin/sh");
        let words: Vec<_> = line.words().iter().map(|w| (w.key.as_str(), w.value.as_deref())).collect();
        let wanted = [("root", Some("LABEL=x")), ("ro", None), ("dyndbg", Some("file a +p")), ("rd.break", None)];
        assert_eq!(words, wanted);
        assert_eq!(line.value("root"), Some("LABEL=x"));
        assert_eq!(line.weaknesses().iter().map(|w| w.word).collect::<Vec<_>>(), ["rd.break"]);
    }

    #[test]
    fn a_decisive_key_given_twice_has_no_value() {
        let hash = "AB".repeat(32);
        let line = CommandLine::parse(&format!("roothash={hash} console=a console=b"));
        assert_eq!((line.repeated(), line.verity_root_hash()), (vec![], Some(("roothash", hash.to_lowercase()))));
        let twice = CommandLine::parse(&format!("roothash={hash} roothash={}", "0".repeat(64)));
        assert_eq!((twice.repeated(), twice.verity_root_hash()), (vec!["roothash"], None));
        assert_eq!(CommandLine::parse("ima-policy=tcb ima_policy=x").repeated(), ["ima_policy"]);
    }

    #[test]
    fn the_version_is_in_the_name_of_the_image() {
        for (text, version) in [
            ("BOOT_IMAGE=/vmlinuz-6.8.0-45-generic ro", Some("6.8.0-45-generic")),
            ("(hd0,gpt2)/boot/vmlinuz-6.1.0 ro", Some("6.1.0")),
            ("root=/dev/vmlinuz-1 ro", None),
            ("", None),
        ] {
            assert_eq!(CommandLine::parse(text).kernel_version(), version, "{text}");
        }
    }
}
