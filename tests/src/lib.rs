//! What the whole-system tests share: starting the two built binaries, the applications around them, and ending all of it.
//!
//! ```text
//! Program ─spawn─▶ Running (killed with its descendants when dropped)      process
//! Guest   evident-proxy --simulate in front of an upstream                 guest
//! Client  evident-client with its ways in, and the policy for a Guest      client, policy
//! Upstream  small servers in this process, with the connections counted    upstream
//! free_port, until, listening  ports and waiting                           ports, wait
//! curl                         curl by each way in                          curl
//! metric, cpu_time, …          what a proxy shows from outside              observe
//! Booted                       a guest in QEMU with a TPM and a stock kernel  boot
//! python                       the Python with examples/requirements.txt   python
//! ```
//!
//! Everything listens on loopback, takes ports that nobody else uses, and ends with the value that stands for it.
//! Functions return `anyhow::Result`; the error carries the tail of the log of the program that failed.

pub mod binaries;
pub mod boot;
pub mod client;
pub mod curl;
pub mod guest;
pub mod http;
mod images;
pub mod launch;
pub mod observe;
pub mod policy;
pub mod ports;
pub mod process;
pub mod python;
pub mod upstream;
pub mod wait;

pub use client::Client;
pub use guest::Guest;
pub use process::{Finished, Program, Running};
pub use upstream::Upstream;
