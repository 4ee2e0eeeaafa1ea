//! A guest without a guest: an opener whose tunnels end at a function of the test, and the ways in on free ports.
//!
//! The tunnels keep the contract of `Tunnel`: an end is clean only after FIN, and everything else is an error.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evident_client::front::http::{self, Deadlines, HttpProxy};
use evident_client::front::{Entrance, port_map, socks5};
use evident_client::open::{BoxFuture, OpenError, Opened, Opener, Said, Tunnel};
use proxy_core::limits::Connections;
use proxy_core::metrics::Metrics;
use proxy_core::net::{Addr, Listener, LocalStream};
use proxy_core::tasks::Tasks;
use ratls::appraise::{AttestationResult, Finding};
use ratls::findings::{Check, ReportCheck};
use ratls::time::UnixTime;
use ratls::verify::Channel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// Above everything that a test waits for.
pub const SOON: Duration = Duration::from_secs(10);
/// Long enough that something which should not happen would have.
pub const A_WHILE: Duration = Duration::from_millis(150);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens soon")
}

// ---- the guest's side ----

#[derive(Default)]
struct Ends {
    upstream_aborted: AtomicBool,
    fin_from_client: AtomicBool,
}

/// The upstream's end of one tunnel.
pub struct UpstreamEnd {
    pub name: String,
    pub stream: DuplexStream,
    ends: Arc<Ends>,
}

impl UpstreamEnd {
    /// The upstream crashes: no FIN.
    pub fn abort(self) {
        self.ends.upstream_aborted.store(true, Ordering::SeqCst);
    }

    /// Whether the client side ended with FIN. Meaningful once reading has ended.
    pub fn ended_cleanly(&self) -> bool {
        self.ends.fin_from_client.load(Ordering::SeqCst)
    }

    /// Reads one request head.
    pub async fn head(&mut self) -> String {
        String::from_utf8(self.until(b"\r\n\r\n").await).unwrap()
    }

    /// Reads until the bytes end with `mark`.
    pub async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        read_until(&mut self.stream, mark).await
    }

    pub async fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon(self.stream.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }
}

pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), mark: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon(async {
        while !bytes.ends_with(mark) {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
    })
    .await;
    bytes
}

struct FakeTunnel {
    stream: DuplexStream,
    ends: Arc<Ends>,
}

impl AsyncRead for FakeTunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() == before && self.ends.upstream_aborted.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FakeTunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends.fin_from_client.store(true, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Tunnel for FakeTunnel {
    fn relay(mut self: Box<Self>, mut local: LocalStream) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            match tokio::io::copy_bidirectional(&mut self, &mut local).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    local.abort();
                    Err(error)
                }
            }
        })
    }
}

type Script = Box<dyn Fn(UpstreamEnd) -> BoxFuture<'static, ()> + Send + Sync>;

/// Opens tunnels to a script, or refuses.
pub struct FakeOpener {
    script: Result<Script, OpenError>,
    asked: Mutex<Vec<String>>,
    gate: tokio::sync::Semaphore,
}

impl FakeOpener {
    pub fn to<F, Fut>(script: F) -> Arc<FakeOpener>
    where
        F: Fn(UpstreamEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Box::new(move |end| Box::pin(script(end)));
        FakeOpener::new(Ok(script), usize::MAX >> 4)
    }

    /// Each tunnel opens only when [`FakeOpener::let_open`] was called for it.
    pub fn held<F, Fut>(script: F) -> Arc<FakeOpener>
    where
        F: Fn(UpstreamEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Box::new(move |end| Box::pin(script(end)));
        FakeOpener::new(Ok(script), 0)
    }

    pub fn refusing(error: OpenError) -> Arc<FakeOpener> {
        FakeOpener::new(Err(error), usize::MAX >> 4)
    }

    fn new(script: Result<Script, OpenError>, permits: usize) -> Arc<FakeOpener> {
        Arc::new(FakeOpener { script, asked: Mutex::default(), gate: tokio::sync::Semaphore::new(permits) })
    }

    pub fn let_open(&self) {
        self.gate.add_permits(1);
    }

    /// The names that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Opener for FakeOpener {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(name.to_owned());
            self.gate.acquire().await.unwrap().forget();
            let script = self.script.as_ref().map_err(Clone::clone)?;
            let (near, far) = tokio::io::duplex(64 * 1024);
            let ends = Arc::new(Ends::default());
            tokio::spawn(script(UpstreamEnd { name: name.to_owned(), stream: far, ends: Arc::clone(&ends) }));
            Ok(Opened { tunnel: Box::new(FakeTunnel { stream: near, ends }), said: Arc::new(Said::of(&result())) })
        })
    }
}

/// What a script has seen after its client was gone: a panic there would fail no test.
pub struct Noted<T>(tokio::sync::mpsc::UnboundedReceiver<T>);

pub fn noted<T>() -> (tokio::sync::mpsc::UnboundedSender<T>, Noted<T>) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Noted(receiver))
}

impl<T> Noted<T> {
    pub async fn next(&mut self) -> T {
        soon(self.0.recv()).await.expect("the script notes something")
    }
}

/// Echoes, with half-close.
pub async fn echo(mut end: UpstreamEnd) {
    let mut buffer = [0; 4096];
    loop {
        match end.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => end.stream.write_all(&buffer[..n]).await.unwrap(),
        }
    }
    end.stream.write_all(b"[end]").await.unwrap();
    end.stream.shutdown().await.unwrap();
}

fn finding(check: impl Into<Check>) -> Finding {
    Finding::of_verification(check, &io::Error::other("seen by the test"))
}

/// Any result; these tests look at what passes, not at what was proven.
pub fn result() -> AttestationResult {
    AttestationResult::refusal(finding(ReportCheck::Signature), Channel::Exporter, None, UnixTime::from_secs(0))
}

/// A refusal, and one of each other kind of error.
pub fn refused() -> OpenError {
    OpenError::Refused { address: "192.0.2.1:8443".to_owned(), result: Arc::new(result()) }
}

pub fn unknown() -> OpenError {
    OpenError::UnknownName { name: "other.example:80".to_owned() }
}

pub fn unreachable() -> OpenError {
    OpenError::Unreachable { address: "192.0.2.1:8443".to_owned(), reason: "nothing listens".to_owned() }
}

pub fn busy() -> OpenError {
    OpenError::Busy {
        address: "192.0.2.1:8443".to_owned(),
        reason: "the device is busy".to_owned(),
        retry_after: Duration::from_millis(2200),
    }
}

pub fn upstream_refused() -> OpenError {
    OpenError::UpstreamRefused { code: 1, reason: "nothing listens on the upstream's port".to_owned() }
}

// ---- the application's side ----

/// One way in, listening.
pub struct Front {
    pub addr: Addr,
    pub tasks: Tasks,
    pub metrics: Arc<Metrics>,
}

impl Front {
    pub async fn connect(&self) -> TcpStream {
        let Addr::Tcp(tcp) = &self.addr else { panic!("a TCP port") };
        let addr: SocketAddr = tcp.to_string().parse().unwrap();
        TcpStream::connect(addr).await.unwrap()
    }

    async fn bind(addr: Addr, max: usize, too_many: &'static [u8]) -> (Front, Entrance) {
        let listener = Listener::bind(&addr).await.unwrap();
        let tasks = Tasks::new();
        let metrics = Arc::new(Metrics::new("test", "0"));
        let front = Front { addr: listener.local_addr().unwrap(), tasks: tasks.clone(), metrics: Arc::clone(&metrics) };
        let connections = Connections::new(max, max);
        (front, Entrance { way: "test", listener, connections, tasks, metrics, too_many })
    }
}

pub fn deadlines() -> Deadlines {
    Deadlines { request_head: SOON, keep_alive: SOON, idle: None, lifetime: None }
}

pub async fn http_proxy(opener: Arc<FakeOpener>) -> Front {
    http_proxy_with(opener, |_| {}, 100).await
}

pub async fn http_proxy_with(opener: Arc<FakeOpener>, change: impl FnOnce(&mut HttpProxy), max: usize) -> Front {
    let mut proxy = HttpProxy { opener, deadlines: deadlines(), max_head_bytes: 16 * 1024, add_verdict_headers: false };
    change(&mut proxy);
    let (front, entrance) = Front::bind(Addr::loopback(0), max, http::TOO_MANY).await;
    let proxy = Arc::new(proxy);
    let tasks = front.tasks.clone();
    tokio::spawn(entrance.accept(move |local, peer| {
        let tasks = tasks.clone();
        let proxy = Arc::clone(&proxy);
        async move { http::serve(proxy, local, peer, tasks.draining()).await }
    }));
    front
}

pub async fn socks5_port(opener: Arc<FakeOpener>, negotiation: Duration) -> Front {
    let (front, entrance) = Front::bind(Addr::loopback(0), 100, socks5::TOO_MANY).await;
    tokio::spawn(entrance.accept(move |local, peer| socks5::serve(opener.clone(), negotiation, local, peer)));
    front
}

pub async fn mapped_port(opener: Arc<FakeOpener>, addr: Addr) -> Front {
    let (front, entrance) = Front::bind(addr, 100, b"").await;
    tokio::spawn(entrance.accept(move |local, peer| port_map::serve(opener.clone(), "guest".into(), local, peer)));
    front
}

/// An application on a socket.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn of(front: &Front) -> Client {
        Client { stream: front.connect().await }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub async fn end(&mut self) {
        soon(self.stream.shutdown()).await.unwrap();
    }

    pub async fn head(&mut self) -> String {
        String::from_utf8(read_until(&mut self.stream, b"\r\n\r\n").await).unwrap()
    }

    pub async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        read_until(&mut self.stream, mark).await
    }

    pub async fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Everything until a clean end.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        soon(self.stream.read_to_end(&mut bytes)).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Everything until a reset; panics on a clean end.
    pub async fn until_reset(&mut self) -> String {
        let mut bytes = Vec::new();
        let error = soon(self.stream.read_to_end(&mut bytes)).await.expect_err("the end is a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether nothing at all arrives for a while.
    pub async fn hears_nothing(&mut self) -> bool {
        tokio::time::timeout(A_WHILE, self.stream.read_u8()).await.is_err()
    }
}

/// Sends one request and reads to the clean end of the connection.
pub async fn ask(front: &Front, request: &str) -> String {
    let mut client = Client::of(front).await;
    client.send(request).await;
    client.rest().await
}
