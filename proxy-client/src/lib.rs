
#![warn(clippy::unwrap_used)]

pub mod cli;
pub mod config;
pub mod front;
pub mod open;
pub mod router;
pub mod tools;
pub mod dial;
pub mod guest;
pub mod inspect;
pub mod run;
