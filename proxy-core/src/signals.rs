//! The signals that a service manager, a terminal or a log rotator sends.
//!
//! The first SIGTERM or SIGINT begins the drain, a second one ends the program at once. SIGHUP is logged and has no other
//! effect: its default action would kill the program without a drain. So would that of SIGXFSZ, which a log file at its
//! size limit raises; taken over, the write fails instead.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tasks::{Drained, Tasks};

/// From asm-generic/signal.h; the number is the same on every architecture that has SEV-SNP.
const SIGXFSZ: i32 = 25;

/// The process's signals, from the moment it is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    _file_size: Signal,
}

impl Signals {
    /// Replaces the default actions. Call it once and early.
    pub fn watch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for SIGTERM or SIGINT and returns its name. Cancellation loses no signal.
    pub async fn termination(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP is ignored; restart the program to read its configuration again");
                }
            }
        }
    }

    /// Drains the tasks until the deadline, or until another signal ends the wait; says so if connections remain.
    pub async fn drain(&mut self, tasks: &Tasks, deadline: Duration) {
        tokio::select! {
            drained = tasks.drain(deadline) => {
                if let Drained::Dropped(open) = drained {
                    tracing::warn!(open, "connections were still open at the drain deadline");
                }
            }
            signal = self.termination() => {
                tracing::warn!(signal, open = tasks.open(), "second signal: ending without waiting for open connections");
            }
        }
    }
}
