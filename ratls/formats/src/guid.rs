//! GUIDs in the two byte orders in which firmware writes them: a type for each, so that no table is read in the other's order.
//!
//! `c0b406a4-a803-4952-9743-3fb6014cd0ae` begins with the byte c0 in AMD's certificate table (RFC 4122), and with a4 in tables
//! of UEFI: OVMF's footer, the SEV hash table, SVSM manifests, event logs (UEFI 2.10, appendix A).

use std::fmt;

/// As it stands in UEFI's structures: the first three fields are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UefiGuid(Fields);

/// As it stands in AMD's certificate table: big-endian throughout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGuid(Fields);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Fields {
    a: u32,
    b: u16,
    c: u16,
    d: u64,
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { a, b, c, d } = self;
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", d >> 48, d & 0xFFFF_FFFF_FFFF)
    }
}

macro_rules! guid {
    ($name:ident, $from:ident, $to:ident) => {
        impl $name {
            /// The groups of the written form, the last two as one number.
            pub const fn new(a: u32, b: u16, c: u16, d: u64) -> Self {
                $name(Fields { a, b, c, d })
            }
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7] = bytes;
                $name(Fields {
                    a: u32::$from([a0, a1, a2, a3]),
                    b: u16::$from([b0, b1]),
                    c: u16::$from([c0, c1]),
                    d: u64::from_be_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
                })
            }
            pub const fn to_bytes(self) -> [u8; 16] {
                let [a0, a1, a2, a3] = self.0.a.$to();
                let ([b0, b1], [c0, c1]) = (self.0.b.$to(), self.0.c.$to());
                let [d0, d1, d2, d3, d4, d5, d6, d7] = self.0.d.to_be_bytes();
                [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

guid!(UefiGuid, from_le_bytes, to_le_bytes);
guid!(NetworkGuid, from_be_bytes, to_be_bytes);

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 0x0011_2233;
    const D: u64 = 0x8899_AABB_CCDD_EEFF;

    #[test]
    fn plat_n53_the_same_guid_has_other_bytes_in_each_kind_of_table() {
        let (uefi, network) = (UefiGuid::new(A, 0x4455, 0x6677, D), NetworkGuid::new(A, 0x4455, 0x6677, D));
        assert_eq!(uefi.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(network.to_string(), uefi.to_string());
        assert_eq!(hex::encode(uefi.to_bytes()), "33221100554477668899aabbccddeeff");
        assert_eq!(hex::encode(network.to_bytes()), "00112233445566778899aabbccddeeff");
        assert_eq!(UefiGuid::from_bytes(uefi.to_bytes()), uefi);
        assert_eq!(NetworkGuid::from_bytes(network.to_bytes()), network);
        assert_ne!(UefiGuid::from_bytes(network.to_bytes()), uefi);
    }
}
