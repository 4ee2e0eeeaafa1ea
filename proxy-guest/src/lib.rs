//! `evident-proxy`: the reverse proxy in the confidential VM.
//!
//! ```text
//! cli -> config -> start (machine, batcher, endorsements, our own verdict) -> run (accept, drain)
//!                                                                              └─ serve: one connection
//!                                                                                   ├─ session: attested tunnels
//!                                                                                   └─ plain: ordinary HTTPS clients
//! ```

#![warn(clippy::unwrap_used)]

pub mod asked;
pub mod cli;
pub mod config;
pub mod evidence;
pub mod identity;
pub mod machine;
pub mod plain;
pub mod run;
pub mod serve;
mod session;
#[cfg(feature = "simulator")]
pub mod simulate;
pub mod start;
pub mod tokens;
pub mod version;
