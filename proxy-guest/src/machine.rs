//! The machine that this guest runs on: how it is asked, which roots its evidence ends in, and where its endorsements come from.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use attester::choose::{self, Kind};
use attester::detect::Places;
use attester::endorse::Endorser;
use attester::imds::Imds;
use attester::issuers::{self, Issuers};
use attester::kds::{self, Kds};
use attester::platform::{Logs, Platform};
use ratls::binding::Profile;
use ratls::endorsement::TrustAnchors;
use ratls::wire::attest::{Endorsement, media};
use tokio::sync::watch;

use crate::config::{self, Device};
use crate::start::now;

/// Between two attempts to fetch the issuers of the AK's certificate.
const ISSUERS_AGAIN: Duration = Duration::from_secs(60);

/// An open platform, and what belongs to it.
pub struct Machine {
    pub platform: Box<dyn Platform>,
    pub anchors: TrustAnchors,
    /// In the place of Azure's instance metadata and of what certificates point to; only where the machine is emulated.
    emulated_services: Option<String>,
    /// AMD has no certificates of a simulated chip.
    asks_amd: bool,
}

impl Machine {
    /// Opens what the configuration says. Blocks for as long as the hardware takes; nothing else runs yet.
    pub fn open(config: &Device) -> Result<Machine> {
        #[cfg(feature = "simulator")]
        if let Some(simulate) = &config.simulate {
            let dir = simulate.dir.as_deref().unwrap_or(crate::simulate::DEFAULT_DIR.as_ref());
            let simulated = crate::simulate::open(dir, config.platform)?;
            let machine = Machine::of(simulated.platform, simulated.anchors);
            return Ok(Machine { emulated_services: simulated.metadata, ..machine });
        }
        let chosen = choose::open(kind(config.platform), &places(config), config.vmpl)?;
        for line in &chosen.seen {
            tracing::info!(platform = %chosen.kind, "looked for the platform: {line}");
        }
        Ok(Machine { platform: chosen.platform, anchors: TrustAnchors::amd(), emulated_services: None, asks_amd: true })
    }

    /// A platform of one's own, whose endorsements come with its reports.
    pub fn of(platform: Box<dyn Platform>, anchors: TrustAnchors) -> Machine {
        Machine { platform, anchors, emulated_services: None, asks_amd: false }
    }

    /// What finds the endorsements of its reports.
    pub fn endorser(&self, config: &Device) -> Result<Endorser> {
        let settings =
            kds::Settings { base_url: config.kds_url.clone(), ..kds::Settings::amd(config.cache_dir.clone()) };
        let kds = if self.asks_amd { Some(Kds::new(settings, now)?) } else { None };
        let endorser = Endorser::new(kds, self.anchors.clone(), config.certificates.clone(), now);
        match self.platform.profile() {
            Profile::AzureSnp => {
                let url = self.emulated_services.as_deref().unwrap_or(&config.metadata_url);
                Ok(endorser.with_imds(Imds::new(url)?))
            }
            _ => Ok(endorser),
        }
    }

    /// What finds the issuers of its AK's certificate.
    pub fn issuers(&self, config: &Device) -> IssuersOfAk {
        IssuersOfAk {
            leaf: self.platform.boot().ak_certificate.as_ref().map(|certificate| certificate.bytes.clone()),
            files: config.certificates.clone(),
            local: self.emulated_services.clone(),
        }
    }
}

/// Looks for the certificates between the AK's and its root.
pub struct IssuersOfAk {
    leaf: Option<Vec<u8>>,
    files: Vec<Vec<u8>>,
    local: Option<String>,
}

/// What was found, for ATTEST key 8.
pub type Certificates = Arc<Vec<Endorsement>>;

impl IssuersOfAk {
    /// One look; nothing where there is no AK with a certificate.
    pub async fn find(&self) -> (Certificates, bool) {
        let Some(leaf) = &self.leaf else { return (Certificates::default(), true) };
        let Issuers { certificates, gap } = issuers::find(leaf, &self.files, self.local.as_deref()).await;
        if let Some(gap) = &gap {
            tracing::warn!(%gap, "the certificate of the AK stands without its issuers; clients may not accept it");
        }
        let item = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        // What is not in a file and has no address does not come by asking again.
        let complete = !matches!(gap, Some(issuers::Gap::Fetch { .. }));
        (Arc::new(certificates.into_iter().map(item).collect()), complete)
    }

    /// Looks again until all were found.
    pub async fn keep_looking(self, found: watch::Sender<Certificates>) {
        loop {
            tokio::time::sleep(ISSUERS_AGAIN).await;
            let (certificates, complete) = self.find().await;
            found.send_replace(certificates);
            if complete || found.is_closed() {
                return;
            }
        }
    }
}

fn places(config: &Device) -> Places {
    let of_this_machine = Places::of_this_machine(config.configfs_entry.clone());
    Places {
        tpm: config.tpm.clone(),
        logs: Logs { event_log: Some(config.event_log.clone()), ima_list: config.ima_list.clone() },
        ..of_this_machine
    }
}

fn kind(platform: config::Platform) -> Option<Kind> {
    match platform {
        config::Platform::Auto => None,
        config::Platform::Snp => Some(Kind::Snp),
        config::Platform::Azure => Some(Kind::Azure),
        config::Platform::Gcp => Some(Kind::Gcp),
        config::Platform::Aws => Some(Kind::Aws),
        config::Platform::Svsm => Some(Kind::Svsm),
    }
}
