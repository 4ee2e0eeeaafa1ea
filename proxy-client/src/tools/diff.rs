//! `evident-client policy diff`: two guests, bundles or policies, by what differs and what that means.
//!
//! Values that differ with every connection or with every launch (nonce, time, instance) are not compared: they would hide what
//! matters.

use std::fmt::Write;

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
fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "measurement" | "measurements" => {
            "the firmware is another one, or under measured direct boot kernel, initrd or command line, or the number or type of vCPUs"
        }
        "chip" | "chip_ids" => "another machine",
        "id key" => "launched by another owner's key",
        "config" | "guest config" => "the guest's proxy is configured otherwise",
        "guest policy" => "the guest was launched with other rights for the host",
        _ => return None,
    })
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
                    writeln!(out, "  - {}", printable(value)).expect("writing to a string does not fail");
                }
                for value in new {
                    writeln!(out, "  + {}", printable(value)).expect("writing to a string does not fail");
                }
                if let Some(meaning) = meaning(name) {
                    writeln!(out, "    {meaning}").expect("writing to a string does not fail");
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
            json!({"name": name, "same": false, "gone": gone, "new": new, "meaning": meaning(name)})
        }
    };
    json!({ "changes": changes.iter().map(one).collect::<Vec<_>>() })
}

/// Names and texts of a peer must not write to the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
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
    fn what_only_one_side_has_is_a_difference() {
        let changes = facts(&[]).compare(&facts(&[("host_data", "1")]));
        assert_eq!(text(&changes), "host_data\n  + 1\n");
    }
}
