//! The archive beside the log: what each verdict was made under, so that it can be made again where nothing of it is left.
//!
//! ```text
//! policies/SHA256.toml      a policy's text
//! policies/SHA256.files     the files that it names, by name, each with its SHA-256; the name of this list is its own digest
//! files/SHA256              those files: roots, and what its references are computed from
//! ```
//!
//! A list is of one start of the program: the same policy over other files has another list, and each line of the log names its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ratls::crypto::Sha256Stream;
use ratls::digest::Sha256Digest;
use ratls::policy::{FileProblem, ReferenceFiles};
use serde::{Deserialize, Serialize};

use super::{FILES, POLICIES, line};
use crate::tools::input::in_pieces;
use crate::tools::policy::{self, LoadedPolicy, PolicySource};

/// A policy names at most 64 references, each with a few files.
const MAX_LIST_BYTES: usize = 1 << 20;

/// What a policy names, by the key of a root or the name of a file, as the policy has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    roots: BTreeMap<String, Sha256Digest>,
    references: BTreeMap<String, Sha256Digest>,
}

/// Keeps a policy and every file that it names, on the disk; the digest of the list of them. Large files are read again: one that is
/// not what the policy was loaded from is an error.
pub(super) fn keep(folder: &Path, digest: Sha256Digest, policy: &PolicySource) -> io::Result<Sha256Digest> {
    let mut named = Named::default();
    for (key, bytes) in &policy.roots {
        named.roots.insert((*key).to_owned(), keep_file(folder, &mut &bytes[..])?);
    }
    for (name, (path, loaded)) in &policy.references {
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let kept = keep_file(folder, &mut File::open(path).map_err(failed)?)?;
        if kept != *loaded {
            return Err(failed(io::Error::other("it was changed while this program started; start it again")));
        }
        named.references.insert(name.clone(), kept);
    }
    let list = serde_json::to_vec_pretty(&named)?;
    let list_digest = line::digest(&list);
    let policies = folder.join(POLICIES);
    once(&policies.join(format!("{digest}.toml")), policy.text.as_bytes(), true)?;
    once(&policies.join(format!("{list_digest}.files")), &list, true)?;
    for part in [&policies, &folder.join(FILES)] {
        sync_folder(part)?;
    }
    Ok(list_digest)
}

/// Copies it piece by piece, whatever its size, under the name of its digest.
fn keep_file(folder: &Path, from: &mut dyn Read) -> io::Result<Sha256Digest> {
    let partial = folder.join(FILES).join(format!("{}.partial", std::process::id()));
    let mut to = File::create(&partial)?;
    let mut hash = Sha256Stream::new();
    in_pieces(from, |piece| {
        hash.update(piece);
        to.write_all(piece)
    })?;
    let digest = hash.finish();
    let path = folder.join(FILES).join(digest.to_string());
    if hash_of(&path).is_ok_and(|kept| kept == digest) {
        fs::remove_file(partial)?;
    } else {
        to.sync_all()?;
        fs::rename(partial, path)?;
    }
    Ok(digest)
}

/// The policy again, with its roots and references from the archive alone. `None` where any of it is missing or was changed.
pub(super) fn load(folder: &Path, digest: Sha256Digest, list: Sha256Digest) -> Option<LoadedPolicy> {
    let bytes = crate::tools::input::read(&folder.join(POLICIES).join(format!("{list}.files")), MAX_LIST_BYTES).ok()?;
    let named: Named = serde_json::from_slice(&bytes).ok().filter(|_| line::digest(&bytes) == list)?;
    for kept in named.roots.values().chain(named.references.values()) {
        hash_of(&folder.join(FILES).join(kept.to_string())).ok().filter(|seen| seen == kept)?;
    }
    let path = |kept: &Sha256Digest| folder.join(FILES).join(kept.to_string());
    let roots = |key: &str| named.roots.get(key).map_or_else(PathBuf::new, path);
    let mut references = Kept(named.references.iter().map(|(name, kept)| (name.clone(), path(kept))).collect());
    let text = folder.join(POLICIES).join(format!("{digest}.toml"));
    let loaded = policy::load_kept(&text, &mut references, roots).ok()?;
    (loaded.policy.digest() == digest).then_some(loaded)
}

fn hash_of(path: &Path) -> io::Result<Sha256Digest> {
    let mut hash = Sha256Stream::new();
    in_pieces(&mut File::open(path)?, |piece| {
        hash.update(piece);
        Ok(())
    })?;
    Ok(hash.finish())
}

/// Files of references, where the archive has them.
struct Kept(BTreeMap<String, PathBuf>);

impl Kept {
    fn path(&self, name: &str) -> Result<&Path, FileProblem> {
        self.0.get(name).map(PathBuf::as_path).ok_or_else(|| FileProblem(format!("{name} is not in the archive")))
    }
}

impl ReferenceFiles for Kept {
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem> {
        crate::tools::input::read(self.path(name)?, max).map_err(|error| FileProblem(error.to_string()))
    }

    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        let failed = |error: io::Error| FileProblem(format!("{name}: {error}"));
        let mut file = File::open(self.path(name)?).map_err(failed)?;
        in_pieces(&mut file, |piece| {
            each(piece);
            Ok(())
        })
        .map_err(failed)
    }
}

/// A file that has these bytes stays as it is. It appears whole or not at all; on the disk before it has its name, if that is asked.
pub(super) fn once(path: &Path, bytes: &[u8], synced: bool) -> io::Result<File> {
    // What a crash of the machine left half-written under its name is written again.
    if fs::read(path).is_ok_and(|kept| kept == bytes) {
        return File::open(path);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    fs::rename(partial, path)?;
    Ok(file)
}

/// The names in it are on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
