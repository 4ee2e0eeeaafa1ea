//! Names and texts of a peer must not write to the terminal, nor turn around what stands beside them.

/// What controls or changes the direction of text becomes U+FFFD.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if shown(c) { c } else { '\u{FFFD}' }).collect()
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
