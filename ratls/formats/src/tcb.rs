//! Products and their firmware versions (TCB_VERSION).
//!
//! A TCB_VERSION is eight bytes whose meaning depends on the product: Turin put the FMC version first and moved the rest up
//! (AMD 56860, table TCB_VERSION). So a value carries its layout, two values of different layouts cannot be
//! compared, and there is no order: "at least" is component by component, never the number.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// The processor generations whose roots this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    Milan,
    /// Also Bergamo and Siena, whose keys AMD issues under this name.
    Genoa,
    Turin,
}

impl Product {
    pub const ALL: [Product; 3] = [Product::Milan, Product::Genoa, Product::Turin];

    /// The name as AMD writes it in certificates and in the addresses of its key service.
    pub const fn name(self) -> &'static str {
        match self {
            Product::Milan => "Milan",
            Product::Genoa => "Genoa",
            Product::Turin => "Turin",
        }
    }

    /// The product of exactly this name.
    pub fn from_name(name: &str) -> Option<Product> {
        Product::ALL.into_iter().find(|p| p.name() == name)
    }

    pub const fn layout(self) -> TcbLayout {
        match self {
            Product::Milan | Product::Genoa => TcbLayout::MilanGenoa,
            Product::Turin => TcbLayout::Turin,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which byte of a TCB_VERSION is which component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcbLayout {
    /// boot loader, TEE, 4 reserved, SNP, microcode
    MilanGenoa,
    /// FMC, boot loader, TEE, SNP, 3 reserved, microcode
    Turin,
}

impl TcbLayout {
    /// Byte offsets that must be zero.
    const fn reserved(self) -> &'static [usize] {
        match self {
            TcbLayout::MilanGenoa => &[2, 3, 4, 5],
            TcbLayout::Turin => &[4, 5, 6],
        }
    }
}

/// Security version numbers of the firmware under a guest.
///
/// Equality is of all eight bytes, reserved ones included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcbVersion {
    layout: TcbLayout,
    bytes: [u8; 8],
}

/// Two TCB versions of different products were to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCB version in {seen:?} layout cannot be compared with one in {wanted:?} layout")]
pub struct LayoutMismatch {
    pub seen: TcbLayout,
    pub wanted: TcbLayout,
}

impl TcbVersion {
    /// The eight bytes of a report, read as a little-endian number.
    pub const fn from_raw(layout: TcbLayout, raw: u64) -> Self {
        TcbVersion { layout, bytes: raw.to_le_bytes() }
    }

    pub const fn new_milan_genoa(bootloader: u8, tee: u8, snp: u8, microcode: u8) -> Self {
        TcbVersion { layout: TcbLayout::MilanGenoa, bytes: [bootloader, tee, 0, 0, 0, 0, snp, microcode] }
    }

    pub const fn new_turin(fmc: u8, bootloader: u8, tee: u8, snp: u8, microcode: u8) -> Self {
        TcbVersion { layout: TcbLayout::Turin, bytes: [fmc, bootloader, tee, snp, 0, 0, 0, microcode] }
    }

    pub const fn layout(&self) -> TcbLayout {
        self.layout
    }

    /// As in a report.
    pub const fn raw(&self) -> u64 {
        u64::from_le_bytes(self.bytes)
    }

    /// Only Turin has one.
    pub const fn fmc(&self) -> Option<u8> {
        match self.layout {
            TcbLayout::MilanGenoa => None,
            TcbLayout::Turin => Some(self.bytes[0]),
        }
    }

    pub const fn bootloader(&self) -> u8 {
        match self.layout {
            TcbLayout::MilanGenoa => self.bytes[0],
            TcbLayout::Turin => self.bytes[1],
        }
    }

    pub const fn tee(&self) -> u8 {
        match self.layout {
            TcbLayout::MilanGenoa => self.bytes[1],
            TcbLayout::Turin => self.bytes[2],
        }
    }

    pub const fn snp(&self) -> u8 {
        match self.layout {
            TcbLayout::MilanGenoa => self.bytes[6],
            TcbLayout::Turin => self.bytes[3],
        }
    }

    pub const fn microcode(&self) -> u8 {
        self.bytes[7]
    }

    /// True where the bytes that the layout reserves are zero.
    pub fn reserved_is_zero(&self) -> bool {
        self.layout.reserved().iter().all(|at| self.bytes[*at] == 0)
    }

    /// True where every component is that of `floor` or above.
    pub fn at_least(&self, floor: &TcbVersion) -> Result<bool, LayoutMismatch> {
        if self.layout != floor.layout {
            return Err(LayoutMismatch { seen: self.layout, wanted: floor.layout });
        }
        Ok(self.bytes.iter().zip(&floor.bytes).all(|(own, floor)| own >= floor))
    }
}

/// `fmc 1 bl 3 tee 2 snp 5 ucode 97`, in decimal as AMD prints them.
impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc() {
            write!(f, "fmc {fmc} ")?;
        }
        write!(f, "bl {} tee {} snp {} ucode {}", self.bootloader(), self.tee(), self.snp(), self.microcode())?;
        if !self.reserved_is_zero() {
            write!(f, " (raw {:#018x})", self.raw())?;
        }
        Ok(())
    }
}

impl fmt::Debug for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcbVersion({:?}, {self})", self.layout)
    }
}

impl Serialize for TcbVersion {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        if let Some(fmc) = self.fmc() {
            map.serialize_entry("fmc", &fmc)?;
        }
        map.serialize_entry("bl", &self.bootloader())?;
        map.serialize_entry("tee", &self.tee())?;
        map.serialize_entry("snp", &self.snp())?;
        map.serialize_entry("ucode", &self.microcode())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_mean_something_else_in_the_other_layout() {
        let raw = u64::from_le_bytes([1, 3, 2, 5, 0, 0, 0, 97]);
        assert_eq!(TcbVersion::from_raw(TcbLayout::Turin, raw), TcbVersion::new_turin(1, 3, 2, 5, 97));
        let misread = TcbVersion::from_raw(TcbLayout::MilanGenoa, raw);
        assert_eq!((misread.bootloader(), misread.snp(), misread.fmc()), (1, 0, None));
        assert!(!misread.reserved_is_zero());
    }

    #[test]
    fn at_least_is_component_by_component_and_not_the_number() {
        let floor = TcbVersion::new_milan_genoa(3, 0, 20, 100);
        assert_eq!(TcbVersion::new_milan_genoa(3, 0, 20, 100).at_least(&floor), Ok(true));
        assert_eq!(TcbVersion::new_milan_genoa(4, 1, 21, 101).at_least(&floor), Ok(true));
        let numerically_above = TcbVersion::new_milan_genoa(3, 0, 19, 255);
        assert!(numerically_above.raw() > floor.raw());
        assert_eq!(numerically_above.at_least(&floor), Ok(false));
    }

    #[test]
    fn refuses_to_compare_layouts() {
        let turin = TcbVersion::new_turin(255, 255, 255, 255, 255);
        assert_eq!(
            turin.at_least(&TcbVersion::new_milan_genoa(0, 0, 0, 0)),
            Err(LayoutMismatch { seen: TcbLayout::Turin, wanted: TcbLayout::MilanGenoa })
        );
    }

    #[test]
    fn prints_and_serialises_every_component() {
        let turin = TcbVersion::new_turin(1, 3, 2, 5, 97);
        assert_eq!(turin.to_string(), "fmc 1 bl 3 tee 2 snp 5 ucode 97");
        assert_eq!(
            serde_json::to_value(turin).unwrap(),
            serde_json::json!({"fmc": 1, "bl": 3, "tee": 2, "snp": 5, "ucode": 97})
        );
        assert_eq!(serde_json::to_value(Product::Genoa).unwrap(), serde_json::json!("genoa"));
    }
}
