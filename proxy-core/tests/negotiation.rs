//! What the handshake refuses, seen from both ends: TLS 1.2, another key, other certificates, raw public keys, other
//! application protocols (docs/protocol.md, test catalogue, S6 to S9 and N1 to N4).

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;

use common::{Identity, foreign_client, foreign_server, name, serve, soon, tls_error};
use proxy_core::tls::config::client_config_for;
use proxy_core::tls::{HandshakeError, Hello, client_config, connect, provider, server_config};
use ratls::wire::ALPN;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{Acceptor, AlwaysResolvesServerRawPublicKeys};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const H2: &[u8] = b"h2";
const HTTP: &[u8] = b"http/1.1";

/// A ClientHello of TLS 1.2 by hand: no `supported_versions`, otherwise all that a server may ask for.
fn tls12_client_hello(alpn: &[u8]) -> Vec<u8> {
    let mut extensions = vec![];
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((body.len() as u16).to_be_bytes());
        extensions.extend(body);
    };
    extension(10, &[0, 4, 0, 0x1D, 0, 0x17]); // supported_groups: X25519, P-256
    extension(11, &[1, 0]); // ec_point_formats: uncompressed
    extension(13, &[0, 4, 4, 3, 8, 4]); // signature_algorithms: ECDSA P-256, RSA-PSS
    extension(16, &[&[0, alpn.len() as u8 + 1, alpn.len() as u8][..], alpn].concat());
    extension(23, &[]); // extended_master_secret
    let mut body = vec![3, 3];
    body.extend([0x42; 32]);
    body.extend([0, 0, 4, 0xC0, 0x2B, 0xC0, 0x2F, 1, 0]); // no session id; ECDHE with AES-128-GCM; no compression
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    handshake_record(1, &body)
}

fn handshake_record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[kind], &length[1..], body].concat();
    [&[22, 3, 3][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// The one fatal alert in clear that ends a handshake.
async fn alert(io: &mut (impl AsyncRead + Unpin)) -> AlertDescription {
    let mut record = vec![];
    io.read_to_end(&mut record).await.unwrap();
    match record[..] {
        [21, 3, 3, 0, 2, 2, description] => description.into(),
        _ => panic!("not a fatal alert and the end: {record:?}"),
    }
}

#[tokio::test]
async fn proto_s6_our_server_refuses_an_offer_of_tls_1_2() {
    let identity = Identity::new();
    let cert_mode = server_config(identity.shown(), &[H2, HTTP], false, None).unwrap();
    for (config, alpn) in [(identity.evident(), ALPN), (cert_mode, HTTP)] {
        let (mut near, far) = duplex(64 * 1024);
        near.write_all(&tls12_client_hello(alpn)).await.unwrap();
        let hello = Hello::read(far).await.unwrap();
        assert!(hello.offers(alpn));
        let error = hello.start(&config).err().unwrap();
        assert!(matches!(tls_error(&error), Error::PeerIncompatible(_)), "{error:?}");
        assert_eq!(soon(alert(&mut near)).await, AlertDescription::ProtocolVersion);
    }
}

/// A ServerHello that answers `client_hello`, with these extensions.
fn server_hello(client_hello: &[u8], cipher_suite: u16, extensions: &[u8]) -> Vec<u8> {
    // record header 5, handshake header 4, version 2, random 32, then the session id, which is to be echoed
    let session_id = &client_hello[43..44 + usize::from(client_hello[43])];
    let mut body = vec![3, 3];
    body.extend([0x24; 32]);
    body.extend(session_id);
    body.extend(cipher_suite.to_be_bytes());
    body.push(0);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    handshake_record(2, &body)
}

#[tokio::test]
async fn proto_s6_our_client_refuses_a_selection_of_tls_1_2() {
    const SECURE_RENEGOTIATION: [u8; 5] = [0xFF, 1, 0, 1, 0];
    // TLS 1.2 without `supported_versions`, and 1.2 and 1.1 named in it.
    let answers: [(u16, &[u8]); 3] =
        [(0xC02B, &SECURE_RENEGOTIATION), (0x1301, &[0, 43, 0, 2, 3, 3]), (0x1301, &[0, 43, 0, 2, 3, 2])];
    for (suite, extensions) in answers {
        for config in [client_config(None).unwrap(), client_config_for(&[H2, HTTP], None).unwrap()] {
            let (near, mut far) = duplex(64 * 1024);
            let server = async {
                let mut hello = vec![0; 16 * 1024];
                let n = far.read(&mut hello).await.unwrap();
                far.write_all(&server_hello(&hello[..n], suite, extensions)).await.unwrap();
                alert(&mut far).await
            };
            let (client, alert) = soon(async { tokio::join!(connect(Arc::new(config), name(), near), server) }).await;
            let Some(HandshakeError::Tls(error)) = client.err() else { panic!("refused by the handshake") };
            assert!(
                matches!(tls_error(&error), Error::PeerIncompatible(_) | Error::PeerMisbehaved(_)),
                "{extensions:?}: {error:?}"
            );
            assert!(
                matches!(alert, AlertDescription::ProtocolVersion | AlertDescription::IllegalParameter),
                "{extensions:?}: {alert:?}"
            );
        }
    }
}

/// Our client at a foreign server: the error of both.
async fn refused(client: ClientConfig, mut server: ServerConfig) -> (HandshakeError, io::Result<()>) {
    server.send_tls13_tickets = 0; // so that the server reads what the client does, and does not fail at writing
    let (near, far) = duplex(256 * 1024);
    let server = async {
        let mut tls = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        tls.read_exact(&mut [0; 8]).await?;
        io::Result::Ok(())
    };
    let (client, server) = soon(async { tokio::join!(connect(Arc::new(client), name(), near), server) }).await;
    (client.err().expect("our client refuses"), server)
}

fn handshake_tls_error(error: &HandshakeError) -> &Error {
    match error {
        HandshakeError::Tls(error) => tls_error(error),
        other => panic!("not refused inside TLS: {other:?}"),
    }
}

#[tokio::test]
async fn proto_s7_a_certificate_verify_by_another_key_is_refused() {
    let (shown, signing) = (Identity::new(), Identity::new());
    let server = foreign_server(signing.certified(vec![shown.certificate.clone()]), &[ALPN]);
    let (client, server) = refused(client_config(None).unwrap(), server).await;
    assert_eq!(*handshake_tls_error(&client), Error::InvalidCertificate(CertificateError::BadSignature));
    assert_eq!(*tls_error(&server.unwrap_err()), Error::AlertReceived(AlertDescription::DecryptError));
}

#[tokio::test]
async fn proto_s8_two_certificates_are_refused() {
    let (leaf, other) = (Identity::new(), Identity::new());
    for second in [leaf.certificate.clone(), other.certificate.clone()] {
        let server = foreign_server(leaf.certified(vec![leaf.certificate.clone(), second]), &[ALPN]);
        let (client, server) = refused(client_config(None).unwrap(), server).await;
        assert_eq!(handshake_tls_error(&client).to_string(), "unexpected error: wanted one certificate, seen 2");
        assert!(matches!(tls_error(&server.unwrap_err()), Error::AlertReceived(_)));
    }
}

#[tokio::test]
async fn proto_s8_no_certificate_is_refused() {
    let server = foreign_server(Identity::new().certified(vec![]), &[ALPN]);
    let (client, server) = refused(client_config(None).unwrap(), server).await;
    assert_eq!(*handshake_tls_error(&client), Error::NoCertificatesPresented);
    assert_eq!(server.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "rustls has no alert for that");
}

#[tokio::test]
async fn proto_s9_our_client_does_not_take_raw_public_keys() {
    let identity = Identity::new();
    let raw = identity.certified(vec![CertificateDer::from(identity.spki.clone())]);
    let mut server = foreign_server(identity.certified(vec![identity.certificate.clone()]), &[ALPN]);
    server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(raw)));
    let (client, server) = refused(client_config(None).unwrap(), server).await;
    assert!(matches!(tls_error(&server.unwrap_err()), Error::PeerIncompatible(_)));
    assert_eq!(*handshake_tls_error(&client), Error::AlertReceived(AlertDescription::HandshakeFailure));
}

#[tokio::test]
async fn proto_s9_a_raw_public_key_in_place_of_a_certificate_is_refused() {
    // The server does not negotiate it and shows it all the same.
    let identity = Identity::new();
    let server = foreign_server(identity.certified(vec![CertificateDer::from(identity.spki.clone())]), &[ALPN]);
    let (client, server) = refused(client_config(None).unwrap(), server).await;
    assert!(matches!(handshake_tls_error(&client), Error::InvalidCertificate(_)), "{client:?}");
    assert!(matches!(tls_error(&server.unwrap_err()), Error::AlertReceived(_)));
}

/// A client that only takes raw public keys; otherwise it checks what it always does.
#[derive(Debug)]
struct RawKeysOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for RawKeysOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn proto_s9_our_server_does_not_show_a_raw_public_key() {
    let identity = Identity::new();
    let mut client = foreign_client(provider(), identity.roots(), &[ALPN]);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(identity.roots()), provider()).build().unwrap();
    client.dangerous().set_certificate_verifier(Arc::new(RawKeysOnly(verifier)));
    let (near, far) = duplex(64 * 1024);
    let config = identity.evident();
    let client = TlsConnector::from(Arc::new(client)).connect(name(), near);
    let (client, server) = soon(async { tokio::join!(client, serve(far, &config)) }).await;
    assert!(matches!(tls_error(&server.err().unwrap()), Error::PeerIncompatible(_)));
    assert_eq!(*tls_error(&client.err().unwrap()), Error::AlertReceived(AlertDescription::HandshakeFailure));
}

#[tokio::test]
async fn proto_n1_a_server_that_selects_no_protocol_is_not_evident() {
    let identity = Identity::new();
    let server = foreign_server(identity.certified(vec![identity.certificate.clone()]), &[]);
    let (client, server) = refused(client_config(None).unwrap(), server).await;
    assert_eq!(client.to_string(), "the server is not EVIDENT: it does not speak evident/1 (it selected no protocol)");
    // TLS itself was content; the server sees that the client went away without a word.
    assert_eq!(server.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn proto_n2_a_server_that_selects_http_is_not_evident() {
    let identity = Identity::new();
    let server = || foreign_server(identity.certified(vec![identity.certificate.clone()]), &[H2, HTTP]);
    let (client, at_server) = refused(client_config(None).unwrap(), server()).await;
    assert!(matches!(&client, HandshakeError::NotEvident(why) if why == "it answered no_application_protocol"));
    assert_eq!(*tls_error(&at_server.unwrap_err()), Error::NoApplicationProtocol);

    // Our client offers nothing else, so only a configuration that does can be answered so.
    let (client, at_server) = refused(client_config_for(&[ALPN, HTTP], None).unwrap(), server()).await;
    assert!(matches!(&client, HandshakeError::NotEvident(why) if why == "it selected \"http/1.1\""));
    assert_eq!(at_server.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn proto_n3_a_mix_of_protocols_takes_the_attested_path() {
    let identity = Identity::new();
    let config = identity.evident();
    for mix in [&[H2, ALPN][..], &[ALPN, HTTP], &[HTTP, H2, ALPN]] {
        let (near, far) = duplex(64 * 1024);
        let client = foreign_client(provider(), identity.roots(), mix);
        let client = TlsConnector::from(Arc::new(client)).connect(name(), near);
        let server = async {
            let hello = Hello::read(far).await.unwrap();
            assert!(hello.offers(ALPN));
            let mut tls = hello.start(&config).unwrap();
            tls.first_flight().await.unwrap();
            tls.finish_handshake().await.unwrap();
            tls.check_profile(Some(ALPN)).unwrap();
            assert!(tls.check_profile(None).is_err() && tls.check_profile(Some(H2)).is_err());
            tls
        };
        let (client, _server) = soon(async { tokio::join!(client, server) }).await;
        assert_eq!(client.unwrap().get_ref().1.alpn_protocol(), Some(ALPN));
    }
}

#[tokio::test]
async fn proto_n3_our_client_offers_evident_and_nothing_else() {
    let (near, mut far) = duplex(64 * 1024);
    let client = tokio::spawn(connect(Arc::new(client_config(None).unwrap()), name(), near));
    let mut received = vec![0; 16 * 1024];
    let n = far.read(&mut received).await.unwrap();
    drop(far);
    assert!(matches!(client.await.unwrap().err(), Some(HandshakeError::Tls(_))));
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &received[..n]).unwrap();
    let accepted = acceptor.accept().map_err(|(error, _)| error).unwrap().expect("a whole ClientHello");
    let offered: Vec<_> = accepted.client_hello().alpn().unwrap().collect();
    assert_eq!(offered, [ALPN]);
    assert_eq!(accepted.client_hello().server_name(), Some(common::NAME));
    assert!(accepted.client_hello().server_cert_types().is_none(), "RFC 7250 is not offered");
}

#[tokio::test]
async fn proto_n4_a_plain_client_is_told_no_application_protocol_with_and_without_alpn() {
    let identity = Identity::new();
    for offer in [&[H2, HTTP][..], &[], &[b"evident/2"], &[b"evident/1x"], &[b"EVIDENT/1"]] {
        let (near, far) = duplex(64 * 1024);
        let client = foreign_client(provider(), identity.roots(), offer);
        let client = TlsConnector::from(Arc::new(client)).connect(name(), near);
        let server = async {
            let hello = Hello::read(far).await.unwrap();
            assert!(!hello.offers(ALPN));
            assert_eq!(hello.offers_any_or_none(&[H2]), offer.is_empty() || offer.contains(&H2));
            hello.refuse_protocol().await
        };
        let (client, server) = soon(async { tokio::join!(client, server) }).await;
        server.unwrap();
        let error = client.err().unwrap();
        assert_eq!(*tls_error(&error), Error::AlertReceived(AlertDescription::NoApplicationProtocol), "{offer:?}");
    }
}

#[tokio::test]
async fn proto_n4_the_configuration_itself_refuses_another_protocol_too() {
    // Should a decision ever be forgotten in front of it.
    let identity = Identity::new();
    let (near, far) = duplex(64 * 1024);
    let client = foreign_client(provider(), identity.roots(), &[H2]);
    let config = identity.evident();
    let client = TlsConnector::from(Arc::new(client)).connect(name(), near);
    let (client, server) = soon(async { tokio::join!(client, serve(far, &config)) }).await;
    assert_eq!(*tls_error(&server.err().unwrap()), Error::NoApplicationProtocol);
    assert_eq!(*tls_error(&client.err().unwrap()), Error::AlertReceived(AlertDescription::NoApplicationProtocol));
}
