//! A TCP relay that delays each direction by half a round-trip time, for machines without netem.
//!
//! Bytes keep their order and arrive half a round trip after they were sent, however many are under way. The TCP connect
//! itself is not delayed: the figure counts from the ClientHello, and one with connect is one RTT more.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

pub(crate) struct DelayRelay {
    pub(crate) address: SocketAddr,
    first_bytes: Arc<Mutex<Vec<Instant>>>,
}

impl DelayRelay {
    /// Listens on loopback and passes on to `target`; ends with the process.
    pub(crate) fn start(target: SocketAddr, rtt: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let first_bytes = Arc::new(Mutex::new(vec![]));
        let log = first_bytes.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { continue };
                direction(client, server, rtt / 2, Some(log.clone()));
                direction(server2, client2, rtt / 2, None);
            }
        });
        Ok(DelayRelay { address, first_bytes })
    }

    /// When the first byte of the latest connection came from its client.
    pub(crate) fn last_first_byte(&self) -> Option<Instant> {
        self.first_bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last().copied()
    }
}

type Piece = (Instant, Vec<u8>);

fn direction(mut from: TcpStream, to: TcpStream, delay: Duration, mut log: Option<Arc<Mutex<Vec<Instant>>>>) {
    let (sender, receiver): (Sender<Piece>, Receiver<Piece>) = channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n) = from.read(&mut buffer) {
            let now = Instant::now();
            if let Some(log) = log.take() {
                log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(now);
            }
            let end = n == 0;
            if sender.send((now + delay, buffer[..n].to_vec())).is_err() || end {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut to = to;
        for (due, piece) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
