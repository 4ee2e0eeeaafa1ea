//! What both proxies need at the edge of the core: sockets, limits, tasks, TLS over sockets, telemetry.
//!
//! ```text
//!  net ── limits ── tls ── link ── framing ── tunnel ── relay       one connection, from accept to the last byte
//!  tasks  signals  log_writer  metrics  admin  notify  nofile  exit  the process around it
//! ```
//!
//! Everything here is async and does I/O; what is true about evidence is decided in `ratls`.

#![warn(clippy::unwrap_used)]

pub mod admin;
pub mod console;
pub mod duration;
pub mod exit;
pub mod framing;
pub mod headers;
pub mod limits;
pub mod link;
pub mod log_writer;
pub mod metrics;
pub mod net;
pub mod nofile;
pub mod notify;
pub mod relay;
pub mod signals;
mod stack;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod workers;
