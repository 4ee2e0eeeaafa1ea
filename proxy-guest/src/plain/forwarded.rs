//! What the upstream is told about the client: X-Forwarded-Proto, -Host and -For.
//!
//! An application behind a proxy that ends TLS builds its redirects and its access rules on these headers, so a copy that
//! a client wrote must not reach it. Application servers read `_`, and some `.`, as `-`; such spellings count as the
//! header itself. `Forwarded` (RFC 7239) says the same things and is never added here, so it is taken away with them.

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};
use proxy_core::net::Peer;

use crate::config::{ForwardedFor, ForwardedHeaders};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The settings `forwarded` and `x_forwarded_for`.
#[derive(Clone, Copy)]
pub(super) struct ForwardedRules {
    pub(super) headers: ForwardedHeaders,
    pub(super) client: ForwardedFor,
}

impl ForwardedRules {
    /// Rewrites the headers of a request. `host` is what the client asked for, if it said so.
    pub(super) fn apply(self, headers: &mut HeaderMap, host: Option<&HeaderValue>, peer: Peer) {
        let address = match peer {
            Peer::Tcp(address) => Some(address.ip().to_canonical().to_string()),
            Peer::Unix => None,
        };
        let given: Vec<HeaderValue> = headers.get_all(FORWARDED_FOR).iter().cloned().collect();
        if self.headers == ForwardedHeaders::Replace {
            let names: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
            names.into_iter().for_each(|name| drop(headers.remove(name)));
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
            if let Some(host) = host {
                headers.insert(FORWARDED_HOST, host.clone());
            }
        }
        headers.remove(FORWARDED_FOR);
        match self.client {
            ForwardedFor::Keep => {
                for value in given {
                    headers.append(FORWARDED_FOR, value);
                }
            }
            ForwardedFor::Append => set_client(headers, &given, address.as_deref()),
            ForwardedFor::Replace => set_client(headers, &[], address.as_deref()),
        }
    }
}

/// One header with what was there, and the client's address at its end.
fn set_client(headers: &mut HeaderMap, given: &[HeaderValue], address: Option<&str>) {
    let chain: Vec<&[u8]> = given.iter().map(HeaderValue::as_bytes).chain(address.map(str::as_bytes)).collect();
    if !chain.is_empty() {
        let value = HeaderValue::from_bytes(&chain.join(&b", "[..])).expect("made of header values and an address");
        headers.insert(FORWARDED_FOR, value);
    }
}

/// `Forwarded`, `X-Forwarded`, and everything that begins with the latter and a separator, in each spelling of it.
fn is_forwarding(name: &str) -> bool {
    let spelled: String = name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c }).collect();
    spelled == "forwarded" || spelled == "x-forwarded" || spelled.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client may forge, in each spelling.
    const FORGED: [(&str, &str); 9] = [
        ("x-forwarded-for", "10.9.9.9"),
        ("x_forwarded_for", "10.9.9.9"),
        ("x-forwarded.for", "10.9.9.9"),
        ("x-forwarded-proto", "http"),
        ("x_forwarded_proto", "http"),
        ("x.forwarded.host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=10.9.9.9"),
    ];

    fn applied(headers: ForwardedHeaders, client: ForwardedFor, sent: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in sent {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let host = HeaderValue::from_static("app.example:8443");
        let rules = ForwardedRules { headers, client };
        rules.apply(&mut map, Some(&host), Peer::Tcp("192.0.2.7:5".parse().unwrap()));
        let mut seen: Vec<_> =
            map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        seen.sort();
        seen
    }

    #[test]
    fn by_default_the_upstream_is_told_what_we_saw_and_nothing_that_a_client_wrote() {
        let seen = applied(ForwardedHeaders::Replace, ForwardedFor::Replace, &FORGED);
        let wanted = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "app.example:8443"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(seen, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_older_setting_still_decides_about_the_client_s_address() {
        let address = |client| {
            let seen = applied(ForwardedHeaders::Replace, client, &FORGED);
            seen.into_iter().find(|(name, _)| name == "x-forwarded-for").unwrap().1
        };
        assert_eq!(address(ForwardedFor::Keep), "10.9.9.9");
        assert_eq!(address(ForwardedFor::Append), "10.9.9.9, 192.0.2.7");
    }

    #[test]
    fn keep_passes_on_what_the_client_sent_and_adds_nothing() {
        let mut sent: Vec<_> = FORGED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        sent.sort();
        assert_eq!(applied(ForwardedHeaders::Keep, ForwardedFor::Keep, &FORGED), sent);
    }

    #[test]
    fn names_that_only_resemble_them_are_the_application_s() {
        for name in ["x-forwardedfor", "x-forward", "forwarded-for", "x-real-ip"] {
            assert!(!is_forwarding(name), "{name}");
        }
    }
}
