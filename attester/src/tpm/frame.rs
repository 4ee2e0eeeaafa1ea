//! Commands and responses as bytes (part 1 §18): a header, handles, authorisations, parameters; all numbers big-endian.

use ratls::bytes::Reader;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// Tag, size, code.
pub(super) const HEADER: usize = 10;
/// TPM_RS_PW, an empty nonce, no attributes, an empty password.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// A command that is being written.
pub(super) struct Command {
    pub(super) name: &'static str,
    code: u32,
    handles: Vec<u8>,
    authorisations: Vec<u8>,
    parameters: Vec<u8>,
    handle_in_response: bool,
}

impl Command {
    pub(super) fn new(name: &'static str, code: u32) -> Self {
        Command {
            name,
            code,
            handles: Vec::new(),
            authorisations: Vec::new(),
            parameters: Vec::new(),
            handle_in_response: false,
        }
    }

    /// The response begins with the handle of what was made.
    pub(super) fn makes_handle(mut self) -> Self {
        self.handle_in_response = true;
        self
    }

    pub(super) fn handle(mut self, handle: u32) -> Self {
        self.handles.extend(handle.to_be_bytes());
        self
    }

    /// A handle with the empty password.
    pub(super) fn authorised(mut self, handle: u32) -> Self {
        self.authorisations.extend(EMPTY_PASSWORD);
        self.handle(handle)
    }

    /// A handle with a policy session, which ends with this command. It is bound to nothing and has no key, so its HMAC is empty.
    pub(super) fn by_policy(mut self, handle: u32, session: u32) -> Self {
        self.authorisations.extend(session.to_be_bytes());
        self.authorisations.extend([0; 5]);
        self.handle(handle)
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.parameters.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.parameters.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.parameters.extend(value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend(bytes);
        self
    }

    /// A TPM2B: the length in two bytes, then the bytes.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("what is sent to a TPM is bounded far below 64 KiB");
        self.u16(length).raw(bytes)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.handles.clone();
        if !self.authorisations.is_empty() {
            body.extend(length(self.authorisations.len()));
            body.extend(&self.authorisations);
        }
        body.extend(&self.parameters);
        let tag = if self.authorisations.is_empty() { NO_SESSIONS } else { SESSIONS };
        [&tag.to_be_bytes()[..], &length(HEADER + body.len()), &self.code.to_be_bytes(), &body].concat()
    }

    /// The handle (0 where the command makes none) and the parameters of a successful response; `None` where it is malformed.
    pub(super) fn read(&self, response: &[u8]) -> Option<Response> {
        let mut reader = Reader::new(response);
        let tag = reader.u16_be().ok()?;
        reader.take(HEADER - 2).ok()?;
        let handle = if self.handle_in_response { reader.u32_be().ok()? } else { 0 };
        let parameters = match tag {
            SESSIONS => {
                let length = reader.u32_be().ok()?;
                reader.take(usize::try_from(length).ok()?).ok()?
            }
            NO_SESSIONS => reader.remaining(),
            _ => return None,
        };
        Some(Response { handle, parameters: parameters.to_vec() })
    }
}

/// What a successful command gave.
pub(super) struct Response {
    pub(super) handle: u32,
    pub(super) parameters: Vec<u8>,
}

/// The response code, where the bytes are as long as they say.
pub(super) fn response_code(response: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(response);
    reader.u16_be().ok()?;
    let length = usize::try_from(reader.u32_be().ok()?).ok()?;
    let code = reader.u32_be().ok()?;
    (length == response.len()).then_some(code)
}

/// A TPM2B from a response.
pub(super) fn sized<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u16_be().ok()?;
    reader.take(length.into()).ok()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a command has some kilobytes").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_as_part_3_writes_them() {
        let plain = Command::new("GetCapability", 0x17A).u32(6).u32(0x100).u32(1);
        assert_eq!(hex::encode(plain.to_bytes()), "8001000000160000017a000000060000010000000001");
        let authorised = Command::new("NV_Read", 0x14E).authorised(0x4000_0001).handle(0x0140_0001).u16(4).u16(0);
        assert_eq!(
            hex::encode(authorised.to_bytes()),
            "8002000000230000014e40000001014000010000000940000009000000000000040000"
        );
    }

    #[test]
    fn a_response_is_as_long_as_it_says_or_nothing() {
        let response = hex::decode("80010000000c000000000102").unwrap();
        assert_eq!(response_code(&response), Some(0));
        assert_eq!(response_code(&response[..11]), None);
        let command = Command::new("X", 1);
        assert_eq!(command.read(&response).unwrap().parameters, [1, 2]);
        // Sessions: the parameters' length stands in front of them.
        let sessions = hex::decode("800200000011000000000000000201020000010000").unwrap();
        assert_eq!(command.read(&sessions).unwrap().parameters, [1, 2]);
        assert!(command.read(&sessions[..13]).is_none());
        assert!(Command::new("X", 1).makes_handle().read(&response).is_none());
    }
}
