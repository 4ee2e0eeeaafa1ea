//! The root hash of a dm-verity image, computed as `veritysetup format` does: hash tree of format 1 with SHA-256.
//!
//! Linux Documentation/admin-guide/device-mapper/verity.rst; cryptsetup lib/verity. Every block of data is hashed with the salt
//! before it, the digests fill hash blocks, those are hashed again, until one block is left; its hash is the root. The image
//! passes through once and is not kept, so that it may be larger than memory.

use super::proof::{Artefact, Expected, Part};
use formats::bytes::{ReadError, Reader};
use formats::crypto::{Sha256Stream, sha256};
use formats::digest::Sha256Digest;
use formats::text::Untrusted;

/// Length of the superblock that `veritysetup` writes before the tree.
pub const SUPERBLOCK_BYTES: usize = 512;
/// Longest salt of a superblock.
const MAX_SALT_BYTES: usize = 256;
/// Block sizes that device-mapper takes: powers of two from 512 to 64 KiB (veritysetup's own limit is 512 KiB for hash blocks).
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 512..=64 * 1024;
const DIGEST_BYTES: usize = 32;
/// The default of `veritysetup` and of everything built on it.
const DEFAULT_BLOCK_BYTES: usize = 4096;

/// How an image is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityFormat {
    data_block: usize,
    hash_block: usize,
    salt: Vec<u8>,
    /// Blocks of data, where the superblock says so; else all of the image.
    data_blocks: Option<u64>,
}

/// Why there is no root hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerityError {
    #[error("the superblock ends early: {0}")]
    Read(#[from] ReadError),
    #[error("no verity superblock: it begins with other bytes than \"verity\"")]
    Magic,
    #[error("{what} {seen} is not supported; wanted {wanted}")]
    Unsupported { what: &'static str, seen: String, wanted: &'static str },
    #[error("a block size of {0} bytes; wanted a power of two from 512 to 65536")]
    BlockSize(u64),
    #[error("a salt of {0} bytes; at most {MAX_SALT_BYTES}")]
    Salt(usize),
    #[error("the superblock has bytes where zeros belong")]
    Reserved,
    #[error("the image has {seen} bytes, which is no whole number of blocks of {block}, or none")]
    Length { seen: u64, block: usize },
    #[error("the image has {seen} blocks, its superblock says {wanted}")]
    Blocks { seen: u64, wanted: u64 },
}

impl VerityFormat {
    /// As given on a command line; `None` is veritysetup's default of 4096 bytes.
    pub fn new(data_block: Option<u64>, hash_block: Option<u64>, salt: Vec<u8>) -> Result<VerityFormat, VerityError> {
        let size = |given: Option<u64>| match given {
            None => Ok(DEFAULT_BLOCK_BYTES),
            Some(bytes) => match usize::try_from(bytes) {
                Ok(n) if BLOCK_BYTES.contains(&n) && n.is_power_of_two() => Ok(n),
                _ => Err(VerityError::BlockSize(bytes)),
            },
        };
        if salt.len() > MAX_SALT_BYTES {
            return Err(VerityError::Salt(salt.len()));
        }
        Ok(VerityFormat { data_block: size(data_block)?, hash_block: size(hash_block)?, salt, data_blocks: None })
    }

    /// As the superblock says, the first 512 bytes of the hash device.
    pub fn from_superblock(bytes: &[u8]) -> Result<VerityFormat, VerityError> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>()? != b"verity\0\0" {
            return Err(VerityError::Magic);
        }
        let numbers = [("superblock version", reader.u32_le()?), ("hash type", reader.u32_le()?)];
        for (what, seen) in numbers {
            if seen != 1 {
                return Err(VerityError::Unsupported { what, seen: seen.to_string(), wanted: "1" });
            }
        }
        reader.take(16)?; // UUID
        let algorithm = reader.array::<32>()?;
        let name = algorithm.split(|b| *b == 0).next().unwrap_or_default();
        if name != b"sha256" {
            let seen = Untrusted(&String::from_utf8_lossy(name)).to_string();
            return Err(VerityError::Unsupported { what: "algorithm", seen, wanted: "sha256" });
        }
        let (data_block, hash_block) = (reader.u32_le()?, reader.u32_le()?);
        let data_blocks = reader.u64_le()?;
        let salt_len = usize::from(reader.u16_le()?);
        let padding = reader.take(6)?;
        let salt_field = reader.take(MAX_SALT_BYTES)?;
        let (salt, after_salt) = salt_field.split_at_checked(salt_len).ok_or(VerityError::Salt(salt_len))?;
        let end = reader.take(168)?;
        if padding.iter().chain(after_salt).chain(end).any(|b| *b != 0) {
            return Err(VerityError::Reserved);
        }
        let format = VerityFormat::new(Some(data_block.into()), Some(hash_block.into()), salt.to_vec())?;
        Ok(VerityFormat { data_blocks: Some(data_blocks), ..format })
    }

    /// Ready for the image's bytes.
    pub fn hasher(self) -> VerityHasher {
        VerityHasher {
            format: self,
            pending: Vec::new(),
            levels: Vec::new(),
            file: Sha256Stream::new(),
            seen: 0,
            blocks: 0,
        }
    }
}

/// Takes an image in pieces of any length.
pub struct VerityHasher {
    format: VerityFormat,
    /// The start of a data block.
    pending: Vec<u8>,
    /// The block of digests being filled on each level, the lowest first, and how many blocks went up from it.
    levels: Vec<Tier>,
    file: Sha256Stream,
    seen: u64,
    blocks: u64,
}

#[derive(Default)]
struct Tier {
    open: Vec<u8>,
    closed: u64,
}

impl std::fmt::Debug for VerityHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerityHasher({} bytes of {:?})", self.seen, self.format)
    }
}

/// The root hash of an image that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerityRoot {
    root: Sha256Digest,
    file: Sha256Digest,
}

impl VerityHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.file.update(bytes);
        self.seen = self.seen.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let block = self.format.data_block;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(block - self.pending.len()));
            rest = later;
            if self.pending.is_empty() && now.len() == block {
                self.data_block(now);
                continue;
            }
            self.pending.extend_from_slice(now);
            if self.pending.len() == block {
                let full = std::mem::take(&mut self.pending);
                self.data_block(&full);
            }
        }
    }

    pub fn finish(mut self) -> Result<VerityRoot, VerityError> {
        let block = self.format.data_block;
        let covered = self.format.data_blocks.unwrap_or(u64::MAX);
        // What stands after the blocks that the superblock counts, often the tree itself, is no data.
        let whole = self.pending.is_empty() || self.blocks >= covered;
        if !whole || self.blocks == 0 {
            return Err(VerityError::Length { seen: self.seen, block });
        }
        if let Some(wanted) = self.format.data_blocks
            && self.blocks < wanted
        {
            return Err(VerityError::Blocks { seen: self.blocks, wanted });
        }
        let mut level = 0;
        let root = loop {
            let Some(tier) = self.levels.get_mut(level) else { break None };
            let alone =
                tier.closed == 0 && tier.open.len() == DIGEST_BYTES && level > 0 || self.blocks.min(covered) == 1;
            if alone {
                break tier.open.first_chunk::<DIGEST_BYTES>().copied();
            }
            if !tier.open.is_empty() {
                let mut open = std::mem::take(&mut tier.open);
                open.resize(self.format.hash_block, 0);
                tier.closed += 1;
                let digest = self.hash(&open);
                self.push(level + 1, digest);
            }
            level += 1;
        };
        let root = root.map(Sha256Digest::from_bytes).ok_or(VerityError::Length { seen: self.seen, block })?;
        Ok(VerityRoot { root, file: self.file.finish() })
    }

    fn data_block(&mut self, bytes: &[u8]) {
        if self.format.data_blocks.is_none_or(|end| self.blocks < end) {
            let digest = self.hash(bytes);
            self.push(0, digest);
        }
        self.blocks = self.blocks.saturating_add(1);
    }

    fn hash(&self, block: &[u8]) -> Sha256Digest {
        sha256(&[&self.format.salt, block])
    }

    /// Adds a digest to a level; a block that is full goes up.
    fn push(&mut self, level: usize, digest: Sha256Digest) {
        if self.levels.len() == level {
            self.levels.push(Tier::default());
        }
        let hash_block = self.format.hash_block;
        let Some(tier) = self.levels.get_mut(level) else { return };
        if tier.open.len() == hash_block {
            // The block is closed only when another digest follows: a last full block may be the root's.
            let full = std::mem::take(&mut tier.open);
            tier.closed += 1;
            let up = self.hash(&full);
            self.push(level + 1, up);
        }
        if let Some(tier) = self.levels.get_mut(level) {
            tier.open.extend_from_slice(digest.as_bytes());
        }
    }
}

impl VerityRoot {
    pub fn root(&self) -> Sha256Digest {
        self.root
    }
    /// SHA-256 of all bytes that went by.
    pub fn file(&self) -> Sha256Digest {
        self.file
    }

    /// What a command line must name if the guest mounts this image.
    pub fn expected(&self, name: &str) -> Expected {
        let image = Artefact { part: Part::Image, name: name.to_owned(), sha256: self.file };
        Expected::recomputed(self.root.as_bytes(), format!("dm-verity root hash of {name}"), vec![image])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(format: VerityFormat, pieces: &[&[u8]]) -> Result<Sha256Digest, VerityError> {
        let mut hasher = format.hasher();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish().map(|root| root.root())
    }

    fn plain(salt: &[u8]) -> VerityFormat {
        VerityFormat::new(Some(512), Some(512), salt.to_vec()).unwrap()
    }

    #[test]
    fn one_block_is_its_own_root_and_two_have_a_block_of_digests() {
        let (a, b) = ([1; 512], [2; 512]);
        assert_eq!(root(plain(b"s"), &[&a]), Ok(sha256(&[b"s", &a])));
        let digests = [*sha256(&[b"s", &a]).as_bytes(), *sha256(&[b"s", &b]).as_bytes()].concat();
        let wanted = sha256(&[b"s", &digests, &[0; 512 - 64]]);
        assert_eq!(root(plain(b"s"), &[&a, &b]), Ok(wanted));
    }

    #[test]
    fn how_the_image_is_cut_into_pieces_does_not_matter() {
        let image: Vec<u8> = (0..512 * 300_u32).map(|n| n.to_le_bytes()[1]).collect();
        let whole = root(plain(b""), &[&image]).unwrap();
        for cut in [1, 511, 512, 513, 5000] {
            assert_eq!(root(plain(b""), &image.chunks(cut).collect::<Vec<_>>()), Ok(whole), "{cut}");
        }
    }

    #[test]
    fn refuses_images_and_formats_that_device_mapper_would_not_take() {
        assert_eq!(root(plain(b""), &[]), Err(VerityError::Length { seen: 0, block: 512 }));
        assert_eq!(root(plain(b""), &[&[0; 513]]), Err(VerityError::Length { seen: 513, block: 512 }));
        for size in [0, 511, 768, 128 * 1024] {
            assert_eq!(VerityFormat::new(Some(size), None, vec![]), Err(VerityError::BlockSize(size)));
        }
        assert_eq!(VerityFormat::new(None, None, vec![0; 257]), Err(VerityError::Salt(257)));
        let short = VerityFormat { data_blocks: Some(3), ..plain(b"") };
        assert_eq!(root(short, &[&[0; 1024]]), Err(VerityError::Blocks { seen: 2, wanted: 3 }));
    }

    fn superblock() -> Vec<u8> {
        let mut bytes = b"verity\0\0".to_vec();
        bytes.extend([1_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        bytes.extend([7; 16]);
        bytes.extend(b"sha256");
        bytes.resize(64, 0);
        bytes.extend([512_u32.to_le_bytes(), 1024_u32.to_le_bytes()].concat());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend(4_u16.to_le_bytes());
        bytes.resize(88, 0);
        bytes.extend(b"salt");
        bytes.resize(SUPERBLOCK_BYTES, 0);
        bytes
    }

    #[test]
    fn a_superblock_says_it_all_and_what_follows_the_data_is_no_data() {
        let format = VerityFormat::from_superblock(&superblock()).unwrap();
        let wanted = VerityFormat { data_block: 512, hash_block: 1024, salt: b"salt".to_vec(), data_blocks: Some(2) };
        assert_eq!(format, wanted);
        let alone = root(format.clone(), &[&[3; 1024]]).unwrap();
        assert_eq!(root(format, &[&[3; 1024], &[9; 700]]), Ok(alone));
    }

    #[test]
    fn refuses_superblocks_of_other_formats() {
        for (at, byte) in [(0, b'V'), (8, 2), (12, 0), (32, b'S'), (65, 3), (80, 255), (83, 1), (93, 1), (400, 1)] {
            let mut broken = superblock();
            broken[at] = byte;
            if at == 80 {
                broken[81] = 255;
            }
            assert!(VerityFormat::from_superblock(&broken).is_err(), "{at}");
        }
        assert!(VerityFormat::from_superblock(&superblock()[..511]).is_err());
    }
}
