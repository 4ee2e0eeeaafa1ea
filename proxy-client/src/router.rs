//! From the name that an application asked for to the guest entry that serves it.
//!
//! A name is compared, never resolved and never dialled, and only exactly: there are no wildcards and no default
//! guest. What is the same name is decided here once: ASCII case does not count, one trailing dot does not count, an
//! IP address counts as the address, whatever its spelling; internationalised names are left as they are written.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::open::{BoxFuture, OpenError, Opened, Opener};

/// What SOCKS5 can carry (RFC 1928 §5); a DNS name is shorter (RFC 1035 §2.3.4).
const MAX_HOST_LEN: usize = 255;

/// A name as an application asks for it or as an entry lists it: a host, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    host: String,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: wanted host, host:port, or an IPv6 address in brackets")]
pub struct NameError {
    text: String,
}

impl Name {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        parse(text).ok_or_else(|| NameError { text: text.chars().take(MAX_HOST_LEN + 8).collect() })
    }

    fn without_port(&self) -> Name {
        Name { host: self.host.clone(), port: None }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn parse(text: &str) -> Option<Name> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest {
            "" => None,
            _ => Some(parse_port(rest.strip_prefix(':')?)?),
        };
        return Some(Name { host: format!("[{address}]"), port });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Some(Name { host: address.to_string(), port });
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    is_host_name(host).then(|| Name { host: host.to_ascii_lowercase(), port })
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Whether `text` can stand where a host name stands. Deliberately wide (underscores, any letters beyond ASCII): it
/// is only ever compared. What has a meaning in an authority, in a log line or in a terminal is not a name.
pub fn is_host_name(text: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || (!c.is_ascii() && c.is_alphanumeric());
    !text.is_empty() && text.len() <= MAX_HOST_LEN && !text.starts_with('.') && text.chars().all(allowed)
}

/// Which guest entry serves which name.
#[derive(Clone, Debug)]
pub struct Router {
    entries: HashMap<Name, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the name {name} stands on two entries, numbers {first} and {second}")]
    Duplicate { name: String, first: usize, second: usize },
}

impl Router {
    /// `names` of each guest entry, in the order of the entries.
    pub fn new<N, S>(names_of_entries: impl IntoIterator<Item = N>) -> Result<Router, RouterError>
    where
        N: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut entries = HashMap::new();
        for (number, names) in names_of_entries.into_iter().enumerate() {
            for name in names {
                let name = Name::parse(name.as_ref())?;
                match entries.insert(name.clone(), number) {
                    Some(first) if first != number => {
                        return Err(RouterError::Duplicate { name: name.to_string(), first, second: number });
                    }
                    _ => {}
                }
            }
        }
        Ok(Router { entries })
    }

    /// The number of the entry that serves `asked`. An entry for `host:port` goes before one for `host`.
    pub fn route(&self, asked: &str) -> Option<usize> {
        let name = Name::parse(asked).ok()?;
        self.entries.get(&name).or_else(|| self.entries.get(&name.without_port())).copied()
    }
}

/// Opens each tunnel at the guest whose entry has the name, and nowhere for a name on no entry.
pub struct ByName {
    router: Router,
    guests: Vec<Arc<dyn Opener>>,
}

impl ByName {
    /// `guests` stand in the order of the entries that made `router`.
    pub fn new(router: Router, guests: Vec<Arc<dyn Opener>>) -> ByName {
        ByName { router, guests }
    }
}

impl Opener for ByName {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        match self.router.route(name).and_then(|number| self.guests.get(number)) {
            Some(guest) => guest.open(name),
            None => Box::pin(std::future::ready(Err(OpenError::UnknownName { name: name.to_owned() }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        Router::new([vec!["llm.example", "10.0.0.1:80"], vec!["LLM.example:9000", "[::1]", "xn--bcher-kva.example"]])
            .unwrap()
    }

    #[test]
    fn spelling_does_not_make_another_name() {
        for asked in ["llm.example", "LLM.Example.", "llm.example:443", "llm.example.:80"] {
            assert_eq!(router().route(asked), Some(0), "{asked}");
        }
        for asked in ["[::1]", "[0:0:0:0:0:0:0:1]:443", "[0000::0001]:1"] {
            assert_eq!(router().route(asked), Some(1), "{asked}");
        }
        assert_eq!(router().route("XN--Bcher-kva.example:1"), Some(1));
    }

    #[test]
    fn an_entry_with_a_port_goes_before_one_without() {
        assert_eq!(router().route("llm.example:9000"), Some(1));
        assert_eq!(router().route("llm.example:9001"), Some(0));
        assert_eq!(router().route("10.0.0.1:80"), Some(0));
        assert_eq!(router().route("10.0.0.1:81"), None);
        assert_eq!(router().route("10.0.0.1"), None);
    }

    #[test]
    fn nothing_matches_in_part() {
        for asked in
            ["example", "a.llm.example", "llm.example.com", "llm.example..", "*", "", ".", "llm.exampl\u{0435}"]
        {
            assert_eq!(router().route(asked), None, "{asked}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:080",
            "a:+80",
            "a:8 0",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]80",
            "[::1]:",
            "[a]",
            "a b",
            "a\n",
            "a/b",
            "u@a",
            "a\u{202e}b",
            ".a",
            "[::1%eth0]",
        ] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
        assert!(Name::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn refuses_one_name_on_two_entries() {
        let refused = Router::new([["a.example"], ["A.example."]]);
        assert_eq!(refused.unwrap_err(), RouterError::Duplicate { name: "a.example".to_owned(), first: 0, second: 1 });
        assert!(Router::new([["a.example", "A.example"]]).is_ok());
    }
}
