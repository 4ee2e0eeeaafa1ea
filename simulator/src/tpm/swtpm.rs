//! One swtpm process with its state in a directory, reached through a unix socket of its own, ended when dropped.

use super::command::{Channel, read_message};
use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// swtpm opens its sockets within milliseconds; a loaded machine takes longer.
const START: Duration = Duration::from_secs(20);
/// Key generation in software takes seconds at worst.
const ANSWER: Duration = Duration::from_secs(60);
/// No response is longer (libtpms' TPM_BUFFER_MAX).
const MAX_RESPONSE: usize = 4096;

/// Why there is no software TPM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwtpmError {
    #[error("the program swtpm cannot be started ({0}); it comes with the Debian package swtpm")]
    NotThere(io::Error),
    #[error("swtpm ended or opened no socket: {log}")]
    Silent { log: String },
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A software TPM that runs, started up as after a reset: PCRs are at their reset values, what is in NV stays.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    stream: UnixStream,
}

impl Swtpm {
    /// The TPM whose state is in `dir`, made there if it is new. `socket` is where the process listens.
    pub fn start(dir: &Path, socket: &Path) -> Result<Swtpm, SwtpmError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SwtpmError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let _ = fs::remove_file(socket);
        let log = dir.join("swtpm.log");
        let unix = |path: &Path| format!("type=unixio,path={}", path.display());
        let child = Command::new("swtpm")
            // It ends with our connection, so that nothing is left of a process that was killed.
            .args(["socket", "--tpm2", "--terminate", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={},mode=0600", dir.display()))
            .args(["--server", &unix(socket)])
            .arg("--log")
            .arg(format!("file={},truncate", log.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(SwtpmError::NotThere)?;
        let mut child = Reaped(Some(child));
        let stream = child.connect(socket).ok_or_else(|| SwtpmError::Silent {
            log: fs::read_to_string(&log).unwrap_or_default().trim().to_owned(),
        })?;
        stream.set_read_timeout(Some(ANSWER)).map_err(io(socket))?;
        let child = child.0.take().expect("it was just put there");
        Ok(Swtpm { child, stream })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Channel for Swtpm {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(command)?;
        read_message(&mut self.stream, MAX_RESPONSE)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A child that is ended unless it is taken out.
struct Reaped(Option<Child>);

impl Reaped {
    fn connect(&mut self, socket: &Path) -> Option<UnixStream> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Some(stream);
            }
            if !matches!(self.0.as_mut()?.try_wait(), Ok(None)) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// swtpm writes its NV state with each command that changes it, so it may be ended at any time.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
