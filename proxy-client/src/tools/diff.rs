//! `evident-client policy diff`: two guests, bundles or policies, by what differs and what that means.
//!
//! Values that differ with every connection or with every launch (nonce, time, instance) are not compared: they would hide what
//! matters.

use std::fmt::Write;

use ratls::measured_boot::command_line::CommandLine;
use ratls::measured_boot::registers::meaning as meaning_of_register;
use ratls::text::Untrusted;
use serde_json::{Value, json};

/// One side: named values, in the order in which they are shown. A value may be a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(Vec<(String, Vec<String>)>);

/// What became of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Same,
    /// Values that went and values that came.
    Differs {
        gone: Vec<String>,
        new: Vec<String>,
    },
}

impl Facts {
    pub fn add(&mut self, name: impl Into<String>, value: impl ToString) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.to_string()),
            None => self.0.push((name, vec![value.to_string()])),
        }
    }

    fn of(&self, name: &str) -> &[String] {
        self.0.iter().find(|(known, _)| known == name).map_or(&[], |(_, values)| values)
    }

    fn names<'a>(&'a self, other: &'a Facts) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        for (name, _) in &other.0 {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Everything that either side has, in order.
    pub fn compare(&self, new: &Facts) -> Vec<(String, Change)> {
        let change = |name: &str| {
            let (before, after) = (self.of(name), new.of(name));
            let without = |all: &[String], others: &[String]| -> Vec<String> {
                all.iter().filter(|value| !others.contains(value)).cloned().collect()
            };
            match (without(before, after), without(after, before)) {
                (gone, new) if gone.is_empty() && new.is_empty() => Change::Same,
                (gone, new) => Change::Differs { gone, new },
            }
        };
        self.names(new).into_iter().map(|name| (name.to_owned(), change(name))).collect()
    }
}

/// What a difference under this name comes down to, for those names where it is not plain.
fn meaning(name: &str, gone: &[String], new: &[String]) -> Option<String> {
    let said = match name {
        "measurement" | "measurements" | "snp.measurements" | "reference.measurements" => {
            "the firmware is another one, or under measured direct boot kernel, initrd or command line, or the number or type of vCPUs"
        }
        "chip" | "chip_ids" | "identity.chip_ids" => "another machine",
        "id key" => "launched by another owner's key",
        "config" | "guest.config" => "the guest's proxy is configured otherwise",
        "guest policy" => "the guest was launched with other rights for the host",
        "event_log.kernel_command_line" => return command_lines(gone, new),
        "event_log.kernel" => "another kernel, or another build of it",
        "event_log.initrd" => "another initrd",
        "event_log.boot_programs" => "another shim, boot loader or unified kernel image",
        "event_log.files" => "other files that the boot loader reads",
        "event_log.authorities" => "somebody else vouches for what is started",
        "event_log.mok" => "other keys that the machine's owner added",
        "event_log.disk" => "another partition table",
        "event_log.secure_boot" => "whether unsigned programs may start",
        "event_log.ignore_registers" => "other registers are not looked at",
        _ if name.starts_with("event_log.secure_boot_keys.") => "other keys or revocations of Secure Boot",
        _ if name.starts_with("event_log.sbat.") => "shim refuses other old versions of what it starts",
        _ if name.starts_with("event_log.uki.") => "another part of the unified kernel image",
        _ if name.starts_with("event_log.ima.files.") => "another content of this file",
        _ => return register(name),
    };
    Some(said.to_owned())
}

/// `tpm.pcrs.sha256.7`
fn register(name: &str) -> Option<String> {
    let (_, pcr) = name.strip_prefix("tpm.pcrs.")?.split_once('.')?;
    Some(meaning_of_register(pcr.parse().ok()?)?.holds.to_owned())
}

/// Where one line takes the place of another: the version of the kernel, and the words that went and came.
fn command_lines(gone: &[String], new: &[String]) -> Option<String> {
    let ([gone], [new]) = (gone, new) else { return None };
    let (gone, new) = (CommandLine::parse(gone), CommandLine::parse(new));
    let (mut without, mut with) = gone.difference(&new);
    let mut said = Vec::new();
    if let (Some(a), Some(b)) = (gone.kernel_version(), new.kernel_version()) {
        if a != b {
            said.push(format!("kernel {a} → {b}"));
        }
        without.retain(|word| Some(*word) != gone.text().split_ascii_whitespace().next());
        with.retain(|word| Some(*word) != new.text().split_ascii_whitespace().next());
    }
    let words = without.iter().map(|word| format!("-{word}")).chain(with.iter().map(|word| format!("+{word}")));
    let words = words.collect::<Vec<_>>().join(" ");
    said.push(if words.is_empty() { "the same words otherwise".to_owned() } else { words });
    Some(said.join("; "))
}

/// For people: what differs first, then in one line what does not.
pub fn text(changes: &[(String, Change)]) -> String {
    let mut out = String::new();
    let mut same = Vec::new();
    for (name, change) in changes {
        match change {
            Change::Same => same.push(name.as_str()),
            Change::Differs { gone, new } => {
                writeln!(out, "{name}").expect("writing to a string does not fail");
                for value in gone {
                    writeln!(out, "  - {}", Untrusted(value)).expect("writing to a string does not fail");
                }
                for value in new {
                    writeln!(out, "  + {}", Untrusted(value)).expect("writing to a string does not fail");
                }
                if let Some(meaning) = meaning(name, gone, new) {
                    writeln!(out, "    {}", Untrusted(&meaning)).expect("writing to a string does not fail");
                }
            }
        }
    }
    if out.is_empty() {
        out.push_str("no difference\n");
    }
    if !same.is_empty() {
        writeln!(out, "unchanged: {}", same.join(", ")).expect("writing to a string does not fail");
    }
    out
}

pub fn to_json(changes: &[(String, Change)]) -> Value {
    let one = |(name, change): &(String, Change)| match change {
        Change::Same => json!({"name": name, "same": true}),
        Change::Differs { gone, new } => {
            json!({"name": name, "same": false, "gone": gone, "new": new, "meaning": meaning(name, gone, new)})
        }
    };
    json!({ "changes": changes.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(items: &[(&str, &str)]) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in items {
            facts.add(*name, *value);
        }
        facts
    }

    #[test]
    fn equal_sides_differ_in_nothing() {
        let one = facts(&[("measurement", "aa"), ("profile", "snp")]);
        assert_eq!(text(&one.compare(&one)), "no difference\nunchanged: measurement, profile\n");
    }

    #[test]
    fn a_difference_is_told_with_both_values_and_what_it_means() {
        let (old, new) = (facts(&[("chip", "aa"), ("vmpl", "0")]), facts(&[("chip", "bb"), ("vmpl", "0")]));
        assert_eq!(text(&old.compare(&new)), "chip\n  - aa\n  + bb\n    another machine\nunchanged: vmpl\n");
    }

    #[test]
    fn lists_are_compared_by_what_went_and_what_came() {
        let old = facts(&[("measurements", "a"), ("measurements", "b")]);
        let new = facts(&[("measurements", "b"), ("measurements", "c")]);
        let wanted = Change::Differs { gone: vec!["a".to_owned()], new: vec!["c".to_owned()] };
        assert_eq!(old.compare(&new), [("measurements".to_owned(), wanted)]);
    }

    #[test]
    fn another_kernel_in_the_command_line_is_told_as_that() {
        let line = |version: &str, rest: &str| format!("/vmlinuz-{version} root=LABEL=root {rest}");
        let of = |version, rest| facts(&[("event_log.kernel_command_line", &line(version, rest)[..])]);
        let told = text(&of("6.8.0-45", "ro").compare(&of("6.8.0-47", "ro")));
        assert!(told.contains("    kernel 6.8.0-45 → 6.8.0-47; the same words otherwise\n"), "{told}");
        let told = text(&of("6.8.0-45", "ro quiet").compare(&of("6.8.0-45", "ro init=/bin/sh")));
        assert!(told.contains("    -quiet +init=/bin/sh\n"), "{told}");
        let told = text(&facts(&[("tpm.pcrs.sha256.7", "aa")]).compare(&facts(&[("tpm.pcrs.sha256.7", "bb")])));
        assert!(told.contains("Secure Boot: state, keys, who vouched"), "{told}");
    }

    #[test]
    fn what_only_one_side_has_is_a_difference() {
        let changes = facts(&[]).compare(&facts(&[("host_data", "1")]));
        assert_eq!(text(&changes), "host_data\n  + 1\n");
    }
}
