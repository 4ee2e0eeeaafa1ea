//! TPM commands as bytes, as far as provisioning needs them.
//!
//! Layouts: TCG TPM 2.0 Library, part 1 (command and response structure) and part 3 (the commands), revision 1.59. Numbers are
//! big-endian. Authorisations are empty passwords, which is what a freshly made TPM has everywhere.

use std::io::{self, Read};

/// Something that takes one command and gives the response to it.
pub trait Channel {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    #[error("the software TPM cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The response code of part 2 §6.6.
    #[error("the software TPM answered {code:#x} to command {command:#x}")]
    Code { command: u32, code: u32 },
    #[error("the software TPM answered something that is no response to command {command:#x}")]
    Malformed { command: u32 },
}

pub const CREATE_PRIMARY: u32 = 0x131;
pub const EVICT_CONTROL: u32 = 0x120;
pub const NV_UNDEFINE_SPACE: u32 = 0x122;
pub const NV_DEFINE_SPACE: u32 = 0x12A;
pub const NV_WRITE: u32 = 0x137;
pub const NV_READ: u32 = 0x14E;
pub const FLUSH_CONTEXT: u32 = 0x165;
pub const NV_READ_PUBLIC: u32 = 0x169;
pub const GET_CAPABILITY: u32 = 0x17A;
pub const PCR_READ: u32 = 0x17E;
pub const PCR_EXTEND: u32 = 0x182;

pub const OWNER: u32 = 0x4000_0001;
pub const ENDORSEMENT: u32 = 0x4000_000B;
pub const PLATFORM: u32 = 0x4000_000C;
/// TPM_RS_PW, an empty nonce, no attributes, an empty password.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// Tag, size, code.
pub const HEADER: usize = 10;

/// A command that is being written.
#[derive(Clone, Debug)]
pub struct Command {
    code: u32,
    handles: Vec<u8>,
    authorisations: usize,
    parameters: Vec<u8>,
}

impl Command {
    pub fn new(code: u32) -> Self {
        Command { code, handles: Vec::new(), authorisations: 0, parameters: Vec::new() }
    }

    pub fn handle(mut self, handle: u32) -> Self {
        self.handles.extend(handle.to_be_bytes());
        self
    }

    /// A handle that is authorised by the empty password.
    pub fn authorised(mut self, handle: u32) -> Self {
        self.authorisations += 1;
        self.handle(handle)
    }

    pub fn u16(mut self, value: u16) -> Self {
        self.parameters.extend(value.to_be_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.parameters.extend(value.to_be_bytes());
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend(bytes);
        self
    }

    /// TPM2B: the length in two bytes, then the bytes.
    pub fn sized(self, bytes: &[u8]) -> Self {
        self.raw(&sized(bytes))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.handles.clone();
        if self.authorisations > 0 {
            body.extend(length32(self.authorisations * EMPTY_PASSWORD.len()));
            body.extend(EMPTY_PASSWORD.repeat(self.authorisations));
        }
        body.extend(&self.parameters);
        let tag = if self.authorisations > 0 { SESSIONS } else { NO_SESSIONS };
        [&tag.to_be_bytes()[..], &length32(HEADER + body.len()), &self.code.to_be_bytes(), &body].concat()
    }

    /// Sends it; the handle that comes back, where the command gives one, and the parameters.
    pub fn run(&self, tpm: &mut dyn Channel) -> Result<Response, TpmError> {
        let answer = tpm.transmit(&self.to_bytes())?;
        let malformed = TpmError::Malformed { command: self.code };
        let (Some(code), Some(tag)) =
            (response_code(&answer), answer.first_chunk().map(|tag| u16::from_be_bytes(*tag)))
        else {
            return Err(malformed);
        };
        if code != 0 {
            return Err(TpmError::Code { command: self.code, code });
        }
        let mut rest = Fields::new(answer.get(HEADER..).unwrap_or_default());
        let handle = if self.code == CREATE_PRIMARY { rest.u32() } else { Some(0) };
        let parameters = match tag {
            SESSIONS => rest.u32().and_then(|length| rest.take(usize::try_from(length).ok()?)),
            _ => Some(rest.rest()),
        };
        match (handle, parameters) {
            (Some(handle), Some(parameters)) => Ok(Response { handle, parameters: parameters.to_vec() }),
            _ => Err(malformed),
        }
    }
}

/// What a command gave.
#[derive(Clone, Debug)]
pub struct Response {
    /// 0 where the command gives none.
    pub handle: u32,
    pub parameters: Vec<u8>,
}

pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a TPM's structures have fewer than 65,536 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn length32(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a command has some kilobytes").to_be_bytes()
}

/// The response code of a response that is at least a header.
pub fn response_code(answer: &[u8]) -> Option<u32> {
    Fields::new(answer.get(6..)?).u32()
}

/// The command code of a command.
pub fn code(command: &[u8]) -> Option<u32> {
    Fields::new(command.get(6..)?).u32()
}

/// A response without sessions and parameters that says only this.
pub fn refusal(code: u32) -> Vec<u8> {
    [&NO_SESSIONS.to_be_bytes()[..], &length32(HEADER), &code.to_be_bytes()].concat()
}

/// A successful response with these parameters, to a command that had password sessions or none.
pub fn success(sessions: usize, parameters: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    if sessions > 0 {
        body.extend(length32(parameters.len()));
    }
    body.extend(parameters);
    // An empty nonce, continueSession, an empty HMAC.
    body.extend([0, 0, 1, 0, 0].repeat(sessions));
    let tag = if sessions > 0 { SESSIONS } else { NO_SESSIONS };
    [&tag.to_be_bytes()[..], &length32(HEADER + body.len()), &[0; 4], &body].concat()
}

/// A command as the front sees it pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    pub code: u32,
    pub handles: Vec<u32>,
    pub sessions: usize,
    pub parameters: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Takes a command with this many handles apart; `None` where it is not one.
    pub fn of(command: &'a [u8], handles: usize) -> Option<Self> {
        let mut fields = Fields::new(command);
        let tag = fields.u16()?;
        let (_, code) = (fields.u32()?, fields.u32()?);
        let handles = (0..handles).map(|_| fields.u32()).collect::<Option<_>>()?;
        let mut sessions = 0;
        if tag == SESSIONS {
            let length = usize::try_from(fields.u32()?).ok()?;
            let mut area = Fields::new(fields.take(length)?);
            while !area.rest().is_empty() {
                area.u32()?;
                let nonce = area.u16()?;
                area.take(nonce.into())?;
                area.take(1)?;
                let hmac = area.u16()?;
                area.take(hmac.into())?;
                sessions += 1;
            }
        }
        Some(Seen { code, handles, sessions, parameters: fields.rest() })
    }
}

/// Reads one command or response, whose length stands in bytes 2 to 5.
pub fn read_message(stream: &mut impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 6];
    stream.read_exact(&mut message)?;
    let length = message.last_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEADER..=max).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a TPM message of {length} bytes")));
    }
    message.resize(length, 0);
    stream.read_exact(message.get_mut(6..).unwrap_or_default())?;
    Ok(message)
}

/// Big-endian fields, read from the front.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Fields(bytes)
    }

    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// A TPM2B.
    pub fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_as_part_3_writes_them() {
        let plain = Command::new(GET_CAPABILITY).u32(5).u32(0).u32(1);
        assert_eq!(hex::encode(plain.to_bytes()), "8001000000160000017a000000050000000000000001");
        let authorised = Command::new(NV_READ).authorised(OWNER).handle(0x0140_0001).u16(32).u16(0);
        assert_eq!(
            hex::encode(authorised.to_bytes()),
            "8002000000230000014e4000000101400001000000094000000900000000000020\
             0000"
        );
    }

    #[test]
    fn what_is_written_is_seen() {
        let bytes = Command::new(NV_READ).authorised(OWNER).handle(7).u16(32).u16(0).to_bytes();
        let seen = Seen::of(&bytes, 2).unwrap();
        assert_eq!((seen.code, seen.sessions, seen.parameters), (NV_READ, 1, &[0, 32, 0, 0][..]));
        assert_eq!(seen.handles, [OWNER, 7]);
        assert_eq!(Seen::of(&bytes[..15], 2), None);
    }
}
