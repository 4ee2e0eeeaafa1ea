//! Small files over HTTP on a loopback port: instance metadata, and certificates where others point to them.
//!
//! HTTP/1.0 in spirit: one request, one response, the connection closes.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// More of a request than any client of this sends.
const MAX_REQUEST: u64 = 16 * 1024;

/// A file that is served.
#[derive(Clone, Debug)]
pub struct Page {
    pub media_type: &'static str,
    pub body: Vec<u8>,
    /// A header that must be there, in lower case, as instance metadata wants it.
    pub wanted: Option<&'static str>,
}

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A port that is reserved and not served yet, because certificates name it before they exist.
pub struct Reserved(TcpListener);

impl Reserved {
    pub fn new() -> io::Result<Self> {
        TcpListener::bind("127.0.0.1:0").map(Reserved)
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.0.local_addr()?))
    }

    /// Serves these, by path and query as they are asked for.
    pub fn serve(self, pages: HashMap<String, Page>) -> io::Result<Server> {
        let address = self.0.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                for stream in self.0.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that fails is its own concern.
                    let _ = stream.and_then(|stream| answer(stream, &pages));
                }
            }
        });
        Ok(Server { address, ended, thread: Some(thread) })
    }
}

impl Server {
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, pages: &HashMap<String, Page>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new((&stream).take(MAX_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let headers: Vec<String> =
        lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).collect::<Result<_, _>>()?;
    let has = |wanted: &str| headers.iter().any(|header| header.to_ascii_lowercase().replace(' ', "") == wanted);
    let mut words = request.split(' ');
    let (status, page) = match (words.next(), words.next().and_then(|path| pages.get(path))) {
        (Some("GET"), Some(page)) if page.wanted.is_none_or(has) => ("200 OK", Some(page)),
        (Some("GET"), Some(_)) => ("400 Bad Request", None),
        (Some("GET"), None) => ("404 Not Found", None),
        _ => ("405 Method Not Allowed", None),
    };
    let (media_type, body) = page.map_or(("text/plain", &[][..]), |page| (page.media_type, &page.body));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
