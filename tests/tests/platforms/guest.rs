//! A guest of one deployment in this process, and our client's judgement of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attester::device::{DeviceError, Pace};
use attester::platform::{Activate, ActivateError, Activator, Boot, Gathered, Platform};
use evident_client::dial::{Deadlines, Target};
use evident_client::open::OpenError;
use evident_proxy::cli::{DeviceFlags, ServeFlags};
use evident_proxy::config::{self, Config};
use evident_proxy::machine::Machine;
use evident_proxy::start::{Ready, start_on};
use evident_tests::Upstream;
use proxy_core::metrics::Metrics;
use proxy_core::net::LocalStream;
use proxy_core::tasks::Tasks;
use proxy_core::tls::client_config;
use ratls::appraise::{AttestationResult, Severity};
use ratls::binding::{Binder, Profile};
use ratls::bundle::Bundle;
use ratls::endorsement::TrustAnchors;
use ratls::policy::AppraisalPolicy;
use ratls::wire::attest::Endorsement;
use ratls::wire::credential::{Credential, CredentialSecret};
use rustls::pki_types::ServerName;
use simulator::boot::Firmware;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::policies;

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    Azure,
    Gcp,
    Aws,
    Svsm,
    /// Nowhere that has a TPM: all that is known of the guest is in its launch digest.
    Direct,
}

pub(crate) const WITH_TPM: [Deployment; 4] = [Deployment::Azure, Deployment::Gcp, Deployment::Aws, Deployment::Svsm];

impl Deployment {
    pub(crate) fn firmware(self) -> Firmware {
        match self {
            Deployment::Azure => Firmware::Azure,
            Deployment::Gcp => Firmware::Gce,
            Deployment::Aws => Firmware::Aws,
            Deployment::Svsm => Firmware::Svsm,
            Deployment::Direct => unreachable!("no TPM measures its boot"),
        }
    }

    fn platform(self) -> config::Platform {
        match self {
            Deployment::Azure => config::Platform::Azure,
            Deployment::Gcp => config::Platform::Gcp,
            Deployment::Aws => config::Platform::Aws,
            Deployment::Svsm => config::Platform::Svsm,
            Deployment::Direct => config::Platform::Snp,
        }
    }
}

const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(20),
    handshake: Duration::from_secs(20),
    attest: Duration::from_secs(30),
    accept: Duration::from_secs(20),
    idle: None,
    lifetime: Duration::from_secs(60),
};
/// Small keys; no waiting for a cloud's throttle.
const QUICK: &str = "small_keys = true\nmin_interval_ms = 1\n";
const AZURE: &str = "[azure]\nregeneration_ms = 0\n";

/// A change of what one request of the machine brought.
type Change = Box<dyn FnMut(&mut Gathered, &Binder) + Send>;

/// A guest that serves.
pub(crate) struct Guest {
    pub(crate) deployment: Deployment,
    address: SocketAddr,
    upstream: Arc<Upstream>,
    hands: Hands,
    dir: Arc<TempDir>,
    /// Of the machine, below that of the roots; none without a TPM.
    machine: Option<PathBuf>,
    accepting: JoinHandle<()>,
    _tasks: [Tasks; 2],
}

impl Guest {
    pub(crate) async fn start(deployment: Deployment) -> Guest {
        Guest::simulated(deployment, "").await
    }

    /// With this in `simulator.toml` besides.
    pub(crate) async fn simulated(deployment: Deployment, settings: &str) -> Guest {
        let dir = tempfile::Builder::new().prefix("evident-platform-").tempdir().unwrap();
        Guest::in_dir(Arc::new(dir), Arc::new(Upstream::http().unwrap()), deployment, settings).await
    }

    /// Azure's, with this in its own table.
    pub(crate) async fn simulated_azure(settings: &str) -> Guest {
        Guest::simulated(Deployment::Azure, &format!("{AZURE}\n{settings}")).await
    }

    /// Another machine under the same roots, on the same chip, in front of the same application.
    pub(crate) async fn beside(&self, settings: &str) -> Guest {
        Guest::in_dir(Arc::clone(&self.dir), Arc::clone(&self.upstream), self.deployment, settings).await
    }

    async fn in_dir(dir: Arc<TempDir>, upstream: Arc<Upstream>, deployment: Deployment, settings: &str) -> Guest {
        let config = configuration(dir.path(), deployment, settings, upstream.address());
        let device = config.device.clone();
        let before = machines(dir.path());
        let mut machine = tokio::task::spawn_blocking(move || Machine::open(&device))
            .await
            .unwrap()
            .unwrap_or_else(|e| panic!("{e:#}"));
        let mut new = machines(dir.path());
        new.retain(|machine| !before.contains(machine));
        let place = match (deployment, new.as_slice()) {
            (Deployment::Direct, []) => None,
            (_, [place]) => Some(place.clone()),
            (_, new) => panic!("one machine more: {new:?}"),
        };
        let hands = Hands::default();
        let platform = std::mem::replace(&mut machine.platform, Box::new(Nothing));
        machine.platform = Box::new(Handled { platform, hands: hands.clone() });
        let (tasks, background) = (Tasks::new(), Tasks::new());
        let metrics = Arc::new(Metrics::new("evident-proxy", "test"));
        let started = start_on(machine, &config, metrics, tasks.clone(), background.clone()).await;
        let Ready { guest, .. } = started.unwrap_or_else(|error| panic!("{deployment:?}: {error:#}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn({
            let tasks = tasks.clone();
            async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    tasks.spawn("connection", guest.clone().serve(LocalStream::from(stream), peer.into()));
                }
            }
        });
        Guest { deployment, address, upstream, hands, dir, machine: place, accepting, _tasks: [tasks, background] }
    }

    pub(crate) fn connections_of_upstream(&self) -> usize {
        self.upstream.accepted()
    }

    /// The file that a policy names.
    pub(crate) fn roots(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// The socket of its TPM.
    pub(crate) fn tpm(&self) -> PathBuf {
        self.machine.as_ref().expect("it has a TPM").join("tpm")
    }

    /// The AK's certificate, as the machine keeps it.
    pub(crate) fn certificate_of_ak(&self) -> Option<Endorsement> {
        let seen = self.hands.seen.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("it serves");
        seen.ak_certificate.clone()
    }

    /// From now on everything that the machine brings is changed like this.
    pub(crate) fn change(&self, change: impl FnMut(&mut Gathered, &Binder) + Send + 'static) {
        *self.hands.change.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(change));
    }

    /// From now on the statement names what this says instead of the machine's AK and log.
    pub(crate) fn boot(&self, change: impl FnOnce(&Boot) -> Boot) {
        let mut boot = self.hands.boot.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.hands.seen.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("it serves");
        *boot = Some(Arc::new(change(&seen)));
    }

    /// From now on what a client hid for the TPM's key is answered with zeros.
    pub(crate) fn makes_up_secrets(&self) {
        self.hands.makes_up.store(true, Ordering::SeqCst);
    }

    /// What the machine brought last.
    pub(crate) fn gathered(&self) -> Gathered {
        self.hands.last.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("it serves")
    }

    /// A connection under the policy that accepts this deployment.
    pub(crate) async fn judged(&self) -> Result<(), Vec<&'static str>> {
        self.judged_under(&policies::accepting(self.deployment)).await
    }

    /// A connection under this policy: accepted, or the ids of all fatal findings.
    pub(crate) async fn judged_under(&self, policy: &str) -> Result<(), Vec<&'static str>> {
        match self.target(policy).attested().await {
            Ok(stream) => {
                stream.close().await;
                Ok(())
            }
            Err(OpenError::Refused { result, .. }) => {
                let fatal = result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal);
                let fatal =
                    fatal.inspect(|finding| println!("{:?}: {} {}", self.deployment, finding.id(), finding.seen()));
                Err(fatal.map(|finding| finding.id()).collect())
            }
            Err(other) => panic!("{:?}: neither accepted nor refused: {other}", self.deployment),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it shows to somebody who has no policy, as `inspect --save` keeps it.
    pub(crate) async fn bundle(&self) -> Bundle {
        let target = Target { policy: None, ..self.target(&policies::accepting(self.deployment)) };
        let mut shown = target.show().await.unwrap_or_else(|error| panic!("{:?}: {error}", self.deployment));
        let result = shown.result(&target).await.unwrap();
        assert!(result.evidence().is_some(), "{:?}: {result}", self.deployment);
        let bundle = shown.bundle();
        shown.close().await;
        bundle
    }

    /// From now on the machine's own answers again.
    pub(crate) fn restore(&self) {
        *self.hands.change.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.hands.boot.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.hands.makes_up.store(false, Ordering::SeqCst);
    }

    /// All that the client found under this policy.
    pub(crate) async fn found(&self, policy: &str) -> Arc<AttestationResult> {
        let target = self.target(policy);
        let mut shown = target.show().await.unwrap_or_else(|error| panic!("{:?}: {error}", self.deployment));
        let result = shown.result(&target).await.unwrap();
        shown.close().await;
        Arc::new(result)
    }

    /// A page of the upstream, through a tunnel that was opened under this policy.
    pub(crate) async fn page(&self, policy: &str) -> String {
        let target = self.target(policy);
        let attested = target.attested().await.unwrap_or_else(|error| panic!("{:?}: {error}", self.deployment));
        let tunnel = attested.open(None, &target).await.unwrap().accepted().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut application = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (local, _) = listener.accept().await.unwrap();
        let relay = tokio::spawn(tunnel.relay(local.into()));
        application.write_all(b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        application.shutdown().await.unwrap();
        let mut answer = String::new();
        application.read_to_string(&mut answer).await.unwrap();
        relay.await.unwrap().unwrap();
        answer
    }

    fn target(&self, policy: &str) -> Target {
        let text = policies::with_root(policy, &self.roots());
        let policy = AppraisalPolicy::parse(&text, "policy.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let roots = std::fs::read(self.roots()).unwrap();
        self.target_under(policy, TrustAnchors::amd().with_simulator_root(&roots).unwrap())
    }

    /// A connection to it under this policy, where verification ends in these roots.
    pub(crate) fn target_under(&self, policy: AppraisalPolicy, anchors: TrustAnchors) -> Target {
        Target {
            addresses: vec![self.address.into()],
            server_name: ServerName::try_from("guest.example").unwrap(),
            tls: Arc::new(client_config(None).unwrap()),
            policy: Some(Arc::new(policy)),
            anchors: Arc::new(anchors),
            token: None,
            deadlines: DEADLINES,
            tasks: Tasks::new(),
            known: Arc::default(),
            audit: None,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn machines(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("tpm").exists()).collect()
}

fn configuration(dir: &Path, deployment: Deployment, settings: &str, upstream: SocketAddr) -> Config {
    let azure = if deployment == Deployment::Azure && !settings.contains(AZURE) { AZURE } else { "" };
    std::fs::write(dir.join("simulator.toml"), format!("{QUICK}{settings}\n{azure}")).unwrap();
    let device = DeviceFlags {
        platform: Some(deployment.platform()),
        simulate: Some(Some(dir.to_owned())),
        ..DeviceFlags::default()
    };
    let flags = ServeFlags { upstream: Some(upstream.into()), device, ..ServeFlags::default() };
    Config::load(&flags).unwrap_or_else(|error| panic!("{error}"))
}

/// What a test holds of a platform that is asked elsewhere.
#[derive(Clone, Default)]
struct Hands {
    change: Arc<Mutex<Option<Change>>>,
    boot: Arc<Mutex<Option<Arc<Boot>>>>,
    seen: Arc<Mutex<Option<Arc<Boot>>>>,
    last: Arc<Mutex<Option<Gathered>>>,
    makes_up: Arc<AtomicBool>,
}

/// The machine's platform, and a test's hands on it.
struct Handled {
    platform: Box<dyn Platform>,
    hands: Hands,
}

impl Platform for Handled {
    fn profile(&self) -> Profile {
        self.platform.profile()
    }
    fn describe(&self) -> String {
        self.platform.describe()
    }
    fn simulated(&self) -> bool {
        self.platform.simulated()
    }
    fn pace(&self) -> Pace {
        self.platform.pace()
    }
    fn boot(&self) -> Arc<Boot> {
        let boot = self.platform.boot();
        *self.hands.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&boot));
        self.hands.boot.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(boot)
    }
    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        let mut gathered = self.platform.gather(binder)?;
        *self.hands.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(gathered.clone());
        if let Some(change) = &mut *self.hands.change.lock().unwrap_or_else(PoisonError::into_inner) {
            change(&mut gathered, binder);
        }
        Ok(gathered)
    }
    fn activator(&self) -> Option<Activator> {
        let makes_up = Arc::clone(&self.hands.makes_up);
        self.platform.activator().map(|honest| Activator::new(Answers { honest, makes_up }))
    }
}

/// Answers for the TPM, honestly or not.
struct Answers {
    honest: Activator,
    makes_up: Arc<AtomicBool>,
}

impl Activate for Answers {
    fn activate(&self, credential: Credential) -> oneshot::Receiver<Result<CredentialSecret, ActivateError>> {
        let (sender, receiver) = oneshot::channel();
        if self.makes_up.load(Ordering::SeqCst) {
            let _ = sender.send(Ok(CredentialSecret::from_bytes([0; 32])));
        } else {
            let honest = self.honest.clone();
            tokio::spawn(async move { sender.send(honest.activate(credential).await) });
        }
        receiver
    }
}

/// Stands where a platform was taken out.
struct Nothing;

impl Platform for Nothing {
    fn profile(&self) -> Profile {
        Profile::Snp
    }
    fn describe(&self) -> String {
        "nothing".to_owned()
    }
    fn gather(&mut self, _: &Binder) -> Result<Gathered, DeviceError> {
        Err(DeviceError::Gone)
    }
}
