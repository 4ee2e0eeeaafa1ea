//! The client's end: `evident-client` as it dials and judges, and a client that goes by a script.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evident_client::attested::AttestedStream;
use evident_client::dial::{Deadlines, Target};
use evident_client::open::OpenError;
use evident_tests::policy::PolicyText;
use proxy_core::framing::{Frame, Framed, FramingError};
use proxy_core::tasks::Tasks;
use proxy_core::tls::client_config;
use ratls::appraise::Severity;
use ratls::binding::Bind32;
use ratls::binding::exporter::BIND_LABEL;
use ratls::policy::AppraisalPolicy;
use ratls::wire::control::Close;
use ratls::wire::frame::FrameType;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::genuine::{anchors, policy};

pub(crate) const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(10),
    handshake: Duration::from_secs(10),
    attest: Duration::from_secs(10),
    accept: Duration::from_secs(10),
    idle: None,
    lifetime: Duration::from_secs(60),
};

/// A client of whatever is there, under the policy that accepts the simulated guest.
pub(crate) fn target(address: SocketAddr) -> Target {
    target_under(address, &policy())
}

pub(crate) fn target_under(address: SocketAddr, policy: &PolicyText) -> Target {
    let policy = AppraisalPolicy::parse(&policy.text(), "policy.toml").unwrap_or_else(|error| panic!("{error}"));
    Target {
        addresses: vec![address.into()],
        server_name: name("guest.example"),
        tls: Arc::new(client_config(None).expect("a configuration")),
        policy: Some(Arc::new(policy)),
        known: Arc::default(),
        anchors: Arc::new(anchors()),
        token: None,
        deadlines: DEADLINES,
        tasks: Tasks::new(),
        audit: None,
    }
}

pub(crate) fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).expect("a server name")
}

/// How the judgement of a connection ended: the ids of the fatal findings, or that it was accepted.
pub(crate) fn judged(outcome: &Result<AttestedStream, OpenError>) -> Result<(), Vec<&'static str>> {
    match outcome {
        Ok(_) => Ok(()),
        Err(OpenError::Refused { result, .. }) => {
            let fatal = result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal);
            Err(fatal.map(|finding| finding.id()).collect())
        }
        Err(other) => panic!("neither accepted nor refused: {other}"),
    }
}

/// Attests, opens a tunnel and asks the upstream for a page through it.
pub(crate) async fn page_through(target: &Target) -> Result<String, OpenError> {
    let tunnel = target.attested().await?.open(None, target).await?.accepted().await?;
    let (local, mut application) = local_pair().await;
    let relay = tokio::spawn(tunnel.relay(local));
    application.write_all(b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("a request goes out");
    application.shutdown().await.expect("a request ends");
    let mut answer = String::new();
    application.read_to_string(&mut answer).await.expect("an answer comes back");
    relay.await.expect("no panic").expect("both directions ended cleanly");
    Ok(answer)
}

async fn local_pair() -> (proxy_core::net::LocalStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let application = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("a connection");
    let (local, _) = listener.accept().await.expect("a connection");
    (local.into(), application)
}

/// A client that goes by a script: after an honest handshake it does what the test says.
pub(crate) struct Script {
    pub(crate) framed: Framed<TlsStream<TcpStream>>,
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) bind: Bind32,
}

impl Script {
    pub(crate) async fn connect(address: SocketAddr) -> Script {
        let config = Arc::new(client_config(None).expect("a configuration"));
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let connector = tokio_rustls::TlsConnector::from(config);
        let tls = connector.connect(name("guest.example"), stream).await.expect("evident/1 is spoken there");
        let (_, connection) = tls.get_ref();
        let leaf = connection.peer_certificates().expect("one certificate")[0].clone().into_owned();
        let bind = connection.export_keying_material([0; 32], BIND_LABEL, Some(b"")).expect("the handshake is over");
        Script { framed: Framed::new(tls), leaf, bind: Bind32::from_exporter(bind) }
    }

    /// Reads to the guest's CLOSE; nothing else may come before it.
    pub(crate) async fn closed(&mut self) -> Close {
        match self.framed.read().await {
            Err(FramingError::Closed(close)) => close,
            other => panic!("wanted CLOSE: {other:?}"),
        }
    }

    /// The body of the ATTEST that is due first.
    pub(crate) async fn attest(&mut self) -> Vec<u8> {
        let Frame { kind, body } = self.framed.read().await.expect("a frame");
        assert_eq!(kind, FrameType::Attest);
        body.to_vec()
    }
}

/// The first record of an `evident/1` client with the SNI `guest.example`: as good for any number of connections that nobody
/// will finish.
pub(crate) fn client_hello() -> Vec<u8> {
    let config = Arc::new(client_config(None).expect("a configuration"));
    let mut tls = rustls::ClientConnection::new(config, name("guest.example")).expect("a connection");
    let mut hello = vec![];
    tls.write_tls(&mut hello).expect("a ClientHello");
    hello
}

/// The same with other bytes for the name, and every length around them made right.
pub(crate) fn with_sni(hello: &[u8], sni: &[u8]) -> Vec<u8> {
    const OLD: &[u8] = b"guest.example";
    let at = hello.windows(OLD.len()).position(|window| window == OLD).expect("the name is there");
    let mut changed = hello[..at].to_vec();
    changed.extend(sni);
    changed.extend(&hello[at + OLD.len()..]);
    // Record 5, handshake 4, version 2, random 32, session id, cipher suites, compression methods.
    let session_id = 5 + 4 + 2 + 32;
    let suites = session_id + 1 + usize::from(hello[session_id]);
    let compression = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    let extensions = compression + 1 + usize::from(hello[compression]);
    // Name, list of names, extension, extensions, handshake (its lower 16 bits), record.
    for length in [at - 2, at - 5, at - 7, extensions, 7, 3] {
        let old = i64::from(u16::from_be_bytes([hello[length], hello[length + 1]]));
        let new = old + sni.len() as i64 - OLD.len() as i64;
        changed[length..length + 2].copy_from_slice(&u16::try_from(new).expect("still short").to_be_bytes());
    }
    changed
}

/// The type and the body of the first record that answers these bytes.
pub(crate) async fn answer_to(address: SocketAddr, hello: &[u8]) -> (u8, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("an answer");
    stream.write_all(hello).await.expect("an answer");
    let mut record = [0; 5];
    stream.read_exact(&mut record).await.expect("an answer");
    let mut body = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
    stream.read_exact(&mut body).await.expect("an answer");
    (record[0], body)
}

/// An ordinary client that asks nothing of the certificate but that its key was there, and the certificate.
pub(crate) async fn https(address: SocketAddr) -> (impl AsyncRead + AsyncWrite + Unpin, Vec<u8>) {
    let config = proxy_core::tls::config::client_config_for(&[b"http/1.1"], None).expect("HTTPS is there");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.expect("HTTPS is there");
    let tls = connector.connect(name("guest.example"), stream).await.expect("TLS is spoken there");
    let leaf = tls.get_ref().1.peer_certificates().expect("one certificate")[0].to_vec();
    (tls, leaf)
}
