//! Emulated machines in the place of real ones: SIMULATED, PROVES NOTHING. Only in builds with the feature `simulator`.
//!
//! Keys and roots live in a directory. A file `simulator.toml` in it changes what the simulated guest is, so that a
//! demonstration or a test can show a guest that a policy refuses. Where the platform is `snp`, the software AMD-SP stands in the
//! device's place; the others are whole machines ([`Machine`]), from which the same code gathers that gathers in a cloud.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use attester::choose::{self, Kind};
use attester::detect::Places;
use attester::logs;
use attester::platform::{Activator, Boot, Gathered, Gcp, Logs};
use attester::tpm::{Address, Tpm, TpmQueue};
use attester::{DeviceError, Pace, PlainSnp, Platform};
use ratls::binding::{Binder, Profile};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::{ChipId, Measurement};
use ratls::tcb::Product;
use serde::Deserialize;
use simulator::boot::Loader;
use simulator::cloud::{azure, gce};
use simulator::machine::{self, Cloud, Machine};
use simulator::{Config, NOTICE, Pki, ROOT_FILE, RsaSize, SimulatedAmdSp};

use crate::config;

/// Used where `--simulate` names no directory.
pub const DEFAULT_DIR: &str = "evident-simulator";
const SETTINGS_FILE: &str = "simulator.toml";

/// What `simulator.toml` may say. Everything else is as in a sane guest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `milan`, `genoa` or `turin`.
    product: Option<Product>,
    report_version: Option<u32>,
    measurement: Option<Measurement>,
    chip_id: Option<ChipId>,
    /// The guest policy bits; bit 19 is DEBUG.
    policy: Option<u64>,
    guest_svn: Option<u32>,
    /// How long a report takes.
    latency_ms: Option<u64>,
    /// The throttle: a report asked for sooner is answered BUSY.
    min_interval_ms: Option<u64>,
    /// RSA-2048 roots, for tests that make many.
    small_keys: Option<bool>,
    /// What the guest boots, on the platforms that have a TPM.
    #[serde(default)]
    boot: Booted,
    #[serde(default)]
    azure: Azure,
    #[serde(default)]
    gcp: Google,
    #[serde(default)]
    aws: Amazon,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amazon {
    /// False: an instance whose image asked for no NitroTPM.
    nitro_tpm: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Booted {
    loader: Option<LoaderName>,
    secure_boot: Option<bool>,
    command_line: Option<String>,
    /// In the kernel's name.
    version: Option<String>,
    /// Texts that stand for the bytes of kernel and initrd.
    kernel: Option<String>,
    initrd: Option<String>,
    /// Whether the kernel keeps an IMA list.
    ima: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LoaderName {
    Grub,
    Unified,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Azure {
    console: Option<bool>,
    /// False: a paravisor of 2023, in whose report the guest has no word.
    user_data: Option<bool>,
    /// How long a report stays before a read makes a new one.
    regeneration_ms: Option<u64>,
    /// The certificate's subject; a Trusted Launch VM has another suffix.
    host_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Google {
    production: Option<bool>,
    project_id: Option<String>,
    zone: Option<String>,
    instance_name: Option<String>,
    /// A TPM that this guest has, provisioned as Google's are, instead of an emulated machine: `/dev/tpmrm0` in a virtual machine.
    tpm: Option<String>,
}

/// A platform that no hardware stands behind.
pub struct Simulated {
    pub platform: Box<dyn Platform>,
    /// AMD's roots and the clouds', and those of this simulator.
    pub anchors: TrustAnchors,
    /// Where the machine's metadata and its authorities answer, in the place of 169.254.169.254.
    pub metadata: Option<String>,
}

/// The machine of this platform that lives in `dir`.
pub fn open(dir: &Path, platform: config::Platform) -> Result<Simulated> {
    let settings = Settings::read(dir)?;
    let product = settings.product.unwrap_or(Product::Milan);
    let pki = Arc::new(Pki::load_or_create(dir, product, settings.size())?);
    let (cloud, kind) = match platform {
        config::Platform::Auto | config::Platform::Snp => {
            let device = settings.device(&pki, Config::new(product));
            return Ok(Simulated {
                platform: Box::new(PlainSnp::new(Box::new(device))),
                anchors: anchors(dir)?,
                metadata: None,
            });
        }
        config::Platform::Azure => (Cloud::Azure(settings.azure()), Kind::Azure),
        config::Platform::Gcp => (Cloud::Gce(settings.gcp()), Kind::Gcp),
        config::Platform::Aws => (Cloud::Aws, Kind::Aws),
        config::Platform::Svsm => (Cloud::Svsm, Kind::Svsm),
    };
    let device = settings.device(&pki, cloud.reports(product));
    if let (Kind::Gcp, Some(tpm)) = (kind, &settings.gcp.tpm) {
        let platform = Box::new(beside_a_tpm(device, tpm)?);
        return Ok(Simulated { platform, anchors: anchors(dir)?, metadata: None });
    }
    let machine = Machine::start(dir, settings.machine(cloud), device)?;
    let mut places = places(&machine)?;
    if kind == Kind::Aws && settings.aws.nitro_tpm == Some(false) {
        places.tpm = Address::Device(machine.places().dmi.join("no-tpm"));
    }
    let metadata = machine.places().metadata.clone();
    let chosen = choose::open(Some(kind), &places, 0)?;
    let pace = settings.min_interval_ms.map(|ms| Pace { min_interval: Duration::from_millis(ms), burst: 1 });
    let emulated = Emulated { platform: chosen.platform, pace, _machine: machine };
    Ok(Simulated { platform: Box::new(emulated), anchors: anchors(dir)?, metadata: Some(metadata) })
}

/// Google's platform on a TPM and logs that are real, with the software AMD-SP beside them.
fn beside_a_tpm(device: SimulatedAmdSp, tpm: &str) -> Result<Gcp> {
    let address = tpm.parse().map_err(|error| anyhow!("{NOTICE}: {error}"))?;
    let queue = TpmQueue::start(Tpm::open(&address)?)?;
    let logs = Logs { event_log: Some(logs::EVENT_LOG.into()), ima_list: Some(logs::IMA_LIST.into()) };
    Ok(Gcp::open(Box::new(device), queue, &logs)?)
}

/// The roots that a policy names, and AMD's.
fn anchors(dir: &Path) -> Result<TrustAnchors> {
    let file = dir.join(ROOT_FILE);
    let roots = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(TrustAnchors::amd().with_simulator_root(&roots)?)
}

/// The machine's parts, where the gathering code looks for them.
fn places(machine: &Machine) -> Result<Places> {
    let at = machine.places();
    let nowhere = at.dmi.join("nowhere");
    Ok(Places {
        prepared_entry: None,
        configfs_root: at.configfs.clone().unwrap_or_else(|| nowhere.clone()),
        sev_guest: nowhere,
        dmi: at.dmi.clone(),
        tpm: at.tcti.parse().map_err(|error| anyhow!("{NOTICE}: {error}"))?,
        logs: Logs { event_log: Some(at.event_log.clone()), ima_list: at.ima_log.clone() },
    })
}

impl Settings {
    fn read(dir: &Path) -> Result<Settings> {
        let file = dir.join(SETTINGS_FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    fn size(&self) -> RsaSize {
        if self.small_keys == Some(true) { RsaSize::Bits2048 } else { RsaSize::Bits4096 }
    }

    /// The AMD-SP, whose reports are these but for what the file says.
    fn device(&self, pki: &Arc<Pki>, mut reports: Config) -> SimulatedAmdSp {
        let set = |to: &mut u32, from: Option<u32>| *to = from.unwrap_or(*to);
        set(&mut reports.report_version, self.report_version);
        set(&mut reports.guest_svn, self.guest_svn);
        if let Some(measurement) = self.measurement {
            reports.measurement = measurement;
        }
        reports.policy = self.policy.unwrap_or(reports.policy);
        reports.chip_id = self.chip_id;
        let device = SimulatedAmdSp::new(pki, reports);
        let controls = device.controls();
        controls.set_latency(Duration::from_millis(self.latency_ms.unwrap_or(7)));
        controls.set_min_interval(self.min_interval_ms.map(Duration::from_millis));
        device
    }

    fn machine(&self, cloud: Cloud) -> machine::Settings {
        let mut settings = machine::Settings { size: self.size(), ..machine::Settings::new(cloud) };
        let Booted { loader, secure_boot, command_line, version, kernel, initrd, ima } = &self.boot;
        let boot = &mut settings.boot;
        match loader {
            Some(LoaderName::Grub) => boot.loader = Loader::Grub,
            Some(LoaderName::Unified) => boot.loader = Loader::Unified,
            None => {}
        }
        boot.secure_boot = secure_boot.unwrap_or(boot.secure_boot);
        for (text, given) in [
            (&mut boot.command_line, command_line),
            (&mut boot.version, version),
            (&mut boot.kernel, kernel),
            (&mut boot.initrd, initrd),
        ] {
            if let Some(given) = given {
                text.clone_from(given);
            }
        }
        settings.ima = ima.unwrap_or(settings.ima);
        settings
    }

    fn azure(&self) -> azure::Vm {
        let mut vm = azure::Vm::new();
        vm.console = self.azure.console.unwrap_or(vm.console);
        vm.user_data = self.azure.user_data.unwrap_or(vm.user_data);
        vm.regeneration = self.azure.regeneration_ms.map_or(vm.regeneration, Duration::from_millis);
        vm.host_name = self.azure.host_name.clone().unwrap_or(vm.host_name);
        vm
    }

    fn gcp(&self) -> gce::Instance {
        let mut instance = gce::Instance::new();
        let Google { tpm: _, production, project_id, zone, instance_name } = &self.gcp;
        instance.production = production.unwrap_or(instance.production);
        for (text, given) in
            [(&mut instance.project_id, project_id), (&mut instance.zone, zone), (&mut instance.name, instance_name)]
        {
            if let Some(given) = given {
                text.clone_from(given);
            }
        }
        instance
    }
}

/// The real gathering code over an emulated machine, which ends with it.
struct Emulated {
    platform: Box<dyn Platform>,
    /// Another pace than that of the cloud.
    pace: Option<Pace>,
    _machine: Machine,
}

impl Platform for Emulated {
    fn profile(&self) -> Profile {
        self.platform.profile()
    }

    fn describe(&self) -> String {
        format!("{NOTICE}: an emulated machine, {}", self.platform.describe())
    }

    fn simulated(&self) -> bool {
        true
    }

    fn pace(&self) -> Pace {
        self.pace.unwrap_or_else(|| self.platform.pace())
    }

    fn boot(&self) -> Arc<Boot> {
        self.platform.boot()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        self.platform.gather(binder)
    }

    fn activator(&self) -> Option<Activator> {
        self.platform.activator()
    }
}
