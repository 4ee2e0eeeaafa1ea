//! The audit log: one line per verdict on a connection, in a chain, with the evidence that it rests on.
//!
//! ```text
//! FOLDER/audit.jsonl                 the lines; audit-N.jsonl are closed files, N the number of the line after them
//! FOLDER/evidence/SHA256             statement and evidence of a batch, once, whatever number of connections it served
//! FOLDER/policies/SHA256.toml        the policies that judged, and lists of the files that they name (SHA256.files)
//! FOLDER/files/SHA256                those files: roots, and what references are computed from
//! ```
//!
//! Secret is nothing in it: bind32 of connections that are over tells nobody anything but that the evidence was theirs.

mod archive;
mod check;
mod line;
mod log;
mod store;

use std::io;
use std::path::{Path, PathBuf};

pub use check::{Kind, MAX_PROBLEMS, Problem, Report, check};
pub use log::{AuditError, AuditLog, Bounds, KeptPolicy, OnFailure, Sync};

const CURRENT: &str = "audit.jsonl";
const EVIDENCE: &str = "evidence";
const POLICIES: &str = "policies";
const FILES: &str = "files";
/// Path of 16 siblings, names and ids: a line has some two KiB.
const MAX_LINE: usize = 64 * 1024;

/// The closed files, the oldest first, with their numbers.
fn rotated(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("audit-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}
