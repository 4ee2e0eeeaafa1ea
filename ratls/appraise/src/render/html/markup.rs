//! How does text of anybody get into a page without becoming markup?

use formats::text::Untrusted;

/// Returns text of anybody for between tags or in a quoted attribute: without markup, and with what deceives as escapes.
pub fn escape(text: &str) -> String {
    markup(&Untrusted(text).to_string())
}

/// Safe text, with line breaks, as markup.
pub(super) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
