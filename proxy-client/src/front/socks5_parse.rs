//! SOCKS5 messages (RFC 1928) as bytes: what a client sends before its tunnel, and what it is told.
//!
//! No I/O: each parser takes what has arrived so far and says how much of it the message takes, or that it is not
//! whole yet. No message is longer than [`MAX_MESSAGE`] bytes: with that many a parser has an answer. Only CONNECT
//! without authentication exists here; whether the name asked for is one that this proxy serves is decided elsewhere.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest message: a request by name is 4 + 1 + 255 + 2 bytes (RFC 1928 §4, §5); a greeting is 2 + 255 (§3).
pub const MAX_MESSAGE: usize = 262;

const VERSION: u8 = 5;
const METHOD_NONE: u8 = 0x00;
const CONNECT: u8 = 0x01;

/// "No authentication required" was chosen.
pub const METHOD_CHOSEN: [u8; 2] = [VERSION, METHOD_NONE];
/// None of the offered methods is acceptable; the client must close.
pub const NO_METHOD: [u8; 2] = [VERSION, 0xFF];
/// SOCKS4's "request rejected or failed", so that a SOCKS4 client fails at once instead of waiting.
pub const SOCKS4_REJECTED: [u8; 8] = [0x00, 0x5B, 0, 0, 0, 0, 0, 0];

/// A message that is whole, and the bytes of input it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole<T> {
    pub message: T,
    pub len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    #[error("a message of version {seen}, not of SOCKS5")]
    Version { seen: u8 },
    #[error("the client does not offer to go without authentication")]
    NoMethod,
    #[error("the reserved byte is {seen:#04x}, not zero")]
    Reserved { seen: u8 },
    #[error("command {seen:#04x} is not CONNECT")]
    Command { seen: u8 },
    #[error("address type {seen:#04x} is none of IPv4, IPv6 and name")]
    AddressType { seen: u8 },
    #[error("the name is empty, not UTF-8, or holds characters that no name has")]
    Name,
    #[error("port 0")]
    PortZero,
}

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Name(String),
}

/// A CONNECT request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub host: Host,
    pub port: u16,
}

/// `host:port`, with an IPv6 address in brackets.
impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::V4(address) => write!(f, "{address}:{}", self.port),
            Host::V6(address) => write!(f, "[{address}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The client's first message: which ways to authenticate it has. Fine only if one of them is none.
pub fn greeting(input: &[u8]) -> Result<Option<Whole<()>>, ParseError> {
    let Some((&version, rest)) = input.split_first() else { return Ok(None) };
    if version != VERSION {
        return Err(ParseError::Version { seen: version });
    }
    let Some((&count, rest)) = rest.split_first() else { return Ok(None) };
    let Some(methods) = rest.get(..usize::from(count)) else { return Ok(None) };
    if !methods.contains(&METHOD_NONE) {
        return Err(ParseError::NoMethod);
    }
    Ok(Some(Whole { message: (), len: 2 + methods.len() }))
}

/// The client's second message: where to connect to.
pub fn request(input: &[u8]) -> Result<Option<Whole<Request>>, ParseError> {
    let Some((&version, rest)) = input.split_first() else { return Ok(None) };
    if version != VERSION {
        return Err(ParseError::Version { seen: version });
    }
    let Some((&[command, reserved, address_type], rest)) = rest.split_first_chunk::<3>() else { return Ok(None) };
    if command != CONNECT {
        return Err(ParseError::Command { seen: command });
    }
    if reserved != 0 {
        return Err(ParseError::Reserved { seen: reserved });
    }
    let (host, rest) = match address_type {
        0x01 => {
            let Some((octets, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Host::V4(Ipv4Addr::from(*octets)), rest)
        }
        0x03 => {
            let Some((&len, rest)) = rest.split_first() else { return Ok(None) };
            let Some((name, rest)) = rest.split_at_checked(usize::from(len)) else { return Ok(None) };
            (host_of_name(name)?, rest)
        }
        0x04 => {
            let Some((octets, rest)) = rest.split_first_chunk::<16>() else { return Ok(None) };
            (Host::V6(Ipv6Addr::from(*octets)), rest)
        }
        seen => return Err(ParseError::AddressType { seen }),
    };
    let Some((port, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let port = u16::from_be_bytes(*port);
    if port == 0 {
        return Err(ParseError::PortZero);
    }
    Ok(Some(Whole { message: Request { host, port }, len: input.len() - rest.len() }))
}

/// A name as the client wrote it. An address written as a name is an address, as clients that do not resolve send it.
fn host_of_name(name: &[u8]) -> Result<Host, ParseError> {
    let name = std::str::from_utf8(name).map_err(|_| ParseError::Name)?;
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Ok(Host::V4(address));
    }
    let without_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = without_brackets.unwrap_or(name).parse::<Ipv6Addr>() {
        return Ok(Host::V6(address));
    }
    if !crate::router::is_host_name(name) {
        return Err(ParseError::Name);
    }
    Ok(Host::Name(name.to_owned()))
}

/// What a request comes to (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Succeeded,
    GeneralFailure,
    NotAllowedByRuleset,
    HostUnreachable,
    ConnectionRefused,
    CommandNotSupported,
    AddressTypeNotSupported,
}

impl Reply {
    /// The reply as sent. The bound address is all zeros: there is none of ours that means anything to the client.
    pub fn to_bytes(self) -> [u8; 10] {
        [VERSION, self.code(), 0, 0x01, 0, 0, 0, 0, 0, 0]
    }

    pub fn code(self) -> u8 {
        match self {
            Reply::Succeeded => 0x00,
            Reply::GeneralFailure => 0x01,
            Reply::NotAllowedByRuleset => 0x02,
            Reply::HostUnreachable => 0x04,
            Reply::ConnectionRefused => 0x05,
            Reply::CommandNotSupported => 0x07,
            Reply::AddressTypeNotSupported => 0x08,
        }
    }
}

/// What a request that cannot be read is answered with.
impl From<&ParseError> for Reply {
    fn from(error: &ParseError) -> Reply {
        match error {
            ParseError::Command { .. } => Reply::CommandNotSupported,
            ParseError::AddressType { .. } => Reply::AddressTypeNotSupported,
            ParseError::Name => Reply::NotAllowedByRuleset,
            ParseError::Version { .. } | ParseError::NoMethod | ParseError::Reserved { .. } | ParseError::PortZero => {
                Reply::GeneralFailure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(name: &[u8], port: u16) -> Vec<u8> {
        let mut bytes = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes
    }

    #[test]
    fn reads_each_kind_of_address() {
        let v4 = request(&[5, 1, 0, 1, 127, 0, 0, 1, 0x1F, 0x90]).unwrap().unwrap();
        assert_eq!(v4.message.to_string(), "127.0.0.1:8080");
        assert_eq!(v4.len, 10);
        let mut v6 = vec![5, 1, 0, 4];
        v6.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        v6.extend_from_slice(&[0, 80]);
        assert_eq!(request(&v6).unwrap().unwrap().message.to_string(), "[::1]:80");
        let name = request(&by_name(b"llm.example", 443)).unwrap().unwrap();
        assert_eq!(name.message.to_string(), "llm.example:443");
    }

    #[test]
    fn an_address_written_as_a_name_is_an_address() {
        assert_eq!(request(&by_name(b"10.0.0.1", 1)).unwrap().unwrap().message.host, Host::V4([10, 0, 0, 1].into()));
        for name in [&b"::1"[..], b"[::1]"] {
            assert_eq!(request(&by_name(name, 1)).unwrap().unwrap().message.host, Host::V6(Ipv6Addr::LOCALHOST));
        }
    }

    #[test]
    fn every_prefix_of_a_message_is_not_whole_yet() {
        let whole = by_name(&[b'a'; 255], 443);
        assert_eq!(whole.len(), MAX_MESSAGE);
        for len in 0..whole.len() {
            assert_eq!(request(&whole[..len]), Ok(None), "{len} bytes");
        }
        let greeting_bytes = [5, 3, 1, 2, 0];
        for len in 0..greeting_bytes.len() {
            assert_eq!(greeting(&greeting_bytes[..len]), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn leaves_what_follows_a_message() {
        let mut input = by_name(b"a.example", 443);
        let len = input.len();
        input.extend_from_slice(b"early");
        assert_eq!(request(&input).unwrap().unwrap().len, len);
        assert_eq!(greeting(&[5, 1, 0, 5, 1]).unwrap().unwrap().len, 3);
    }

    #[test]
    fn refuses_what_is_not_connect_without_authentication() {
        assert_eq!(greeting(&[4, 1]), Err(ParseError::Version { seen: 4 }));
        assert_eq!(greeting(b"GET / HTTP/1.1"), Err(ParseError::Version { seen: b'G' }));
        assert_eq!(greeting(&[5, 0]), Err(ParseError::NoMethod));
        assert_eq!(greeting(&[5, 1, 2]), Err(ParseError::NoMethod));
        assert_eq!(request(&[4, 1, 0, 1]), Err(ParseError::Version { seen: 4 }));
        assert_eq!(request(&[5, 2, 0, 1]), Err(ParseError::Command { seen: 2 }));
        assert_eq!(request(&[5, 3, 0, 1]), Err(ParseError::Command { seen: 3 }));
        assert_eq!(request(&[5, 1, 9, 1]), Err(ParseError::Reserved { seen: 9 }));
        assert_eq!(request(&[5, 1, 0, 2]), Err(ParseError::AddressType { seen: 2 }));
        assert_eq!(request(&[5, 1, 0, 1, 1, 1, 1, 1, 0, 0]), Err(ParseError::PortZero));
    }

    #[test]
    fn refuses_names_that_no_name_is() {
        for name in
            [&b""[..], b"a b", b"a\nb", b"a\0b", b"a:80", b"user@host", b"a/b", b"\xFF\xFE", b"[::1", b"[[::1]]"]
        {
            assert_eq!(request(&by_name(name, 80)), Err(ParseError::Name), "{name:?}");
        }
    }

    #[test]
    fn a_reply_has_the_length_of_an_ipv4_address() {
        assert_eq!(Reply::ConnectionRefused.to_bytes(), [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
