//! A simulator that stays the same: one directory, in which the first who comes makes the keys and all others find them.
//!
//! `simulator.keys` (mode 0600) holds every key and certificate and appears whole or not at all: it is written under
//! another name and then linked, which fails where it exists, so of two processes that start at once one wins and both use its
//! keys. `root.pem` follows from it. The keys protect nothing; the mode is there so that nobody learns to be careless.

use crate::NOTICE;
use crate::pki::{Pki, RsaSize, random};
use ratls::tcb::Product;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file that a policy names under `[roots] simulator`.
pub const ROOT_FILE: &str = "root.pem";
const KEYS_FILE: &str = "simulator.keys";
/// Names of the lines of the keys file, in the order of [`Pki::to_parts`].
const PARTS: [&str; 7] = ["chip-secret", "ark-key", "ark", "ask-key", "ask", "asvk-key", "asvk"];
/// Three RSA-4096 keys and certificates in hex take 24 KiB.
const MAX_KEYS_FILE: u64 = 64 * 1024;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{NOTICE}: cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{NOTICE}: {} is not a file that a simulator wrote; remove it and a new one is made", path.display())]
    Malformed { path: PathBuf },
    #[error("{NOTICE}: {} holds the keys of a {seen}, not of a {wanted}; use another directory", path.display())]
    Product { path: PathBuf, seen: String, wanted: Product },
}

impl Pki {
    /// The simulator that lives in `dir`, made there with keys of `size` if there is none. Several processes may do so at once.
    pub fn load_or_create(dir: &Path, product: Product, size: RsaSize) -> Result<Pki, StoreError> {
        fs::create_dir_all(dir).map_err(|e| io_error("create the directory", dir, e))?;
        let keys = dir.join(KEYS_FILE);
        if !keys.try_exists().map_err(|e| io_error("look at", &keys, e))? {
            let text = encode(&Pki::generate(product, size));
            write_once(&keys, &text).map_err(|e| io_error("write", &keys, e))?;
        }
        let pki = load(&keys, product)?;
        write_roots(dir, &pki)?;
        Ok(pki)
    }
}

/// Clouds whose authorities may live in a directory beside AMD's, each in a file of its own.
const CLOUDS: [&str; 3] = ["azure", "gcp", "aws"];

/// The authorities of one cloud: parts that only it understands, made by the first who comes. The first part is the
/// PEM of its roots, which goes into [`ROOT_FILE`].
pub(crate) fn cloud_parts(
    dir: &Path,
    pki: &Pki,
    cloud: &str,
    make: impl FnOnce() -> Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let file = dir.join(format!("{cloud}.keys"));
    if !file.try_exists().map_err(|e| io_error("look at", &file, e))? {
        let lines: Vec<String> = make().iter().map(|part| format!("{}\n", hex::encode(part))).collect();
        write_once(&file, &format!("{NOTICE}\n{}", lines.concat())).map_err(|e| io_error("write", &file, e))?;
    }
    let parts = read_cloud(&file)?;
    write_roots(dir, pki)?;
    Ok(parts)
}

fn read_cloud(file: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let text = fs::read_to_string(file).map_err(|e| io_error("read", file, e))?;
    let parts = text.lines().skip(1).map(hex::decode).collect::<Result<_, _>>();
    parts.map_err(|_| StoreError::Malformed { path: file.to_owned() })
}

/// Every root that is in the directory, for a policy to name.
fn write_roots(dir: &Path, pki: &Pki) -> Result<(), StoreError> {
    let mut text = pki.root_pem();
    for cloud in CLOUDS {
        let file = dir.join(format!("{cloud}.keys"));
        if file.exists()
            && let Some(roots) = read_cloud(&file)?.first()
        {
            text.push_str(&String::from_utf8_lossy(roots));
        }
    }
    let root = dir.join(ROOT_FILE);
    if fs::read_to_string(&root).ok().as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    replace(&root, &text).map_err(|e| io_error("write", &root, e))
}

fn load(path: &Path, product: Product) -> Result<Pki, StoreError> {
    let size = fs::metadata(path).map_err(|e| io_error("read", path, e))?.len();
    let malformed = || StoreError::Malformed { path: path.to_owned() };
    if size > MAX_KEYS_FILE {
        return Err(malformed());
    }
    let text = fs::read_to_string(path).map_err(|e| io_error("read", path, e))?;
    let (seen, parts) = decode(&text).ok_or_else(malformed)?;
    if seen != product.to_string() {
        return Err(StoreError::Product { path: path.to_owned(), seen: seen.to_owned(), wanted: product });
    }
    Pki::from_parts(product, parts).ok_or_else(malformed)
}

fn encode(pki: &Pki) -> String {
    let mut text = format!("{NOTICE}\nproduct {}\n", pki.product());
    for (name, bytes) in PARTS.iter().zip(pki.to_parts()) {
        text.push_str(&format!("{name} {}\n", hex::encode(bytes)));
    }
    text
}

/// The product's name, not yet judged, and the parts. Exactly what [`encode`] writes, or `None`.
fn decode(text: &str) -> Option<(&str, [Vec<u8>; 7])> {
    let mut lines = text.lines();
    if lines.next()? != NOTICE {
        return None;
    }
    let product = lines.next()?.strip_prefix("product ")?;
    let mut parts: [Vec<u8>; 7] = Default::default();
    for (name, part) in PARTS.iter().zip(&mut parts) {
        let (seen, hex) = lines.next()?.split_once(' ')?;
        if seen != *name {
            return None;
        }
        *part = hex::decode(hex).ok()?;
    }
    lines.next().is_none().then_some((product, parts))
}

/// Makes `path` with this text, unless somebody else was first.
fn write_once(path: &Path, text: &str) -> io::Result<()> {
    let temporary = write_temporary(path, text)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Puts this text at `path`, whole, whatever was there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = write_temporary(path, text)?;
    fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

fn write_temporary(path: &Path, text: &str) -> io::Result<PathBuf> {
    let temporary = path.with_extension(format!("{}.tmp", hex::encode(random::<8>())));
    let mode = if path.ends_with(ROOT_FILE) { 0o644 } else { 0o600 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(temporary)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn pki_in(dir: &Path, product: Product) -> Result<Pki, StoreError> {
        Pki::load_or_create(dir, product, RsaSize::Bits2048)
    }

    #[test]
    fn is_the_same_simulator_tomorrow() {
        let dir = tempfile::tempdir().unwrap();
        let today = pki_in(dir.path(), Product::Milan).unwrap();
        let tomorrow = pki_in(dir.path(), Product::Milan).unwrap();
        assert_eq!(today.to_parts(), tomorrow.to_parts());
        assert_eq!(fs::read_to_string(dir.path().join(ROOT_FILE)).unwrap(), today.root_pem());
        assert!(today.root_pem().starts_with("SIMULATED, PROVES NOTHING\n-----BEGIN CERTIFICATE-----\n"));
    }

    #[test]
    fn keys_are_for_their_owner_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        pki_in(dir.path(), Product::Milan).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [ROOT_FILE, KEYS_FILE]);
        assert_eq!(fs::metadata(dir.path().join(KEYS_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn all_who_come_at_once_get_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let pkis: Vec<Pki> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| pki_in(dir.path(), Product::Genoa).unwrap())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(pkis.iter().all(|pki| pki.to_parts() == pkis[0].to_parts()));
    }

    #[test]
    fn refuses_a_directory_of_another_product() {
        let dir = tempfile::tempdir().unwrap();
        pki_in(dir.path(), Product::Milan).unwrap();
        let Err(error) = pki_in(dir.path(), Product::Turin) else { panic!("another product") };
        assert!(matches!(error, StoreError::Product { .. }), "{error}");
    }

    #[test]
    fn refuses_a_keys_file_that_is_cut_short_and_does_not_overwrite_it() {
        let dir = tempfile::tempdir().unwrap();
        pki_in(dir.path(), Product::Milan).unwrap();
        let path = dir.path().join(KEYS_FILE);
        let whole = fs::read_to_string(&path).unwrap();
        let cut = &whole[..whole.len() / 2];
        fs::write(&path, cut).unwrap();
        let Err(error) = pki_in(dir.path(), Product::Milan) else { panic!("cut short") };
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), cut);
    }
}
