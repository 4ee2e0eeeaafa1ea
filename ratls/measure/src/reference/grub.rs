//! What PCR 4, 8 and 9 hold after shim and grub booted a kernel: from the files, and from the commands that grub ran.
//!
//! grub 2.06 and later with its module `tpm` (grub-core/commands/tpm.c, grub-core/lib/cmdline.c); shim measures what it is asked to
//! vouch for. The order within a register is that of the boot, so the author gives files in the order in which they are read. What a
//! script with conditions comes to hangs on the machine: [`commands`] takes scripts without any, and says where it stops.
//!
//! `tpm2_eventlog` is the second opinion in tests, over a log of Google's.

use super::authenticode::{PeError, PeImage};
use crate::measured_boot::LineSource;
use formats::evidence::tpm::{Bank, PcrValue};

/// What firmware measures into PCR 4 before the first program.
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];
/// Commands of grub that hand a command line on.
const LINUX: [&str; 2] = ["linux", "linuxefi"];

/// A boot in the making. Each call is something that happened, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrubBoot {
    bank: Bank,
    programs: Vec<PcrValue>,
    texts: Vec<PcrValue>,
    files: Vec<PcrValue>,
    command_line: Option<String>,
}

impl GrubBoot {
    pub fn new(bank: Bank) -> GrubBoot {
        GrubBoot { bank, programs: Vec::new(), texts: Vec::new(), files: Vec::new(), command_line: None }
    }

    /// shim, grub; and the kernel, where grub asks shim about it: a PE image that is started or vouched for.
    pub fn program(self, image: &[u8]) -> Result<GrubBoot, PeError> {
        let digest = PeImage::parse(image)?.digest(self.bank);
        Ok(self.program_by_digest(digest))
    }

    /// The same by its Authenticode hash, in the bank of this boot.
    pub fn program_by_digest(mut self, digest: PcrValue) -> GrubBoot {
        self.programs.push(digest);
        self
    }

    /// A command as grub ran it: words expanded, without quotes, one blank between them. `linux` hands its command line on, which is
    /// measured as well.
    pub fn command(mut self, text: &str) -> GrubBoot {
        self.texts.push(self.bank.hash(&[text.as_bytes()]));
        let handed_on = text.split_once(' ').filter(|(command, _)| LINUX.contains(command));
        if let Some((_, line)) = handed_on {
            self.texts.push(self.bank.hash(&[line.as_bytes()]));
            self.command_line = Some(line.to_owned());
        }
        self
    }

    /// A file that grub read: its configuration, a module or list of them, the kernel, an initrd.
    pub fn file(self, content: &[u8]) -> GrubBoot {
        let digest = self.bank.hash(&[content]);
        self.file_by_digest(digest)
    }

    /// The same by the hash of its content, in the bank of this boot.
    pub fn file_by_digest(mut self, digest: PcrValue) -> GrubBoot {
        self.files.push(digest);
        self
    }

    /// The kernel's EFI stub took over, and measured the command line that it found (Linux 6.1 and later): the one that grub handed on,
    /// in UTF-16 without a NUL, with what grub puts before it.
    pub fn stub_took_options(mut self) -> GrubBoot {
        let line = self.command_line.clone().unwrap_or_default();
        let options: Vec<u8> = format!("BOOT_IMAGE={line}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.files.push(self.bank.hash(&[&options]));
        self
    }

    /// The last command line that was handed on.
    pub fn command_line(&self) -> Option<(&str, LineSource)> {
        self.command_line.as_deref().map(|line| (line, LineSource::Grub))
    }

    pub fn pcr4(&self) -> PcrValue {
        let before = [CALLING, SEPARATOR].map(|bytes| self.bank.hash(&[bytes]));
        self.extended(before.iter().chain(&self.programs))
    }

    pub fn pcr8(&self) -> PcrValue {
        self.extended(self.texts.iter())
    }

    pub fn pcr9(&self) -> PcrValue {
        self.extended(self.files.iter())
    }

    fn extended<'a>(&self, digests: impl Iterator<Item = &'a PcrValue>) -> PcrValue {
        digests.fold(PcrValue::filled(self.bank, 0), |value, digest| value.extended(digest.as_bytes()))
    }
}

/// Where a script cannot be foretold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ScriptError {
    pub line: usize,
    pub why: &'static str,
}

/// The commands that grub runs of a script without conditions, as it measures them. `variables` are those that have a value when it
/// begins (`root`, `prefix`); what the script sets counts from there on.
pub fn commands(script: &str, variables: &[(&str, &str)]) -> Result<Vec<String>, ScriptError> {
    let mut known: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut all = Vec::new();
    for (line, text) in (1..).zip(script.lines()) {
        let refused = |why| ScriptError { line, why };
        let words = words(text, &known).map_err(refused)?;
        let Some(first) = words.first() else { continue };
        if CONTROL.contains(&first.as_str()) {
            return Err(refused("whether this is run hangs on the machine"));
        }
        let set = match &words[..] {
            [command, assignment] if command == "set" => Some(assignment),
            [assignment] => Some(assignment),
            _ => None,
        };
        if let Some((name, value)) = set.and_then(|assignment| assignment.split_once('=')) {
            known.retain(|(known, _)| known != name);
            known.push((name.to_owned(), value.to_owned()));
        }
        all.push(words.join(" "));
    }
    Ok(all)
}

const CONTROL: [&str; 14] = [
    "if",
    "elif",
    "else",
    "fi",
    "for",
    "while",
    "until",
    "do",
    "done",
    "function",
    "menuentry",
    "submenu",
    "case",
    "return",
];

/// Words of a line: quotes taken off, variables put in.
fn words(line: &str, known: &[(String, String)]) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut started) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\'' if !quoted => {
                started = true;
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a quote does not end on its line"),
                    }
                }
            }
            '"' => {
                quoted = !quoted;
                started = true;
            }
            '\\' => match chars.next() {
                Some(c) => {
                    word.push(c);
                    started = true;
                }
                None => return Err("the command goes on in the next line"),
            },
            '$' => {
                let name = variable(&mut chars).ok_or("a variable that this version does not read")?;
                let value = known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
                let value = value.ok_or("a variable whose value is not known here")?;
                if !quoted && value.contains(char::is_whitespace) {
                    return Err("a variable that becomes several words");
                }
                word.push_str(value);
                started = true;
            }
            '#' if !started && !quoted => break,
            ';' | '{' | '}' | '|' | '&' | '<' | '>' if !quoted => return Err("more than one simple command"),
            c if c.is_whitespace() && !quoted => {
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
    if quoted {
        return Err("a quote does not end on its line");
    }
    if started {
        words.push(word);
    }
    Ok(words)
}

/// `name` or `{name}` behind the dollar.
fn variable(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let ended = !braced || chars.next_if_eq(&'}').is_some();
    (ended && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Ubuntu's image has in its EFI partition, and a configuration that boots one kernel.
    #[test]
    fn a_script_without_conditions_is_foretold() {
        let script = "search.fs_uuid 94f07b36-6512 root\nset prefix=($root)'/grub'\n\n# a comment\n\tset k=/vmlinuz-6.8\n\
                      linux $k root=\"LABEL=a b\" ro quiet\ninitrd ${k}.img\nboot\n";
        let all = commands(script, &[("root", "hd0,gpt16")]).unwrap();
        assert_eq!(
            all,
            [
                "search.fs_uuid 94f07b36-6512 root",
                "set prefix=(hd0,gpt16)/grub",
                "set k=/vmlinuz-6.8",
                "linux /vmlinuz-6.8 root=LABEL=a b ro quiet",
                "initrd /vmlinuz-6.8.img",
                "boot"
            ]
        );
    }

    #[test]
    fn a_script_that_hangs_on_the_machine_is_not() {
        for (script, line, why) in [
            ("set a=1\nif [ x ]; then\n", 2, "more than one simple command"),
            ("else\n", 1, "whether this is run hangs on the machine"),
            ("menuentry 'x' {\n", 1, "more than one simple command"),
            ("linux $kernel\n", 1, "a variable whose value is not known here"),
            ("echo $?\n", 1, "a variable that this version does not read"),
            ("linux /a \\\n  ro\n", 1, "the command goes on in the next line"),
            ("echo 'x\n", 1, "a quote does not end on its line"),
            ("set a='b c'\necho $a\n", 2, "a variable that becomes several words"),
        ] {
            assert_eq!(commands(script, &[]).unwrap_err(), ScriptError { line, why }, "{script}");
        }
    }

    #[test]
    fn each_command_goes_into_pcr_8_and_linux_twice() {
        let bank = Bank::Sha256;
        let boot = GrubBoot::new(bank).command("set timeout=0").command("linux /k ro").command("boot");
        let wanted = ["set timeout=0", "linux /k ro", "/k ro", "boot"];
        let wanted = wanted
            .iter()
            .fold(PcrValue::filled(bank, 0), |value, text| value.extended(bank.hash(&[text.as_bytes()]).as_bytes()));
        assert_eq!(boot.pcr8(), wanted);
        assert_eq!(boot.command_line(), Some(("/k ro", LineSource::Grub)));
    }
}
