//! The open audit log of one process. A thread of its own writes it ([`Store`]), so that no connection waits for another's disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy_core::exit::chain;
use ratls::appraise::AttestationResult;
use ratls::bundle::Bundle;
use ratls::digest::Sha256Digest;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::archive;
use super::line::{self, GENESIS, Line, VERSION};
use super::store::Store;
use crate::tools::policy::PolicySource;

/// Lines that are written before one write of the disk.
const GROUP: usize = 64;

/// How large the log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A file is closed and a new one begun before it gets larger.
    pub file_bytes: u64,
    /// The same, before the evidence that its lines name gets larger than this together.
    pub evidence_bytes: u64,
    /// Closed files that are kept; with older ones goes the evidence that only they name.
    pub files: usize,
    pub sync: Sync,
    pub on_failure: OnFailure,
}

/// What becomes of a connection whose verdict cannot be written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// No line, no tunnel.
    #[default]
    Refuse,
    /// The verdict counts all the same, and the log has a gap that only this program's own log tells of.
    Serve,
}

/// When a line is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before its connection may carry a byte. It costs each connection a write of the disk; those that wait together share one.
    EachLine,
    /// At most this long after it was written, and the time of one write of the disk. Lines that come meanwhile go together.
    Within(Duration),
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    #[error("the audit log in {} cannot be used", folder.display())]
    Io { folder: PathBuf, source: io::Error },
    #[error("the folder {} of [audit] cannot be made ({source}): choose a folder that this user can create", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("the audit log in {} is written by another program; each needs a folder of its own", folder.display())]
    InUse { folder: PathBuf },
    #[error("{}: the last line is no line of an audit log; move the folder away, and a new log begins", file.display())]
    LastLine { file: PathBuf },
    #[error("the audit log failed before; the program must be started again")]
    Broken,
}

/// A line is in its file before its connection may carry a byte; where it cannot be written there is no tunnel. So a crash of the
/// program loses nothing. When it is on the disk [`Sync`] says: evidence before the lines that name it, and a crash of the machine
/// loses at most what was written within that time. Dropping the log brings all of it there.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    entries: Option<Sender<Entry>>,
    reached: Arc<Mutex<Reached>>,
    thread: Option<JoinHandle<()>>,
    on_failure: OnFailure,
    /// Lines that could not be written.
    lost: AtomicU64,
}

/// A policy that the log has, with the files that it named when it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPolicy {
    policy: Sha256Digest,
    files: Sha256Digest,
}

#[derive(Debug)]
struct Entry {
    line: Line,
    evidence: Vec<u8>,
    written: oneshot::Sender<Result<(), AuditError>>,
}

/// How far the log is.
#[derive(Clone, Copy, Debug)]
struct Reached {
    lines: u64,
    head: Sha256Digest,
    synced: u64,
}

impl AuditLog {
    /// Opens the log in a folder, made if need be, and goes on where it ended.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<AuditLog, AuditError> {
        let store = Store::open(folder, bounds)?;
        tracing::info!(folder = %folder.display(), lines = store.lines(), head = %store.head(), "audit log");
        let reached = Arc::new(Mutex::new(Reached::of(&store)));
        let (entries, coming) = channel();
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = {
            let reached = Arc::clone(&reached);
            thread.spawn(move || Writer { store, sync: bounds.sync, reached }.run(&coming))
        };
        let thread = thread.map_err(|source| AuditError::Io { folder: folder.to_owned(), source })?;
        Ok(AuditLog {
            folder: folder.to_owned(),
            entries: Some(entries),
            reached,
            thread: Some(thread),
            on_failure: bounds.on_failure,
            lost: AtomicU64::new(0),
        })
    }

    /// Keeps a policy and the files that it names, so that its verdicts can be made again where they are no more. An error where a
    /// file is not what it was when the policy was loaded.
    pub fn keep_policy(&self, policy: Sha256Digest, source: &PolicySource) -> Result<KeptPolicy, AuditError> {
        let failed = |source| AuditError::Io { folder: self.folder.clone(), source };
        Ok(KeptPolicy { policy, files: archive::keep(&self.folder, policy, source).map_err(failed)? })
    }

    /// Writes one verdict. It is written, too, where this future is dropped.
    pub async fn append(
        &self,
        guest: &str,
        address: &str,
        under: KeptPolicy,
        bundle: &Bundle,
        result: &AttestationResult,
    ) -> Result<(), AuditError> {
        let (evidence, connection) = line::split(bundle);
        let line = Line {
            v: VERSION,
            // Its place in the chain comes when it is written.
            seq: 0,
            prev: GENESIS,
            at: result.at().to_string(),
            guest: guest.to_owned(),
            address: address.to_owned(),
            verdict: result.verdict().as_str().to_owned(),
            refused_by: result.refused_by().map(|stage| stage.as_str().to_owned()),
            fatal: line::fatal(result),
            levels: result.level_words(),
            simulated: result.simulated(),
            policy: under.policy,
            files: under.files,
            evidence: line::digest(&evidence),
            connection,
            ak_witnessed: bundle.witnessed_ak,
        };
        let (written, answer) = oneshot::channel();
        let entries = self.entries.as_ref().ok_or(AuditError::Broken)?;
        let outcome = match entries.send(Entry { line, evidence, written }) {
            Ok(()) => answer.await.unwrap_or(Err(AuditError::Broken)),
            Err(_) => Err(AuditError::Broken),
        };
        match (outcome, self.on_failure) {
            (Err(error), OnFailure::Serve) => {
                self.note_lost(&error);
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }

    /// Counts a line that is lost; logged when the count doubles, so that a full disk does not fill the log as well.
    fn note_lost(&self, error: &AuditError) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            tracing::error!(lost, error = %chain(error), "a verdict is not in the audit log, and its connection is served");
        }
    }

    /// Verdicts that counted without a line, under [`OnFailure::Serve`].
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Lines so far, and the SHA-256 of the last: noted elsewhere, it shows later whether lines were cut off.
    pub fn head(&self) -> (u64, Sha256Digest) {
        let reached = self.reached();
        (reached.lines, reached.head)
    }

    /// Lines that are on the disk, with all that they name.
    pub fn synced(&self) -> u64 {
        self.reached().synced
    }

    fn reached(&self) -> Reached {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        drop(self.entries.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the audit log ended early");
        }
    }
}

impl Reached {
    fn of(store: &Store) -> Reached {
        Reached { lines: store.lines(), head: store.head(), synced: store.synced() }
    }
}

/// The thread that writes.
struct Writer {
    store: Store,
    sync: Sync,
    reached: Arc<Mutex<Reached>>,
}

impl Writer {
    /// Until the log is dropped.
    fn run(mut self, coming: &Receiver<Entry>) {
        let mut due: Option<Instant> = None;
        loop {
            let first = match due {
                None => coming.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => coming.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => {
                    self.group(first, coming);
                    if let Sync::Within(time) = self.sync {
                        due.get_or_insert_with(|| Instant::now() + time);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.reach_disk();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                self.reach_disk();
                due = None;
            }
        }
    }

    /// Writes what is there, and answers when it counts.
    fn group(&mut self, first: Entry, coming: &Receiver<Entry>) {
        let mut waiting = Vec::new();
        for Entry { line, evidence, written } in std::iter::once(first).chain(coming.try_iter().take(GROUP - 1)) {
            match self.store.write(line, &evidence) {
                Ok(()) if self.sync == Sync::EachLine => waiting.push(written),
                result => {
                    self.publish();
                    // Nobody waits for it where the connection ended meanwhile.
                    let _ = written.send(result);
                }
            }
        }
        if !waiting.is_empty() {
            let synced = self.reach_disk();
            for written in waiting {
                let _ = written.send(if synced { Ok(()) } else { Err(AuditError::Broken) });
            }
        }
    }

    /// Where the disk fails, nothing more is written, and so there are no more tunnels.
    fn reach_disk(&mut self) -> bool {
        let synced = self.store.sync();
        if let Err(AuditError::Io { source, .. }) = &synced {
            tracing::error!(error = %source, "the audit log cannot be brought to the disk");
        }
        self.publish();
        synced.is_ok()
    }

    fn publish(&self) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Reached::of(&self.store);
    }
}
