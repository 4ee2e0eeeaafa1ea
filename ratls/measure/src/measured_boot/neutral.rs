//! Does a command line bind the userspace to the dm-verity root hash that it names?
//!
//! A root hash on a command line is a request. Whether anything else can run is decided by the initrd and by every other
//! word: `systemd.verity=no` ignores the hash, `root=/dev/vda2` mounts something else, `init=/bin/sh` starts something else.
//! No list of bad words is complete, because initrds invent their own. So the question is asked the other way round: each
//! word is on the short list below, whose sources say that it changes nothing about what runs, or the policy names it, or
//! the line binds nothing.
//!
//! The kernel, systemd and shell loops split a line differently where it has quotes, backslashes or characters other than
//! printable ASCII. A line with any of them binds nothing.

use super::CommandLine;

/// What a command line says about the userspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerityBinding {
    /// It names no root hash under this key, or more than one.
    Absent,
    /// The hash, and nothing beside it that may change what runs.
    Bound { root: String },
    /// The hash, and words that may change what runs.
    Doubtful { root: String, words: Vec<String> },
}

/// The values with which a word is neutral.
enum NeutralValue {
    /// Any, or none.
    Any,
    /// None: the bare key.
    Bare,
    OneOf(&'static [&'static str]),
}

use NeutralValue::{Any, Bare, OneOf};

const YES: NeutralValue = OneOf(&["1", "yes", "true", "on"]);

/// Words that do not change what runs. `kernel-parameters.txt` is Documentation/admin-guide/kernel-parameters.txt of
/// Linux 6.12; the manual pages are those of systemd 257.
const NEUTRAL: [(&str, NeutralValue); 26] = [
    // Written by boot loaders for people; the kernel passes it on as a variable of the environment (bootparam(7)).
    ("BOOT_IMAGE", Any),
    // kernel-parameters.txt: where messages go, and which.
    ("console", Any),
    ("earlyprintk", Any),
    ("consoleblank", Any),
    ("quiet", Bare),
    ("loglevel", Any),
    ("printk.devkmsg", Any),
    ("printk.time", Any),
    ("log_buf_len", Any),
    // kernel-parameters.txt: "Mount root device read-only on boot".
    ("ro", Bare),
    // kernel-parameters.txt: when the machine stops or starts again after a panic.
    ("panic", Any),
    // kernel-parameters.txt: drivers, clocks and buffers.
    ("nomodeset", Bare),
    ("tsc", Any),
    ("swiotlb", Any),
    // kernel-parameters.txt: what IMA measures, and how; none of these policies appraises.
    ("ima_policy", OneOf(&["tcb", "critical_data"])),
    ("ima_hash", Any),
    ("ima_template", Any),
    // systemd.net-naming-scheme(7), kernel-parameters.txt: names of network interfaces.
    ("net.ifnames", Any),
    ("biosdevname", Any),
    // kernel-command-line(7): what the manager prints.
    ("systemd.show_status", Any),
    ("rd.systemd.show_status", Any),
    // systemd-veritysetup-generator(8): verity on, and where data and hashes are; the root hash covers both.
    ("systemd.verity", YES),
    ("rd.systemd.verity", YES),
    ("systemd.verity_root_data", Any),
    ("systemd.verity_root_hash", Any),
    // The device that an initrd hands to veritysetup(8) with the root hash.
    ("verity_disk", Any),
];

/// The device that systemd-veritysetup-generator(8) makes for `roothash=`: a neutral value of `root=` beside it alone.
const VERITY_ROOT_DEVICE: &str = "/dev/mapper/root";

/// Keys whose hash covers /usr alone (systemd-veritysetup-generator(8)).
pub const USR_KEYS: [&str; 1] = ["usrhash"];

impl CommandLine {
    /// Returns what the line says under this key, the parameter that carries the root hash. `named` are words that the
    /// policy's author calls neutral, each exactly as it is written.
    pub fn verity_binding(&self, key: &str, named: &[String]) -> VerityBinding {
        let hash = self.value(key).filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(root) = hash.map(str::to_ascii_lowercase) else { return VerityBinding::Absent };
        let words = self.doubtful_words(key, named);
        if words.is_empty() { VerityBinding::Bound { root } } else { VerityBinding::Doubtful { root, words } }
    }

    /// Returns the words, other than the root hash under `key`, that may change what runs.
    pub fn doubtful_words(&self, key: &str, named: &[String]) -> Vec<String> {
        let text = self.text().trim_end_matches(['\n', '\0']);
        let is_plain = |c: char| c == ' ' || (c.is_ascii_graphic() && !['"', '\'', '\\'].contains(&c));
        if let Some(odd) = text.chars().find(|c| !is_plain(*c)) {
            return vec![format!("the character {odd:?}")];
        }
        let mut rest = text.split(' ').filter(|word| !word.is_empty()).peekable();
        let mut doubtful: Vec<String> = Vec::new();
        // grub measures the image's own path in front of the line; the kernel gets it as `BOOT_IMAGE=`.
        rest.next_if(|word| word.starts_with(['/', '(']) && !word.contains('='));
        while let Some(word) = rest.next() {
            if word == "--" {
                // What follows becomes the arguments of the first program.
                doubtful.push(std::iter::once(word).chain(rest.by_ref()).collect::<Vec<_>>().join(" "));
            } else if !(named.iter().any(|name| name == word) || is_neutral(word, key)) {
                doubtful.push(word.to_owned());
            }
        }
        // The readers of a repeated key may disagree on which one counts, whatever its values are.
        doubtful.extend(self.repeated().into_iter().map(|key| format!("{key} more than once")));
        if USR_KEYS.contains(&key) {
            doubtful.push(format!("{key}, which covers /usr alone"));
        }
        doubtful
    }
}

fn is_neutral(word: &str, verity_key: &str) -> bool {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    if key == verity_key {
        return true; // its value was read, and occurs once
    }
    if key == "root" && verity_key == "roothash" {
        return value == Some(VERITY_ROOT_DEVICE);
    }
    // Keys are compared as they are written. The kernel takes dash for underscore, and systemd does not everywhere.
    NEUTRAL.iter().any(|(neutral, values)| {
        *neutral == key
            && match values {
                Any => true,
                Bare => value.is_none(),
                OneOf(words) => value.is_some_and(|value| words.contains(&value)),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn binding(more: &str) -> VerityBinding {
        CommandLine::parse(&format!("roothash={HASH} {more}")).verity_binding("roothash", &[])
    }

    fn is_bound(more: &str) -> bool {
        matches!(binding(more), VerityBinding::Bound { .. })
    }

    #[test]
    fn a_hash_among_neutral_words_binds() {
        for more in [
            "",
            "ro quiet console=ttyS0,115200n8 console=tty0",
            "BOOT_IMAGE=/vmlinuz-6.12 root=/dev/mapper/root ro",
            "ima_policy=tcb",
            "systemd.verity=yes systemd.verity_root_data=/dev/vda1 systemd.verity_root_hash=/dev/vda2",
            "net.ifnames=0 panic=-1 loglevel=4\n",
        ] {
            assert_eq!(binding(more), VerityBinding::Bound { root: HASH.to_owned() }, "{more}");
        }
    }

    #[test]
    fn a_word_that_changes_what_runs_binds_nothing_and_is_named() {
        for more in [
            "root=/dev/vda2",
            "rw",
            "init=/bin/sh",
            "rdinit=/bin/sh",
            "systemd.verity=no",
            "systemd.verity=0",
            "systemd.verity",
            "rd.systemd.verity=no",
            "systemd.verity_root_options=ignore-corruption",
            "rd.break",
            "rd.break=pre-mount",
            "break=premount",
            "systemd.mask=systemd-veritysetup@root.service",
            "rd.systemd.mask=x",
            "systemd.wants=x",
            "systemd.unit=rescue.target",
            "systemd.run=/bin/x",
            "systemd.volatile=overlay",
            "systemd.debug_shell",
            "overlayroot=tmpfs",
            "rootflags=subvol=x",
            "rootfstype=ext4",
            "mount.usr=/dev/vdb",
            "usrhash=0",
            "single",
            "1",
            "S",
            "initrd=evil.img",
            "quiet=yes",
            "ro=1",
            "never.heard.of=it",
            "Console=x",
            "module_blacklist=dm_verity",
            "dm_verity.require_signatures=0",
        ] {
            let VerityBinding::Doubtful { words, .. } = binding(more) else { panic!("{more}: {:?}", binding(more)) };
            assert!(words.iter().any(|word| word == more), "{more}: {words:?}");
        }
    }

    #[test]
    fn what_readers_split_differently_binds_nothing() {
        for more in [
            "console=\"a init=/bin/sh\"",
            "console='a'",
            "console=a\\ init=/bin/sh",
            "quiet\u{b}init=/bin/sh",
            "quiet\tinit=/bin/sh",
            "quiet\u{a0}init=/bin/sh",
            "console=ä",
            "console=a\0init=/bin/sh",
            "-- single",
            "ro -- console=x",
            "root=/dev/mapper/root root=/dev/mapper/root",
            "ro ro",
        ] {
            assert!(!is_bound(more), "{more:?}");
        }
    }

    #[test]
    fn the_path_of_the_image_is_neutral_in_front_alone() {
        for (text, bound) in [
            (format!("/vmlinuz-6.12 roothash={HASH} ro"), true),
            (format!("(hd0,gpt2)/vmlinuz roothash={HASH} ro"), true),
            (format!("roothash={HASH} /vmlinuz-6.12"), false),
            (format!("/x /y roothash={HASH}"), false),
            (format!("/x=y roothash={HASH}"), false),
        ] {
            let binding = CommandLine::parse(&text).verity_binding("roothash", &[]);
            assert_eq!(matches!(binding, VerityBinding::Bound { .. }), bound, "{text}");
        }
    }

    #[test]
    fn a_hash_for_usr_is_never_full_cover() {
        let line = CommandLine::parse(&format!("usrhash={HASH} root=/dev/vda2 rw"));
        assert!(matches!(line.verity_binding("usrhash", &[]), VerityBinding::Doubtful { .. }));
        let alone = CommandLine::parse(&format!("usrhash={HASH} ro"));
        assert!(matches!(alone.verity_binding("usrhash", &[]), VerityBinding::Doubtful { .. }));
        assert_eq!(alone.verity_binding("roothash", &[]), VerityBinding::Absent);
    }

    #[test]
    fn the_hash_is_one_sha_256_under_its_own_key() {
        for text in [
            "roothash=".to_owned(),
            "roothash".to_owned(),
            format!("roothash={HASH}00"),
            format!("roothash={}", &HASH[1..]),
            format!("roothash={}", HASH.replace('0', "g")),
            format!("roothash={HASH} roothash={HASH}"),
            format!("verity_roothash={HASH}"),
            format!("-- roothash={HASH}"),
        ] {
            assert_eq!(CommandLine::parse(&text).verity_binding("roothash", &[]), VerityBinding::Absent, "{text}");
        }
    }

    #[test]
    fn the_policy_may_name_a_word_as_it_is_written() {
        let line = CommandLine::parse(&format!("verity_roothash={HASH} boot=verity verity_disk=/dev/sdb"));
        let named = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            line.verity_binding("verity_roothash", &words)
        };
        assert!(matches!(named(&[]), VerityBinding::Doubtful { .. }));
        assert!(matches!(named(&["boot"]), VerityBinding::Doubtful { .. }));
        assert!(matches!(named(&["boot=other"]), VerityBinding::Doubtful { .. }));
        assert!(matches!(named(&["boot=verity"]), VerityBinding::Bound { .. }));
    }

    proptest! {
        /// Whatever else a line holds, one word outside the list keeps it from binding.
        #[test]
        fn a_line_with_any_word_outside_the_list_never_binds(
            word in "[!-~]{1,24}",
            before in prop::sample::subsequence(vec!["ro", "quiet", "console=ttyS0", "panic=1", "nomodeset"], 0..5),
        ) {
            let key = word.split('=').next().unwrap_or_default();
            let is_listed = NEUTRAL.iter().any(|(neutral, _)| *neutral == key) || key == "roothash" || key == "root";
            prop_assume!(!is_listed && !word.starts_with(['/', '(']));
            let text = format!("{} {word}", before.join(" "));
            prop_assert!(!is_bound(&text), "{text}");
            let front = format!("{word} {}", before.join(" "));
            prop_assert!(!is_bound(&front), "{front}");
        }
    }
}
