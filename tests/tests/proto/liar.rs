//! A server that proves what a test makes it prove, over a simulated device that signs whatever it is given.
//!
//! [`Liar::tells`] is one connection of our client to it: the handshake is honest, the ATTEST is what the test returns, and
//! both ends say how it ended.

use std::net::SocketAddr;

use proxy_core::framing::{Framed, FramingError};
use proxy_core::tls::{Hello, ServerIdentity, ServerTls, server_config};
use ratls::binding::statement::Epoch;
use ratls::binding::{
    ChannelLeaf, ExporterSecret, LeafHash, Profile, Purpose, Role, SpkiDigest, Statement, Tree, UpstreamScope, binder,
};
use ratls::digest::Sha256Digest;
use ratls::time::UnixTime;
use ratls::wire::ALPN;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::FrameType;
use rustls::ServerConfig;
use simulator::SimulatedAmdSp;
use tokio::net::{TcpListener, TcpStream};

use crate::client::{judged, target};
use crate::genuine::PKI;

pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    pub(crate) sp: SimulatedAmdSp,
    pub(crate) spki: SpkiDigest,
    listener: TcpListener,
    config: ServerConfig,
}

/// One connection after its handshake: what the attester knows of it.
pub(crate) struct Connected {
    pub(crate) framed: Framed<ServerTls<TcpStream>>,
    pub(crate) exporter: ExporterSecret,
}

/// How a connection ended, at both ends.
#[derive(Debug)]
pub(crate) struct Told {
    client: Result<(), Vec<&'static str>>,
    server: Close,
}

impl Liar {
    /// Its device is a good simulated guest, and its TLS key is its own.
    pub(crate) async fn new() -> Liar {
        let key = evident_proxy::identity::GuestKey::generate(&[], now()).expect("a key");
        let identity = key.lean_identity(now()).expect("a leaf");
        Liar::showing(identity, key.spki()).await
    }

    async fn showing(identity: ServerIdentity, spki: SpkiDigest) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Liar {
            address: listener.local_addr().expect("it is bound"),
            sp: SimulatedAmdSp::new(&PKI, simulator::Config::new(PKI.product())),
            spki,
            listener,
            config: server_config(identity, &[ALPN], true, None).expect("a configuration"),
        }
    }

    /// The next connection, after its handshake.
    pub(crate) async fn accept(&self) -> Connected {
        serve(self.accept_tcp().await, &self.config).await
    }

    /// The next connection, as it comes.
    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        self.listener.accept().await.expect("a connection").0
    }

    pub(crate) fn config(&self) -> ServerConfig {
        self.config.clone()
    }

    /// One connection of our client, which sees this ATTEST.
    pub(crate) async fn tells(&self, make: impl FnOnce(&ExporterSecret) -> Attest) -> Told {
        self.tells_bytes(|exporter| make(exporter).encode()).await
    }

    pub(crate) async fn tells_bytes(&self, make: impl FnOnce(&ExporterSecret) -> Vec<u8>) -> Told {
        let client = async {
            let outcome = target(self.address).attested().await;
            let verdict = judged(&outcome);
            if let Ok(stream) = outcome {
                stream.close().await;
            }
            verdict
        };
        let server = async {
            let Connected { mut framed, exporter } = self.accept().await;
            framed.write(FrameType::Attest, &make(&exporter)).await.expect("ATTEST goes out");
            closed(&mut framed).await
        };
        let (client, server) = tokio::join!(client, server);
        Told { client, server }
    }

    /// The leaf that this connection has in an honest tree.
    pub(crate) fn leaf(&self, exporter: &ExporterSecret) -> LeafHash {
        ChannelLeaf::initial(Role::Server, &self.spki, exporter).hash()
    }

    /// A statement over a batch of this one leaf.
    pub(crate) fn statement(&self, leaf: LeafHash) -> Statement {
        let tree = Tree::build(&[leaf]).expect("one leaf");
        Statement {
            profile: Profile::Snp,
            purpose: Purpose::Batch,
            root: tree.root(),
            n: tree.n(),
            spki: self.spki,
            epoch: Epoch::from_bytes([7; 16]),
            counter: 1,
            ak: None,
            logs: Vec::new(),
            config: Sha256Digest::from_bytes([9; 32]),
            names: Vec::new(),
            time_ms: 0,
            upstream_scope: UpstreamScope::InsideGuest,
        }
    }

    /// ATTEST of a batch of one, with a report over these 64 bytes.
    pub(crate) fn attest(&self, statement: Vec<u8>, report_data: &[u8; 64]) -> Attest {
        let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        let crl = Endorsement { media_type: media::CRL.to_owned(), bytes: self.sp.crl() };
        Attest {
            purpose: AttestPurpose::Initial,
            seq: 0,
            statement,
            index: 0,
            siblings: Vec::new(),
            hardware: vec![(HardwareFormat::SnpReport, self.sp.report_with(report_data, |_| ()))],
            tpm: None,
            endorsements: self.sp.certificates().into_iter().map(certificate).chain([crl]).collect(),
            parts: Vec::new(),
            identity: Vec::new(),
            client_evidence_wanted: false,
            features: 0,
            pool_idle_ms: 60_000,
        }
    }

    /// ATTEST as it should be, over a statement that may not be.
    pub(crate) fn over(&self, statement: &Statement) -> Attest {
        let statement = statement.encode();
        let report_data = binder(&statement);
        self.attest(statement, report_data.as_bytes())
    }

    /// ATTEST as it should be.
    pub(crate) fn honest(&self, exporter: &ExporterSecret) -> Attest {
        self.over(&self.statement(self.leaf(exporter)))
    }

    /// Shows that only what follows makes the difference.
    pub(crate) async fn is_accepted_when_honest(&self) {
        self.tells(|exporter| self.honest(exporter)).await.accepted();
    }
}

impl Told {
    /// The client refused for this one reason, and told the server so.
    #[track_caller]
    pub(crate) fn refused_for(&self, id: &str) {
        assert_eq!(self.client, Err(vec![ids(id)]), "{self:?}");
        assert_eq!((self.server.code, self.server.text.as_str()), (CloseCode::EvidenceRefused, id), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn accepted(&self) {
        assert_eq!((&self.client, self.server.code), (&Ok(()), CloseCode::Done), "{self:?}");
    }
}

/// As a `&'static str`, which ids are.
fn ids(id: &str) -> &'static str {
    id.to_owned().leak()
}

/// Our server's side of a handshake under any configuration.
pub(crate) async fn serve(stream: TcpStream, config: &ServerConfig) -> Connected {
    let mut tls = Hello::read(stream).await.expect("a ClientHello").start(config).expect("a common protocol");
    let exporter = tls.first_flight().await.expect("the first flight goes out");
    tls.finish_handshake().await.expect("the client's Finished");
    Connected { framed: Framed::new(tls), exporter }
}

/// Reads to the other side's CLOSE; any other frame fails the test: nothing may come before it.
pub(crate) async fn closed(framed: &mut Framed<ServerTls<TcpStream>>) -> Close {
    match framed.read().await {
        Err(FramingError::Closed(close)) => close,
        other => panic!("wanted CLOSE: {other:?}"),
    }
}

pub(crate) fn now() -> UnixTime {
    evident_proxy::start::now()
}
