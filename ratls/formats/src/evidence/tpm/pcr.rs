//! Platform configuration registers: banks, values, and sets of them. What a register means is not said here.

use std::collections::BTreeMap;
use std::fmt;

use super::REGISTERS;
use crate::crypto::{sha256, sha384};

/// A bank that evidence may rest on. SHA-1 is none; a quote over it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    Sha256,
    Sha384,
}

impl Bank {
    /// From TPM_ALG_ID (TCG Algorithm Registry).
    pub const fn from_algorithm(id: u16) -> Option<Self> {
        match id {
            0x000B => Some(Bank::Sha256),
            0x000C => Some(Bank::Sha384),
            _ => None,
        }
    }

    pub const fn algorithm(self) -> u16 {
        match self {
            Bank::Sha256 => 0x000B,
            Bank::Sha384 => 0x000C,
        }
    }

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Bank::Sha256 => 32,
            Bank::Sha384 => 48,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Bank::Sha256 => "sha256",
            Bank::Sha384 => "sha384",
        }
    }

    /// The bank's hash over the parts, one after the other.
    pub fn hash(self, parts: &[&[u8]]) -> PcrValue {
        #[cfg(feature = "test-support")]
        hashed::count(parts);
        match self {
            Bank::Sha256 => PcrValue::from_slice(sha256(parts).as_bytes()),
            Bank::Sha384 => PcrValue::from_slice(sha384(parts).as_bytes()),
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value of a register, or a digest that is extended into one: 32 or 48 bytes, as its bank says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrValue {
    bytes: [u8; 48],
    bank: Bank,
}

impl PcrValue {
    fn from_slice(hash: &[u8]) -> Self {
        let bank = if hash.len() == 32 { Bank::Sha256 } else { Bank::Sha384 };
        Self::new(bank, hash).expect("a hash has the length of its bank")
    }

    /// `None` where the length is not the bank's.
    pub fn new(bank: Bank, value: &[u8]) -> Option<Self> {
        let mut bytes = [0; 48];
        if value.len() != bank.size() {
            return None;
        }
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(PcrValue { bytes, bank })
    }

    /// A register in which every byte is `byte`: 0x00 after a reset, 0xFF for the registers of dynamic launch.
    pub const fn filled(bank: Bank, byte: u8) -> Self {
        let mut bytes = [0; 48];
        let mut at = 0;
        while at < bank.size() {
            bytes[at] = byte;
            at += 1;
        }
        PcrValue { bytes, bank }
    }

    /// TPM2_PCR_Extend: H(old ‖ digest).
    #[must_use]
    pub fn extended(&self, digest: &[u8]) -> Self {
        self.bank.hash(&[self.as_bytes(), digest])
    }

    pub fn bank(&self) -> Bank {
        self.bank
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.bank.size()]
    }
}

impl fmt::Display for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.bank)
    }
}

impl serde::Serialize for PcrValue {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Registers of one bank with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    bank: Bank,
    values: BTreeMap<u8, PcrValue>,
}

/// A set of values that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrError {
    #[error("PCR {0} does not exist; a TPM has registers 0 to 23")]
    Index(u8),
    #[error("the value of PCR {index} has {seen} bytes, wanted {wanted}")]
    Length { index: u8, seen: usize, wanted: usize },
}

impl PcrValues {
    pub fn new<'a>(bank: Bank, values: impl IntoIterator<Item = (u8, &'a [u8])>) -> Result<Self, PcrError> {
        let mut found = BTreeMap::new();
        for (index, bytes) in values {
            if usize::from(index) >= REGISTERS {
                return Err(PcrError::Index(index));
            }
            let value =
                PcrValue::new(bank, bytes).ok_or(PcrError::Length { index, seen: bytes.len(), wanted: bank.size() })?;
            found.insert(index, value);
        }
        Ok(PcrValues { bank, values: found })
    }

    pub fn bank(&self) -> Bank {
        self.bank
    }
    pub fn value(&self, index: u8) -> Option<&PcrValue> {
        self.values.get(&index)
    }
    pub fn indices(&self) -> impl Iterator<Item = u8> + '_ {
        self.values.keys().copied()
    }
    pub fn iter(&self) -> impl Iterator<Item = (u8, &PcrValue)> {
        self.values.iter().map(|(index, value)| (*index, value))
    }
}

/// Counts the bytes hashed in this thread, for tests of what a guest's text may cost.
#[cfg(feature = "test-support")]
#[doc(hidden)]
pub mod hashed {
    use std::cell::Cell;

    thread_local! { static BYTES: Cell<usize> = const { Cell::new(0) } }

    pub(super) fn count(parts: &[&[u8]]) {
        BYTES.set(BYTES.get() + parts.iter().map(|part| part.len()).sum::<usize>());
    }

    pub fn during<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = BYTES.get();
        let value = work();
        (value, BYTES.get() - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that holds only a separator of four zero bytes.
    #[test]
    fn extends_as_a_tpm_does() {
        for (bank, wanted) in [
            (Bank::Sha256, "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            (
                Bank::Sha384,
                "518923b0f955d08da077c96aaba522b9decede61c599cea6c41889cfbea4ae4d50529d96fe4d1afdafb65e7f95bf23c4",
            ),
        ] {
            let separator = bank.hash(&[&[0; 4]]);
            assert_eq!(PcrValue::filled(bank, 0).extended(separator.as_bytes()).to_string(), wanted);
        }
    }

    #[test]
    fn values_of_another_length_and_registers_that_do_not_exist_are_refused() {
        assert_eq!(
            PcrValues::new(Bank::Sha256, [(7, &[0; 31][..])]),
            Err(PcrError::Length { index: 7, seen: 31, wanted: 32 })
        );
        assert_eq!(PcrValues::new(Bank::Sha256, [(24, &[0; 32][..])]), Err(PcrError::Index(24)));
    }
}
