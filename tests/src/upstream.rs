//! Servers that run in the test's own process and stand behind `evident-proxy`.
//!
//! They speak plain bytes or the least of HTTP/1.1; a real server stands behind the examples. Each ends its listener and
//! its connections when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

type Serve = dyn Fn(TcpStream) -> std::io::Result<()> + Send + Sync;

/// A TCP server with one thread per connection.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Upstream {
    /// Sends back what it receives, and ends its side when the peer ends its own.
    pub fn echo() -> Result<Upstream> {
        Upstream::start("127.0.0.1:0", |mut stream| {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.shutdown(Shutdown::Write),
                    n => stream.write_all(buffer.get(..n).expect("read is within its buffer"))?,
                }
            }
        })
    }

    /// HTTP/1.1 on kept connections: `/` answers with the method, the path and the headers received; `/bytes/N` with N
    /// bytes; `/sse` with five events 50 ms apart; `POST /echo` with the body.
    pub fn http() -> Result<Upstream> {
        Upstream::start("127.0.0.1:0", serve_http)
    }

    /// `serve` gets each accepted connection on a thread of its own.
    pub fn start(
        listen: &str,
        serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Upstream> {
        let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serve: Arc<Serve> = Arc::new(serve);
        let theirs = shared.clone();
        let accepting = std::thread::spawn(move || accept(&listener, &theirs, &serve));
        Ok(Upstream { address, shared, accepting: Some(accepting) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far: 0 proves that nothing reached the application.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Resets every connection, as a crash would, and goes on listening.
    pub fn reset_connections(&self) {
        for stream in self.shared.open.lock().expect("no holder panics").drain(..) {
            // Disconnecting sends RST; shutting down would send FIN, a clean end.
            let _ = rustix::net::connect_unspec(&stream);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().expect("no holder panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, serve: &Arc<Serve>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if let Ok(handle) = stream.try_clone() {
            shared.open.lock().expect("no holder panics").push(handle);
        }
        let (serve, last) = (serve.clone(), stream.try_clone());
        std::thread::spawn(move || {
            // An error here is the peer's end of the connection; the test looks at what it received.
            let _ = serve(stream);
            // Handles of this connection are kept for `reset_connections`, so letting go does not end it.
            let _ = last.and_then(|stream| stream.shutdown(Shutdown::Both));
        });
    }
}

fn serve_http(stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            let before = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if head.get(before..) == Some("\r\n") {
                break;
            }
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut body = vec![0; content_length(&head)];
        reader.read_exact(&mut body)?;
        match (method, path) {
            (_, "/sse") => {
                write!(
                    writer,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )?;
                for number in 1..=5 {
                    let event = format!("data: event {number}\n\n");
                    write!(writer, "{:x}\r\n{event}\r\n", event.len())?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                write!(writer, "0\r\n\r\n")?;
            }
            ("POST", "/echo") => respond(&mut writer, &body)?,
            (_, path) if path.starts_with("/bytes/") => {
                let count = path.trim_start_matches("/bytes/").parse().unwrap_or(0);
                respond(&mut writer, &vec![b'x'; count])?;
            }
            _ => respond(&mut writer, head.as_bytes())?,
        }
    }
}

fn respond(writer: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    writer.write_all(&[head.as_bytes(), body].concat())
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fetch;

    #[test]
    fn echo_returns_bytes_and_the_end_of_the_stream() {
        let upstream = Upstream::echo().unwrap();
        let mut stream = TcpStream::connect(upstream.address()).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!((answer.as_str(), upstream.accepted()), ("hello", 1));
    }

    #[test]
    fn http_answers_and_ends_with_its_value() {
        let upstream = Upstream::http().unwrap();
        let address = upstream.address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /bytes/3 HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = vec![0; 150];
        let n = wait_for(&mut stream, &mut answer, b"xxx");
        let text = String::from_utf8_lossy(answer.get(..n).unwrap()).into_owned();
        assert!(text.contains("\r\n\r\nhiHTTP/1.1 200 OK"), "{text}");
        drop(upstream);
        assert!(fetch(address, "/").is_err());
    }

    #[test]
    fn a_reset_is_not_a_clean_end() {
        let upstream = Upstream::echo().unwrap();
        let mut stream = TcpStream::connect(upstream.address()).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        upstream.reset_connections();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    fn wait_for(stream: &mut TcpStream, into: &mut [u8], end: &[u8]) -> usize {
        let mut n = 0;
        while !into[..n].ends_with(end) {
            n += stream.read(&mut into[n..]).unwrap();
        }
        n
    }
}
