//! Where a TPM is reached: a device of the kernel, or the sockets of swtpm in tests and demonstrations.

use super::TpmError;
use super::frame::HEADER;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// No response is longer (the kernel's TPM_BUFSIZE, and libtpms' TPM_BUFFER_MAX).
const MAX_RESPONSE: usize = 4096;
/// A socket that says nothing for so long is given up. The kernel's devices have clocks of their own.
const SOCKET_ANSWER: Duration = Duration::from_secs(30);

/// Takes one command and gives the response to it.
pub trait Link: Send {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// Where a TPM is. Spelled as a path, or as tpm2-tools spell it: `device:PATH`, `swtpm:path=PATH`, `swtpm:host=HOST,port=PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Device(PathBuf),
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{seen:?} is no TPM: write a device's path, device:PATH, swtpm:path=PATH, or swtpm:host=HOST,port=PORT")]
pub struct AddressError {
    pub seen: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError { seen: text.to_owned() };
        if let Some(path) = text.strip_prefix("device:").or(text.starts_with('/').then_some(text)) {
            return if path.is_empty() { Err(error()) } else { Ok(Address::Device(path.into())) };
        }
        let options = text.strip_prefix("swtpm:").ok_or_else(error)?;
        if let Some(path) = options.strip_prefix("path=").filter(|path| !path.is_empty()) {
            return Ok(Address::Unix(path.into()));
        }
        let (mut host, mut port) = (None, None);
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("host", value)) if !value.is_empty() && host.is_none() => host = Some(value.to_owned()),
                Some(("port", value)) if port.is_none() => port = Some(value.parse().map_err(|_| error())?),
                _ => return Err(error()),
            }
        }
        match (host, port) {
            (Some(host), Some(port)) => Ok(Address::Tcp { host, port }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Device(path) => write!(f, "{}", path.display()),
            Address::Unix(path) => write!(f, "swtpm:path={}", path.display()),
            Address::Tcp { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

impl Address {
    /// Opens it; no command is sent yet.
    pub fn open(&self) -> Result<Box<dyn Link>, TpmError> {
        let opened: io::Result<Box<dyn Link>> = match self {
            Address::Device(path) => {
                OpenOptions::new().read(true).write(true).open(path).map(|f| Box::new(Device(f)) as _)
            }
            Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(SOCKET_ANSWER))?;
                Ok(Box::new(Socket(stream)) as _)
            }),
            Address::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).and_then(|stream| {
                stream.set_read_timeout(Some(SOCKET_ANSWER))?;
                stream.set_nodelay(true)?;
                Ok(Box::new(Socket(stream)) as _)
            }),
        };
        opened.map_err(|error| self.failed(error))
    }

    pub(super) fn failed(&self, error: io::Error) -> TpmError {
        let address = self.to_string();
        match error.kind() {
            io::ErrorKind::NotFound => TpmError::Absent { address },
            io::ErrorKind::PermissionDenied => TpmError::Denied { address },
            // /dev/tpm0 has one user at a time.
            io::ErrorKind::ResourceBusy => {
                TpmError::Busy { code: super::Code(0x922), retry_after: Duration::from_secs(1) }
            }
            _ => TpmError::Io { address, error: Arc::new(error) },
        }
    }
}

/// A character device: a whole command in one write, the whole response in one read.
struct Device(File);

impl Link for Device {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if self.0.write(command)? != command.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut response = vec![0; MAX_RESPONSE];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}

/// swtpm's data channel: the same bytes as a stream.
struct Socket<S>(S);

impl<S: Read + Write + Send> Link for Socket<S> {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut head = [0; HEADER];
        self.0.read_exact(&mut head)?;
        let [_, _, a, b, c, d, ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if !(HEADER..=MAX_RESPONSE).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a response of {length} bytes")));
        }
        let mut rest = vec![0; length - HEADER];
        self.0.read_exact(&mut rest)?;
        Ok([&head[..], &rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spelled_as_tpm2_tools_spell_them() {
        let address = |text: &str| text.parse::<Address>();
        assert_eq!(address("/dev/tpmrm0"), Ok(Address::Device("/dev/tpmrm0".into())));
        assert_eq!(address("device:/dev/tpm0"), Ok(Address::Device("/dev/tpm0".into())));
        assert_eq!(address("swtpm:path=/run/t"), Ok(Address::Unix("/run/t".into())));
        let tcp = Address::Tcp { host: "127.0.0.1".into(), port: 2321 };
        assert_eq!(address("swtpm:host=127.0.0.1,port=2321"), Ok(tcp.clone()));
        assert_eq!(tcp.to_string().parse(), Ok(tcp));
        for wrong in ["", "tpm0", "device:", "swtpm:", "swtpm:path=", "swtpm:port=1", "swtpm:host=a,port=x", "tabrmd"] {
            assert_eq!(address(wrong), Err(AddressError { seen: wrong.into() }), "{wrong}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_and_one_that_is_denied_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Address::Device(dir.path().join("tpmrm0"));
        assert!(matches!(absent.open().err(), Some(TpmError::Absent { .. })));
        let denied = absent.failed(io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("udev rule"), "{denied}");
        assert!(matches!(absent.failed(io::ErrorKind::ResourceBusy.into()), TpmError::Busy { .. }));
    }
}
