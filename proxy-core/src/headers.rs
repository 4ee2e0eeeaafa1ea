//! Header names that mean something between us and an application, and those that end at a hop.
//!
//! Used only where we parse HTTP: the guest's reverse proxy and the client's absolute-form proxy. There a
//! copy of our headers that came from outside is taken away, so that nobody can write a verdict into a request or a
//! response. In tunnels such headers are the application's bytes and are not looked at.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

/// Whether a header is one of ours: `Evident-*` and `X-Evident-*`, in any case, with `_` for any `-` (CGI and WSGI
/// servers hand both to the application under one name).
pub fn is_evident_header(name: &str) -> bool {
    let name = name.as_bytes();
    let rest = strip_prefix_ignoring_spelling(name, b"x-").unwrap_or(name);
    match strip_prefix_ignoring_spelling(rest, b"evident") {
        Some(tail) => tail.first().is_none_or(|b| matches!(b, b'-' | b'_')),
        None => false,
    }
}

/// Removes our headers; for headers and for trailers, in both directions.
pub fn strip_evident(headers: &mut HeaderMap) {
    remove_where(headers, |name| is_evident_header(name.as_str()));
}

/// Removes what concerns only one hop (RFC 9110 §7.6.1), the names that `Connection` lists included, and our headers.
///
/// `TE: trailers` is said again for the next hop, since trailers are passed on. What concerns `Upgrade` must be read
/// before. `Host` and `Content-Length` stay whatever `Connection` says: taking them away would change the message.
pub fn strip_for_next_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    let takes_trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    // Where both stand, the coding frames the message (RFC 9112 §6.3): with the length left over it would be cut short.
    let coded = headers.contains_key(TRANSFER_ENCODING);
    remove_where(headers, |name| {
        named.contains(name)
            || [CONNECTION, TE, TRANSFER_ENCODING].contains(name)
            || (coded && *name == CONTENT_LENGTH)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "upgrade" | "http2-settings")
            || matches!(name.as_str(), "proxy-authorization" | "proxy-authenticate" | "proxy-authentication-info")
            || is_evident_header(name.as_str())
    });
    merge_content_length(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Writes a length that is given several times, each time the same, once (RFC 9110 §8.6): `3, 3` is legal to receive and to
/// merge, and hyper does not send it. Different lengths stay as they are; whoever sends them on refuses the message.
fn merge_content_length(headers: &mut HeaderMap) {
    let lengths: Vec<String> = tokens(headers, &CONTENT_LENGTH).map(str::to_owned).collect();
    if let [first, others @ ..] = lengths.as_slice()
        && !others.is_empty()
        && first.bytes().all(|b| b.is_ascii_digit())
        && others.iter().all(|other| other == first)
        && let Ok(value) = HeaderValue::from_str(first)
    {
        headers.insert(CONTENT_LENGTH, value);
    }
}

/// The comma-separated members of a header that may stand there several times; values that are not text are passed over.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The protocol that a message asks to change to: `Upgrade` with `Connection: upgrade` (RFC 9110 §7.8).
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if asked { headers.get(http::header::UPGRADE).cloned() } else { None }
}

/// A body whose trailers carry none of our headers and nothing that frames a message (RFC 9110 §6.5.1).
pub fn with_stripped_trailers<B: Body>(body: B) -> impl Body<Data = B::Data, Error = B::Error> {
    body.map_frame(|frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_where(&mut trailers, |name| {
                is_evident_header(name.as_str())
                    || [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING].contains(name)
            });
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    })
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn strip_prefix_ignoring_spelling<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = name.split_at_checked(prefix.len())?;
    let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
    head.iter().zip(prefix).all(same).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    #[test]
    fn knows_every_spelling_of_our_headers_and_no_others() {
        for ours in [
            "Evident-Verdict",
            "evident-level",
            "X-Evident-Verdict",
            "x_evident_verdict",
            "EVIDENT_LEVEL",
            "X_Evident-A",
            "evident",
            "x-evident",
        ] {
            assert!(is_evident_header(ours), "{ours}");
        }
        for other in ["evidently", "x-evidence", "self-evident", "x-x-evident-a", "verdict", "x", "", "evidenT0"] {
            assert!(!is_evident_header(other), "{other}");
        }
    }

    #[test]
    fn takes_away_every_copy_of_our_headers() {
        let mut headers =
            map(&[("evident-verdict", "a"), ("EVIDENT-verdict", "b"), ("x_evident_level", "c"), ("accept", "d")]);
        strip_evident(&mut headers);
        assert_eq!(headers, map(&[("accept", "d")]));
    }

    #[test]
    fn a_length_beside_a_transfer_coding_ends_with_it() {
        let mut both = map(&[("content-length", "5"), ("transfer-encoding", "chunked"), ("accept", "a")]);
        strip_for_next_hop(&mut both);
        assert_eq!(both, map(&[("accept", "a")]));
        let mut alone = map(&[("content-length", "5")]);
        strip_for_next_hop(&mut alone);
        assert_eq!(alone, map(&[("content-length", "5")]));
    }

    #[test]
    fn what_concerns_one_hop_ends_there() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "websocket"),
            ("evident-verdict", "accepted"),
            ("host", "a.example"),
            ("content-length", "3"),
            ("cookie", "kept"),
        ]);
        strip_for_next_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "a.example"), ("content-length", "3"), ("cookie", "kept")]));
    }

    #[test]
    fn says_again_that_trailers_are_taken() {
        let mut headers = map(&[("te", "gzip, Trailers"), ("connection", "TE")]);
        strip_for_next_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("connection", "te")]));
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert!(upgrade(&map(&[("upgrade", "websocket")])).is_none());
        assert!(upgrade(&map(&[("connection", "upgrade")])).is_none());
        assert_eq!(
            upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).unwrap(),
            "websocket"
        );
    }

    #[tokio::test]
    async fn takes_our_headers_out_of_trailers() {
        let trailers = map(&[("x-evident-verdict", "accepted"), ("content-length", "9"), ("grpc-status", "0")]);
        let body = Full::new(Bytes::from_static(b"data")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let collected = with_stripped_trailers(body).collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&map(&[("grpc-status", "0")])));
        assert_eq!(collected.to_bytes(), "data");
    }

    #[test]
    fn a_length_that_is_given_twice_is_written_once_and_two_lengths_stay() {
        for (given, wanted) in [
            (&["3, 3"][..], &["3"][..]),
            (&["3", "3"], &["3"]),
            (&["3,3,3", "3"], &["3"]),
            (&["3"], &["3"]),
            (&["3, 4"], &["3, 4"]),
            (&["3", "4"], &["3", "4"]),
            (&["x, x"], &["x, x"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            strip_for_next_hop(&mut headers);
            let seen: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(seen, wanted, "{given:?}");
        }
    }
}
