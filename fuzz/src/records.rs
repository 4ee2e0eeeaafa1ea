//! Target for `proxy_core::tls` after the handshake: records of a peer who has the keys.

/// What the harness calls is part of proxy-core only where it is built by `cargo fuzz`.
#[cfg(fuzzing)]
mod judge;
#[cfg(fuzzing)]
pub use judge::records;

pub const DATA: u8 = b'D';
pub const INNER: u8 = b'I';
pub const KEY_UPDATE: u8 = b'U';
pub const WIRE: u8 = b'W';
