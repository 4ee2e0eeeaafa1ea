#![warn(clippy::unwrap_used)]

pub mod attested;
pub mod audit;
pub mod cli;
pub mod config;
mod credential;
pub mod dial;
pub mod evidence;
pub mod failed;
pub mod front;
pub mod guest;
pub mod history;
pub mod inspect;
mod lifespan;
pub mod open;
pub mod page;
pub mod pool;
mod race;
mod retry;
pub mod router;
pub mod run;
pub mod tools;
