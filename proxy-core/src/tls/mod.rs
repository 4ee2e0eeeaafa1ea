//! TLS 1.3 as `evident/1` uses it: no resumption, no tickets, no early data, one certificate, the exporter early.
//!
//! ```text
//! config   rustls configurations; there is no other way to make one here
//! server   our own driver: ClientHello first, exporter at the first flight, half-RTT data
//! client   the connector: step 1 and 2 of the verification order, no more
//! ```
//!
//! Nothing in a rustls callback decides about evidence: a connection proves something only after `ratls` says so.

pub mod client;
pub mod config;
pub mod server;

pub use client::{AttestedHandshake, HandshakeError, connect};
pub use config::{ServerIdentity, client_config, provider, server_config};
pub use server::{Hello, ServerTls};
