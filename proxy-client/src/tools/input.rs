//! Files that a command reads: bounded, and every error names the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFileError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge { path: PathBuf, max: usize },
}

/// The whole file, if it has at most `max` bytes. Reads no further than that, so a device or a pipe cannot fill memory.
pub(crate) fn read(path: &Path, max: usize) -> Result<Vec<u8>, ReadFileError> {
    let failed = |source| ReadFileError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX - 1) + 1;
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(ReadFileError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// What is read of a large file at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Everything, piece by piece.
pub(crate) fn in_pieces(from: &mut dyn Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n => each(piece.get(..n).unwrap_or_default())?,
        }
    }
}
