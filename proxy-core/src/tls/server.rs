//! The server's TLS driver. tokio-rustls hides the connection inside `Accept`; the exporter at the first flight and
//! half-RTT data need it in the open.
//!
//! Everything that is under way lives in the object, nothing in a future: dropping any future of [`ServerTls`] at any
//! point loses no byte and no state (tests drop them everywhere). Those of [`Hello`] own the socket and take it along.
//!
//! rustls is given one record at a time, so that after the handshake it holds nothing that came behind it, and
//! [`ServerTls::into_records`] can take the connection over.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use ratls::binding::ExporterSecret;
use rustls::server::{Accepted, Acceptor};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::config::{Capture, with_capture};
use super::inbox::Inbox;
use super::records::Records;
use crate::stack::Footprint;

/// Plaintext taken before the ciphertext of earlier plaintext is on its way: bounds what a stopped reader can hold here.
const MAX_BUFFERED: usize = 64 * 1024;

/// A client that said what it wants, before anything was decided.
pub struct Hello<IO> {
    accepted: Accepted,
    io: IO,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Hello<IO> {
    /// Reads the ClientHello. The caller puts the deadline around it.
    pub async fn read(mut io: IO) -> io::Result<Self> {
        let mut acceptor = Acceptor::default();
        let mut buffer = [0; 2048];
        loop {
            let n = io.read(&mut buffer).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut received = &buffer[..n];
            while !received.is_empty() {
                acceptor.read_tls(&mut received)?;
                match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(accepted)) => {
                        // A TLS 1.3 client waits for the server after its ClientHello (no early data is ever offered to it).
                        if !received.is_empty() {
                            return Err(invalid("bytes follow the ClientHello"));
                        }
                        return Ok(Hello { accepted, io });
                    }
                    Err((error, mut alert)) => {
                        let mut out = vec![];
                        alert.write_all(&mut out)?;
                        let _ = io.write_all(&out).await;
                        let _ = io.shutdown().await;
                        return Err(invalid(error));
                    }
                }
            }
        }
    }

    /// True where the client's ALPN list names `protocol`.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.accepted.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == protocol))
    }

    /// True where the client offers any of `protocols`, or no ALPN at all.
    pub fn offers_any_or_none(&self, protocols: &[&[u8]]) -> bool {
        match self.accepted.client_hello().alpn() {
            None => true,
            Some(mut names) => names.any(|name| protocols.contains(&name)),
        }
    }

    /// Ends the handshake with the alert `no_application_protocol` (120), which rustls sends only to clients with ALPN.
    pub async fn refuse_protocol(mut self) -> io::Result<()> {
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];
        self.io.write_all(&ALERT).await?;
        self.io.shutdown().await
    }

    /// Goes on under `config`; the first flight is ready to be written.
    pub fn start(mut self, config: &ServerConfig) -> io::Result<ServerTls<IO>> {
        let footprint = Footprint;
        let (config, capture) = with_capture(config);
        match self.accepted.into_connection(config) {
            Ok(connection) => Ok(ServerTls {
                io: self.io,
                connection,
                capture,
                inbox: Inbox::default(),
                failed: false,
                _footprint: footprint,
            }),
            Err((error, mut alert)) => {
                // The alert, as far as it goes at once: nothing else was written, so a socket has room for it.
                let mut cx = Context::from_waker(Waker::noop());
                let _ = alert.write_all(&mut Adapter { io: &mut self.io, cx: &mut cx });
                let _ = Pin::new(&mut self.io).poll_shutdown(&mut cx);
                Err(invalid(error))
            }
        }
    }
}

/// A TLS server connection over `IO`: a stream once the handshake is done, and a writer of half-RTT data before.
pub struct ServerTls<IO> {
    io: IO,
    connection: ServerConnection,
    capture: Arc<Capture>,
    inbox: Inbox,
    failed: bool,
    _footprint: Footprint,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ServerTls<IO> {
    /// Drives the handshake until the server's first flight is written, and gives the exporter secret.
    ///
    /// After a HelloRetryRequest this waits for the second ClientHello.
    pub async fn first_flight(&mut self) -> io::Result<ExporterSecret> {
        poll_fn(|cx| {
            loop {
                // Reading does not wait for writing: a client may write (ChangeCipherSpec, Finished) before it reads on.
                let written = self.poll_write_tls(cx)?;
                // The secret stays in the capture until all is written: a future that is dropped here has not lost it.
                if written.is_ready()
                    && let Some(secret) = self.capture.take_exporter()
                {
                    return Poll::Ready(Ok(secret));
                }
                if !self.connection.is_handshaking() {
                    ready!(written);
                    return Poll::Ready(Err(io::Error::other("the TLS stack gave no exporter secret")));
                }
                ready!(self.poll_read_tls(cx))?;
            }
        })
        .await
    }

    /// Waits for the client's Finished.
    pub async fn finish_handshake(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            while self.connection.is_handshaking() {
                let _ = self.poll_write_tls(cx)?;
                ready!(self.poll_read_tls(cx))?;
            }
            self.poll_write_tls(cx)
        })
        .await
    }

    /// What both sides assert after the handshake (docs/protocol.md, "TLS profile").
    pub fn check_profile(&self, alpn: Option<&[u8]>) -> io::Result<()> {
        let connection = &self.connection;
        if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(invalid("the connection is not TLS 1.3"));
        }
        if connection.alpn_protocol() != alpn {
            return Err(invalid("the connection has another application protocol"));
        }
        match connection.handshake_kind() {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => Ok(()),
            other => Err(invalid(format!("the handshake is {other:?}, not full"))),
        }
    }

    /// Leaves rustls behind, after the handshake and [`ServerTls::check_profile`].
    pub fn into_records(self) -> io::Result<Records<IO>> {
        let received = self.inbox.into_rest();
        Records::take_over(self.io, self.connection.into(), &self.capture, received).map_err(invalid)
    }

    pub fn connection(&self) -> &ServerConnection {
        &self.connection
    }

    fn poll_write_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let written = self.connection.write_tls(&mut Adapter { io: &mut self.io, cx });
            match written {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads once from the socket and processes it. `Ok` at the end of TCP too: the caller's next read says so.
    fn poll_read_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(invalid("the connection failed before")));
        }
        let mut record = ready!(self.inbox.poll_next(&mut self.io, cx))?;
        let read = record.len();
        self.connection.read_tls(&mut record)?;
        while !record.is_empty() {
            self.connection.read_tls(&mut record)?;
        }
        self.inbox.consume(read);
        if let Err(error) = self.connection.process_new_packets() {
            self.failed = true;
            let _ = self.poll_write_tls(cx); // the alert, as far as it goes at once
            return Poll::Ready(Err(invalid(error)));
        }
        if read == 0 && self.connection.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerTls<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.connection.reader().read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
            // Answers of the TLS layer (key updates) must not wait for our next write.
            if this.connection.wants_write() {
                let _ = this.poll_write_tls(cx)?;
            }
            ready!(this.poll_read_tls(cx))?;
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerTls<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_write_tls(cx))?;
        let n = this.connection.writer().write(&buf[..buf.len().min(MAX_BUFFERED)])?;
        if let Poll::Ready(result) = this.poll_write_tls(cx) {
            result?;
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_tls(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.send_close_notify();
        ready!(self.poll_write_tls(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// `std::io` over a polled socket, for one call.
pub(super) struct Adapter<'a, 'b, IO> {
    pub(super) io: &'a mut IO,
    pub(super) cx: &'a mut Context<'b>,
}

impl<IO: AsyncWrite + Unpin> Write for Adapter<'_, '_, IO> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut self.io).poll_write(self.cx, buf) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut self.io).poll_write_vectored(self.cx, bufs) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
