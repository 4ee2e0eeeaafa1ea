//! TCP ports for the programs that a test starts.
//!
//! Binding port 0 and letting go again hands the same port to two tests once in a while, or to somebody's outgoing
//! connection. So ports come from below the kernel's ephemeral range and are held by a file lock until this process ends.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

const FIRST: u16 = 21_000;
/// Below 32,768, where Linux's `ip_local_port_range` begins.
const LAST: u16 = 31_999;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that is free on IPv4 and IPv6 loopback and that no other caller gets while this process lives.
pub fn free_port() -> Result<u16> {
    let locks = lock_dir()?;
    let count = u32::from(LAST - FIRST) + 1;
    // Start at different places, so that a hundred tests do not all try the same locks first.
    let start = std::process::id().wrapping_mul(101) % count;
    for step in 0..count {
        let offset = u16::try_from((start + step) % count).expect("count fits a port");
        let port = FIRST + offset;
        let lock = File::create(locks.join(port.to_string())).context("lock file of a port")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || !is_free(port) {
            continue;
        }
        HELD.lock().expect("no holder panics").push(lock);
        return Ok(port);
    }
    bail!("no free port between {FIRST} and {LAST}")
}

/// [`free_port`] on 127.0.0.1.
pub fn free_addr() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

fn is_free(port: u16) -> bool {
    // IPv6 may be absent; in use is what matters.
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
    let v6_in_use = matches!(&v6, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && !v6_in_use
}

fn lock_dir() -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("evident-test-ports-{user}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_a_port_once() {
        let ports: std::collections::HashSet<u16> = (0..20).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 20);
    }
}
