//! What the tests of this folder share: identities, TLS ends that are not ours, both ends of a connection, and futures
//! that are dropped. Nothing here is tested, and nothing here decides a test.

// Each test file is a crate of its own and uses a part of this one.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proxy_core::tls::{Hello, Records, ServerIdentity, ServerTls, client_config, connect, provider, server_config};
use ratls::binding::ExporterSecret;
use ratls::wire::ALPN;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

pub const NAME: &str = "guest.example";

pub fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// A self-signed P-256 leaf and its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub spki: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    pub fn new() -> Self {
        Self::with_extensions(vec![])
    }

    pub fn with_extensions(extensions: Vec<rcgen::CustomExtension>) -> Self {
        use rcgen::PublicKeyData;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
        params.custom_extensions = extensions;
        let certificate = params.self_signed(&key).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            spki: key.subject_public_key_info(),
            key: key.serialize_der(),
        }
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub fn shown(&self) -> ServerIdentity {
        ServerIdentity { chain: vec![self.certificate.clone()], key: self.key() }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// The guest's own configuration for `evident/1`.
    pub fn evident(&self) -> ServerConfig {
        server_config(self.shown(), &[ALPN], true, None).unwrap()
    }

    /// `chain` shown with this key, whether or not they belong together.
    pub fn certified(&self, chain: Vec<CertificateDer<'static>>) -> CertifiedKey {
        CertifiedKey::new(chain, provider().key_provider.load_private_key(self.key()).unwrap())
    }
}

/// A server of somebody else: rustls as it comes, so it gives tickets and resumes.
pub fn foreign_server(certified: CertifiedKey, alpn: &[&[u8]]) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A client of somebody else: rustls as it comes, which trusts `roots` and resumes.
pub fn foreign_client(provider: Arc<CryptoProvider>, roots: RootCertStore, alpn: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// The guest's side up to its first flight.
pub async fn serve_first_flight<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    config: &ServerConfig,
) -> io::Result<(ServerTls<IO>, ExporterSecret)> {
    let mut tls = Hello::read(io).await?.start(config)?;
    let exporter = tls.first_flight().await?;
    Ok((tls, exporter))
}

/// The guest's side of a whole handshake.
pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, config: &ServerConfig) -> io::Result<ServerTls<IO>> {
    let (mut tls, _) = serve_first_flight(io, config).await?;
    tls.finish_handshake().await?;
    Ok(tls)
}

/// Our client's configuration under rustls as it comes, for tests that write what no client of ours would.
pub async fn stream_client<IO: AsyncRead + AsyncWrite + Unpin>(
    config: ClientConfig,
    io: IO,
) -> io::Result<TlsStream<IO>> {
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name(), io).await
}

/// Both our ends after the handshake, as the proxies use them.
pub async fn joined<C, S>(client: C, server: S) -> (Records<C>, Records<S>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Identity::new().evident();
    let client = connect(Arc::new(client_config(None).unwrap()), name(), client);
    let (client, server) = tokio::join!(client, serve(server, &config));
    (client.unwrap().tls, server.unwrap().into_records().unwrap())
}

/// The two ends of a connection as streams, after the handshake.
pub async fn connected<C, S>(client: C, server: S) -> (TlsStream<C>, ServerTls<S>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Identity::new().evident();
    let client = stream_client(client_config(None).unwrap(), client);
    let (client, server) = tokio::join!(client, serve(server, &config));
    (client.unwrap(), server.unwrap())
}

/// The rustls error inside an I/O error.
pub fn tls_error(error: &io::Error) -> &rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("no TLS error: {error:?}"))
}

/// Fails instead of hanging.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("the test hangs")
}

/// Polls `future` at most `polls` times; `None` if it is not ready then.
pub async fn polled<F: Future>(mut future: Pin<&mut F>, polls: usize) -> Option<F::Output> {
    for _ in 0..polls {
        let step = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = step {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Makes the future anew each time it was polled `$polls` times and dropped, until it is ready.
#[macro_export]
macro_rules! dropping {
    ($polls:expr, $future:expr) => {
        loop {
            let future = std::pin::pin!($future);
            if let Some(output) = $crate::common::polled(future, $polls).await {
                break output;
            }
        }
    };
}

/// xorshift64*: the tests want variety that comes again, not chance.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// From 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}
