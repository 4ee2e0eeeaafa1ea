//! No connection is the continuation of another: no resumption, no tickets, no early data (docs/protocol.md, test
//! catalogue, S1 to S5). The foreign ends are rustls as it comes, which gives tickets and resumes; so that a full
//! handshake is no accident, the same ends first show that they can do otherwise.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Identity, connected, foreign_client, foreign_server, name, serve, soon};
use proxy_core::tls::config::check_key;
use proxy_core::tls::{HandshakeError, ServerIdentity, client_config, connect, provider, server_config};
use ratls::wire::ALPN;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, Error, HandshakeKind, InconsistentKeys, NamedGroup, ProtocolVersion, ServerConfig, ServerConnection,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream as ForeignClient;
use tokio_rustls::server::TlsStream as ForeignServer;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A client's session store that counts.
#[derive(Debug)]
struct Tickets {
    inner: ClientSessionMemoryCache,
    received: AtomicUsize,
    offered: AtomicUsize,
}

impl Tickets {
    fn new() -> Arc<Self> {
        let inner = ClientSessionMemoryCache::new(8);
        Arc::new(Tickets { inner, received: AtomicUsize::new(0), offered: AtomicUsize::new(0) })
    }
    fn received(&self) -> usize {
        self.received.load(SeqCst)
    }
    fn offered(&self) -> usize {
        self.offered.load(SeqCst)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.inner.set_kx_hint(server, group);
    }
    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.inner.kx_hint(server)
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.received.fetch_add(1, SeqCst);
        self.inner.insert_tls13_ticket(server, ticket);
    }
    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.inner.take_tls13_ticket(server);
        self.offered.fetch_add(usize::from(ticket.is_some()), SeqCst);
        ticket
    }
}

/// A client that resumes where it can. rustls does so only between clones of one configuration.
fn resuming(identity: &Identity, tickets: &Arc<Tickets>) -> ClientConfig {
    let mut config = foreign_client(provider(), identity.roots(), &[ALPN]);
    config.resumption = Resumption::store(tickets.clone());
    config
}

/// A connection with one byte each way, so that tickets which were sent have arrived. Gives the kinds that both ends saw.
async fn visit(client: ClientConfig, server: Arc<ServerConfig>) -> (HandshakeKind, HandshakeKind) {
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut tls = TlsAcceptor::from(server).accept(far).await.unwrap();
        exchange(&mut tls).await;
        tls.get_ref().1.handshake_kind().unwrap()
    };
    soon(async { tokio::join!(visitor(client, near), server) }).await
}

/// As [`visit`], to our server.
async fn visit_ours(client: ClientConfig, config: &ServerConfig) -> (HandshakeKind, HandshakeKind) {
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut tls = serve(far, config).await.unwrap();
        exchange(&mut tls).await;
        tls.check_profile(Some(ALPN)).unwrap();
        tls.connection().handshake_kind().unwrap()
    };
    soon(async { tokio::join!(visitor(client, near), server) }).await
}

async fn visitor(config: ClientConfig, near: DuplexStream) -> HandshakeKind {
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name(), near).await.unwrap();
    exchange(&mut tls).await;
    tls.get_ref().1.handshake_kind().unwrap()
}

async fn exchange(tls: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    tls.write_all(b"!").await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(tls.read_u8().await.unwrap(), b'!');
}

fn ticketing(identity: &Identity) -> Arc<ServerConfig> {
    let mut config = foreign_server(identity.certified(vec![identity.certificate.clone()]), &[ALPN]);
    config.max_early_data_size = 1024;
    Arc::new(config)
}

const FULL: (HandshakeKind, HandshakeKind) = (HandshakeKind::Full, HandshakeKind::Full);
const RESUMED: (HandshakeKind, HandshakeKind) = (HandshakeKind::Resumed, HandshakeKind::Resumed);

#[tokio::test]
async fn proto_s1_our_client_never_resumes() {
    let identity = Identity::new();
    let server = ticketing(&identity);
    let theirs = resuming(&identity, &Tickets::new());
    assert_eq!(visit(theirs.clone(), server.clone()).await, FULL);
    assert_eq!(visit(theirs, server.clone()).await, RESUMED, "this server does resume");

    let ours = client_config(None).unwrap();
    for _ in 0..3 {
        assert_eq!(visit(ours.clone(), server.clone()).await, FULL);
    }
}

#[tokio::test]
async fn proto_s1_a_resumed_handshake_is_refused_even_if_the_configuration_allowed_it() {
    let identity = Identity::new();
    let server = ticketing(&identity);
    let mut client = client_config(None).unwrap();
    client.resumption = Resumption::store(Tickets::new());
    assert_eq!(visit(client.clone(), server.clone()).await, FULL);
    let mut server = (*server).clone();
    server.send_tls13_tickets = 0;
    let (near, far) = duplex(64 * 1024);
    let client = connect(Arc::new(client), name(), near);
    let server = TlsAcceptor::from(Arc::new(server)).accept(far);
    let (client, server) = soon(async { tokio::join!(client, server) }).await;
    assert!(matches!(client.err(), Some(HandshakeError::NotFull(Some(HandshakeKind::Resumed)))));
    assert_eq!(server.unwrap().get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn proto_s2_our_server_sends_no_ticket() {
    let identity = Identity::new();
    let tickets = Tickets::new();
    visit(resuming(&identity, &tickets), ticketing(&identity)).await;
    assert!(tickets.received() > 0, "this way of counting sees tickets");

    for config in
        [identity.evident(), server_config(identity.shown(), &[ALPN, b"h2", b"http/1.1"], false, None).unwrap()]
    {
        let tickets = Tickets::new();
        let client = resuming(&identity, &tickets);
        assert_eq!(visit_ours(client.clone(), &config).await, FULL);
        assert_eq!(visit_ours(client, &config).await, FULL);
        assert_eq!((tickets.received(), tickets.offered()), (0, 0));
    }
}

#[tokio::test]
async fn proto_s3_a_ticket_from_elsewhere_leads_to_a_full_handshake() {
    let identity = Identity::new();
    let tickets = Tickets::new();
    let client = resuming(&identity, &tickets);
    visit(client.clone(), ticketing(&identity)).await;
    assert_eq!(tickets.offered(), 0);
    assert_eq!(visit_ours(client, &identity.evident()).await, FULL);
    assert_eq!(tickets.offered(), 1, "the ticket was offered");
}

#[tokio::test]
async fn proto_s4_clones_of_a_configuration_do_not_resume_into_each_other() {
    let (identity, other) = (Identity::new(), Identity::new());
    let mut roots = identity.roots();
    roots.add(other.certificate.clone()).unwrap();
    let client = |tickets: &Arc<Tickets>| {
        let mut config = foreign_client(provider(), roots.clone(), &[ALPN]);
        config.resumption = Resumption::store(tickets.clone());
        config
    };

    // rustls' own clones share their sessions, even where the certificate differs.
    let visitor = client(&Tickets::new());
    let first = ticketing(&identity);
    let mut second = (*first).clone();
    second.cert_resolver = ticketing(&other).cert_resolver.clone();
    visit(visitor.clone(), first).await;
    assert_eq!(visit(visitor, Arc::new(second)).await, RESUMED);

    let tickets = Tickets::new();
    let visitor = client(&tickets);
    let first = identity.evident();
    let mut second = first.clone();
    second.cert_resolver = other.evident().cert_resolver;
    assert_eq!(visit_ours(visitor.clone(), &first).await, FULL);
    assert_eq!(visit_ours(visitor.clone(), &second).await, FULL);
    assert_eq!(visit_ours(visitor, &first.clone()).await, FULL);
    assert_eq!(tickets.received(), 0);
}

/// Sends `early` with its ClientHello and `late` after the handshake.
async fn send_early(client: ClientConfig, near: DuplexStream) -> ForeignClient<DuplexStream> {
    let mut tls = TlsConnector::from(Arc::new(client))
        .connect_with(name(), near, |connection| {
            let mut early = connection.early_data().expect("the ticket allows early data");
            early.write_all(b"early").unwrap();
        })
        .await
        .unwrap();
    tls.write_all(b"late").await.unwrap();
    tls.shutdown().await.unwrap();
    tls
}

#[tokio::test]
async fn proto_s5_early_data_is_refused() {
    let identity = Identity::new();
    let mut client = resuming(&identity, &Tickets::new());
    client.enable_early_data = true;
    let foreign = ticketing(&identity);
    visit(client.clone(), foreign.clone()).await;
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut tls = TlsAcceptor::from(foreign.clone()).accept(far).await.unwrap();
        early_bytes(&mut tls)
    };
    let (sent, early) = soon(async { tokio::join!(send_early(client.clone(), near), server) }).await;
    assert!(
        sent.get_ref().1.is_early_data_accepted() && early == b"early",
        "this client does send early data, and a server may take it"
    );

    visit(client.clone(), foreign).await;
    let config = identity.evident();
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut tls = serve(far, &config).await.unwrap();
        tls.check_profile(Some(ALPN)).unwrap();
        let mut seen = vec![];
        tls.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let (sent, seen) = soon(async { tokio::join!(send_early(client.clone(), near), server) }).await;
    assert!(!sent.get_ref().1.is_early_data_accepted());
    assert_eq!(seen, b"late", "the early bytes are nowhere");
}

fn early_bytes(tls: &mut ForeignServer<DuplexStream>) -> Vec<u8> {
    let connection: &mut ServerConnection = tls.get_mut().1;
    let mut seen = vec![];
    if let Some(mut early) = connection.early_data() {
        early.read_to_end(&mut seen).unwrap();
    }
    seen
}

#[tokio::test]
async fn a_key_of_another_certificate_does_not_start_a_server() {
    let (shown, other) = (Identity::new(), Identity::new());
    let mixed = || ServerIdentity { chain: vec![shown.certificate.clone()], key: other.key() };
    assert!(matches!(check_key(&mixed()), Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch))));
    assert!(server_config(mixed(), &[ALPN], true, None).is_err());
    check_key(&shown.shown()).unwrap();
}

#[tokio::test]
async fn both_ends_end_with_the_profile_that_they_assert() {
    let (near, far) = duplex(64 * 1024);
    let (client, server) = soon(connected(near, far)).await;
    server.check_profile(Some(ALPN)).unwrap();
    assert_eq!(client.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
}
