//! ID block and ID auth: a guest owner's signature over a launch digest, a policy and a version, checked by the AMD-SP at launch.
//!
//! AMD 56860, tables ID_BLOCK and ID_AUTH_INFO. The report of such a guest carries the digests of the keys
//! and not the block. Any hypervisor can present a block signed by a key of its own, so only a digest that the policy pins
//! means anything, and it says who signed, not what runs.

use formats::bytes::{ReadError, Reader};
use formats::crypto::{self, Scheme, sha384};
use formats::evidence::snp::{FamilyId, GuestPolicy, ImageId, KeyDigest, Measurement};

/// Length of an ID block.
pub const ID_BLOCK_BYTES: usize = 96;
/// Length of an ID auth page.
pub const ID_AUTH_BYTES: usize = 4096;
/// Length of a public key with its padding.
const KEY_BYTES: usize = 1028;
/// Length of a signature with its padding.
const SIGNATURE_BYTES: usize = 512;
/// ECDSA on P-384 with SHA-384, the only algorithm.
const ALGORITHM: u32 = 1;
const CURVE_P384: u32 = 2;
/// Numbers of a key or a signature stand in 72 bytes, the lowest first.
const NUMBER_BYTES: usize = 72;
const P384_BYTES: usize = 48;
const RESERVED_AFTER_ALGORITHMS: usize = 56;
const RESERVED_AFTER_ID_KEY: usize = 60;
const RESERVED_AFTER_AUTHOR_KEY: usize = 892;

/// Why some bytes are no ID block or no ID auth, or do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdBlockError {
    #[error("the ID block or ID auth cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("ID block of version {0}, wanted 1")]
    Version(u32),
    #[error("{field}: algorithm {seen}, wanted 1 (ECDSA P-384 with SHA-384)")]
    Algorithm { field: &'static str, seen: u32 },
    #[error("{field}: curve {seen}, wanted 2 (P-384)")]
    Curve { field: &'static str, seen: u32 },
    #[error("{0}: bytes that must be zero are not")]
    Reserved(&'static str),
    #[error("{0} is not by the key that is named")]
    Signature(&'static str),
}

/// What the guest's owner signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    pub launch_digest: Measurement,
    pub family_id: FamilyId,
    pub image_id: ImageId,
    pub guest_svn: u32,
    pub policy: GuestPolicy,
}

impl IdBlock {
    pub fn parse(bytes: &[u8]) -> Result<IdBlock, IdBlockError> {
        let mut reader = Reader::new(bytes);
        let launch_digest = Measurement::from_bytes(reader.array()?);
        let family_id = FamilyId::from_bytes(reader.array()?);
        let image_id = ImageId::from_bytes(reader.array()?);
        match reader.u32_le()? {
            1 => {}
            version => return Err(IdBlockError::Version(version)),
        }
        let guest_svn = reader.u32_le()?;
        let policy = GuestPolicy::from_raw(reader.u64_le()?);
        reader.finish()?;
        Ok(IdBlock { launch_digest, family_id, image_id, guest_svn, policy })
    }

    /// The bytes to sign and to give to the hypervisor.
    pub fn to_bytes(&self) -> [u8; ID_BLOCK_BYTES] {
        let parts: [&[u8]; 6] = [
            self.launch_digest.as_bytes(),
            self.family_id.as_bytes(),
            self.image_id.as_bytes(),
            &1_u32.to_le_bytes(),
            &self.guest_svn.to_le_bytes(),
            &self.policy.raw().to_le_bytes(),
        ];
        parts.concat().try_into().expect("48 + 16 + 16 + 4 + 4 + 8 bytes")
    }
}

/// A P-384 key as ID auth carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdKey {
    raw: Box<[u8; KEY_BYTES]>,
    /// `04 ‖ x ‖ y`, big-endian.
    point: [u8; 1 + 2 * P384_BYTES],
}

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdKey({})", self.digest())
    }
}

impl IdKey {
    /// From an uncompressed point of P-384.
    pub fn from_point(point: [u8; 97]) -> Result<IdKey, IdBlockError> {
        let mut reader = Reader::new(&point);
        if reader.u8()? != 4 {
            return Err(IdBlockError::Reserved("the point's first byte, 4 where it is uncompressed,"));
        }
        let (x, y) = (reader.array()?, reader.array()?);
        let mut raw = Vec::with_capacity(KEY_BYTES);
        raw.extend(CURVE_P384.to_le_bytes());
        raw.extend(number(x));
        raw.extend(number(y));
        raw.resize(KEY_BYTES, 0);
        Ok(IdKey { raw: boxed(raw), point })
    }

    fn parse(field: &'static str, raw: [u8; KEY_BYTES]) -> Result<Option<IdKey>, IdBlockError> {
        if raw.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let mut reader = Reader::new(&raw);
        match reader.u32_le()? {
            CURVE_P384 => {}
            seen => return Err(IdBlockError::Curve { field, seen }),
        }
        let (x, y) = (big_endian(field, reader.array()?)?, big_endian(field, reader.array()?)?);
        zeros(field, reader.remaining())?;
        let point = [&[4][..], &x, &y].concat().try_into().expect("1 + 48 + 48 bytes");
        Ok(Some(IdKey { raw: Box::new(raw), point }))
    }

    /// What a report carries as ID_KEY_DIGEST or AUTHOR_KEY_DIGEST.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::from_bytes(*sha384(&[self.raw.as_slice()]).as_bytes())
    }

    fn verify(&self, what: &'static str, message: &[u8], signature: &IdSignature) -> Result<(), IdBlockError> {
        crypto::verify(Scheme::EcdsaP384Sha384Fixed, &self.point, message, &signature.fixed)
            .map_err(|_| IdBlockError::Signature(what))
    }
}

/// r and s as ID auth carries them.
#[derive(Clone, PartialEq, Eq)]
pub struct IdSignature {
    raw: Box<[u8; SIGNATURE_BYTES]>,
    /// `r ‖ s`, big-endian.
    fixed: [u8; 2 * P384_BYTES],
}

impl std::fmt::Debug for IdSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdSignature({})", hex::encode(self.fixed))
    }
}

impl IdSignature {
    /// From `r ‖ s`, big-endian.
    pub fn from_fixed(fixed: [u8; 96]) -> Result<IdSignature, IdBlockError> {
        let mut reader = Reader::new(&fixed);
        let (r, s) = (reader.array()?, reader.array()?);
        let mut raw = [number(r), number(s)].concat();
        raw.resize(SIGNATURE_BYTES, 0);
        Ok(IdSignature { raw: boxed(raw), fixed })
    }

    fn parse(field: &'static str, raw: [u8; SIGNATURE_BYTES]) -> Result<IdSignature, IdBlockError> {
        let mut reader = Reader::new(&raw);
        let (r, s) = (big_endian(field, reader.array()?)?, big_endian(field, reader.array()?)?);
        zeros(field, reader.remaining())?;
        let fixed = [r, s].concat().try_into().expect("48 + 48 bytes");
        Ok(IdSignature { raw: Box::new(raw), fixed })
    }
}

/// Signatures and keys that come with an ID block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdAuth {
    block_signature: IdSignature,
    id_key: IdKey,
    author: Option<(IdKey, IdSignature)>,
}

impl IdAuth {
    /// An author, if there is one, signs the ID key.
    pub fn new(id_key: IdKey, block_signature: IdSignature, author: Option<(IdKey, IdSignature)>) -> IdAuth {
        IdAuth { block_signature, id_key, author }
    }

    pub fn parse(bytes: &[u8]) -> Result<IdAuth, IdBlockError> {
        let mut reader = Reader::new(bytes);
        let algorithm = |field, seen| match seen {
            ALGORITHM => Ok(()),
            seen => Err(IdBlockError::Algorithm { field, seen }),
        };
        algorithm("id_key_algo", reader.u32_le()?)?;
        let author_algorithm = reader.u32_le()?;
        zeros("the bytes after the algorithms", reader.take(RESERVED_AFTER_ALGORITHMS)?)?;
        let block_signature = IdSignature::parse("id_block_sig", reader.array()?)?;
        let id_key =
            IdKey::parse("id_key", reader.array()?)?.ok_or(IdBlockError::Curve { field: "id_key", seen: 0 })?;
        zeros("the bytes after the ID key", reader.take(RESERVED_AFTER_ID_KEY)?)?;
        let key_signature = IdSignature::parse("id_key_sig", reader.array()?)?;
        let author_key = IdKey::parse("author_key", reader.array()?)?;
        zeros("the bytes after the author key", reader.take(RESERVED_AFTER_AUTHOR_KEY)?)?;
        reader.finish()?;
        let author = match author_key {
            Some(key) => {
                algorithm("author_key_algo", author_algorithm)?;
                Some((key, key_signature))
            }
            None => {
                zeros("id_key_sig, where there is no author key,", key_signature.raw.as_slice())?;
                None
            }
        };
        Ok(IdAuth { block_signature, id_key, author })
    }

    pub fn to_bytes(&self) -> Box<[u8; ID_AUTH_BYTES]> {
        let mut bytes = Vec::with_capacity(ID_AUTH_BYTES);
        bytes.extend(ALGORITHM.to_le_bytes());
        bytes.extend(self.author.as_ref().map_or(0, |_| ALGORITHM).to_le_bytes());
        bytes.extend([0; RESERVED_AFTER_ALGORITHMS]);
        bytes.extend(self.block_signature.raw.iter());
        bytes.extend(self.id_key.raw.iter());
        bytes.extend([0; RESERVED_AFTER_ID_KEY]);
        if let Some((key, signature)) = &self.author {
            bytes.extend(signature.raw.iter());
            bytes.extend(key.raw.iter());
        }
        bytes.resize(ID_AUTH_BYTES, 0);
        boxed(bytes)
    }

    /// What the AMD-SP checks: the block is signed by the ID key, and the ID key by the author's, if there is one.
    pub fn verify(&self, block: &IdBlock) -> Result<(), IdBlockError> {
        self.id_key.verify("the signature of the ID block", &block.to_bytes(), &self.block_signature)?;
        self.verify_author()
    }

    /// The second half alone, for an auth page without its block.
    pub fn verify_author(&self) -> Result<(), IdBlockError> {
        match &self.author {
            None => Ok(()),
            Some((key, signature)) => key.verify("the signature of the ID key", self.id_key.raw.as_slice(), signature),
        }
    }

    pub fn id_key_digest(&self) -> KeyDigest {
        self.id_key.digest()
    }
    pub fn author_key_digest(&self) -> Option<KeyDigest> {
        self.author.as_ref().map(|(key, _)| key.digest())
    }
}

/// A number of P-384 in 72 bytes, the lowest first.
fn number(big_endian: [u8; P384_BYTES]) -> [u8; NUMBER_BYTES] {
    let mut bytes = [0; NUMBER_BYTES];
    for (to, from) in bytes.iter_mut().zip(big_endian.iter().rev()) {
        *to = *from;
    }
    bytes
}

fn big_endian(field: &'static str, number: [u8; NUMBER_BYTES]) -> Result<[u8; P384_BYTES], IdBlockError> {
    let mut reader = Reader::new(&number);
    let mut bytes: [u8; P384_BYTES] = reader.array()?;
    zeros(field, reader.remaining())?;
    bytes.reverse();
    Ok(bytes)
}

fn zeros(field: &'static str, bytes: &[u8]) -> Result<(), IdBlockError> {
    if bytes.iter().all(|b| *b == 0) { Ok(()) } else { Err(IdBlockError::Reserved(field)) }
}

fn boxed<const N: usize>(bytes: Vec<u8>) -> Box<[u8; N]> {
    bytes.into_boxed_slice().try_into().expect("filled up to its length")
}
