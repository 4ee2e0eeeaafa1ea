//! Listening sockets, TCP and unix.
//!
//! A unix socket file is replaced at start only if nobody answers on it, and removed at the end only if it is still the
//! one that was made. Who may connect to it is decided by the umask and the folder, as systemd sets them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::stream::{LocalStream, Peer, prepare_tcp, resolve};
use super::{Addr, Host};

/// Connections that the kernel may hold before they are accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an accept that failed for want of descriptors or memory, so that it does not become a busy loop.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    #[error("cannot listen on {addr}: another program uses it; stop that program or choose another address")]
    InUse { addr: Addr },
    #[error(
        "cannot listen on {addr}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, sockets a folder that this user may write"
    )]
    Permission { addr: Addr },
    #[error("cannot listen on {addr}: this machine has no such address")]
    NoSuchAddress { addr: Addr },
    #[error("cannot listen on {addr}: the file is there and is not a socket; it was left alone")]
    NotASocket { addr: Addr },
    #[error("cannot listen on {addr}")]
    Other { addr: Addr, source: io::Error },
}

/// A bound socket. Dropping it closes it and removes its socket file.
pub struct Listener {
    socket: Bound,
}

enum Bound {
    Tcp { listener: TcpListener, loopback: bool },
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// `[::]` takes IPv4 as well, whatever `net.ipv6.bindv6only` says; on a kernel without IPv6 it becomes `0.0.0.0`.
    pub async fn bind(addr: &Addr) -> Result<Self, ListenError> {
        let socket = match addr {
            Addr::Unix(path) => bind_unix(addr, path).await?,
            Addr::Tcp(target) => {
                let candidates = resolve(target).await.map_err(|e| classify(addr, e))?;
                let first =
                    candidates.first().ok_or_else(|| ListenError::NoSuchAddress { addr: addr.clone() }).copied()?;
                let bound = match bind_tcp(first) {
                    Err(e) if without_ipv6(&e) && *target.host() == Host::Ip(Ipv6Addr::UNSPECIFIED.into()) => {
                        bind_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, target.port())))
                    }
                    other => other,
                };
                bound.map_err(|e| classify(addr, e))?
            }
        };
        Ok(Listener { socket })
    }

    /// The address in use; with port 0 asked for, the port that the kernel chose.
    pub fn local_addr(&self) -> io::Result<Addr> {
        match &self.socket {
            Bound::Tcp { listener, .. } => Ok(listener.local_addr()?.into()),
            Bound::Unix(_, file) => Ok(Addr::Unix(file.path.clone())),
        }
    }

    /// The next connection. Cancel safe.
    ///
    /// A connection that ended before it was taken is passed over. Without descriptors or memory this logs, pauses and
    /// tries again: the caller's limits ([`crate::limits`]) are what should refuse first, with a reason.
    pub async fn accept(&self) -> io::Result<(LocalStream, Peer)> {
        loop {
            let accepted = match &self.socket {
                Bound::Tcp { listener, loopback } => listener.accept().await.map(|(stream, from)| {
                    // The options of the listener are for whom it expects: not, say, for who was forwarded to loopback.
                    if from.ip().to_canonical().is_loopback() != *loopback {
                        prepare_tcp(SockRef::from(&stream), from.ip());
                    }
                    (LocalStream::Tcp(stream), Peer::from(from))
                }),
                Bound::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (LocalStream::Unix(stream), Peer::Unix))
                }
            };
            match accepted {
                Err(e) if is_about_one_connection(&e) => continue,
                Err(e) if is_exhaustion(&e) => {
                    tracing::error!(error = %e, "cannot accept: no descriptors or memory left; raise LimitNOFILE");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    prepare_tcp(SockRef::from(&socket), address.ip());
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Bound::Tcp {
        listener: TcpListener::from_std(socket.into())?,
        loopback: address.ip().to_canonical().is_loopback(),
    })
}

async fn bind_unix(addr: &Addr, path: &Path) -> Result<Bound, ListenError> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(addr, path).await?;
            UnixListener::bind(path)
        }
        other => other,
    }
    .map_err(|e| classify(addr, e))?;
    let file = SocketFile::of(path).map_err(|e| classify(addr, e))?;
    Ok(Bound::Unix(listener, file))
}

/// Removes a socket file that a program left behind: one on which a connect is refused. Anything else stays.
async fn remove_stale(addr: &Addr, path: &Path) -> Result<(), ListenError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|e| classify(addr, e))?;
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { addr: addr.clone() });
    }
    match tokio::net::UnixStream::connect(path).await {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| classify(addr, e))
        }
        Ok(_) => Err(ListenError::InUse { addr: addr.clone() }),
        // A full backlog (EAGAIN) is somebody who listens.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(ListenError::InUse { addr: addr.clone() }),
        Err(e) => Err(classify(addr, e)),
    }
}

/// The file of our own socket, known by device and inode.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode));
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn classify(addr: &Addr, source: io::Error) -> ListenError {
    let addr = addr.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { addr },
        io::ErrorKind::PermissionDenied => ListenError::Permission { addr },
        io::ErrorKind::AddrNotAvailable => ListenError::NoSuchAddress { addr },
        _ => ListenError::Other { addr, source },
    }
}

fn errno(e: &io::Error) -> Option<rustix::io::Errno> {
    rustix::io::Errno::from_io_error(e)
}

fn without_ipv6(e: &io::Error) -> bool {
    matches!(errno(e), Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

/// Errors that accept(2) passes on from the connection that it would have returned.
fn is_about_one_connection(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        errno(e),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
        )
    )
}

fn is_exhaustion(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(errno(e), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connect;
    use tokio::time::Instant;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn unix_addr(dir: &tempfile::TempDir) -> (Addr, PathBuf) {
        let path = dir.path().join("a.sock");
        (Addr::Unix(path.clone()), path)
    }

    #[tokio::test]
    async fn says_that_a_port_is_in_use() {
        let first = Listener::bind(&Addr::loopback(0)).await.unwrap();
        let taken = first.local_addr().unwrap();
        assert!(matches!(Listener::bind(&taken).await, Err(ListenError::InUse { .. })));
    }

    #[tokio::test]
    async fn says_that_an_address_is_not_ours() {
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(Listener::bind(&elsewhere).await, Err(ListenError::NoSuchAddress { .. })));
    }

    #[tokio::test]
    async fn any_v6_address_takes_ipv4_too() {
        let listener = Listener::bind(&"[::]:0".parse().unwrap()).await.unwrap();
        let Addr::Tcp(bound) = listener.local_addr().unwrap() else { panic!("a TCP listener") };
        let target = Addr::loopback(bound.port());
        let (client, accepted) = tokio::join!(connect(&target, soon()), listener.accept());
        client.unwrap();
        assert_eq!(accepted.unwrap().1.source(), std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    }

    #[tokio::test]
    async fn replaces_a_socket_file_only_when_nobody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let (addr, path) = unix_addr(&dir);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&addr).await.unwrap();
        assert!(matches!(Listener::bind(&addr).await, Err(ListenError::InUse { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn leaves_a_file_that_is_not_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let (addr, path) = unix_addr(&dir);
        std::fs::write(&path, "kept").unwrap();
        assert!(matches!(Listener::bind(&addr).await, Err(ListenError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[tokio::test]
    async fn does_not_remove_the_socket_of_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let (addr, path) = unix_addr(&dir);
        let old = Listener::bind(&addr).await.unwrap();
        std::fs::rename(&path, dir.path().join("old.sock")).unwrap();
        let _new = Listener::bind(&addr).await.unwrap();
        drop(old);
        assert!(path.exists());
    }
}
