//! What the audit log is on the disk: lines in files that are rotated, evidence beside them, each once. It belongs to one program at
//! a time, which holds a lock on the folder.
//!
//! Room is bounded: each file by its own bytes, and by those of the evidence that its lines name; with a file that goes, the evidence
//! goes that no later one names.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ratls::digest::Sha256Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;

use super::archive::once;
use super::line::{self, GENESIS, Line};
use super::log::{AuditError, Bounds};
use super::{CURRENT, EVIDENCE, FILES, MAX_LINE, POLICIES, rotated};

/// What is to become the current file.
const NEXT: &str = "audit.jsonl.next";
/// Pieces of evidence that wait, open, for the disk.
const MAX_UNSYNCED: usize = 16;

#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    bounds: Bounds,
    /// The folder, locked.
    folder: File,
    evidence_folder: File,
    /// The current file.
    file: File,
    bytes: u64,
    names: Named,
    /// Closed files, the oldest first.
    closed: VecDeque<(PathBuf, BTreeSet<Sha256Digest>)>,
    /// Evidence that this process saw archived since the file began; only saves looking.
    seen: BTreeSet<Sha256Digest>,
    /// Evidence that was written and is not known to be on the disk.
    unsynced: Vec<File>,
    seq: u64,
    head: Sha256Digest,
    /// Lines on the disk.
    synced: u64,
    /// After a failed write the end of the file is unknown; nothing more is written.
    broken: bool,
}

/// Evidence that the current file names.
#[derive(Debug, Default)]
struct Named {
    digests: BTreeSet<Sha256Digest>,
    bytes: u64,
}

impl Store {
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Store, AuditError> {
        let failed = |source| AuditError::Io { folder: path.to_owned(), source };
        for part in [EVIDENCE, POLICIES, FILES] {
            let unmade = |source| AuditError::Folder { folder: path.to_owned(), source };
            fs::create_dir_all(path.join(part)).map_err(unmade)?;
        }
        let folder = File::open(path).map_err(failed)?;
        flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => AuditError::InUse { folder: path.to_owned() },
            other => failed(other.into()),
        })?;
        let current = path.join(CURRENT);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&current).map_err(failed)?;
        let bytes = without_torn_end(path, &mut file).map_err(failed)?;
        let closed = rotated(path).map_err(failed)?;
        let last = match last_line(&mut file, bytes).map_err(failed)? {
            Some(text) => Some((current.clone(), text)),
            None => match closed.last() {
                Some((_, older)) => {
                    let mut file = File::open(older).map_err(failed)?;
                    let len = file.metadata().map_err(failed)?.len();
                    last_line(&mut file, len).map_err(failed)?.map(|text| (older.clone(), text))
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
        let digests = named_evidence(&current).map_err(failed)?;
        let size = |digest: &Sha256Digest| {
            fs::metadata(path.join(EVIDENCE).join(digest.to_string())).map_or(0, |metadata| metadata.len())
        };
        let names = Named { bytes: digests.iter().map(size).sum(), digests };
        let closed = closed
            .into_iter()
            .map(|(_, file)| named_evidence(&file).map(|digests| (file, digests)))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        Ok(Store {
            path: path.to_owned(),
            bounds,
            folder,
            evidence_folder: File::open(path.join(EVIDENCE)).map_err(failed)?,
            file,
            bytes,
            names,
            closed,
            seen: BTreeSet::new(),
            unsynced: Vec::new(),
            seq,
            head,
            synced: seq,
            broken: false,
        })
    }

    pub(super) fn lines(&self) -> u64 {
        self.seq
    }

    pub(super) fn head(&self) -> Sha256Digest {
        self.head
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// Gives the line its place in the chain, and writes it and what it names. What fails before a byte of it is written is one
    /// connection's end, and the log goes on.
    pub(super) fn write(&mut self, mut line: Line, evidence: &[u8]) -> Result<(), AuditError> {
        if self.broken {
            return Err(AuditError::Broken);
        }
        (line.seq, line.prev) = (self.seq, self.head);
        let mut text = serde_json::to_vec(&line).map_err(|error| self.failed(error.into()))?;
        if text.len() > MAX_LINE {
            return Err(self.failed(io::Error::other("a line of the audit log would be too long")));
        }
        let head = line::digest(&text);
        text.push(b'\n');
        let length = bytes(&text);
        if self.bytes > 0
            && (self.bytes + length > self.bounds.file_bytes
                || self.names.with(line.evidence, evidence) > self.bounds.evidence_bytes)
        {
            self.rotate()?;
        }
        // Evidence first: a line never names what is not there.
        self.archive(line.evidence, evidence)?;
        self.names.bytes = self.names.with(line.evidence, evidence);
        self.names.digests.insert(line.evidence);
        let written = self.file.write_all(&text);
        self.or_broken(written)?;
        (self.bytes, self.seq, self.head) = (self.bytes + length, self.seq + 1, head);
        Ok(())
    }

    /// Brings everything to the disk, evidence first: a line that counts as synced names nothing that could be lost.
    pub(super) fn sync(&mut self) -> Result<(), AuditError> {
        if self.broken {
            return Err(AuditError::Broken);
        }
        if self.synced == self.seq {
            return Ok(());
        }
        let synced = self.sync_evidence().and_then(|()| self.file.sync_data());
        self.or_broken(synced)?;
        self.synced = self.seq;
        Ok(())
    }

    fn archive(&mut self, digest: Sha256Digest, evidence: &[u8]) -> Result<(), AuditError> {
        if self.seen.contains(&digest) {
            return Ok(());
        }
        if self.unsynced.len() == MAX_UNSYNCED {
            let synced = self.sync_evidence();
            self.or_broken(synced)?;
        }
        let path = self.path.join(EVIDENCE).join(digest.to_string());
        self.unsynced.push(once(&path, evidence, false).map_err(|error| self.failed(error))?);
        self.seen.insert(digest);
        Ok(())
    }

    fn sync_evidence(&mut self) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        for file in self.unsynced.drain(..) {
            file.sync_data()?;
        }
        self.evidence_folder.sync_all()
    }

    /// Closes the file under the number of the line that comes next, and lets the oldest go.
    fn rotate(&mut self) -> Result<(), AuditError> {
        let next = self.path.join(NEXT);
        let fresh = OpenOptions::new().create(true).write(true).truncate(true).open(&next);
        let fresh = fresh.map_err(|error| self.failed(error))?;
        self.sync()?;
        let closed = self.path.join(format!("audit-{:012}.jsonl", self.seq));
        let current = self.path.join(CURRENT);
        let renamed = fs::rename(&current, &closed).and_then(|()| fs::rename(&next, &current));
        let renamed = renamed.and_then(|()| self.folder.sync_all());
        self.or_broken(renamed)?;
        (self.file, self.bytes) = (fresh, 0);
        self.closed.push_back((closed, std::mem::take(&mut self.names).digests));
        self.seen.clear();
        let pruned = self.prune();
        self.or_broken(pruned)
    }

    fn prune(&mut self) -> io::Result<()> {
        let mut gone = BTreeSet::new();
        while self.closed.len() > self.bounds.files
            && let Some((file, digests)) = self.closed.pop_front()
        {
            gone.extend(digests);
            fs::remove_file(file)?;
        }
        for digest in gone {
            if self.closed.iter().any(|(_, digests)| digests.contains(&digest)) {
                continue;
            }
            match fs::remove_file(self.path.join(EVIDENCE).join(digest.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> AuditError {
        AuditError::Io { folder: self.path.clone(), source }
    }

    fn or_broken(&mut self, result: io::Result<()>) -> Result<(), AuditError> {
        self.broken |= result.is_err();
        result.map_err(|error| self.failed(error))
    }
}

impl Named {
    /// The bytes of all of it, with this piece.
    fn with(&self, digest: Sha256Digest, evidence: &[u8]) -> u64 {
        self.bytes + if self.digests.contains(&digest) { 0 } else { bytes(evidence) }
    }
}

fn bytes(of: &[u8]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

fn named_evidence(file: &Path) -> io::Result<BTreeSet<Sha256Digest>> {
    #[derive(Deserialize)]
    struct Names {
        evidence: Sha256Digest,
    }
    let mut digests = BTreeSet::new();
    for text in BufReader::new(File::open(file)?).split(b'\n') {
        // What is no line, `audit verify` tells.
        digests.extend(serde_json::from_slice(&text?).map(|Names { evidence }| evidence));
    }
    Ok(digests)
}

/// After a crash in the middle of a write: what was begun is put aside and not lost. The length of what stays.
fn without_torn_end(folder: &Path, file: &mut File) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    let tail = tail(file, bytes)?;
    let torn = tail.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    if torn.is_empty() {
        return Ok(bytes);
    }
    let kept = folder.join(format!("torn-{}", line::digest(torn)));
    fs::write(&kept, torn)?;
    let whole = bytes - self::bytes(torn);
    file.set_len(whole)?;
    tracing::warn!(bytes = torn.len(), kept = %kept.display(), "the audit log ended in the middle of a line");
    Ok(whole)
}

/// The last line, without its newline; the file ends with one.
fn last_line(file: &mut File, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let tail = tail(file, bytes)?;
    Ok(tail.rsplit(|b| *b == b'\n').find(|line| !line.is_empty()).map(<[u8]>::to_vec))
}

fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    // Two lines are enough to hold the last one and what was torn.
    let most = 2 * u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX / 2);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(most)))?;
    file.take(most).read_to_end(&mut tail)?;
    Ok(tail)
}
