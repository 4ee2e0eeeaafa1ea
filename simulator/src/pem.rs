//! PEM armour for one certificate (RFC 7468). Written only.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// One PEM block, lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            text.push_str(&encode_group(group));
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// One to three bytes as four characters.
fn encode_group(group: &[u8]) -> String {
    let bits = group.iter().chain([0, 0].iter()).take(3).fold(0, |bits, b| bits << 8 | usize::from(*b));
    (0..4)
        .map(|i| match i <= group.len() {
            true => char::from(ALPHABET[bits >> (18 - 6 * i) & 63]),
            false => '=',
        })
        .collect()
}

/// Base64 in one line (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    bytes.chunks(3).map(encode_group).collect()
}

/// Base64 as URLs have it, without padding (RFC 4648 §5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    let text: String = bytes.chunks(3).map(encode_group).collect();
    text.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_rfc_4648() {
        for (bytes, text) in [(&b"foo"[..], "Zm9v"), (b"fo", "Zm8="), (b"f", "Zg=="), (b"\xFF\xFF\xFF", "////")] {
            assert_eq!(encode_group(bytes), text);
        }
    }

    #[test]
    fn lines_are_64_characters() {
        let text = encode("X", &[0; 49]);
        assert_eq!(text, format!("-----BEGIN X-----\n{}\nAA==\n-----END X-----\n", "A".repeat(64)));
    }
}
