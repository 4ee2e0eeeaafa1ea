//! A command line that is off by a little: which small change of the one in hand gives the digest that was seen.
//!
//! A digest tells nothing of what went into it. But slips are few: a blank at the end, a word more or less, a character. It only ever
//! explains a refusal, for people who ask, and never accepts.

use super::cover::Enforcement;
use super::hashes::{Ingredient, KernelHashes, MAX_CMDLINE_BYTES};
use super::recipe::OvmfLaunch;
use super::search::{Difference, Machines};
use formats::evidence::snp::Measurement;

/// Launches that are tried, over all machines of the reference: a second or two.
const MAX_TRIED: usize = 60_000;
/// Characters that a slip puts in. Others are rare in a command line.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF=/.,-_: \"";

impl OvmfLaunch {
    /// The command line that would give `seen` on one of the machines, where one that is a slip away from `line` does.
    pub fn explain_line(&self, machines: &Machines, line: &str, seen: &Measurement) -> Option<Difference> {
        let hashes = *self.kernel()?;
        let each = MAX_TRIED / machines.each().count().max(1);
        let gives = |line: &String| {
            let kernel = KernelHashes { cmdline: Ingredient::of_cmdline(line), ..hashes };
            let launch = OvmfLaunch::new(self.firmware().clone(), Some(kernel));
            launch.is_ok_and(|launch| launch.find(machines, Enforcement::NotClaimed, seen).is_some())
        };
        let mut tried = slips(line).take(each);
        tried.find(gives).map(Difference::CommandLine)
    }
}

/// Lines that are a slip away, the likelier ones first.
pub fn slips(line: &str) -> impl Iterator<Item = String> + '_ {
    let words: Vec<&str> = line.split(' ').collect();
    let ends = ["\n", " ", " quiet", " initrd=initrd"].map(|end| format!("{line}{end}"));
    let tidied = [line.trim().to_owned(), line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")];
    let without = (0..words.len()).map({
        let words = words.clone();
        move |at| {
            words.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
        }
    });
    let swapped = (1..words.len()).map(move |at| {
        let mut words = words.clone();
        words.swap(at - 1, at);
        words.join(" ")
    });
    let usual = ends.into_iter().chain(tidied).chain(without).chain(swapped);
    let places =
        move || line.char_indices().filter_map(|(at, c)| Some((line.get(..at)?, c, line.get(at + c.len_utf8()..)?)));
    let deleted = places().map(|(before, _, after)| format!("{before}{after}"));
    let replaced = places().flat_map(|(before, was, after)| {
        ALPHABET.chars().filter(move |c| *c != was).map(move |c| format!("{before}{c}{after}"))
    });
    let ends = std::iter::once((line, ""));
    let inserted = places().map(|(before, ..)| (before, line.get(before.len()..).unwrap_or_default())).chain(ends);
    let inserted = inserted.flat_map(|(before, after)| ALPHABET.chars().map(move |c| format!("{before}{c}{after}")));
    let all = usual.chain(deleted).chain(replaced).chain(inserted);
    all.filter(move |slip| slip != line && slip.len() <= MAX_CMDLINE_BYTES && !slip.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_one_character_or_one_word() {
        let all: Vec<String> = slips("root=/dev/vda1 ro").collect();
        for line in [
            "root=/dev/vda1 ro ",
            "root=/dev/vda1 ro\n",
            "root=/dev/vda1",
            "ro root=/dev/vda1",
            "root=/dev/vda2 ro",
            "root=/dev/vda ro",
            "root=/dev/vda1 rom",
            "xroot=/dev/vda1 ro",
        ] {
            assert!(all.iter().any(|slip| slip == line), "{line}");
        }
        assert!(!all.iter().any(|slip| slip == "root=/dev/vda1 ro" || slip == "root=/dev/vdb2 ro"));
        assert!(slips("").count() > 0 && slips("é").all(|slip| slip != "é"));
    }
}
