//! The client's side of the handshake: steps 1 and 2 of the verification order. What comes out is a TLS connection and
//! the facts about it that verification needs; it carries nothing but evidence until `ratls` has accepted it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ratls::binding::Bind32;
use ratls::binding::exporter::BIND_LABEL;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};

use super::config::client_with_capture;
use super::inbox::Inbox;
use super::records::Records;
use super::server::{Adapter, invalid};
use crate::stack::Footprint;

/// A full TLS 1.3 handshake with `evident/1`, with what is needed to verify the evidence that follows.
pub struct AttestedHandshake<IO> {
    pub tls: Records<IO>,
    /// The one certificate that the server showed.
    pub leaf_certificate: CertificateDer<'static>,
    /// This connection's exporter value.
    pub bind: Bind32,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("the server is not EVIDENT: it does not speak evident/1 ({0})")]
    NotEvident(String),
    #[error("the connection is {0:?}, not TLS 1.3")]
    Version(Option<ProtocolVersion>),
    #[error("the handshake is {0:?}, not full: a resumed session proves nothing")]
    NotFull(Option<HandshakeKind>),
    #[error("the server showed {0} certificates, wanted one")]
    Certificates(usize),
    #[error("the exporter is not available: {0}")]
    Exporter(#[source] Error),
}

/// Makes the handshake over `io`. The caller puts the deadline around it.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    mut io: IO,
) -> Result<AttestedHandshake<IO>, HandshakeError> {
    let _footprint = Footprint;
    let (config, capture) = client_with_capture(&config);
    let mut connection = ClientConnection::new(config, name).map_err(|error| HandshakeError::Tls(invalid(error)))?;
    let mut inbox = Inbox::default();
    poll_fn(|cx| poll_handshake(&mut connection, &mut inbox, &mut io, cx)).await.map_err(classify)?;
    match connection.alpn_protocol() {
        Some(ratls::wire::ALPN) => {}
        None => return Err(HandshakeError::NotEvident("it selected no protocol".into())),
        Some(other) => {
            return Err(HandshakeError::NotEvident(format!("it selected {:?}", String::from_utf8_lossy(other))));
        }
    }
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(HandshakeError::Version(connection.protocol_version()));
    }
    match connection.handshake_kind() {
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => {}
        other => return Err(HandshakeError::NotFull(other)),
    }
    let leaf_certificate = match connection.peer_certificates() {
        Some([one]) => one.clone().into_owned(),
        other => return Err(HandshakeError::Certificates(other.map_or(0, <[_]>::len))),
    };
    // No context and an empty one give the same bytes (RFC 8446 §7.5).
    let bind = connection
        .export_keying_material([0; 32], BIND_LABEL, Some(b""))
        .map(Bind32::from_exporter)
        .map_err(HandshakeError::Exporter)?;
    let tls = Records::take_over(io, connection.into(), &capture, inbox.into_rest())
        .map_err(|error| HandshakeError::Tls(invalid(error)))?;
    Ok(AttestedHandshake { tls, leaf_certificate, bind })
}

/// Until our Finished is out. rustls gets one record at a time: nothing behind the handshake goes to it.
fn poll_handshake<IO: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut ClientConnection,
    inbox: &mut Inbox,
    io: &mut IO,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        while connection.wants_write() {
            match connection.write_tls(&mut Adapter { io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                // A server that went away may have said why.
                Err(e) => loop {
                    match poll_record(connection, inbox, io, cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(told)) if told.kind() == io::ErrorKind::InvalidData => {
                            return Poll::Ready(Err(told));
                        }
                        _ => return Poll::Ready(Err(e)),
                    }
                },
            }
        }
        if !connection.is_handshaking() {
            return Pin::new(io).poll_flush(cx);
        }
        let _ = Pin::new(&mut *io).poll_flush(cx)?;
        ready!(poll_record(connection, inbox, io, cx))?;
    }
}

/// Gives rustls the next record.
fn poll_record<IO: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut ClientConnection,
    inbox: &mut Inbox,
    io: &mut IO,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut record = ready!(inbox.poll_next(io, cx))?;
    let read = record.len();
    if read == 0 {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    while !record.is_empty() {
        connection.read_tls(&mut record)?;
    }
    inbox.consume(read);
    if let Err(error) = connection.process_new_packets() {
        let _ = connection.write_tls(&mut Adapter { io, cx }); // the alert, as far as it goes at once
        return Poll::Ready(Err(invalid(error)));
    }
    Poll::Ready(Ok(()))
}

fn classify(error: io::Error) -> HandshakeError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            HandshakeError::NotEvident("it answered no_application_protocol".into())
        }
        Some(Error::InvalidMessage(_)) => HandshakeError::NotEvident("it does not speak TLS".into()),
        _ => HandshakeError::Tls(error),
    }
}
