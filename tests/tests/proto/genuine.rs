//! A genuine guest in this process: `evident-proxy` as it starts and serves, on a device that a test holds in its hand.
//!
//! Its TLS configurations are public to the tests, which is what "the key was stolen" means: whoever has them can end TLS
//! connections as this guest, from wherever.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use attester::{PlainSnp, Platform};
use evident_proxy::cli::ServeFlags;
use evident_proxy::config::Config;
use evident_proxy::machine::Machine;
use evident_proxy::serve::Guest;
use evident_proxy::start::{Ready, start_on};
use evident_tests::Upstream;
use evident_tests::policy::PolicyText;
use proxy_core::metrics::Metrics;
use proxy_core::net::{Addr, LocalStream};
use proxy_core::tasks::Tasks;
use ratls::endorsement::TrustAnchors;
use ratls::tcb::Product;
use rustls::ServerConfig;
use simulator::{Controls, Pki, RsaSize, SimulatedAmdSp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The roots of a test: every simulated guest in it is of this chip, unless its configuration says otherwise.
pub(crate) static PKI: LazyLock<Arc<Pki>> =
    LazyLock::new(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)));

pub(crate) fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(PKI.root_pem().as_bytes()).expect("the simulator's root")
}

/// Accepts the simulated guest that nothing was changed of.
pub(crate) fn policy() -> PolicyText {
    PolicyText::for_simulator(Path::new("/simulator"))
}

pub(crate) struct Genuine {
    pub(crate) address: SocketAddr,
    pub(crate) guest: Arc<Guest>,
    pub(crate) controls: Controls,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) upstream: Upstream,
    accepting: JoinHandle<()>,
    _tasks: [Tasks; 2],
}

impl Genuine {
    /// In front of an HTTP upstream of its own.
    pub(crate) async fn start() -> Genuine {
        Genuine::with(|_| (), "").await
    }

    /// Another simulated guest, and the text of its configuration file.
    pub(crate) async fn with(simulated: impl FnOnce(&mut simulator::Config), file: &str) -> Genuine {
        Genuine::on(simulated, |plain| Box::new(plain), file).await
    }

    /// On another platform, made of the plain one.
    pub(crate) async fn on(
        simulated: impl FnOnce(&mut simulator::Config),
        platform: impl FnOnce(PlainSnp) -> Box<dyn Platform>,
        file: &str,
    ) -> Genuine {
        let upstream = Upstream::http().expect("an upstream");
        let mut simulator = simulator::Config::new(Product::Milan);
        simulated(&mut simulator);
        let device = SimulatedAmdSp::new(&PKI, simulator);
        let controls = device.controls();
        let dir = tempfile::tempdir().expect("a directory");
        let mut flags = ServeFlags {
            listen: Some(Addr::loopback(0)),
            upstream: Some(upstream.address().into()),
            ..ServeFlags::default()
        };
        if !file.is_empty() {
            let path = dir.path().join("evident-proxy.toml");
            std::fs::write(&path, file).expect("a configuration file");
            flags.device.config = Some(path);
        }
        let config = Config::load(&flags).unwrap_or_else(|error| panic!("{error}"));
        let (tasks, background) = (Tasks::new(), Tasks::new());
        let metrics = Arc::new(Metrics::new("evident-proxy", "test"));
        let started = start_on(
            Machine::of(platform(PlainSnp::new(Box::new(device))), anchors()),
            &config,
            metrics.clone(),
            tasks.clone(),
            background.clone(),
        )
        .await;
        let Ready { guest, .. } = started.unwrap_or_else(|error| panic!("{error:#}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let accepting = tokio::spawn(accept(listener, guest.clone(), tasks.clone()));
        Genuine { address, guest, controls, metrics, upstream, accepting, _tasks: [tasks, background] }
    }

    /// The key of attested connections with its lean leaf, as a thief has it.
    pub(crate) fn stolen(&self) -> ServerConfig {
        self.guest.evident.clone()
    }

    /// The key with the evidence-bearing leaf, as a thief has it.
    pub(crate) fn stolen_with_evidence(&self) -> ServerConfig {
        let plain = self.guest.plain.as_ref().expect("ordinary clients are served");
        ServerConfig::clone(&plain.config.borrow())
    }

    /// Connections that this guest ended early at `stage`.
    pub(crate) fn ended_at(&self, stage: &str) -> u64 {
        let name = format!("evident_refused_connections_total{{reason=\"{stage}\"}} ");
        let page = self.metrics.encode();
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    }

    /// Waits until this guest has ended `count` connections early at `stage`.
    pub(crate) async fn until_ended_at(&self, stage: &str, count: u64) {
        crate::until(&format!("{count} connections to end at {stage:?}"), || self.ended_at(stage) >= count).await;
        assert_eq!(self.ended_at(stage), count);
    }
}

impl Drop for Genuine {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, guest: Arc<Guest>, tasks: Tasks) {
    while let Ok((stream, peer)) = listener.accept().await {
        tasks.spawn("connection", guest.clone().serve(LocalStream::from(stream), peer.into()));
    }
}
