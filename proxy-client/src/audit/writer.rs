//! Writes the audit log: lines in files that are rotated, evidence and policies beside them, each once.
//!
//! A line is in the file before its connection may carry a byte; where it cannot be written there is no tunnel. So a crash of the
//! program loses nothing. When it is on the disk [`Sync`] says: a thread brings it there, evidence before the lines that name it, and a
//! crash of the machine loses at most what was written within that time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ratls::appraise::AttestationResult;
use ratls::bundle::Bundle;
use ratls::digest::Sha256Digest;

use super::archive::{self, once, sync_folder};
use super::line::{self, GENESIS, Line, VERSION};
use super::{CURRENT, EVIDENCE, FILES, MAX_LINE, POLICIES, rotated};
use crate::tools::policy::PolicyText;

/// How large the log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A file is closed and a new one begun before it gets larger.
    pub file_bytes: u64,
    /// Closed files that are kept; with older ones goes the evidence that only they name.
    pub files: usize,
    pub sync: Sync,
}

/// When a line is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before its connection may carry a byte. It costs each connection a write of the disk.
    EachLine,
    /// At most this long after it was written, and the time of one write of the disk. Lines that come meanwhile go together.
    Within(Duration),
}

/// The open log of one process.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    bounds: Bounds,
    shared: Arc<Shared>,
    /// Ends, with everything on the disk, when the log is dropped.
    syncing: Option<JoinHandle<()>>,
}

/// What the thread that syncs has in common with who writes.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    seq: u64,
    head: Sha256Digest,
    /// Evidence that is known to be archived; only saves looking.
    archived: BTreeSet<Sha256Digest>,
    /// By policy, the list of its files.
    lists: BTreeMap<Sha256Digest, Sha256Digest>,
    /// Evidence that was written and is not known to be on the disk.
    unsynced: Vec<PathBuf>,
    /// Lines on the disk.
    synced: u64,
    /// No more comes.
    closing: bool,
    /// After a failed write the end of the file is unknown; nothing more is written.
    broken: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    #[error("the audit log in {} cannot be used", folder.display())]
    Io { folder: PathBuf, source: io::Error },
    #[error("the folder {} of [audit] cannot be made ({source}): choose a folder that this user can create", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("{}: the last line is no line of an audit log; move the folder away, and a new log begins", file.display())]
    LastLine { file: PathBuf },
    #[error("the audit log failed before; the program must be started again")]
    Broken,
    #[error("a verdict under the policy {policy}, which the audit log does not have")]
    Policy { policy: Sha256Digest },
}

impl AuditLog {
    /// Opens the log in a folder, made if need be, and goes on where it ended.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<AuditLog, AuditError> {
        let failed = |source| AuditError::Io { folder: folder.to_owned(), source };
        for part in [EVIDENCE, POLICIES, FILES] {
            let unmade = |source| AuditError::Folder { folder: folder.to_owned(), source };
            fs::create_dir_all(folder.join(part)).map_err(unmade)?;
        }
        let path = folder.join(CURRENT);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(failed)?;
        let mut bytes = file.metadata().map_err(failed)?.len();
        let torn = torn_end(&mut file, bytes).map_err(failed)?;
        if !torn.is_empty() {
            // A crash in the middle of a write. What was begun is put aside and not lost.
            let kept = folder.join(format!("torn-{}", line::digest(&torn)));
            fs::write(&kept, &torn).map_err(failed)?;
            bytes -= u64::try_from(torn.len()).unwrap_or(bytes);
            file.set_len(bytes).map_err(failed)?;
            tracing::warn!(bytes = torn.len(), kept = %kept.display(), "the audit log ended in the middle of a line");
        }
        let last = match last_line(&mut file, bytes).map_err(failed)? {
            Some(text) => Some((path.clone(), text)),
            None => match rotated(folder).map_err(failed)?.pop() {
                Some((_, older)) => {
                    let mut file = File::open(&older).map_err(failed)?;
                    let len = file.metadata().map_err(failed)?.len();
                    last_line(&mut file, len).map_err(failed)?.map(|text| (older, text))
                }
                None => None,
            },
        };
        let (seq, head) = match last {
            None => (0, GENESIS),
            Some((file, text)) => {
                let line: Line = serde_json::from_slice(&text).map_err(|_| AuditError::LastLine { file })?;
                (line.seq + 1, line::digest(&text))
            }
        };
        file.sync_all().map_err(failed)?;
        let state = State {
            file,
            bytes,
            seq,
            head,
            archived: BTreeSet::new(),
            lists: BTreeMap::new(),
            unsynced: Vec::new(),
            synced: seq,
            closing: false,
            broken: false,
        };
        tracing::info!(folder = %folder.display(), lines = seq, %head, "audit log");
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let syncing = match bounds.sync {
            Sync::EachLine => None,
            Sync::Within(time) => {
                let (shared, folder) = (Arc::clone(&shared), folder.to_owned());
                let thread = std::thread::Builder::new().name("audit-sync".to_owned());
                Some(thread.spawn(move || keep_synced(&shared, &folder, time)).map_err(failed)?)
            }
        };
        Ok(AuditLog { folder: folder.to_owned(), bounds, shared, syncing })
    }

    /// Keeps a policy and the files that it names, so that its verdicts can be made again where they are no more.
    pub fn keep_policy(&self, digest: Sha256Digest, policy: &PolicyText) -> Result<(), AuditError> {
        let failed = |source| AuditError::Io { folder: self.folder.clone(), source };
        let list = archive::keep(&self.folder, digest, policy).map_err(failed)?;
        self.lock().lists.insert(digest, list);
        Ok(())
    }

    /// Writes one verdict.
    pub fn append(
        &self,
        guest: &str,
        address: &str,
        policy: Sha256Digest,
        bundle: &Bundle,
        result: &AttestationResult,
    ) -> Result<(), AuditError> {
        let (archived, connection) = line::split(bundle);
        let evidence = line::digest(&archived);
        let mut state = self.lock();
        if state.broken {
            return Err(AuditError::Broken);
        }
        let files = *state.lists.get(&policy).ok_or(AuditError::Policy { policy })?;
        let line = Line {
            v: VERSION,
            seq: state.seq,
            prev: state.head,
            at: result.at().to_string(),
            guest: guest.to_owned(),
            address: address.to_owned(),
            verdict: result.verdict().as_str().to_owned(),
            refused_by: result.refused_by().map(|stage| stage.as_str().to_owned()),
            fatal: line::fatal(result),
            levels: result.level_words(),
            simulated: result.simulated(),
            policy,
            files,
            evidence,
            connection,
            ak_witnessed: bundle.witnessed_ak,
        };
        let failed = |source| AuditError::Io { folder: self.folder.clone(), source };
        let text = serde_json::to_vec(&line).map_err(|error| failed(error.into()))?;
        // What one guest makes too long ends with that guest: nothing was written, and the log goes on.
        if text.len() > MAX_LINE {
            return Err(failed(io::Error::other("a line of the audit log would be too long")));
        }
        let written = self.write(&mut state, text, line.seq, evidence, &archived);
        if written.is_err() {
            state.broken = true;
        }
        written.map_err(failed)
    }

    fn write(
        &self,
        state: &mut State,
        mut text: Vec<u8>,
        seq: u64,
        evidence: Sha256Digest,
        archived: &[u8],
    ) -> io::Result<()> {
        // Evidence first: a line never names what is not there.
        if !state.archived.contains(&evidence) {
            self.archive(state, evidence, archived)?;
        }
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX) + 1;
        if state.bytes > 0 && state.bytes + length > self.bounds.file_bytes {
            self.rotate(state, seq)?;
            // Pruning may have taken what this line names.
            self.archive(state, evidence, archived)?;
        }
        let head = line::digest(&text);
        text.push(b'\n');
        state.file.write_all(&text)?;
        state.bytes += length;
        state.seq += 1;
        state.head = head;
        match self.bounds.sync {
            Sync::Within(_) => self.shared.changed.notify_one(),
            Sync::EachLine => {
                Unsynced::of(state)?.sync(&self.folder)?;
                state.synced = state.seq;
            }
        }
        Ok(())
    }

    fn archive(&self, state: &mut State, evidence: Sha256Digest, archived: &[u8]) -> io::Result<()> {
        let path = self.folder.join(EVIDENCE).join(evidence.to_string());
        once(&path, archived, false)?;
        state.unsynced.push(path);
        state.archived.insert(evidence);
        Ok(())
    }

    /// Closes the file under the number of the line that comes next, and lets the oldest go.
    fn rotate(&self, state: &mut State, next: u64) -> io::Result<()> {
        Unsynced::of(state)?.sync(&self.folder)?;
        state.file.sync_all()?;
        fs::rename(self.folder.join(CURRENT), self.folder.join(format!("audit-{next:012}.jsonl")))?;
        state.file = OpenOptions::new().create_new(true).append(true).open(self.folder.join(CURRENT))?;
        sync_folder(&self.folder)?;
        state.bytes = 0;
        let mut closed = rotated(&self.folder)?;
        let surplus = closed.len().saturating_sub(self.bounds.files);
        if surplus == 0 {
            return Ok(());
        }
        let mut gone = BTreeSet::new();
        for (_, file) in closed.drain(..surplus) {
            gone.extend(named_evidence(&file)?);
            fs::remove_file(file)?;
        }
        for (_, file) in &closed {
            for digest in named_evidence(file)? {
                gone.remove(&digest);
            }
        }
        for digest in gone {
            state.archived.remove(&digest);
            match fs::remove_file(self.folder.join(EVIDENCE).join(digest.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Lines so far, and the SHA-256 of the last: noted elsewhere, it shows later whether lines were cut off.
    pub fn head(&self) -> (u64, Sha256Digest) {
        let state = self.lock();
        (state.seq, state.head)
    }

    /// Lines that are on the disk, with all that they name.
    pub fn synced(&self) -> u64 {
        self.lock().synced
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.syncing.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that brings the audit log to the disk ended early");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be brought to the disk, and up to which line.
struct Unsynced {
    evidence: Vec<PathBuf>,
    lines: File,
    up_to: u64,
}

impl Unsynced {
    fn of(state: &mut State) -> io::Result<Unsynced> {
        let lines = state.file.try_clone()?;
        Ok(Unsynced { evidence: std::mem::take(&mut state.unsynced), lines, up_to: state.seq })
    }

    /// Evidence first: a line that counts as synced names nothing that could be lost.
    fn sync(&self, folder: &Path) -> io::Result<()> {
        for path in &self.evidence {
            match File::open(path) {
                Ok(file) => file.sync_data()?,
                // Rotated away in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !self.evidence.is_empty() {
            sync_folder(&folder.join(EVIDENCE))?;
        }
        self.lines.sync_data()
    }
}

/// Until the log is closed. Where the disk fails, nothing more is written, and so there are no more tunnels.
fn keep_synced(shared: &Shared, folder: &Path, time: Duration) {
    loop {
        let waits = |state: &mut State| state.synced == state.seq && !state.closing;
        let state = shared.changed.wait_while(shared.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.synced == state.seq {
            return;
        }
        // Others come meanwhile.
        let waited = shared.changed.wait_timeout_while(state, time, |state| !state.closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let unsynced = Unsynced::of(&mut state);
        drop(state);
        let synced = unsynced.and_then(|unsynced| unsynced.sync(folder).map(|()| unsynced.up_to));
        let mut state = shared.lock();
        match synced {
            Ok(up_to) => state.synced = up_to,
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be brought to the disk");
                state.broken = true;
                return;
            }
        }
    }
}

fn named_evidence(file: &Path) -> io::Result<BTreeSet<Sha256Digest>> {
    let text = fs::read(file)?;
    let lines = text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines.map(|line| line.evidence).collect())
}

/// What stands behind the last newline.
fn torn_end(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let tail = tail(file, bytes)?;
    let end = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    Ok(tail.get(end..).unwrap_or_default().to_vec())
}

/// The last line, without its newline; the file ends with one.
fn last_line(file: &mut File, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let tail = tail(file, bytes)?;
    let lines: Vec<_> = tail.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    Ok(lines.last().map(|line| line.to_vec()))
}

fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    // Two lines are enough to hold the last one and what was torn.
    let most = 2 * u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX / 2);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(most)))?;
    file.take(most).read_to_end(&mut tail)?;
    Ok(tail)
}
