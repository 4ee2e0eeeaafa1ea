//! TLS 1.3 as `evident/1` uses it: no resumption, no tickets, no early data, one certificate, the exporter early.
//!
//! ```text
//! config   rustls configurations; there is no other way to make one here
//! server   our own driver: ClientHello first, exporter at the first flight, half-RTT data
//! client   the connector: step 1 and 2 of the verification order, no more
//! inbox    what both give to rustls, one record at a time
//! records  the connection after the handshake, without rustls: records sealed and opened in place (aead)
//! over     the last two over bytes in memory, for tests and fuzz targets; not in a release
//! ```
//!
//! Nothing in a rustls callback decides about evidence: a connection proves something only after `ratls` says so.

mod aead;
pub mod client;
pub mod config;
mod inbox;
/// In tests and under `cargo fuzz` only; no part of a release.
#[cfg(any(test, fuzzing))]
pub mod over;
pub mod records;
pub mod server;

pub use client::{AttestedHandshake, HandshakeError, connect};
pub use config::{ServerIdentity, client_config, provider, server_config};
pub use records::Records;
pub use server::{Hello, ServerTls};
