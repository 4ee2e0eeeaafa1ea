//! Names and texts of a peer must not write to the terminal, nor turn around what stands beside them.

use ratls::measured_boot::words::deceives;

/// What controls or changes the direction of text becomes U+FFFD; the text keeps its length.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if deceives(c) { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_out_controls_and_changes_of_direction() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\u{2066}d\n"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(printable("größe 模型"), "größe 模型");
    }
}
