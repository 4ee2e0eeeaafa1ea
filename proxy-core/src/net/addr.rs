//! The one spelling of addresses: `host:port`, `[v6]:port`, a bare port for loopback, `unix:/path`.
//!
//! Parsing resolves nothing. A name stays a name until somebody connects or binds.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// Longest path of a unix socket: `sun_path` holds 108 bytes with its NUL (unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;
/// Longest DNS name in its text form (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Where to listen or whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Addr {
    Tcp(HostPort),
    /// An absolute path in the file system; there are no abstract sockets.
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    /// A DNS name in lower case, not yet resolved.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    #[error("an address is empty; write host:port, [v6]:port, a port, or unix:/path")]
    Empty,
    #[error("{seen:?} is a URL; write only its host:port")]
    Url { seen: String },
    #[error("{seen:?} has no port; write host:port, [v6]:port, a port, or unix:/path")]
    NoPort { seen: String },
    #[error("{seen:?} has the port {port:?}; a port is a number from 0 to 65535")]
    Port { seen: String, port: String },
    #[error("{seen:?} has an IPv6 address without brackets; write [address]:port")]
    Brackets { seen: String },
    #[error("{seen:?} has no IPv6 address between its brackets (zones such as %eth0 are not supported)")]
    Ipv6 { seen: String },
    #[error("{seen:?} has the host {host:?}, which is neither an IP address nor a DNS name")]
    Name { seen: String, host: String },
    #[error("{seen:?}: the path of a unix socket starts with / (unix:/run/app.sock)")]
    UnixRelative { seen: String },
    #[error("{seen:?}: the path of a unix socket has at most {MAX_UNIX_PATH_BYTES} bytes and no NUL")]
    UnixPath { seen: String },
}

impl Addr {
    pub fn loopback(port: u16) -> Self {
        Addr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Whether what is sent there stays in this machine: loopback or a unix socket. The name `localhost` counts, and
    /// [`connect`](super::connect) then takes only loopback addresses for it, whatever a resolver says.
    pub fn is_local(&self) -> bool {
        match self {
            Addr::Unix(_) => true,
            Addr::Tcp(HostPort { host: Host::Ip(ip), .. }) => ip.to_canonical().is_loopback(),
            Addr::Tcp(HostPort { host: Host::Name(name), .. }) => name == "localhost",
        }
    }

    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Addr::Unix(path) => Some(path),
            Addr::Tcp(_) => None,
        }
    }
}

impl HostPort {
    pub fn new(host: Host, port: u16) -> Self {
        HostPort { host, port }
    }
    pub fn host(&self) -> &Host {
        &self.host
    }
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for Addr {
    fn from(address: SocketAddr) -> Self {
        Addr::Tcp(HostPort { host: Host::Ip(address.ip()), port: address.port() })
    }
}

impl FromStr for Addr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        if text.is_empty() {
            return Err(AddrError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_unix(text, path);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Addr::loopback(parse_port(text, text)?));
        }
        text.parse().map(Addr::Tcp)
    }
}

impl FromStr for HostPort {
    type Err = AddrError;

    /// Only `host:port` and `[v6]:port`.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let seen = || text.to_owned();
        if text.contains("://") {
            return Err(AddrError::Url { seen: seen() });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, port) = rest.split_once(']').ok_or_else(|| AddrError::Ipv6 { seen: seen() })?;
                let ip: Ipv6Addr = inside.parse().map_err(|_| AddrError::Ipv6 { seen: seen() })?;
                let port = port.strip_prefix(':').ok_or_else(|| AddrError::NoPort { seen: seen() })?;
                (Host::Ip(IpAddr::V6(ip)), port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or_else(|| AddrError::NoPort { seen: seen() })?;
                if host.contains(':') {
                    return Err(AddrError::Brackets { seen: seen() });
                }
                (host.parse().map_err(|()| AddrError::Name { seen: seen(), host: host.to_owned() })?, port)
            }
        };
        Ok(HostPort { host, port: parse_port(text, port)? })
    }
}

impl FromStr for Host {
    type Err = ();

    /// An IP address without brackets or a DNS name. `300.1.1.1` and `127.1`, which resolvers read in their own ways,
    /// are neither.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(ip) = text.parse() {
            return Ok(Host::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last_is_number = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(label_ok) || last_is_number {
            return Err(());
        }
        Ok(Host::Name(name.to_ascii_lowercase()))
    }
}

fn parse_port(seen: &str, port: &str) -> Result<u16, AddrError> {
    let error = || AddrError::Port { seen: seen.to_owned(), port: port.to_owned() };
    if port.is_empty() {
        return Err(AddrError::NoPort { seen: seen.to_owned() });
    }
    // `u16::from_str` takes a leading '+'.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error());
    }
    port.parse().map_err(|_| error())
}

fn parse_unix(seen: &str, path: &str) -> Result<Addr, AddrError> {
    if !path.starts_with('/') {
        return Err(AddrError::UnixRelative { seen: seen.to_owned() });
    }
    if path.len() > MAX_UNIX_PATH_BYTES || path.contains('\0') {
        return Err(AddrError::UnixPath { seen: seen.to_owned() });
    }
    Ok(Addr::Unix(PathBuf::from(path)))
}

impl TryFrom<String> for Addr {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Tcp(address) => address.fmt(f),
            Addr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_spelling_and_prints_it_back() {
        for (text, printed) in [
            ("example.org:443", "example.org:443"),
            ("Example.ORG.:443", "example.org:443"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::]:8443", "[::]:8443"),
            ("[2001:DB8::1]:1", "[2001:db8::1]:1"),
            ("8080", "127.0.0.1:8080"),
            ("localhost:0", "localhost:0"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<Addr>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_address_and_says_why() {
        let long = format!("unix:/{}", "a".repeat(107));
        let label = format!("{}:1", "a".repeat(64));
        for (text, part) in [
            ("", "empty"),
            ("http://example.org:80", "URL"),
            ("example.org", "no port"),
            ("example.org:", "no port"),
            ("example.org:https", "port"),
            ("example.org:65536", "port"),
            ("example.org:+80", "port"),
            ("70000", "port"),
            ("::1:80", "brackets"),
            ("[::1]", "no port"),
            ("[::1", "IPv6"),
            ("[fe80::1%eth0]:80", "IPv6"),
            ("[10.0.0.1]:80", "IPv6"),
            ("300.1.1.1:80", "neither"),
            ("127.1:80", "neither"),
            ("a b:80", "neither"),
            (":80", "neither"),
            ("-a:80", "neither"),
            ("a..b:80", "neither"),
            (label.as_str(), "neither"),
            ("unix:run/app.sock", "starts with /"),
            ("unix:", "starts with /"),
            (long.as_str(), "at most"),
        ] {
            let error = text.parse::<Addr>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn knows_what_stays_in_this_machine() {
        for text in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "1", "unix:/a"] {
            assert!(text.parse::<Addr>().unwrap().is_local(), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.example:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!text.parse::<Addr>().unwrap().is_local(), "{text}");
        }
    }
}
