//! The socket that a guest's TPM code connects to, in the place of `/dev/tpmrm0`: one TPM behind many connections.
//!
//! Speaks what the TCTI `swtpm` of tpm2-tss speaks: raw commands and responses on the data socket, and a control socket beside it
//! (the same path with `.ctrl`) on which nothing of importance happens. That TCTI connects anew for each command, so a connection says
//! nothing of who loaded what; in the place of the kernel's resource manager, the oldest object or session makes room when there is
//! none. A [`Stand`] sees each command first and may answer in the TPM's place, which is how an emulated
//! cloud gives what swtpm cannot: an HCL report that is made when it is read, a vendor's command.

use super::command::{self, Channel, FLUSH_CONTEXT, Fields, HEADER, read_message, response_code};
use super::objects;
use super::swtpm::Swtpm;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// No command is longer (libtpms' TPM_BUFFER_MAX).
const MAX_COMMAND: usize = 4096;
/// TPM_RC_OBJECT_MEMORY and TPM_RC_SESSION_MEMORY (part 2 §6.6.3): no room for another one.
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
/// Transient objects have handles from here on, sessions below (part 2 §7.4).
const FIRST_OBJECT: u32 = 0x8000_0000;
/// Commands whose response begins with the handle of something loaded (part 3): HMAC_Start, CreatePrimary, Load, ContextLoad,
/// LoadExternal, StartAuthSession, HashSequenceStart, CreateLoaded.
const LOADS: [u32; 8] = [0x15B, 0x131, 0x157, 0x161, 0x167, 0x176, 0x186, 0x191];

/// Answers some commands in the TPM's place.
pub trait Stand: Send {
    /// `Some` is the response; `None` lets the command pass. `tpm` is there for what the answer needs from it.
    fn answer(&mut self, command: &[u8], tpm: &mut dyn Channel) -> Option<Vec<u8>>;
}

/// Lets everything pass.
#[derive(Clone, Copy, Debug)]
pub struct Passed;

impl Stand for Passed {
    fn answer(&mut self, _: &[u8], _: &mut dyn Channel) -> Option<Vec<u8>> {
        None
    }
}

/// The front while it listens. Dropping it ends it and the TPM behind it.
pub struct Front {
    path: PathBuf,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    tpm: Mutex<Behind>,
    ended: AtomicBool,
}

struct Behind {
    tpm: Swtpm,
    stand: Box<dyn Stand>,
    /// What is loaded, the oldest first.
    loaded: Vec<u32>,
}

impl Behind {
    fn answer(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if let Some(answer) = self.stand.answer(command, &mut self.tpm) {
            return Ok(answer);
        }
        let mut answer = self.tpm.transmit(command)?;
        while matches!(response_code(&answer), Some(OBJECT_MEMORY | SESSION_MEMORY)) {
            let objects = response_code(&answer) == Some(OBJECT_MEMORY);
            let oldest = self.loaded.iter().position(|handle| (*handle >= FIRST_OBJECT) == objects);
            let Some(oldest) = oldest.map(|at| self.loaded.remove(at)) else { break };
            // A session that ended with its last use is gone already.
            let _ = objects::flush(&mut self.tpm, oldest);
            answer = self.tpm.transmit(command)?;
        }
        let code = command::code(command);
        let loads = code.is_some_and(|code| LOADS.contains(&code));
        if response_code(&answer) == Some(0) && (loads || code == Some(FLUSH_CONTEXT)) {
            let holder = if loads { answer.as_slice() } else { command };
            if let Some(handle) = holder.get(HEADER..).and_then(|rest| Fields::new(rest).u32()) {
                self.loaded.retain(|other| *other != handle);
                self.loaded.extend(loads.then_some(handle));
            }
        }
        Ok(answer)
    }
}

impl Front {
    /// Listens at `path` and `path.ctrl`.
    pub fn listen(path: &Path, tpm: Swtpm, stand: Box<dyn Stand>) -> io::Result<Front> {
        let control = control_path(path);
        let listeners = (bind(path)?, bind(&control)?);
        let shared = Arc::new(Shared {
            tpm: Mutex::new(Behind { tpm, stand, loaded: Vec::new() }),
            ended: AtomicBool::new(false),
        });
        let threads = vec![
            accept(listeners.0, Arc::clone(&shared), |stream, shared| serve(stream, &shared)),
            accept(listeners.1, Arc::clone(&shared), |stream, _| control_channel(stream)),
        ];
        Ok(Front { path: path.to_owned(), shared, threads })
    }

    /// The configuration of tpm2-tss that leads here.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.path.display())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The TPM, past the stand, for somebody who changes it while it is in use.
    pub fn with_tpm<T>(&self, use_it: impl FnOnce(&mut dyn Channel) -> T) -> T {
        use_it(&mut self.shared.behind().tpm)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for path in [self.path.clone(), control_path(&self.path)] {
            // Wakes the thread that waits for a connection.
            drop(UnixStream::connect(&path));
            let _ = fs::remove_file(&path);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn behind(&self) -> MutexGuard<'_, Behind> {
        self.tpm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn control_path(path: &Path) -> PathBuf {
    let mut control = path.as_os_str().to_owned();
    control.push(".ctrl");
    control.into()
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

fn accept(
    listener: UnixListener,
    shared: Arc<Shared>,
    serve: impl Fn(UnixStream, Arc<Shared>) + Clone + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.ended.load(Ordering::SeqCst) {
                return;
            }
            let (Ok(stream), serve, shared) = (stream, serve.clone(), Arc::clone(&shared)) else { continue };
            std::thread::spawn(move || serve(stream, shared));
        }
    })
}

/// One client: its commands one by one.
fn serve(mut stream: UnixStream, shared: &Shared) {
    while let Ok(command) = read_message(&mut stream, MAX_COMMAND) {
        let answer = shared.behind().answer(&command);
        if answer.and_then(|answer| stream.write_all(&answer)).is_err() {
            return;
        }
    }
}

/// Reads what comes and says that it worked; ends with the client.
fn control_channel(mut stream: UnixStream) {
    let mut command = [0; 64];
    while matches!(stream.read(&mut command), Ok(n) if n > 0) {
        if stream.write_all(&[0; 4]).is_err() {
            return;
        }
    }
}
