//! Waiting for something with a deadline; nothing in the tests sleeps and hopes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for a loaded machine with two cores; a test that needs all of it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

const STEP: Duration = Duration::from_millis(20);

/// Asks until there is an answer. `what` completes the sentence "waited 30 s for …".
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("waited {} s for {what}", deadline.as_secs_f32());
        }
        std::thread::sleep(STEP);
    }
}

/// Whether a socket listens on this TCP port of any address. Read from /proc, because a connection made to find out is
/// one that the program under test would see.
pub fn listening(address: SocketAddr) -> bool {
    const LISTEN: &str = "0A";
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            // "sl: local_address:PORT remote_address:PORT state …", hexadecimal
            let mut fields = line.split_whitespace().skip(1);
            let local_port = fields.next().and_then(|local| local.rsplit(':').next());
            let state = fields.nth(1);
            state == Some(LISTEN)
                && local_port.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(address.port())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sees_a_listener_come_and_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listening(address));
        drop(listener);
        assert!(!listening(address));
    }

    #[test]
    fn gives_up_at_the_deadline() {
        let error = until::<()>("nothing", Duration::from_millis(50), || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("for nothing"));
    }
}
