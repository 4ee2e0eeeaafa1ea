//! Text that somebody else wrote: how is it shown without harm?
//!
//! A peer, a file, a certificate or a log chooses such text. Printed as it is, it could move the cursor, recolour or
//! erase what a terminal shows, add a line to a log, reverse the words beside it, or hide inside them. Every text of
//! that kind is shown through [`Untrusted`]; JSON, which must keep the exact text, goes through [`json_for_people`].
//!
//! Does not decide whether a text is true, and does not prevent look-alikes made of visible letters (a Cyrillic `а`
//! for a Latin `a`).

use std::fmt::{self, Write};

/// Longest untrusted text, in bytes, that [`Untrusted::clipped`] shows in full.
pub const MAX_SHOWN_BYTES: usize = 2_000;

/// Text of somebody else, to be shown.
///
/// `Display` writes it on one line, with each character that [`deceives`] as an escape (`\n`, `\u{202e}`). It is not
/// reversible: a backslash stays a backslash, because paths are full of them. Shown twice, it does not change again.
/// `Debug` adds quotes, and escapes quotes and backslashes too: for text inside a sentence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Untrusted<'a>(pub &'a str);

impl Untrusted<'_> {
    /// Returns the text as `Display` writes it, cut after [`MAX_SHOWN_BYTES`] with an ellipsis.
    pub fn clipped(self) -> String {
        self.cut(write_char)
    }

    /// Returns the text as `Debug` writes it, in quotes, cut after [`MAX_SHOWN_BYTES`] with an ellipsis.
    pub fn quoted(self) -> String {
        format!("\"{}\"", self.cut(write_quoted_char))
    }

    fn cut(self, write: impl Fn(&mut String, char) -> fmt::Result) -> String {
        let mut shown = String::new();
        for c in self.0.chars() {
            if shown.len() >= MAX_SHOWN_BYTES {
                shown.push('…');
                break;
            }
            write(&mut shown, c).expect("writing to a string does not fail");
        }
        shown
    }
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_char(f, c))
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| write_quoted_char(f, c))?;
        f.write_char('"')
    }
}

fn write_quoted_char(out: &mut impl Write, c: char) -> fmt::Result {
    if matches!(c, '"' | '\\') {
        out.write_char('\\')?;
    }
    write_char(out, c)
}

fn write_char(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' | '\r' | '\t' => write!(out, "{}", c.escape_default()),
        c if deceives(c) => write!(out, "{}", c.escape_unicode()),
        c => out.write_char(c),
    }
}

/// Whether a character could control a terminal, be invisible, break a line, or change how its neighbours look.
///
/// That is every control (Cc), format (Cf), private (Co) and unassigned (Cn) character, every separator except the
/// space (Zl, Zp, Zs), every mark that is drawn onto the character before it (Grapheme_Extend), and the letters and
/// symbols that are drawn as nothing. A composed `é` is none of these; `e` followed by U+0301 is shown with an escape.
pub fn deceives(c: char) -> bool {
    match c {
        ' '..='~' => false,
        // Drawn as nothing, though Unicode counts them among letters and symbols: the Hangul fillers
        // (Default_Ignorable_Code_Point) and the empty Braille pattern.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => true,
        // The standard library knows the classes, and a test compares its knowledge with another's. It counts
        // characters that its version of Unicode does not know among those to escape.
        c => c.escape_debug().len() > 1,
    }
}

/// Returns JSON text with every character that [`deceives`] as an escape of JSON (`\u202e`): for programs it is the
/// same document, and on a terminal it can do no harm. Line breaks between values stay.
pub fn json_for_people(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings JSON has no such character but white space, and inside it the serializer has escaped
        // line breaks already.
        if c == '\n' || !deceives(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a string does not fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use icu_properties::props::{
        BidiControl, DefaultIgnorableCodePoint, GeneralCategory, GraphemeExtend, JoinControl, WhiteSpace,
    };
    use icu_properties::{CodePointMapData, CodePointSetData};

    fn all() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    #[test]
    fn no_control_format_or_separator_of_unicode_is_shown_as_it_is() {
        use GeneralCategory as C;
        let category = CodePointMapData::<C>::new();
        let hidden = [C::Control, C::Format, C::PrivateUse, C::LineSeparator, C::ParagraphSeparator, C::SpaceSeparator];
        let missed: Vec<_> =
            all().filter(|c| *c != ' ' && hidden.contains(&category.get(*c)) && !deceives(*c)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }

    #[test]
    fn nothing_that_turns_joins_hides_or_covers_text_is_shown_as_it_is() {
        let sets = [
            ("Bidi_Control", CodePointSetData::new::<BidiControl>()),
            ("Join_Control", CodePointSetData::new::<JoinControl>()),
            ("Default_Ignorable_Code_Point", CodePointSetData::new::<DefaultIgnorableCodePoint>()),
            ("Grapheme_Extend", CodePointSetData::new::<GraphemeExtend>()),
            ("White_Space", CodePointSetData::new::<WhiteSpace>()),
        ];
        for (name, set) in sets {
            let missed: Vec<_> = all().filter(|c| *c != ' ' && set.contains(*c) && !deceives(*c)).collect();
            assert!(missed.is_empty(), "{name}: {missed:?}");
        }
        let zero_width = ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{180e}', '\u{34f}'];
        assert!(zero_width.into_iter().all(deceives));
    }

    #[test]
    fn visible_text_stays_as_it_is() {
        for text in ["größe", "模型", "Ünïcödé", "\\EFI\\BOOT\\BOOTX64.EFI", "it's \"quoted\"", "Ελλάδα", "→ ✓ ○ ◑"]
        {
            assert_eq!(Untrusted(text).to_string(), text);
        }
    }

    #[test]
    fn escapes_name_the_character_and_stay_on_one_line() {
        let hostile = "a\u{1b}[31m\u{202e}b\nc\u{2028}d\u{e0041}";
        let shown = Untrusted(hostile).to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\u{202e}b\\nc\\u{2028}d\\u{e0041}");
        assert_eq!(Untrusted(&shown).to_string(), shown, "shown twice, it is the same");
        assert_eq!(format!("{:?}", Untrusted("a\"\\\n")), "\"a\\\"\\\\\\n\"");
    }

    #[test]
    fn a_long_text_is_cut() {
        let shown = Untrusted(&"\u{202e}".repeat(10_000)).clipped();
        assert!(shown.len() < MAX_SHOWN_BYTES + 20 && shown.ends_with('…'));
        assert_eq!(Untrusted("short").clipped(), "short");
        assert_eq!(Untrusted("a \"b\"").quoted(), "\"a \\\"b\\\"\"");
    }

    #[test]
    fn json_keeps_its_meaning_and_loses_its_tricks() {
        let value = serde_json::json!({"a\u{202e}": "b\u{7f}\u{e0041}é\n\u{1b}\u{3164}"});
        let safe = json_for_people(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!safe.chars().any(|c| c != '\n' && deceives(c)), "{safe}");
        assert!(safe.contains('é') && safe.contains("\\udb40\\udc41"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
