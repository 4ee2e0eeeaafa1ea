//! The file that is written: lines, and questions whose answers are commented out.
//!
//! What a guest says goes into it as a quoted value or into a comment. Neither may end its line, or the guest would write the policy.

use std::fmt::Write;

use ratls::text::Untrusted;

#[derive(Default)]
pub(super) struct Draft {
    text: String,
    questions: usize,
}

impl Draft {
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        writeln!(self.text, "{}", line.as_ref()).expect("writing to a string does not fail");
    }

    /// A question and the answers to choose from, each commented out.
    pub(super) fn question(&mut self, question: &str, answers: &[String]) {
        self.questions += 1;
        let number = self.questions;
        self.line(format!("# QUESTION {number}: {question}"));
        for answer in answers {
            self.line(format!("# {answer}"));
        }
    }

    /// `key = ["…"]`, with what each entry is called behind it; nothing where there are none.
    pub(super) fn list(&mut self, key: &str, entries: impl IntoIterator<Item = (String, Option<String>)>) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() {
            return;
        }
        self.line(format!("{key} = ["));
        for (value, name) in entries {
            let name = name.map(|name| format!("   # {}", Untrusted(&name).clipped())).unwrap_or_default();
            self.line(format!("    {},{name}", quoted(&value)));
        }
        self.line("]");
    }

    /// Everything, with the number of questions where it is asked for.
    pub(super) fn finish(self) -> String {
        // Once: what a guest is called may hold the same words.
        self.text.replacen("{QUESTIONS}", &self.questions.to_string(), 1)
    }
}

/// As a string of TOML, on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if !c.is_ascii() || c.is_ascii_control() => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("writing to a string does not fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_itself_and_on_its_line() {
        for text in ["", "a", "a\nidentity = \"any\"", "\\\"", "\u{1b}[31m\u{202e}é😀\t\r\u{7f}\0", "'''\"\"\""] {
            let line = format!("key = {}", quoted(text));
            assert!(!line.contains('\n') && line.is_ascii(), "{line}");
            let table: toml::Table = line.parse().unwrap();
            assert_eq!(table["key"].as_str(), Some(text));
        }
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        let mut draft = Draft::default();
        draft.list("kernel", [("00".to_owned(), Some("a\n]\nidentity = \"any\"\r".to_owned()))]);
        assert_eq!(draft.finish(), "kernel = [\n    \"00\",   # a\\n]\\nidentity = \"any\"\\r\n]\n");
    }
}
