//! What was fetched, kept in memory and in a directory, so that a restart asks AMD for nothing.
//!
//! The directory's contents are untrusted: everything is verified after it was read, however it came there. A write that fails costs
//! a request after the next start and nothing else.

use bytes::Bytes;
use ratls::time::UnixTime;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Entries in memory; one guest uses three.
const MAX_IN_MEMORY: usize = 64;

/// Bytes and when they were stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) at: UnixTime,
}

pub(super) struct Store {
    dir: Option<PathBuf>,
    memory: Mutex<HashMap<String, Stored>>,
}

impl Store {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Store { dir, memory: Mutex::new(HashMap::new()) }
    }

    /// What is stored under `name`, a file name, if it has at most `max_bytes`.
    pub(super) async fn load(&self, name: &str, max_bytes: usize) -> Option<Stored> {
        let known = self.memory().get(name).cloned();
        if known.is_some() {
            return known;
        }
        let path = self.dir.as_ref()?.join(name);
        match read(&path, max_bytes).await {
            Ok(stored) => {
                self.remember(name, stored.clone());
                Some(stored)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot use a stored endorsement");
                None
            }
        }
    }

    pub(super) async fn save(&self, name: &str, bytes: Bytes, at: UnixTime) {
        self.remember(name, Stored { bytes: bytes.clone(), at });
        let Some(dir) = &self.dir else { return };
        if let Err(error) = write(dir, name, &bytes).await {
            tracing::warn!(path = %dir.join(name).display(), %error, "cannot store an endorsement");
        }
    }

    pub(super) async fn remove(&self, name: &str) {
        self.memory().remove(name);
        let Some(dir) = &self.dir else { return };
        match fs::remove_file(dir.join(name)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %dir.join(name).display(), %error, "cannot remove a stored endorsement");
            }
            _ => {}
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<String, Stored>> {
        self.memory.lock().expect("nothing panics while it holds the map")
    }

    fn remember(&self, name: &str, stored: Stored) {
        let mut memory = self.memory();
        if memory.len() >= MAX_IN_MEMORY {
            memory.clear();
        }
        memory.insert(name.to_owned(), stored);
    }
}

async fn read(path: &Path, max_bytes: usize) -> io::Result<Stored> {
    let file = fs::File::open(path).await?;
    let modified = file.metadata().await?.modified()?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).map_or(u64::MAX, |max| max.saturating_add(1));
    file.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > max_bytes {
        return Err(io::Error::other(format!("it has more than {max_bytes} bytes")));
    }
    let secs = modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    Ok(Stored { bytes: bytes.into(), at: UnixTime::from_secs(i64::try_from(secs).unwrap_or(0)) })
}

/// Readers see the old file or the new one, never half of it.
async fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(dir).await?;
    let temporary = dir.join(format!(".{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    let written = async {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        fs::rename(&temporary, dir.join(name)).await
    };
    let result = written.await;
    if result.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary).await;
    }
    result
}
