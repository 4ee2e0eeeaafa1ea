//! Writes the audit log: lines in files that are rotated, evidence and policies beside them, each once.
//!
//! A line is in the file before its connection may carry a byte; where it cannot be written there is no tunnel. It is handed to the
//! system and not waited for on the disk, so a crash of the program loses nothing and one of the machine may lose the last lines.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use ratls::appraise::AttestationResult;
use ratls::bundle::Bundle;
use ratls::digest::Sha256Digest;

use super::line::{self, GENESIS, Line, VERSION};
use super::{CURRENT, EVIDENCE, MAX_LINE, POLICIES, rotated};
use crate::tools::policy::PolicyText;

/// How large the log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A file is closed and a new one begun before it gets larger.
    pub file_bytes: u64,
    /// Closed files that are kept; with older ones goes the evidence that only they name.
    pub files: usize,
}

/// The open log of one process.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    seq: u64,
    head: Sha256Digest,
    /// Evidence that is known to be archived; only saves looking.
    archived: BTreeSet<Sha256Digest>,
    /// After a failed write the end of the file is unknown; nothing more is written.
    broken: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    #[error("the audit log in {} cannot be used", folder.display())]
    Io { folder: PathBuf, source: io::Error },
    #[error("{}: the last line is no line of an audit log; move the folder away, and a new log begins", file.display())]
    LastLine { file: PathBuf },
    #[error("the audit log failed before; the program must be started again")]
    Broken,
}

impl AuditLog {
    /// Opens the log in a folder, made if need be, and goes on where it ended.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<AuditLog, AuditError> {
        let failed = |source| AuditError::Io { folder: folder.to_owned(), source };
        for part in [EVIDENCE, POLICIES] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
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
        let state = State { file, bytes, seq, head, archived: BTreeSet::new(), broken: false };
        tracing::info!(folder = %folder.display(), lines = seq, %head, "audit log");
        Ok(AuditLog { folder: folder.to_owned(), bounds, state: Mutex::new(state) })
    }

    /// Keeps a policy and the files that it names, so that its verdicts can be made again.
    pub fn keep_policy(&self, digest: Sha256Digest, policy: &PolicyText) -> Result<(), AuditError> {
        let failed = |source| AuditError::Io { folder: self.folder.clone(), source };
        let file = |key: &str| self.folder.join(POLICIES).join(format!("{digest}.{key}"));
        once(&file("toml"), policy.text.as_bytes()).map_err(failed)?;
        for (key, bytes) in &policy.files {
            once(&file(key), bytes).map_err(failed)?;
        }
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
            evidence,
            connection,
            ak_witnessed: bundle.witnessed_ak,
        };
        let written = self.write(&mut state, &line, evidence, &archived);
        if written.is_err() {
            state.broken = true;
        }
        written.map_err(|source| AuditError::Io { folder: self.folder.clone(), source })
    }

    fn write(&self, state: &mut State, line: &Line, evidence: Sha256Digest, archived: &[u8]) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        if text.len() > MAX_LINE {
            return Err(io::Error::other("a line of the audit log would be too long"));
        }
        // Evidence first: a line never names what is not there.
        if !state.archived.contains(&evidence) {
            once(&self.folder.join(EVIDENCE).join(evidence.to_string()), archived)?;
            state.archived.insert(evidence);
        }
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX) + 1;
        if state.bytes > 0 && state.bytes + length > self.bounds.file_bytes {
            self.rotate(state, line.seq)?;
            // Pruning may have taken what this line names.
            once(&self.folder.join(EVIDENCE).join(evidence.to_string()), archived)?;
            state.archived.insert(evidence);
        }
        let head = line::digest(&text);
        text.push(b'\n');
        state.file.write_all(&text)?;
        state.bytes += length;
        state.seq += 1;
        state.head = head;
        Ok(())
    }

    /// Closes the file under the number of the line that comes next, and lets the oldest go.
    fn rotate(&self, state: &mut State, next: u64) -> io::Result<()> {
        state.file.sync_all()?;
        fs::rename(self.folder.join(CURRENT), self.folder.join(format!("audit-{next:012}.jsonl")))?;
        state.file = OpenOptions::new().create_new(true).append(true).open(self.folder.join(CURRENT))?;
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn named_evidence(file: &Path) -> io::Result<BTreeSet<Sha256Digest>> {
    let text = fs::read(file)?;
    let lines = text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines.map(|line| line.evidence).collect())
}

/// A file that is there keeps what it has. It appears whole or not at all.
fn once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, bytes)?;
    fs::rename(partial, path)
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
