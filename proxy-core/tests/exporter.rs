//! The exporter of a connection, known to the server at its first flight, is the one that rustls gives on both ends after
//! the handshake; and what the server writes then arrives before the client's Finished does (docs/protocol.md, "TLS
//! profile"). Only such a value binds evidence to the connection that carries it.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Identity, foreign_client, name, serve, serve_first_flight, soon};
use proxy_core::framing::Framed;
use proxy_core::tls::{client_config, connect, provider, server_config};
use ratls::binding::ExporterSecret;
use ratls::binding::exporter::{BIND_LABEL, ID_LABEL};
use ratls::wire::ALPN;
use ratls::wire::frame::FrameType;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{HandshakeKind, KeyLog, SupportedCipherSuite};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A group that our server does not have, so that a client which guesses it is asked again.
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs::kx_group::SECP384R1 as FOREIGN_GROUP;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring::kx_group::SECP384R1 as FOREIGN_GROUP;

/// What the client logs as its exporter secret: the second opinion.
#[derive(Debug, Default)]
struct ClientSecret(Mutex<Vec<u8>>);

impl KeyLog for ClientSecret {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "EXPORTER_SECRET" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

/// One handshake with one suite and these groups, in this order; true exporters on both ends, or a panic that says where.
async fn check(suite: SupportedCipherSuite, groups: Vec<&'static dyn SupportedKxGroup>) -> HandshakeKind {
    let what = format!("{:?} with {groups:?}", suite.suite());
    let group = groups.last().unwrap().name();
    let identity = Identity::new();
    let log = Arc::new(ClientSecret::default());
    let chosen = CryptoProvider { cipher_suites: vec![suite], kx_groups: groups, ..(*provider()).clone() };
    let mut client = foreign_client(Arc::new(chosen), identity.roots(), &[ALPN]);
    client.key_log = log.clone();

    let (near, far) = duplex(64 * 1024);
    let config = identity.evident();
    let server = async {
        let (mut tls, secret) = serve_first_flight(far, &config).await.unwrap();
        assert!(tls.connection().is_handshaking(), "{what}: the secret is there before the client's Finished");
        let early: Vec<_> = uses().map(|(label, context)| secret.export(label, context)).collect();
        let bind = secret.bind_initial();
        tls.finish_handshake().await.unwrap();
        tls.check_profile(Some(ALPN)).unwrap();
        (tls, early, bind, secret)
    };
    let client = TlsConnector::from(Arc::new(client)).connect(name(), near);
    let (client, (server, early, bind, secret)) = tokio::join!(client, server);
    let client = client.unwrap();

    let (theirs, ours) = (client.get_ref().1, server.connection());
    assert_eq!(ours.negotiated_cipher_suite(), Some(suite), "{what}");
    assert_eq!(ours.negotiated_key_exchange_group().unwrap().name(), group, "{what}");
    let logged = log.0.lock().unwrap().clone();
    assert_eq!(logged.len(), suite.tls13().unwrap().common.hash_provider.output_len(), "{what}");
    let logged = ExporterSecret::from_key_log(&logged).unwrap();
    for ((label, context), early) in uses().zip(early) {
        let at = format!("{what}, {:?} {context:?}", String::from_utf8_lossy(label));
        assert_eq!(*early, ours.export_keying_material([0; 32], label, Some(context)).unwrap(), "server, {at}");
        assert_eq!(*early, theirs.export_keying_material([0; 32], label, Some(context)).unwrap(), "client, {at}");
        assert_eq!(early, logged.export(label, context), "the client's log, {at}");
        assert_eq!(early, secret.export(label, context), "after the handshake, {at}");
    }
    // RFC 8446 §7.5: no context is the empty one. `openssl s_client -keymatexport` gives none.
    let without_context = theirs.export_keying_material([0; 32], BIND_LABEL, None).unwrap();
    assert!(bind == ratls::binding::Bind32::from_exporter(without_context), "{what}");
    ours.handshake_kind().unwrap()
}

fn uses() -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    [(BIND_LABEL, &b""[..]), (ID_LABEL, b""), (BIND_LABEL, b"RE"), (b"x", &[7; 255])].into_iter()
}

#[tokio::test]
async fn the_early_exporter_is_that_of_rustls_for_every_suite_and_group() {
    let provider = provider();
    let suites: Vec<_> = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).collect();
    assert_eq!(suites.len(), 3, "AES-128, AES-256 and CHACHA20");
    for suite in suites {
        for group in &provider.kx_groups {
            assert_eq!(soon(check(*suite, vec![*group])).await, HandshakeKind::Full);
        }
    }
}

#[tokio::test]
async fn the_early_exporter_is_that_of_rustls_after_a_hello_retry_request() {
    let provider = provider();
    for suite in provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()) {
        for group in &provider.kx_groups {
            let kind = soon(check(*suite, vec![FOREIGN_GROUP, *group])).await;
            assert_eq!(kind, HandshakeKind::FullWithHelloRetryRequest);
        }
    }
}

#[tokio::test]
async fn our_client_and_server_agree_on_bind32_and_no_two_connections_do() {
    let identity = Identity::new();
    let config = identity.evident();
    let client = Arc::new(client_config(None).unwrap());
    let mut seen = vec![];
    for _ in 0..3 {
        let (near, far) = duplex(64 * 1024);
        let server = async {
            let (mut tls, secret) = serve_first_flight(far, &config).await.unwrap();
            tls.finish_handshake().await.unwrap();
            secret.bind_initial()
        };
        let (client, bind) = soon(async { tokio::join!(connect(client.clone(), name(), near), server) }).await;
        let client = client.unwrap();
        assert!(client.bind == bind);
        assert_eq!(client.leaf_certificate, identity.certificate);
        assert!(!seen.contains(&bind), "the same value on another connection");
        seen.push(bind);
    }
}

/// Passes the first TLS record (the ClientHello) on, and the rest only when told.
async fn hold_after_client_hello(mut from: DuplexStream, mut to: impl AsyncWrite + Unpin, go: oneshot::Receiver<()>) {
    pass_record(&mut from, &mut to).await;
    go.await.unwrap();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn pass_record(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    let mut header = [0; 5];
    from.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    from.read_exact(&mut body).await.unwrap();
    to.write_all(&header).await.unwrap();
    to.write_all(&body).await.unwrap();
}

/// A duplex whose way to the server holds everything after the ClientHello until the sender fires.
fn held() -> (impl AsyncRead + AsyncWrite + Unpin, impl AsyncRead + AsyncWrite + Unpin, oneshot::Sender<()>) {
    let (client_out, gate_in) = duplex(256 * 1024);
    let (gate_out, server_in) = duplex(256 * 1024);
    let (server_out, client_in) = duplex(256 * 1024);
    let (go, told) = oneshot::channel();
    tokio::spawn(hold_after_client_hello(gate_in, gate_out, told));
    (tokio::io::join(client_in, client_out), tokio::io::join(server_in, server_out), go)
}

#[tokio::test]
async fn evidence_arrives_before_the_server_saw_the_clients_finished() {
    let evidence = vec![0x5A; 48 * 1024];
    let config = Identity::new().evident();
    let (near, far, go) = held();
    let (arrived, told) = oneshot::channel();
    let server = async {
        let (tls, _) = serve_first_flight(far, &config).await.unwrap();
        let mut framed = Framed::new(tls);
        framed.write(FrameType::Attest, &evidence).await.unwrap();
        // The client has it all, and nothing of the client's has come.
        told.await.unwrap();
        let waiting = timeout(Duration::from_millis(50), framed.stream_mut().finish_handshake()).await;
        assert!(waiting.is_err() && framed.stream().connection().is_handshaking());
        go.send(()).unwrap();
        framed.stream_mut().finish_handshake().await.unwrap();
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Fin);
    };
    let client = async {
        let handshake = connect(Arc::new(client_config(None).unwrap()), name(), near).await.unwrap();
        let mut framed = Framed::new(handshake.tls);
        let attest = framed.read().await.unwrap();
        assert_eq!((attest.kind, &attest.body[..]), (FrameType::Attest, &evidence[..]));
        arrived.send(()).unwrap();
        framed.write(FrameType::Fin, &[]).await.unwrap();
    };
    soon(async { tokio::join!(server, client) }).await;
}

#[tokio::test]
async fn with_client_certificates_nothing_is_sent_before_the_client_is_known() {
    let (identity, visitor) = (Identity::new(), Identity::new());
    let config = server_config(identity.shown(), &[ALPN], true, Some(visitor.roots())).unwrap();
    let (near, far, go) = held();
    let server = async {
        let (tls, _) = serve_first_flight(far, &config).await.unwrap();
        let mut framed = Framed::new(tls);
        framed.write(FrameType::Attest, b"evidence").await.unwrap();
        framed.stream_mut().finish_handshake().await.unwrap();
    };
    let client = async {
        let config = client_config(Some(visitor.shown())).unwrap();
        let handshake = connect(Arc::new(config), name(), near).await.unwrap();
        let mut framed = Framed::new(handshake.tls);
        let early = timeout(Duration::from_millis(50), framed.read()).await;
        assert!(early.is_err(), "an unknown client got {early:?}");
        go.send(()).unwrap();
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Attest);
    };
    soon(async { tokio::join!(server, client) }).await;
}

#[tokio::test]
async fn proto_x2_no_configuration_logs_keys() {
    let identity = Identity::new();
    const LABELS: [&str; 6] = [
        "EXPORTER_SECRET",
        "CLIENT_EARLY_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ];
    let (client, server) = (client_config(None).unwrap(), identity.evident());
    for label in LABELS {
        assert!(!client.key_log.will_log(label) && !server.key_log.will_log(label), "{label}");
    }
    assert!(!client.enable_secret_extraction && !server.enable_secret_extraction);
}

/// What a client learns of the secrets of its connection.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<Vec<u8>>>);

impl KeyLog for Secrets {
    fn log(&self, _: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push(secret.to_vec());
    }
}

#[tokio::test]
async fn proto_x2_nothing_that_prints_prints_a_secret() {
    let identity = Identity::new();
    let secrets = Arc::new(Secrets::default());
    let mut client = client_config(None).unwrap();
    client.key_log = secrets.clone();
    let config = identity.evident();
    let (near, far) = duplex(64 * 1024);
    let client = common::stream_client(client, near);
    let (client, server) = soon(async { tokio::join!(client, serve(far, &config)) }).await;
    let (client, mut server) = (client.unwrap(), server.unwrap());

    let mut said = format!("{config:?} {:?} {:?}", server.connection(), client.get_ref().1);
    let (mut raw, _tls) = client.into_inner();
    raw.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    raw.write_all(&[0; 20]).await.unwrap();
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    said += &format!("{error} {error:?} {:?}", server.connection());

    let secrets = secrets.0.lock().unwrap();
    assert!(secrets.len() >= 5, "the client knows them: {}", secrets.len());
    for secret in secrets.iter() {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{secret:?}");
        assert!(!said.to_lowercase().contains(&hex[..16]), "in hex");
        assert!(!said.contains(&list[1..24]), "as a list");
    }
}
