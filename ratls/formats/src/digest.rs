//! A type for each digest and identifier, so that no two can be confused. All print as lower-case hex.

/// Makes a fixed-size byte newtype: `from_bytes`, `as_bytes`, `from_hex`, hex `Display`/`Debug`, serde as hex.
macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                $name(bytes)
            }
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
            /// Exactly `2 * LEN` hex digits, either case.
            pub fn from_hex(text: &str) -> Result<Self, $crate::digest::HexError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| $crate::digest::HexError { wanted: $len * 2, seen: text.chars().count() })?;
                Ok($name(bytes))
            }
            /// True where every byte is zero.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|b| *b == 0)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&hex::encode(self.0))
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                $name::from_hex(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use bytes_type;

/// Text that is not the hex that the type wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted {wanted} hex digits, seen {seen} characters")]
pub struct HexError {
    pub wanted: usize,
    pub seen: usize,
}

bytes_type!(
    /// SHA-256 of something that the context names.
    Sha256Digest, 32);
bytes_type!(
    /// SHA-384 of something that the context names.
    Sha384Digest, 48);
bytes_type!(
    /// SHA-512 of something that the context names.
    Sha512Digest, 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_of_another_length_is_refused() {
        assert_eq!(Sha256Digest::from_hex("00").unwrap_err(), HexError { wanted: 64, seen: 2 });
        let text = "ab".repeat(32);
        assert_eq!(Sha256Digest::from_hex(&text.to_uppercase()).unwrap().to_string(), text);
    }
}
