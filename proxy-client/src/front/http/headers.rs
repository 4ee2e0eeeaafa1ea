//! What a forward proxy does to headers beyond what every hop does ([`proxy_core::headers`]).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};
use proxy_core::headers::{strip_evident, upgrade};

/// The protocol that a message asks to change to, if it passes through here.
///
/// `h2c` does not: RFC 9113 §3.1 made it obsolete, and its settings stand in a header of this hop. Without the header the
/// server answers in HTTP/1.1.
pub(super) fn passing_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = upgrade(headers)?;
    let is_h2c = protocol.as_bytes().split(|&b| b == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"h2c"));
    if is_h2c { None } else { Some(protocol) }
}

/// Asks for a change of protocol, or grants it, on the next hop.
pub(super) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Trailers lose our headers and what frames a message (RFC 9110 §6.5.1).
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_evident(trailers);
    for name in [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING] {
        trailers.remove(name);
    }
}

/// A body with another coding than chunked would lose that coding's name with the header; the error is what was seen.
pub(super) fn only_chunked(headers: &HeaderMap) -> Result<(), String> {
    let codings: Vec<&HeaderValue> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    match codings.as_slice() {
        [] => Ok(()),
        [one] if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        several => {
            let seen: Vec<String> =
                several.iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
            Err(seen.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    #[test]
    fn h2c_does_not_pass() {
        assert!(passing_upgrade(&headers(&[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "H2C")])).is_none());
        let seen = passing_upgrade(&headers(&[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]));
        assert_eq!(seen.unwrap(), "websocket");
    }

    #[test]
    fn refuses_codings_that_would_be_lost() {
        assert!(only_chunked(&headers(&[])).is_ok());
        assert!(only_chunked(&headers(&[("Transfer-Encoding", "Chunked")])).is_ok());
        assert_eq!(only_chunked(&headers(&[("Transfer-Encoding", "gzip, chunked")])), Err("gzip, chunked".to_owned()));
        let twice = headers(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]);
        assert!(only_chunked(&twice).is_err());
    }
}
