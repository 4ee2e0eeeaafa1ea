//! Connected local streams: reading, writing, dialling, and resetting.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::{Addr, Host, HostPort};

/// What finds a peer that vanished, where the idle limit is off: probes after a minute of silence, the end after another.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A connected stream, TCP (with nodelay, and keepalive where the peer is on another machine) or unix.
#[derive(Debug)]
pub enum LocalStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl LocalStream {
    /// Ends a stream that did not end cleanly, so that the other side cannot take it for an end of file: TCP is reset
    /// (SO_LINGER 0).
    ///
    /// A unix stream socket has no reset of its own and is closed; its other side reads an ordinary end of file, or
    /// `ECONNRESET` if we left data unread. Where truncation must be visible, use TCP over loopback.
    pub fn abort(self) {
        self.reset_unless_finished();
    }

    /// From now on the stream is reset however it ends, a crash of this process included, until [`Self::finished`] says
    /// that it ended well.
    pub fn reset_unless_finished(&self) {
        self.set_linger(Some(Duration::ZERO));
    }

    /// What was written is all there is: closing sends it and then an ordinary end of file.
    pub fn finished(&self) {
        self.set_linger(None);
    }

    /// Reads into several buffers with one call. One that does not fill them has emptied the socket: the next waits for the
    /// kernel's word, instead of asking once more.
    pub fn poll_read_vectored(&self, cx: &mut Context<'_>, slices: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let mut short = None;
            let mut read = |result: io::Result<usize>| match result {
                Ok(n) if 0 < n && n < room => {
                    short = Some(n);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                other => other,
            };
            let read = match self {
                LocalStream::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || read((&*SockRef::from(stream)).read_vectored(slices)))
                }
                LocalStream::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || read((&*SockRef::from(stream)).read_vectored(slices)))
                }
            };
            match (read, short) {
                (_, Some(n)) => return Poll::Ready(Ok(n)),
                (Err(e), None) if e.kind() == io::ErrorKind::WouldBlock => {}
                (read, None) => return Poll::Ready(read),
            }
        }
    }

    /// Leaves the runtime that it is on, for `Leaving::arrive` on another.
    pub fn leave(self) -> io::Result<Leaving> {
        Ok(match self {
            LocalStream::Tcp(stream) => Leaving::Tcp(stream.into_std()?),
            LocalStream::Unix(stream) => Leaving::Unix(stream.into_std()?),
        })
    }

    /// Moves to the runtime of who calls.
    pub fn move_here(self) -> io::Result<Self> {
        self.leave()?.arrive()
    }

    fn set_linger(&self, linger: Option<Duration>) {
        if let LocalStream::Tcp(stream) = self {
            // Fails only on a socket that is not open.
            let _ = SockRef::from(stream).set_linger(linger);
        }
    }
}

/// A stream that is on no runtime.
#[derive(Debug)]
pub enum Leaving {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Leaving {
    /// On the runtime of who calls.
    pub fn arrive(self) -> io::Result<LocalStream> {
        Ok(match self {
            Leaving::Tcp(stream) => LocalStream::Tcp(TcpStream::from_std(stream)?),
            Leaving::Unix(stream) => LocalStream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl From<TcpStream> for LocalStream {
    fn from(stream: TcpStream) -> Self {
        if let Ok(peer) = stream.peer_addr() {
            prepare_tcp(SockRef::from(&stream), peer.ip());
        }
        LocalStream::Tcp(stream)
    }
}

impl From<UnixStream> for LocalStream {
    fn from(stream: UnixStream) -> Self {
        LocalStream::Unix(stream)
    }
}

/// Options are wishes: a kernel that refuses one still gives a usable stream. Set on a listener, its connections have them.
///
/// Between two sockets of one machine there is no path to probe for a peer that vanished and none that congests: keepalive
/// is for the others, and a system's choice of congestion control as well, which may pace what it sends by timers (BBR: a
/// third of the CPU time of bulk data on loopback). Reno is on every kernel, and free for every user.
pub(super) fn prepare_tcp(socket: SockRef<'_>, other: IpAddr) {
    let _ = socket.set_tcp_nodelay(true);
    if other.to_canonical().is_loopback() {
        let _ = socket.set_tcp_congestion(b"reno");
    } else {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        let _ = socket.set_tcp_keepalive(&keepalive);
    }
}

/// Who is on the other end of an accepted stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// Some process of this machine; the permissions of the socket file say which.
    Unix,
}

impl Peer {
    /// What per-source limits count by: an IPv4 address, an IPv6 /64 (what one customer has), and for all unix peers
    /// together `0.0.0.0`, which no TCP peer has.
    pub fn source(&self) -> IpAddr {
        match self {
            Peer::Unix => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Peer::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => IpAddr::V4(ip),
                IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
            },
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Tcp(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("cannot resolve the name of {addr}")]
    Resolve { addr: Addr, source: io::Error },
    #[error("the name of {addr} has no address that may be used")]
    NoAddress { addr: Addr },
    #[error("nothing listens on {addr}")]
    Refused { addr: Addr },
    #[error("no answer from {addr} in time")]
    TimedOut { addr: Addr },
    #[error("no permission to connect to {addr}")]
    Permission { addr: Addr },
    #[error("no descriptors left to connect to {addr}; raise LimitNOFILE")]
    Descriptors { addr: Addr, source: io::Error },
    #[error("cannot connect to {addr}")]
    Other { addr: Addr, source: io::Error },
}

/// Connects before `deadline`, name resolution included. The addresses of a name are tried in the resolver's order;
/// each gets an equal share of the time that is left, so that one which swallows packets does not cost the others.
pub async fn connect(addr: &Addr, deadline: Instant) -> Result<LocalStream, ConnectError> {
    match tokio::time::timeout_at(deadline, connect_any(addr, deadline)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { addr: addr.clone() }),
    }
}

async fn connect_any(addr: &Addr, deadline: Instant) -> Result<LocalStream, ConnectError> {
    let target = match addr {
        Addr::Unix(path) => {
            return UnixStream::connect(path).await.map(LocalStream::from).map_err(|e| classify(addr, e));
        }
        Addr::Tcp(target) => target,
    };
    let mut candidates =
        resolve(target).await.map_err(|source| ConnectError::Resolve { addr: addr.clone(), source })?;
    if addr.is_local() {
        candidates.retain(|candidate| candidate.ip().to_canonical().is_loopback());
    }
    let mut failure = ConnectError::NoAddress { addr: addr.clone() };
    for (tried, candidate) in candidates.iter().enumerate() {
        let left = u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match tokio::time::timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                prepare_tcp(SockRef::from(&stream), candidate.ip());
                return Ok(LocalStream::Tcp(stream));
            }
            Ok(Err(e)) => failure = classify(addr, e),
            Err(_) => failure = ConnectError::TimedOut { addr: addr.clone() },
        }
    }
    Err(failure)
}

pub(super) async fn resolve(target: &HostPort) -> io::Result<Vec<SocketAddr>> {
    match target.host() {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, target.port())]),
        Host::Name(name) => Ok(tokio::net::lookup_host((name.as_str(), target.port())).await?.collect()),
    }
}

fn classify(addr: &Addr, source: io::Error) -> ConnectError {
    use rustix::io::Errno;
    let addr = addr.clone();
    match Errno::from_io_error(&source) {
        // For a unix socket, no file is the same news as nobody listening.
        Some(Errno::CONNREFUSED | Errno::NOENT) => ConnectError::Refused { addr },
        Some(Errno::TIMEDOUT) => ConnectError::TimedOut { addr },
        Some(Errno::ACCESS | Errno::PERM) => ConnectError::Permission { addr },
        Some(Errno::MFILE | Errno::NFILE) => ConnectError::Descriptors { addr, source },
        _ => ConnectError::Other { addr, source },
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            LocalStream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            LocalStream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            LocalStream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            LocalStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            LocalStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            LocalStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            LocalStream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            LocalStream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            LocalStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            LocalStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::net::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    async fn pair(addr: &Addr) -> (LocalStream, LocalStream) {
        let listener = Listener::bind(addr).await.unwrap();
        let target = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(connect(&target, soon()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn carries_bytes_both_ways_and_a_clean_end() {
        let dir = tempfile::tempdir().unwrap();
        for addr in [Addr::loopback(0), Addr::Unix(dir.path().join("s"))] {
            let (mut a, mut b) = pair(&addr).await;
            a.write_all(b"ping").await.unwrap();
            a.shutdown().await.unwrap();
            let mut seen = Vec::new();
            b.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, b"ping");
            b.write_all(b"pong").await.unwrap();
            drop(b);
            a.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, b"pingpong");
        }
    }

    #[tokio::test]
    async fn abort_is_not_an_end_of_file_on_tcp() {
        let (mut a, b) = pair(&Addr::loopback(0)).await;
        b.abort();
        let error = a.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn between_sockets_of_one_machine_nothing_is_probed_or_paced() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
            let Addr::Tcp(bound) = listener.local_addr().unwrap() else { panic!("a TCP listener") };
            let target = Addr::loopback(bound.port());
            let (client, accepted) = tokio::join!(connect(&target, soon()), listener.accept());
            for stream in [client.unwrap(), accepted.unwrap().0] {
                let LocalStream::Tcp(stream) = stream else { panic!("a TCP stream") };
                let socket = SockRef::from(&stream);
                assert!(socket.tcp_nodelay().unwrap(), "{address}");
                assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"), "{address}");
            }
        }
        let (client, _accepted) = pair(&Addr::loopback(0)).await;
        let LocalStream::Tcp(stream) = client else { panic!("a TCP stream") };
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }

    #[test]
    fn towards_other_machines_peers_are_probed_and_the_system_chooses_the_congestion_control() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let chosen = socket.tcp_congestion().unwrap();
        prepare_tcp(SockRef::from(&socket), "192.0.2.1".parse().unwrap());
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_congestion().unwrap(), chosen);
    }

    async fn read_vectored(stream: &LocalStream) -> Vec<u8> {
        let (mut a, mut b) = ([0; 4], [0; 4]);
        let mut slices = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        let n = poll_fn(|cx| stream.poll_read_vectored(cx, &mut slices)).await.unwrap();
        [a, b].concat()[..n].to_vec()
    }

    #[tokio::test]
    async fn a_short_vectored_read_misses_neither_later_bytes_nor_an_end_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        for addr in [Addr::loopback(0), Addr::Unix(dir.path().join("s"))] {
            let (mut writer, reader) = pair(&addr).await;
            for bytes in [b"abc".as_slice(), b"12345678", b"de"] {
                writer.write_all(bytes).await.unwrap();
                assert_eq!(read_vectored(&reader).await, bytes);
            }
            let (next, ()) = tokio::join!(read_vectored(&reader), async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                writer.write_all(b"f").await.unwrap();
                writer.shutdown().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            });
            assert_eq!(next, b"f");
            assert_eq!(read_vectored(&reader).await, b"");
        }
    }

    #[tokio::test]
    async fn says_that_nothing_listens() {
        let dir = tempfile::tempdir().unwrap();
        let free = Listener::bind(&Addr::loopback(0)).await.unwrap().local_addr().unwrap();
        for addr in [free, Addr::Unix(dir.path().join("none"))] {
            assert!(matches!(connect(&addr, soon()).await, Err(ConnectError::Refused { .. })), "{addr}");
        }
    }

    #[tokio::test]
    async fn connecting_ends_at_its_deadline() {
        // A listener whose backlog is full does not answer another SYN.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let addr = Addr::from(socket.local_addr().unwrap().as_socket().unwrap());
        let mut held = Vec::new();
        for _ in 0..8 {
            match connect(&addr, Instant::now() + Duration::from_millis(300)).await {
                Ok(stream) => held.push(stream),
                Err(ConnectError::TimedOut { .. }) => return,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("the backlog never filled");
    }

    #[tokio::test]
    async fn localhost_never_leaves_this_machine() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Addr::Tcp(bound) = listener.local_addr().unwrap() else { panic!("a TCP listener") };
        let target: Addr = format!("localhost:{}", bound.port()).parse().unwrap();
        let (client, accepted) = tokio::join!(connect(&target, soon()), listener.accept());
        client.unwrap();
        accepted.unwrap();
    }

    #[test]
    fn counts_peers_by_what_one_customer_has() {
        let source = |text: &str| Peer::Tcp(text.parse().unwrap()).source().to_string();
        assert_eq!(source("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(source("[::ffff:192.0.2.7]:1"), "192.0.2.7");
        assert_eq!(source("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
        assert_eq!(source("[2001:db8:1:2::9]:1"), source("[2001:db8:1:2:3:4:5:6]:1"));
        assert_eq!(Peer::Unix.source(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
}
