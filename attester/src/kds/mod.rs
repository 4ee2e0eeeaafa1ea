//! AMD's Key Distribution Service: VCEK certificates, the chains above VCEK and VLEK, revocation lists (AMD 57230).
//!
//! A polite client, because AMD throttles: one request per address at a time however many ask, everything kept on disk, failures
//! remembered for a while, and `Retry-After` obeyed. What it returns is *untrusted*: looked at only as far as to see that it is of the
//! right form. The caller verifies it and says [`Kds::reject`] where it is no good.
//!
//! VLEK leaves are not here: AMD gives them to the cloud provider alone, so they come with the report.

pub(crate) mod http;
mod pauses;
mod store;

use bytes::Bytes;
use http::{Answer, Client, HttpError};
use pauses::Pauses;
use ratls::endorsement::{VekKind, pem};
use ratls::evidence::snp::ChipId;
use ratls::tcb::{Product, TcbVersion};
use ratls::time::UnixTime;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use store::Store;
use tokio::sync::watch;

pub use http::BaseUrlError;

/// AMD's own service.
pub const AMD: &str = "https://kdsintf.amd.com";

/// Bounds on answers: AMD's VCEKs have 1.4 KiB, its chains 5 KiB, its lists 1 KiB.
const MAX_CERTIFICATE: usize = 4 * 1024;
const MAX_CHAIN: usize = 16 * 1024;
const MAX_LIST: usize = 64 * 1024;
/// However long `Retry-After` says.
const LONGEST_THROTTLE: Duration = Duration::from_secs(3600);

/// Something that the service has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The certificate of the key that this chip derives at this (reported) TCB. DER.
    Vcek { product: Product, chip_id: ChipId, tcb: TcbVersion },
    /// ASK or ASVK, then the ARK. PEM.
    Chain { kind: VekKind, product: Product },
    /// What the ARK revoked. DER.
    Crl { kind: VekKind, product: Product },
}

impl Resource {
    /// Path and query at the service.
    pub fn path(&self) -> String {
        match self {
            Resource::Vcek { product, chip_id, tcb } => {
                let (chip, first) = match (product, tcb.fmc()) {
                    // Turin's ids are eight bytes long; the rest of the field is zero.
                    (Product::Turin, fmc) => (&chip_id.as_bytes()[..8], fmc.map(|fmc| format!("fmcSPL={fmc:02}&"))),
                    (Product::Milan | Product::Genoa, _) => (&chip_id.as_bytes()[..], None),
                };
                format!(
                    "/vcek/v1/{product}/{}?{}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
                    hex::encode(chip),
                    first.unwrap_or_default(),
                    tcb.bootloader(),
                    tcb.tee(),
                    tcb.snp(),
                    tcb.microcode()
                )
            }
            Resource::Chain { kind, product } => format!("/{}/v1/{product}/cert_chain", service(*kind)),
            Resource::Crl { kind, product } => format!("/{}/v1/{product}/crl", service(*kind)),
        }
    }

    fn file_name(&self) -> String {
        match self {
            Resource::Vcek { product, chip_id, tcb } => {
                format!("{product}-{}-{:016x}-vcek.der", hex::encode(chip_id.as_bytes()), tcb.raw().swap_bytes())
            }
            Resource::Chain { kind, product } => format!("{product}-{}-chain.pem", service(*kind)),
            Resource::Crl { kind, product } => format!("{product}-{}.crl", service(*kind)),
        }
    }

    fn max_bytes(&self) -> usize {
        match self {
            Resource::Vcek { .. } => MAX_CERTIFICATE,
            Resource::Chain { .. } => MAX_CHAIN,
            Resource::Crl { .. } => MAX_LIST,
        }
    }

    /// Enough of a look to keep an error page out of the store.
    fn has_form(&self, bytes: &[u8]) -> bool {
        match self {
            Resource::Vcek { .. } | Resource::Crl { .. } => is_der_sequence(bytes),
            Resource::Chain { .. } => pem::certificates(bytes).is_ok(),
        }
    }
}

fn service(kind: VekKind) -> &'static str {
    match kind {
        VekKind::Vcek => "vcek",
        VekKind::Vlek => "vlek",
    }
}

/// One SEQUENCE with a length of two bytes, as everything here has, and nothing behind it.
fn is_der_sequence(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x82, high, low, content @ ..] => content.len() == usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// How to reach the service and where to keep what it gave.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base_url: String,
    /// Survives restarts; `None` keeps everything in memory only.
    pub cache_dir: Option<PathBuf>,
    /// For one whole request.
    pub timeout: Duration,
    /// After the first failure; doubles with each further one.
    pub first_pause: Duration,
    pub longest_pause: Duration,
}

impl Settings {
    /// AMD's service with pauses of 5 s to 10 min.
    pub fn amd(cache_dir: Option<PathBuf>) -> Self {
        Settings {
            base_url: AMD.to_owned(),
            cache_dir,
            timeout: Duration::from_secs(10),
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(600),
        }
    }
}

/// Why something could not be had from the service. Everybody who waited for the same request gets the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KdsError {
    #[error("AMD's key service does not answer for {path}: {reason}")]
    Unreachable { path: String, reason: String },
    #[error("AMD's key service throttles; ask again in {} s", retry_after.as_secs())]
    Throttled { retry_after: Duration },
    #[error("AMD's key service answers {status} to {path}")]
    Status { path: String, status: u16 },
    #[error("AMD's key service sends more than {max_bytes} bytes for {path}")]
    TooLarge { path: String, max_bytes: usize },
    #[error("AMD's key service sends something else than was asked for as {path}")]
    Form { path: String },
    #[error("what AMD's key service sent as {path} was refused")]
    Rejected { path: String },
}

/// Bytes of the service, and whether they were fetched just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: Bytes,
    pub from_store: bool,
}

/// The client. Share it in an `Arc`.
pub struct Kds {
    client: Client,
    store: Store,
    pauses: Pauses,
    clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    in_flight: Mutex<HashMap<Resource, watch::Receiver<Shared>>>,
    requests: AtomicU64,
}

impl fmt::Debug for Kds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kds").finish_non_exhaustive()
    }
}

impl Kds {
    /// `clock` says how old stored things are; nothing is trusted by it.
    pub fn new(settings: Settings, clock: impl Fn() -> UnixTime + Send + Sync + 'static) -> Result<Self, BaseUrlError> {
        Ok(Kds {
            client: Client::new(&settings.base_url, settings.timeout)?,
            store: Store::new(settings.cache_dir),
            pauses: Pauses::new(settings.first_pause, settings.longest_pause),
            clock: Box::new(clock),
            in_flight: Mutex::new(HashMap::new()),
            requests: 0.into(),
        })
    }

    /// The stored copy if it is not older than `max_age` (`None`: of any age), else a new one from the service. The first to ask sends
    /// the request and the others wait for its answer; where the first gives up, one of the others goes on.
    pub async fn fetch(&self, resource: &Resource, max_age: Option<Duration>) -> Result<Fetched, KdsError> {
        loop {
            let turn = self.turn(resource);
            // Looked for after the turn is known, so that nobody asks for what an earlier leader has just stored.
            if let Some(bytes) = self.stored(resource, max_age).await {
                return Ok(Fetched { bytes, from_store: true });
            }
            let result = match turn {
                Turn::Lead(lead) => Some(lead.request().await),
                Turn::Follow(mut answer) => {
                    answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
                }
            };
            if let Some(result) = result {
                return result.map(|bytes| Fetched { bytes, from_store: false });
            }
        }
    }

    /// The stored copy alone, for when the service fails.
    pub async fn stored(&self, resource: &Resource, max_age: Option<Duration>) -> Option<Bytes> {
        let stored = self.store.load(&resource.file_name(), resource.max_bytes()).await?;
        let age = (self.clock)().as_secs().saturating_sub(stored.at.as_secs());
        // A time in the future says that one of the clocks is wrong, so nothing is known of the age.
        let young = max_age.is_none_or(|max| u64::try_from(age).is_ok_and(|age| age <= max.as_secs()));
        (young && resource.has_form(&stored.bytes)).then_some(stored.bytes)
    }

    /// What was fetched turned out to be no good: it is forgotten, and not asked for again at once.
    pub async fn reject(&self, resource: &Resource) {
        self.store.remove(&resource.file_name()).await;
        self.pauses.failed(resource, &KdsError::Rejected { path: resource.path() });
    }

    /// When asking for this may help again; zero if now.
    pub fn pause(&self, resource: &Resource) -> Duration {
        self.pauses.pause(resource).map_or(Duration::ZERO, |(pause, _)| pause)
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn turn<'a>(&'a self, resource: &'a Resource) -> Turn<'a> {
        let mut in_flight = self.in_flight();
        if let Some(answer) = in_flight.get(resource) {
            return Turn::Follow(answer.clone());
        }
        let (answer, receiver) = watch::channel(None);
        in_flight.insert(resource.clone(), receiver);
        Turn::Lead(Lead { kds: self, resource, answer })
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Resource, watch::Receiver<Shared>>> {
        self.in_flight.lock().expect("nothing panics while it holds the map")
    }

    async fn request(&self, resource: &Resource) -> Result<Bytes, KdsError> {
        if let Some((_, error)) = self.pauses.pause(resource) {
            return Err(error);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let result = self.ask(resource).await;
        match &result {
            Ok(bytes) => {
                self.pauses.succeeded(resource);
                self.store.save(&resource.file_name(), bytes.clone(), (self.clock)()).await;
            }
            Err(error) => self.pauses.failed(resource, error),
        }
        result
    }

    async fn ask(&self, resource: &Resource) -> Result<Bytes, KdsError> {
        let (path, max_bytes) = (resource.path(), resource.max_bytes());
        match self.client.get(&path, max_bytes).await {
            Ok(Answer::Body(bytes)) if resource.has_form(&bytes) => Ok(bytes),
            Ok(Answer::Body(_)) => Err(KdsError::Form { path }),
            Ok(Answer::Status { status, retry_after }) if status.as_u16() == 429 => {
                let retry_after = retry_after.unwrap_or_default().max(self.pauses.first).min(LONGEST_THROTTLE);
                Err(KdsError::Throttled { retry_after })
            }
            Ok(Answer::Status { status, .. }) => Err(KdsError::Status { path, status: status.as_u16() }),
            Err(HttpError::TooLarge(max_bytes)) => Err(KdsError::TooLarge { path, max_bytes }),
            Err(error) => Err(KdsError::Unreachable { path, reason: error.to_string() }),
        }
    }
}

/// `None` while the request runs.
type Shared = Option<Result<Bytes, KdsError>>;

enum Turn<'a> {
    Lead(Lead<'a>),
    Follow(watch::Receiver<Shared>),
}

/// The one request for a resource. Dropped, it makes room for the next.
struct Lead<'a> {
    kds: &'a Kds,
    resource: &'a Resource,
    answer: watch::Sender<Shared>,
}

impl Lead<'_> {
    async fn request(self) -> Result<Bytes, KdsError> {
        let result = self.kds.request(self.resource).await;
        self.answer.send_replace(Some(result.clone()));
        result
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.kds.in_flight().remove(self.resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_amd_documents() {
        let chip_id = ChipId::from_bytes(std::array::from_fn(|i| i as u8));
        let tcb = TcbVersion::new_milan_genoa(3, 0, 8, 115);
        let vcek = Resource::Vcek { product: Product::Milan, chip_id, tcb };
        assert_eq!(
            vcek.path(),
            format!("/vcek/v1/Milan/{}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115", hex::encode(chip_id.as_bytes()))
        );
        let turin = Resource::Vcek { product: Product::Turin, chip_id, tcb: TcbVersion::new_turin(1, 3, 2, 5, 97) };
        assert_eq!(turin.path(), "/vcek/v1/Turin/0001020304050607?fmcSPL=01&blSPL=03&teeSPL=02&snpSPL=05&ucodeSPL=97");
        let (kind, product) = (VekKind::Vlek, Product::Genoa);
        assert_eq!(Resource::Chain { kind, product }.path(), "/vlek/v1/Genoa/cert_chain");
        assert_eq!(Resource::Crl { kind: VekKind::Vcek, product }.path(), "/vcek/v1/Genoa/crl");
    }

    #[test]
    fn an_error_page_has_not_the_form_of_a_certificate() {
        let crl = Resource::Crl { kind: VekKind::Vcek, product: Product::Milan };
        assert!(!crl.has_form(b"<html>"));
        assert!(!crl.has_form(&[0x30, 0x82, 0, 2, 1]));
        assert!(crl.has_form(&[0x30, 0x82, 0, 1, 1]));
    }
}
