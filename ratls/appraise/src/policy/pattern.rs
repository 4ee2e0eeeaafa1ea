//! A text with named variables: `/vmlinuz-${version} root=UUID=${root} ro`.
//!
//! A variable stands for one word or a part of one: no blank, no quote, no equals sign, at least one character. So it can never
//! bring in a word of its own. The same name is the same value everywhere in a pattern, and where the policy lists
//! the values of a name, it is one of those. `$${` is the text `${` itself, as scripts of grub have it.

use std::collections::BTreeMap;
use std::fmt;

/// Variables in a pattern; matching tries every way to cut a text, so their number is kept small.
const MAX_VARIABLES: usize = 16;
/// Longest text that is matched. COMMAND_LINE_SIZE of Linux on x86 is 2,048; grub's menu entries are longer.
const MAX_TEXT: usize = 16_384;

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

/// Work that matching may still do, for all patterns and all texts of one guest: the texts are the guest's.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// Enough for a thousand texts of a thousand bytes that almost match; a fraction of a second.
    pub fn new() -> Budget {
        Budget(1 << 20)
    }

    fn spend(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new()
    }
}

/// Values that variables have, or may have.
pub type Values = BTreeMap<String, Vec<String>>;
/// What each variable stood for.
pub type Bindings = BTreeMap<String, String>;

impl Pattern {
    /// `Err` says what is wrong, for the policy's error.
    pub(super) fn parse(text: &str) -> Result<Pattern, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                push_text(&mut pieces, before);
                push_text(&mut pieces, "${");
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else { return Err("a variable that ends: ${name}") };
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !plain {
                return Err("a variable named with letters, digits and underscores: ${name}; $${ is the text itself");
            }
            push_text(&mut pieces, before);
            if let Some(Piece::Variable(_)) = pieces.last() {
                return Err("a text between two variables");
            }
            pieces.push(Piece::Variable(name.to_owned()));
            rest = after;
        }
        push_text(&mut pieces, rest);
        if pieces.is_empty() {
            return Err("a text");
        }
        if pieces.iter().filter(|piece| matches!(piece, Piece::Variable(_))).count() > MAX_VARIABLES {
            return Err("at most 16 variables");
        }
        Ok(Pattern { text: text.to_owned(), pieces })
    }

    /// The pattern that is this text and no other.
    pub fn of_text(text: &str) -> String {
        text.replace("${", "$${")
    }

    /// The text, where there are no variables in it.
    pub fn exact(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// What the variables stand for if this is the text. `listed` are the values that the policy allows. Nothing matches when the
    /// budget is spent.
    pub fn matches(&self, text: &str, listed: &Values, budget: &mut Budget) -> Option<Bindings> {
        let mut search = Search { text, listed, bindings: Bindings::new(), budget, furthest: None };
        (text.len() <= MAX_TEXT && search.fits(&self.pieces, 0)).then_some(search.bindings)
    }

    /// How far a text follows the pattern: the bytes of it that do, and what the pattern has from there on. For people who ask why a
    /// text does not match; it spends the budget as matching does.
    pub fn follows(&self, text: &str, listed: &Values, budget: &mut Budget) -> (usize, String) {
        let furthest = Some((0, self.text.clone()));
        let mut search = Search { text, listed, bindings: Bindings::new(), budget, furthest };
        if text.len() <= MAX_TEXT {
            search.fits(&self.pieces, 0);
        }
        search.furthest.unwrap_or_default()
    }
}

/// Texts side by side are one.
fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// Every way to cut a text, tried until one fits.
struct Search<'s> {
    text: &'s str,
    listed: &'s Values,
    bindings: Bindings,
    budget: &'s mut Budget,
    /// The furthest place that was come to, and what the pattern has from there on, where somebody asks.
    furthest: Option<(usize, String)>,
}

impl Search<'_> {
    /// Whether the text from `at` on is these pieces.
    fn fits(&mut self, pieces: &[Piece], at: usize) -> bool {
        let text = self.text;
        let left = text.get(at..).unwrap_or_default();
        let Some((first, rest)) = pieces.split_first() else {
            self.note(at, "", pieces);
            return left.is_empty();
        };
        match first {
            Piece::Text(wanted) => {
                let fits = left.starts_with(wanted.as_str());
                if self.furthest.is_some() {
                    let same = wanted.chars().zip(left.chars()).take_while(|(a, b)| a == b);
                    let same = same.map(|(c, _)| c.len_utf8()).sum();
                    self.note(at + same, wanted.get(same..).unwrap_or_default(), rest);
                }
                fits && self.fits(rest, at + wanted.len())
            }
            Piece::Variable(name) => {
                self.note(at, "", pieces);
                if let Some(value) = self.bindings.get(name).cloned() {
                    return left.starts_with(&value) && self.fits(rest, at + value.len());
                }
                let longest =
                    left.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=')).unwrap_or(left.len());
                let ends = left.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= longest);
                let ends: Vec<usize> = ends.collect();
                // The longest first: what follows a variable is mostly a blank or the end.
                for value in ends.into_iter().rev().filter_map(|end| left.get(..end)) {
                    if !self.budget.spend() {
                        return false;
                    }
                    if self.listed.get(name).is_some_and(|values| !values.iter().any(|v| v == value)) {
                        continue;
                    }
                    self.bindings.insert(name.clone(), value.to_owned());
                    if self.fits(rest, at + value.len()) {
                        return true;
                    }
                    self.bindings.remove(name);
                }
                false
            }
        }
    }

    /// The pattern has `missing` and these pieces where the text stopped to follow.
    fn note(&mut self, at: usize, missing: &str, pieces: &[Piece]) {
        let word = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(name) => format!("${{{name}}}"),
        };
        match &mut self.furthest {
            Some(furthest) if at >= furthest.0 => {
                *furthest = (at, [missing.to_owned()].into_iter().chain(pieces.iter().map(word)).collect());
            }
            _ => {}
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.matches(text, &Values::new(), &mut Budget::new()).map(|bindings| bindings.into_iter().collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_variable_is_a_part_of_one_word() {
        let pattern = "/vmlinuz-${version} root=UUID=${root} ro";
        let wanted = vec![pair("root", "ab-12"), pair("version", "6.8.0-45")];
        assert_eq!(matches(pattern, "/vmlinuz-6.8.0-45 root=UUID=ab-12 ro"), Some(wanted));
        for text in [
            "/vmlinuz-6.8.0-45 root=UUID= ro",
            "/vmlinuz-6.8.0-45 root=UUID=ab rd.break ro",
            "/vmlinuz-6.8.0-45 root=UUID=ab\tinit=/bin/sh ro",
            "/vmlinuz-6.8.0-45 root=UUID=ab\" \"ro ro",
            "/vmlinuz-6.8.0-45 root=UUID=ab ro ro",
            "/vmlinuz-6.8.0-45 root=UUID=ab=c ro",
            "x/vmlinuz-6.8.0-45 root=UUID=ab ro",
        ] {
            assert_eq!(matches(pattern, text), None, "{text}");
        }
    }

    #[test]
    fn one_name_is_one_value_and_one_of_those_that_are_listed() {
        assert!(matches("a-${v} b-${v}", "a-1 b-1").is_some());
        assert!(matches("a-${v} b-${v}", "a-1 b-2").is_none());
        let pattern = Pattern::parse("linux-${v}").unwrap();
        let listed = Values::from([("v".to_owned(), vec!["6.1".to_owned(), "6.8".to_owned()])]);
        assert!(pattern.matches("linux-6.8", &listed, &mut Budget::new()).is_some());
        assert!(pattern.matches("linux-6.9", &listed, &mut Budget::new()).is_none());
    }

    #[test]
    fn a_text_that_takes_forever_spends_the_budget_and_matches_nothing() {
        let pattern = Pattern::parse("${a}x${b}x${c}x${d}x${e}x${f}x${g}x${h}").unwrap();
        let (mut text, mut budget) = ("x".repeat(4_000), Budget::new());
        assert!(pattern.matches(&text, &Values::new(), &mut budget).is_some());
        text.push('=');
        assert_eq!(pattern.matches(&text, &Values::new(), &mut budget), None);
        assert_eq!(budget.0, 0);
        assert_eq!(pattern.matches("axbxcxdxexfxgxh", &Values::new(), &mut budget), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "${", "${}", "${a b}", "${a}${b}"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        assert!(Pattern::parse(&(0..17).map(|i| format!("${{v{i}}} ")).collect::<String>()).is_err());
        assert_eq!(Pattern::parse("ro $x {y}").unwrap().exact(), Some("ro $x {y}"));
    }

    #[test]
    fn a_text_that_does_not_match_is_told_how_far_it_does() {
        let far = |pattern: &str, text: &str| {
            Pattern::parse(pattern).unwrap().follows(text, &Values::new(), &mut Budget::new())
        };
        assert_eq!(far("root=/dev/vda1 ro", "root=/dev/vda2 ro"), (13, "1 ro".to_owned()));
        assert_eq!(far("/vmlinuz-${v} ro quiet", "/vmlinuz-6.8 rw quiet"), (14, "o quiet".to_owned()));
        assert_eq!(far("a ${v} b ${v}", "a 1 b 2"), (6, "${v}".to_owned()));
        assert_eq!(far("ro", "ro init=/bin/sh"), (2, String::new()));
    }

    #[test]
    fn any_text_can_be_written_as_a_pattern_of_itself() {
        for text in ["set x=${y}", "${", "$${", "a $${b}${c} ${1:-d}", "ro", "$", "$$", "x${"] {
            let pattern = Pattern::parse(&Pattern::of_text(text)).unwrap();
            assert_eq!(pattern.exact(), Some(text), "{text}");
        }
        assert!(matches("$${a}-${a}", "${a}-1").is_some());
    }
}
