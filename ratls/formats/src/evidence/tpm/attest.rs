//! TPMS_ATTEST of a quote (Part 2, 10.12.12): the bytes that an AK signs over registers.
//!
//! The magic stands in front of everything that a TPM makes itself; a restricted key signs nothing foreign that begins with
//! it. That is what makes a quote more than bytes, so other magics and types are no quotes.

use super::{MAX_STRUCTURE, REGISTERS, StructureError, sized};
use crate::bytes::{ReadError, Reader};

/// TPM_GENERATED_VALUE (Part 2, 6.2).
pub const MAGIC: u32 = 0xFF54_4347;
/// TPM_ST_ATTEST_QUOTE (Part 2, 6.9).
pub const QUOTE: u16 = 0x8018;
/// Largest TPM2B_NAME and TPM2B_DATA: TPMT_HA of SHA-512 (Part 2, 10.5.3 and 10.4.3).
const MAX_DATA: usize = 66;
/// Largest pcrDigest: SHA-512.
const MAX_DIGEST: usize = 64;
/// Most banks in a selection (HASH_COUNT of the reference implementation is 3 to 5; Part 2, 10.9.7 bounds by it).
const MAX_BANKS: u32 = 8;
/// Most octets of a bitmap: four say everything about 24 registers and are what some implementations send.
const MAX_BITMAP: usize = 4;

/// When the TPM signed, by its own count (Part 2, 10.11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Clock {
    /// Milliseconds that the TPM was powered.
    pub clock_ms: u64,
    /// TPM resets (reboots) since the last clear.
    pub reset_count: u32,
    pub restart_count: u32,
    /// False where `clock_ms` may have been reported before.
    pub safe: bool,
}

/// One bank's registers in a selection: the algorithm's number and the indices, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// TPM_ALG_ID of the bank.
    pub algorithm: u16,
    pub indices: Vec<u8>,
}

/// A quote's contents. All of it is claims until the signature says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Qualified name of the key that signed.
    pub qualified_signer: Vec<u8>,
    /// The caller's qualifying data.
    pub extra_data: Vec<u8>,
    pub clock: Clock,
    pub firmware_version: u64,
    pub selections: Vec<Selection>,
    pub pcr_digest: Vec<u8>,
}

/// Why bytes are no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    #[error("the magic is {seen:#010x}, wanted {MAGIC:#010x}: no TPM made these bytes")]
    Magic { seen: u32 },
    #[error("the attestation is of type {seen:#06x}, wanted {QUOTE:#06x}, a quote")]
    Type { seen: u16 },
    #[error("TPMS_ATTEST has {seen} bytes, at most {MAX_STRUCTURE} are read")]
    TooLong { seen: usize },
    #[error("TPMS_ATTEST does not parse: {0}")]
    Structure(#[from] StructureError),
    #[error("the clock's flag `safe` is {seen}, neither yes nor no")]
    Safe { seen: u8 },
    #[error("{seen} banks are selected, at most {MAX_BANKS} are read")]
    Banks { seen: u32 },
    #[error("a selection has {seen} octets, wanted 1 to {MAX_BITMAP}")]
    Bitmap { seen: usize },
    #[error("PCR {0} is selected; a TPM has registers 0 to 23")]
    Register(usize),
}

impl From<ReadError> for AttestError {
    fn from(error: ReadError) -> Self {
        AttestError::Structure(error.into())
    }
}

impl Quoted {
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() > MAX_STRUCTURE {
            return Err(AttestError::TooLong { seen: bytes.len() });
        }
        let mut r = Reader::new(bytes);
        match r.u32_be()? {
            MAGIC => {}
            seen => return Err(AttestError::Magic { seen }),
        }
        match r.u16_be()? {
            QUOTE => {}
            seen => return Err(AttestError::Type { seen }),
        }
        let quoted = Quoted {
            qualified_signer: sized(&mut r, "the qualified signer", MAX_DATA)?.to_vec(),
            extra_data: sized(&mut r, "the qualifying data", MAX_DATA)?.to_vec(),
            clock: clock(&mut r)?,
            firmware_version: r.u64_be()?,
            selections: selections(&mut r)?,
            pcr_digest: sized(&mut r, "the PCR digest", MAX_DIGEST)?.to_vec(),
        };
        r.finish()?;
        Ok(quoted)
    }
}

fn clock(r: &mut Reader<'_>) -> Result<Clock, AttestError> {
    Ok(Clock {
        clock_ms: r.u64_be()?,
        reset_count: r.u32_be()?,
        restart_count: r.u32_be()?,
        safe: match r.u8()? {
            0 => false,
            1 => true,
            seen => return Err(AttestError::Safe { seen }),
        },
    })
}

fn selections(r: &mut Reader<'_>) -> Result<Vec<Selection>, AttestError> {
    let banks = r.u32_be()?;
    if banks > MAX_BANKS {
        return Err(AttestError::Banks { seen: banks });
    }
    (0..banks).map(|_| selection(r)).collect()
}

fn selection(r: &mut Reader<'_>) -> Result<Selection, AttestError> {
    let algorithm = r.u16_be()?;
    let octets = usize::from(r.u8()?);
    if !(1..=MAX_BITMAP).contains(&octets) {
        return Err(AttestError::Bitmap { seen: octets });
    }
    let mut indices = vec![];
    for (octet, bits) in r.take(octets)?.iter().enumerate() {
        for bit in (0..8).filter(|bit| bits >> bit & 1 == 1) {
            let index = 8 * octet + bit;
            let register = u8::try_from(index).ok().filter(|_| index < REGISTERS);
            indices.push(register.ok_or(AttestError::Register(index))?);
        }
    }
    Ok(Selection { algorithm, indices })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quote over PCRs 0 and 23 of the SHA-256 bank, written by hand from Part 2.
    fn example() -> Vec<u8> {
        let mut bytes = vec![0xFF, 0x54, 0x43, 0x47, 0x80, 0x18];
        bytes.extend([0, 4, 0, 0x0B, 1, 2, 0, 3, 7, 8, 9]);
        bytes.extend([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 3, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0x80, 0, 2, 0xAA, 0xBB]);
        bytes
    }

    #[test]
    fn reads_what_part_2_says() {
        let quoted = Quoted::parse(&example()).unwrap();
        assert_eq!(quoted.qualified_signer, [0, 0x0B, 1, 2]);
        assert_eq!(quoted.extra_data, [7, 8, 9]);
        assert_eq!(quoted.clock, Clock { clock_ms: 256, reset_count: 2, restart_count: 3, safe: true });
        assert_eq!(quoted.firmware_version, 5);
        assert_eq!(quoted.selections, [Selection { algorithm: 0x0B, indices: vec![0, 23] }]);
        assert_eq!(quoted.pcr_digest, [0xAA, 0xBB]);
    }

    #[test]
    fn is_refused_shorter_longer_and_larger() {
        let good = example();
        for end in 0..good.len() {
            assert!(Quoted::parse(&good[..end]).is_err());
        }
        assert!(matches!(
            Quoted::parse(&[&good[..], &[0]].concat()),
            Err(AttestError::Structure(StructureError::Read(ReadError::Trailing { left: 1, .. })))
        ));
        assert_eq!(Quoted::parse(&[0xFF; 1025]), Err(AttestError::TooLong { seen: 1025 }));
    }

    #[test]
    fn each_field_out_of_its_range_has_its_own_reason() {
        let with = |at: usize, value: u8| {
            let mut bytes = example();
            bytes[at] = value;
            Quoted::parse(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 0), AttestError::Magic { seen: 0x0054_4347 });
        assert_eq!(with(5, 0x17), AttestError::Type { seen: 0x8017 });
        assert!(matches!(with(7, 67), AttestError::Structure(StructureError::TooLong { seen: 67, .. })));
        assert_eq!(with(33, 2), AttestError::Safe { seen: 2 });
        assert_eq!(with(45, 9), AttestError::Banks { seen: 9 });
        assert_eq!(with(48, 5), AttestError::Bitmap { seen: 5 });
        assert_eq!(with(48, 0), AttestError::Bitmap { seen: 0 });
        assert!(matches!(with(48, 4), AttestError::Structure(_)));
    }

    #[test]
    fn registers_that_do_not_exist_cannot_be_selected() {
        let mut bytes = example();
        bytes.splice(48..52, [4, 1, 0, 0x80, 1]);
        assert_eq!(Quoted::parse(&bytes), Err(AttestError::Register(24)));
    }
}
