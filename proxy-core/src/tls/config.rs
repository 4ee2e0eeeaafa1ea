//! The rustls configurations of the project, with everything that weakens a binding left out.

use std::sync::{Arc, Mutex};

use ratls::binding::ExporterSecret;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, KeyLog, RootCertStore, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

/// Largest certificate taken from a server. `evident/1` leaves have about 400 bytes.
const MAX_CERTIFICATE: usize = ratls::wire::limits::MAX_LEAF_CERTIFICATE;

/// The cryptography of both proxies: X25519MLKEM768 first where the backend has it, then X25519 and P-256; AES-128-GCM with
/// SHA-256 first, which costs less of a handshake and of each byte than AES-256-GCM with SHA-384.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let mut provider = {
        use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
        let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
        CryptoProvider { kx_groups, ..default_provider() }
    };
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let mut provider = {
        use rustls::crypto::ring::{default_provider, kx_group};
        CryptoProvider { kx_groups: vec![kx_group::X25519, kx_group::SECP256R1], ..default_provider() }
    };
    // Stable: the rest stays as the backend orders it.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// A certificate chain and its key, as the guest shows it.
pub struct ServerIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// A server configuration: TLS 1.3 only, no tickets, no early data.
///
/// `half_rtt` is for `evident/1`; with `client_roots` rustls asks for a client certificate and sends no half-RTT data,
/// so the evidence then follows the client's Finished.
pub fn server_config(
    identity: ServerIdentity,
    alpn: &[&[u8]],
    half_rtt: bool,
    client_roots: Option<RootCertStore>,
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| Error::General(e.to_string()))?,
        ),
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.send_half_rtt_data = half_rtt;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// The client side of `evident/1`: offers exactly that protocol, never resumes.
pub fn client_config(identity: Option<ServerIdentity>) -> Result<ClientConfig, Error> {
    let mut config = client_config_for(&[ratls::wire::ALPN], identity)?;
    config.enable_sni = true;
    Ok(config)
}

/// As [`client_config`], with other protocols: for tools that look at cert mode. Proves nothing by itself.
pub fn client_config_for(alpn: &[&[u8]], identity: Option<ServerIdentity>) -> Result<ClientConfig, Error> {
    client_config_under(provider(), alpn, identity)
}

/// The same under cryptography that the caller chose: for tests of each suite.
pub fn client_config_under(
    provider: Arc<CryptoProvider>,
    alpn: &[&[u8]],
    identity: Option<ServerIdentity>,
) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(PossessionOnly { algorithms: provider.signature_verification_algorithms });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key)?,
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Step 1 of the verification order: exactly one certificate, and the peer has its key. Whose key that is, is decided
/// by `ratls` after the handshake; a connection made with this verifier is a `Tls`, never an attested stream.
#[derive(Debug)]
struct PossessionOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PossessionOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !intermediates.is_empty() {
            return Err(Error::General(format!("wanted one certificate, seen {}", 1 + intermediates.len())));
        }
        if end_entity.len() > MAX_CERTIFICATE {
            return Err(Error::General(format!("a certificate of {} bytes", end_entity.len())));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// Catches secrets of one connection, and nothing else, once: the exporter's and those of both traffic directions.
///
/// rustls hands them to the connection's `KeyLog`: at a server when its first flight is written, at a client when the
/// server's Finished is checked; see [`ExporterSecret`].
pub(super) struct Capture {
    captured: Mutex<Captured>,
    /// Where the configuration logged before: nowhere in the proxies, somewhere in tests.
    next: Arc<dyn KeyLog>,
}

type Secret = Zeroizing<Vec<u8>>;

#[derive(Default)]
struct Captured {
    exporter: Option<Secret>,
    client: Option<Secret>,
    server: Option<Secret>,
}

impl Captured {
    fn slot(&mut self, label: &str) -> Option<&mut Option<Secret>> {
        match label {
            "EXPORTER_SECRET" => Some(&mut self.exporter),
            "CLIENT_TRAFFIC_SECRET_0" => Some(&mut self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&mut self.server),
            _ => None,
        }
    }
}

impl Capture {
    fn lock(&self) -> std::sync::MutexGuard<'_, Captured> {
        self.captured.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The exporter secret, if it was made; gone afterwards.
    pub(super) fn take_exporter(&self) -> Option<ExporterSecret> {
        let secret = self.lock().exporter.take()?;
        ExporterSecret::from_key_log(&secret).ok()
    }

    /// The traffic secrets of client and server, if they were made; gone afterwards.
    pub(super) fn take_traffic(&self) -> Option<(Secret, Secret)> {
        let mut captured = self.lock();
        captured.client.take().zip(captured.server.take())
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}

impl KeyLog for Capture {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.next.log(label, client_random, secret);
        if let Some(slot) = self.lock().slot(label) {
            *slot = Some(Zeroizing::new(secret.to_vec()));
        }
    }
    fn will_log(&self, label: &str) -> bool {
        Captured::default().slot(label).is_some() || self.next.will_log(label)
    }
}

/// `config` for one connection, with a capture of its own: a struct of `Arc`s is copied, under 0.1 µs.
pub(super) fn with_capture(config: &ServerConfig) -> (Arc<ServerConfig>, Arc<Capture>) {
    let capture = Arc::new(Capture { captured: Mutex::default(), next: config.key_log.clone() });
    let mut config = config.clone();
    config.key_log = capture.clone();
    config.enable_secret_extraction = true;
    (Arc::new(config), capture)
}

/// The same at a client.
pub(super) fn client_with_capture(config: &ClientConfig) -> (Arc<ClientConfig>, Arc<Capture>) {
    let capture = Arc::new(Capture { captured: Mutex::default(), next: config.key_log.clone() });
    let mut config = config.clone();
    config.key_log = capture.clone();
    config.enable_secret_extraction = true;
    (Arc::new(config), capture)
}

/// So that a key of another process cannot be shown by accident: the key and the certificate must belong together.
pub fn check_key(identity: &ServerIdentity) -> Result<(), Error> {
    let key = CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider())?;
    key.keys_match()
}
