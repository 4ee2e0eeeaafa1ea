//! `evident-proxy`: the reverse proxy in the confidential VM.

pub mod cli;
pub mod config;
pub mod tokens;
