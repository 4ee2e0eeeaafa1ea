//! The small frames that open and end tunnels and connections: OPEN, ACCEPT, REFUSE, CLOSE.

use super::cbor::{CborError, Decoder, Encoder};
use super::limits::*;

/// How a tunnel wants to be carried (OPEN key 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Framed = 0,
    /// Reserved; answered by REFUSE.
    Raw = 1,
    /// A control connection. Answered by REFUSE until both sides have the feature.
    Control = 2,
}

/// The client asks for tunnel `number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Counts from 0 on each connection.
    pub number: u64,
    pub mode: Mode,
    /// Compared with the guest's configured names, never dialled.
    pub target: Option<String>,
    /// What the application will speak, if the client knows.
    pub inner_alpn: Option<String>,
    pub features: u64,
    /// Sent only after a positive verdict.
    pub token: Option<Vec<u8>>,
}

/// The guest's upstream is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub number: u64,
    /// The guest ends the connection after this many seconds, whatever it carries.
    pub max_lifetime_secs: u64,
}

/// This tunnel does not come about; the connection lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    pub number: u64,
    pub code: RefuseCode,
    /// Logged, never trusted.
    pub text: String,
}

/// The connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: CloseCode,
    /// 0 where trying again makes no difference.
    pub retry_after_ms: u64,
    /// Logged, never trusted.
    pub text: String,
    /// How many ACCEPTs there were on this connection. A tunnel without one has had no effects.
    pub accepted: u64,
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A code that this version does not know.
            Other(u16),
        }
        impl $name {
            pub const fn value(self) -> u16 {
                match self { $($name::$variant => $value,)+ $name::Other(value) => value }
            }
            const fn from_value(value: u16) -> Self {
                match value { $($value => $name::$variant,)+ other => $name::Other(other) }
            }
        }
    };
}

codes!(
    /// Why a connection ends.
    CloseCode {
        /// Everything on it ended as it should.
        Done = 0x0000,
        /// The sender is being shut down.
        GoingAway = 0x0001,
        /// It was idle for too long.
        Idle = 0x0002,
        /// It reached its lifetime.
        Lifetime = 0x0003,
        /// The other side broke the protocol.
        Protocol = 0x0100,
        /// A limit of the sender was reached.
        Limit = 0x0101,
        /// A tunnel ended without FIN: a reset or an error at one of the outer ends.
        Abort = 0x0102,
        /// The other side was too slow.
        Deadline = 0x0103,
        /// The client does not accept the evidence.
        EvidenceRefused = 0x0200,
        /// A re-attestation failed.
        ReattestFailed = 0x0201,
        /// The hardware gives no evidence at the moment.
        AttestationUnavailable = 0x0300,
        /// Too many connections wait for evidence.
        QueueFull = 0x0301,
        /// The access token is missing or wrong.
        AccessDenied = 0x0400,
    }
);

codes!(
    /// Why a tunnel does not come about.
    RefuseCode {
        /// No such target.
        UnknownTarget = 1,
        /// The upstream refused the connection.
        UpstreamRefused = 2,
        /// The upstream could not be reached.
        UpstreamUnreachable = 3,
        /// The upstream did not answer in time.
        UpstreamTimeout = 4,
        /// The mode is not supported.
        UnsupportedMode = 5,
        /// A limit of the guest was reached.
        Limit = 6,
    }
);

fn number_map(
    what: &'static str,
    body: &[u8],
    mut each: impl FnMut(&mut Decoder<'_>, u64) -> Result<bool, CborError>,
) -> Result<(), CborError> {
    let mut d = Decoder::new(body);
    d.map(what, 16, |d, key| match key {
        64.. => d.skip(),
        key if each(d, key)? => Ok(()),
        key => Err(CborError::UnknownKey { what, key }),
    })?;
    d.finish()
}

fn required<T>(what: &'static str, key: u64, value: Option<T>) -> Result<T, CborError> {
    value.ok_or(CborError::MissingKey { what, key })
}

fn u16_code(d: &mut Decoder<'_>, what: &'static str) -> Result<u16, CborError> {
    let value = d.uint()?;
    u16::try_from(value).map_err(|_| CborError::Value { what, value })
}

impl Open {
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "OPEN";
        let (mut number, mut mode, mut target, mut inner_alpn, mut features, mut token) =
            (None, None, None, None, None, None);
        number_map(WHAT, body, |d, key| {
            match key {
                0 => number = Some(d.uint()?),
                1 => inner_alpn = Some(d.text("inner ALPN", MAX_TARGET)?.to_owned()),
                2 => target = Some(d.text("target", MAX_TARGET)?.to_owned()),
                3 => {
                    mode = Some(match d.uint()? {
                        0 => Mode::Framed,
                        1 => Mode::Raw,
                        2 => Mode::Control,
                        value => return Err(CborError::Value { what: "mode", value }),
                    })
                }
                5 => features = Some(d.uint()?),
                6 => token = Some(d.bytes("token", MAX_TOKEN)?.to_vec()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Open {
            number: required(WHAT, 0, number)?,
            mode: required(WHAT, 3, mode)?,
            features: required(WHAT, 5, features)?,
            target,
            inner_alpn,
            token,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let optional = [self.inner_alpn.is_some(), self.target.is_some(), self.token.is_some()];
        let mut e = Encoder::new();
        e.map(3 + optional.iter().filter(|p| **p).count()).uint(0).uint(self.number);
        if let Some(alpn) = &self.inner_alpn {
            e.uint(1).text(alpn);
        }
        if let Some(target) = &self.target {
            e.uint(2).text(target);
        }
        e.uint(3).uint(self.mode as u64).uint(5).uint(self.features);
        if let Some(token) = &self.token {
            e.uint(6).bytes(token);
        }
        e.finish()
    }
}

impl Accept {
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "ACCEPT";
        let (mut number, mut lifetime) = (None, None);
        number_map(WHAT, body, |d, key| {
            match key {
                0 => number = Some(d.uint()?),
                2 => lifetime = Some(d.uint()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Accept { number: required(WHAT, 0, number)?, max_lifetime_secs: required(WHAT, 2, lifetime)? })
    }

    pub fn encode(&self) -> Vec<u8> {
        Encoder::new().map(2).uint(0).uint(self.number).uint(2).uint(self.max_lifetime_secs).finish()
    }
}

impl Refuse {
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "REFUSE";
        let (mut number, mut code, mut text) = (None, None, None);
        number_map(WHAT, body, |d, key| {
            match key {
                0 => number = Some(d.uint()?),
                1 => code = Some(RefuseCode::from_value(u16_code(d, "code")?)),
                2 => text = Some(d.text_or_empty("text", MAX_TEXT)?.to_owned()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Refuse {
            number: required(WHAT, 0, number)?,
            code: required(WHAT, 1, code)?,
            text: required(WHAT, 2, text)?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.map(3).uint(0).uint(self.number).uint(1).uint(self.code.value().into()).uint(2).text(short(&self.text));
        e.finish()
    }
}

impl Close {
    pub fn new(code: CloseCode, text: impl Into<String>) -> Self {
        Close { code, retry_after_ms: 0, text: text.into(), accepted: 0 }
    }

    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "CLOSE";
        let (mut code, mut retry, mut text, mut accepted) = (None, None, None, None);
        number_map(WHAT, body, |d, key| {
            match key {
                0 => code = Some(CloseCode::from_value(u16_code(d, "code")?)),
                1 => retry = Some(d.uint()?),
                2 => text = Some(d.text_or_empty("text", MAX_TEXT)?.to_owned()),
                3 => accepted = Some(d.uint()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Close {
            code: required(WHAT, 0, code)?,
            retry_after_ms: required(WHAT, 1, retry)?,
            text: required(WHAT, 2, text)?,
            accepted: required(WHAT, 3, accepted)?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.map(4).uint(0).uint(self.code.value().into()).uint(1).uint(self.retry_after_ms);
        e.uint(2).text(short(&self.text)).uint(3).uint(self.accepted).finish()
    }
}

/// Cuts at a character boundary so that our own texts always fit.
fn short(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_back_as_they_went() {
        let open = Open {
            number: 3,
            mode: Mode::Framed,
            target: Some("llm.example".into()),
            inner_alpn: None,
            features: 1,
            token: Some(vec![1; 32]),
        };
        assert_eq!(Open::parse(&open.encode()), Ok(open));
        let accept = Accept { number: 3, max_lifetime_secs: 86_400 };
        assert_eq!(Accept::parse(&accept.encode()), Ok(accept));
        let refuse = Refuse { number: 3, code: RefuseCode::UpstreamRefused, text: "no".into() };
        assert_eq!(Refuse::parse(&refuse.encode()), Ok(refuse));
        let close = Close { code: CloseCode::Other(0x7777), retry_after_ms: 5, text: "é".repeat(150), accepted: 2 };
        let back = Close::parse(&close.encode()).unwrap();
        assert_eq!((back.code, back.text), (close.code, "é".repeat(100)));
    }

    #[test]
    fn unknown_modes_keys_and_missing_keys_are_refused() {
        assert_eq!(Open::parse(&[0xA3, 0, 0, 3, 3, 5, 0]), Err(CborError::Value { what: "mode", value: 3 }));
        assert_eq!(Open::parse(&[0xA2, 0, 0, 3, 0]), Err(CborError::MissingKey { what: "OPEN", key: 5 }));
        assert_eq!(Accept::parse(&[0xA3, 0, 0, 2, 0, 7, 0]), Err(CborError::UnknownKey { what: "ACCEPT", key: 7 }));
        assert_eq!(Close::parse(&[0xA1, 0, 0x1A, 0, 1, 0, 0]), Err(CborError::Value { what: "code", value: 65_536 }));
    }
}
