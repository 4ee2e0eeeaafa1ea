//! The TOML of a policy file, read key by key with its place kept.
//!
//! A thin reader over `toml`'s spanned tables instead of a serde derive: semantic errors (a zero digest in the third entry of a
//! list) must name line and key just as syntax errors do. Contract: a key that nobody reads is an error, an empty list is an
//! error, the first problem ends the read. It knows no policy.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{PolicyError, PolicyProblem};
use formats::digest::HexError;
use formats::text::{Untrusted, deceives};

/// Entries in any one list. A policy for more guests than this is better cut into several files.
const MAX_ENTRIES: usize = 1024;

/// Where a text came from, to say so in errors.
#[derive(Clone, Copy)]
pub(super) struct Source<'d> {
    pub(super) file: &'d str,
    pub(super) text: &'d str,
}

impl Source<'_> {
    pub(super) fn error(&self, offset: usize, key: &str, problem: PolicyProblem) -> PolicyError {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        PolicyError { file: self.file.to_owned(), line, key: key.to_owned(), problem }
    }
}

/// One table of the file. A clone has the same keys still to be read.
#[derive(Clone)]
pub(super) struct Section<'d> {
    source: Source<'d>,
    path: String,
    offset: usize,
    table: &'d DeTable<'d>,
    unread: BTreeSet<&'d str>,
}

impl<'d> Section<'d> {
    /// Refuses a key that is not in `known` at once, so that a typo is reported as one and not as the key it left missing.
    pub(super) fn open(
        source: Source<'d>,
        path: String,
        offset: usize,
        table: &'d DeTable<'d>,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let mut unread = BTreeSet::new();
        for key in table.keys() {
            let name: &'d str = key.get_ref();
            if !known.contains(&name) {
                let problem = PolicyProblem::UnknownKey { known: known.join(", ") };
                return Err(source.error(key.span().start, &join(&path, &shown(name)), problem));
            }
            unread.insert(name);
        }
        Ok(Section { source, path, offset, table, unread })
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<Entry<'d>> {
        let (key, value) = self.table.get_key_value(name)?;
        self.unread.remove(name);
        let offset = match value.get_ref() {
            // A table's own span starts at its header or brace, which may be far from an implied key.
            DeValue::Table(_) => key.span().start,
            _ => value.span().start,
        };
        Some(Entry { source: self.source, path: join(&self.path, name), offset, value })
    }

    pub(super) fn required(&mut self, name: &str, wanted: &'static str) -> Result<Entry<'d>, PolicyError> {
        self.optional(name).ok_or_else(|| self.error_at(name, PolicyProblem::Missing { wanted }))
    }

    /// An error of the table, named by a key that may be absent.
    pub(super) fn error_at(&self, name: &str, problem: PolicyProblem) -> PolicyError {
        self.source.error(self.offset, &join(&self.path, name), problem)
    }

    /// An error at `table.key`, or at the table where the key is elsewhere in it.
    pub(super) fn error_inside(&self, table: &str, key: &str, problem: PolicyProblem) -> PolicyError {
        let inner = self.table.get(table);
        let value = inner.and_then(|value| value.get_ref().as_table()).and_then(|table| table.get(key));
        let offset = value.or(inner).map_or(self.offset, |value| value.span().start);
        self.source.error(offset, &join(&join(&self.path, table), key), problem)
    }

    /// Ends the read; a key that is known but was not read is refused too.
    pub(super) fn finish(self) -> Result<(), PolicyError> {
        match self.unread.first() {
            None => Ok(()),
            Some(name) => Err(self.error_at(name, PolicyProblem::Conflict("has no effect beside the other keys here"))),
        }
    }
}

/// One value of the file.
pub(super) struct Entry<'d> {
    source: Source<'d>,
    path: String,
    offset: usize,
    value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Entry<'d> {
    pub(super) fn error(&self, problem: PolicyProblem) -> PolicyError {
        self.source.error(self.offset, &self.path, problem)
    }

    fn wrong_type(&self, wanted: &'static str) -> PolicyError {
        let seen = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(PolicyProblem::Type { seen, wanted })
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub(super) fn text(&self) -> Result<&'d str, PolicyError> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    pub(super) fn integer(&self, max: u64) -> Result<u64, PolicyError> {
        let integer = self.value.get_ref().as_integer().ok_or_else(|| self.wrong_type("an integer"))?;
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(n) if n <= max => Ok(n),
            _ => Err(self.value_error(&integer.to_string(), &format!("an integer from 0 to {max}"))),
        }
    }

    pub(super) fn value_error(&self, seen: &str, wanted: &str) -> PolicyError {
        self.error(PolicyProblem::Value { seen: seen.to_owned(), wanted: wanted.to_owned() })
    }

    /// One of the words given; the error lists them.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, PolicyError> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let wanted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.value_error(text, &wanted.join(" or "))
        })
    }

    pub(super) fn section(&self, known: &[&str]) -> Result<Section<'d>, PolicyError> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Section::open(self.source, self.path.clone(), self.offset, table, known)
    }

    /// An array of tables, which may not be empty.
    pub(super) fn sections(&self, known: &[&str], max: usize) -> Result<Vec<Section<'d>>, PolicyError> {
        let sections = self.each(max, |entry| entry.section(known))?;
        if sections.is_empty() { Err(self.error(PolicyProblem::EmptyList)) } else { Ok(sections) }
    }

    /// The entries of a table whose keys are the author's own, in the order of the keys; refuses an empty one.
    pub(super) fn entries(&self, max: usize) -> Result<Vec<(&'d str, Entry<'d>)>, PolicyError> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        if table.is_empty() {
            return Err(self.error(PolicyProblem::EmptyList));
        }
        if table.len() > max {
            return Err(self.error(PolicyProblem::TooMany { seen: table.len(), max }));
        }
        let names: Vec<&'d str> = table.keys().map(|key| -> &'d str { key.get_ref() }).collect();
        let mut section = Section::open(self.source, self.path.clone(), self.offset, table, &names)?;
        Ok(names.into_iter().filter_map(|name| Some((name, section.optional(name)?))).collect())
    }

    /// The list read with `read`; refuses an empty one, and an entry that stands in it twice.
    pub(super) fn list<T: PartialEq>(
        &self,
        read: impl Fn(&Entry<'d>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let array = self.value.get_ref().as_array().ok_or_else(|| self.wrong_type("a list"))?;
        if array.is_empty() {
            return Err(self.error(PolicyProblem::EmptyList));
        }
        if array.len() > MAX_ENTRIES {
            return Err(self.error(PolicyProblem::TooMany { seen: array.len(), max: MAX_ENTRIES }));
        }
        let mut list = Vec::with_capacity(array.len());
        for (i, value) in array.iter().enumerate() {
            let entry =
                Entry { source: self.source, path: format!("{}[{i}]", self.path), offset: value.span().start, value };
            let item = read(&entry)?;
            if list.contains(&item) {
                return Err(entry.error(PolicyProblem::Duplicate));
            }
            list.push(item);
        }
        Ok(list)
    }

    /// An array of tables, each read with `read`. Unlike in a list, two may be equal: they are parts of a document.
    pub(super) fn each<T>(
        &self,
        max: usize,
        read: impl Fn(&Entry<'d>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let array = self.value.get_ref().as_array().ok_or_else(|| self.wrong_type("a list of tables"))?;
        if array.len() > max {
            return Err(self.error(PolicyProblem::TooMany { seen: array.len(), max }));
        }
        let entry = |(i, value): (usize, &'d Spanned<DeValue<'d>>)| {
            let (path, offset) = (format!("{}[{i}]", self.path), value.span().start);
            read(&Entry { source: self.source, path, offset, value })
        };
        array.iter().enumerate().map(entry).collect()
    }

    /// The word under `kind` of this table, which says what its other keys are.
    pub(super) fn kind<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, PolicyError> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        let path = join(&self.path, "kind");
        let Some(value) = table.get("kind") else {
            return Err(self.source.error(self.offset, &path, PolicyProblem::Missing { wanted: "what it is" }));
        };
        Entry { source: self.source, path, offset: value.span().start, value }.word(words)
    }

    /// File, line and path, for errors that are found only later.
    pub(super) fn place(&self) -> (String, usize, String) {
        let PolicyError { file, line, key, .. } = self.error(PolicyProblem::EmptyList);
        (file, line, key)
    }

    /// A digest or identifier in hex, with `from_hex` and `is_zero` of its type; refuses the value that is all zero.
    pub(super) fn hex<T>(
        &self,
        from_hex: impl Fn(&str) -> Result<T, HexError>,
        is_zero: impl Fn(&T) -> bool,
    ) -> Result<T, PolicyError> {
        let value = from_hex(self.text()?)
            .map_err(|HexError { wanted, seen }| self.error(PolicyProblem::Hex { seen, wanted }))?;
        if is_zero(&value) { Err(self.error(PolicyProblem::Zero)) } else { Ok(value) }
    }
}

/// A key as errors name it: in quotes and escaped where it would not be seen, or would not stay on its line.
pub(super) fn shown(name: &str) -> String {
    if name.is_empty() || name.contains(deceives) { Untrusted(name).quoted() } else { name.to_owned() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
