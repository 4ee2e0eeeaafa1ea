#![doc = include_str!("../README.md")]

pub mod bytes;
pub mod crypto;
pub mod digest;
pub mod time;
