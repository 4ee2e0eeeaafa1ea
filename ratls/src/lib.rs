#![doc = include_str!("../README.md")]
#![warn(clippy::unwrap_used)]

// Tests inside use what tests outside share.
#[cfg(test)]
extern crate self as ratls;

pub mod appraise;
pub mod binding;
pub mod bundle;
pub mod bytes;
pub mod cert;
pub mod crypto;
pub mod digest;
pub mod endorsement;
pub mod evidence;
pub mod guid;
pub mod launch;
pub mod measured_boot;
pub mod policy;
pub mod reference;
pub mod tcb;
pub mod time;
pub mod verify;
pub mod wire;
