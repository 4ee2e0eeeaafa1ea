//! Which byte of a request's target makes it none that can be forwarded.
//!
//! hyper refuses such a request before anything here sees it, with an empty 400. So the stream keeps each first line as it
//! arrives ([`FirstLine`]), and a refusal names the byte. Which bytes a target may have is asked of the same library that
//! refused it ([`PathAndQuery`]), so that the two never differ.

use std::fmt;

use http::uri::PathAndQuery;

/// Longer first lines are not kept; hyper answers 431 or 414 to those that it does not take.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// What hyper answers to bytes that are no request.
const EMPTY_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The first line of a request, as far as it came.
#[derive(Default)]
pub(super) struct FirstLine {
    bytes: Vec<u8>,
    whole: bool,
}

impl FirstLine {
    /// Takes what was read of a request's head.
    pub(super) fn push(&mut self, read: &[u8]) {
        // Empty lines before a request do not count (RFC 9112, 2.2).
        let read = if self.bytes.is_empty() { trim_line_ends(read) } else { read };
        if self.whole || self.bytes.len() + read.len() > MAX_KEPT_BYTES && !read.contains(&b'\n') {
            return;
        }
        let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.whole = line.len() < read.len();
        let room = MAX_KEPT_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend(line.iter().take(room));
    }

    /// Whether the target is a scheme and an authority and nothing else. The library's `Uri` has a path of "/" then.
    pub(super) fn has_empty_path(&self) -> bool {
        let target = self.target().unwrap_or_default();
        let authority = target.windows(3).position(|three| three == b"://").and_then(|at| target.get(at + 3..));
        authority.is_some_and(|rest| !rest.iter().any(|byte| matches!(byte, b'/' | b'?' | b'#')))
    }

    /// The first byte of the target that cannot be forwarded.
    pub(super) fn refused_target(&self) -> Option<RefusedTarget> {
        let target = self.target()?;
        let place = first_refused(target)?;
        Some(RefusedTarget { byte: *target.get(place)?, place: place + 1 })
    }

    fn target(&self) -> Option<&[u8]> {
        let line = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        let start = line.iter().position(|byte| *byte == b' ')? + 1;
        let rest = line.get(start..)?;
        let version = rest.iter().rposition(|byte| *byte == b' ').filter(|_| self.whole);
        rest.get(..version.unwrap_or(rest.len()))
    }
}

fn trim_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

fn first_refused(target: &[u8]) -> Option<usize> {
    let not_utf8 = std::str::from_utf8(target).err().map(|error| error.valid_up_to());
    let mut before: &[u8] = b"/";
    let ascii = target.iter().position(|byte| {
        if *byte == b'?' {
            before = b"/?";
        }
        byte.is_ascii() && PathAndQuery::try_from([before, &[*byte]].concat().as_slice()).is_err()
    });
    // The earlier of the two, where there are both.
    [not_utf8, ascii].into_iter().flatten().min()
}

/// A byte that no target may have unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefusedTarget {
    byte: u8,
    /// In the target, counted from 1.
    place: usize,
}

impl fmt::Display for RefusedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefusedTarget { byte, place } = *self;
        write!(f, "the URL cannot be forwarded: byte {place} of the request target is 0x{byte:02x}")?;
        if byte.is_ascii_graphic() {
            write!(f, " ({})", char::from(byte))?;
        }
        write!(f, "; write it as %{byte:02X}")
    }
}

impl RefusedTarget {
    /// The whole answer.
    pub(super) fn answer(&self) -> Vec<u8> {
        let body = format!("evident-client: {self}\n");
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// Whether these bytes are hyper's whole answer to what is no request.
pub(super) fn is_empty_answer(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(EMPTY_ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lines: &[&[u8]]) -> Option<(u8, usize)> {
        let mut first = FirstLine::default();
        lines.iter().for_each(|read| first.push(read));
        first.refused_target().map(|refused| (refused.byte, refused.place))
    }

    #[test]
    fn names_the_byte_and_its_place() {
        assert_eq!(refused(&[b"GET http://a.example/a?q=<b> HTTP/1.1\r\nHost: a\r\n\r\n"]), Some((b'<', 22)));
        assert_eq!(refused(&[b"GET /a<b> HTTP/1.1\r\n"]), Some((b'<', 3)));
        assert_eq!(
            refused(&[b"GET /a`b HTTP/1.1\r\n"]).map(|(byte, _)| byte),
            PathAndQuery::try_from("/`").err().map(|_| b'`')
        );
        assert_eq!(refused(&[b"GET /caf\xe9 HTTP/1.1\r\n"]), Some((0xE9, 5)));
        assert_eq!(refused(&[b"GET /a b HTTP/1.1\r\n"]), Some((b' ', 3)));
        assert_eq!(refused(&[b"\r\n\r\nGET /", b"x/", b"<", b"> HTTP/1.1\r\nA: <\r\n"]), Some((b'<', 4)));
    }

    #[test]
    fn finds_nothing_in_a_target_that_passes() {
        for line in [
            &b"GET http://a.example/x?y=%20&z={} HTTP/1.1\r\nX: <\r\n"[..],
            b"CONNECT [::1]:443 HTTP/1.1\r\n",
            b"GET",
            b"",
        ] {
            assert_eq!(refused(&[line]), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn knows_a_target_without_a_path() {
        for (line, empty) in [
            (&b"OPTIONS http://a.example HTTP/1.1\r\n"[..], true),
            (b"OPTIONS http://a.example:8080 HTTP/1.1\r\n", true),
            (b"OPTIONS http://a.example/ HTTP/1.1\r\n", false),
            (b"OPTIONS http://a.example?q HTTP/1.1\r\n", false),
            (b"OPTIONS * HTTP/1.1\r\n", false),
            (b"", false),
        ] {
            let mut first = FirstLine::default();
            first.push(line);
            assert_eq!(first.has_empty_path(), empty, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn says_how_to_write_the_byte() {
        let refused = RefusedTarget { byte: b'<', place: 22 };
        assert_eq!(
            refused.to_string(),
            "the URL cannot be forwarded: byte 22 of the request target is 0x3c (<); write it as %3C"
        );
    }
}
