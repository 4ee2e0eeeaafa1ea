//! A whole machine of one cloud: vTPM, logs, instance metadata, report hardware, each where the guest's own code looks for it.
//!
//! ```text
//!   dir/            roots and keys, shared by all machines of a test
//!   dir/vm-PID-N/   one machine, gone with it:
//!     tpm, tpm.ctrl   the front of its TPM (TCTI `swtpm:path=…`)       event-log, ima-log   as securityfs has them
//!     tsm/report      configfs-tsm (FUSE)                              dmi                  as /sys/class/dmi/id
//! ```
//!
//! A machine is another one each time it starts: its TPM is new, so are its EK and AK, and their certificates. What it booted is
//! measured before the guest's code can ask.

use crate::NOTICE;
use crate::amd_sp::{Config, SimulatedAmdSp, Vek};
use crate::boot;
use crate::cloud::{SharedSp, aws, azure, gce, http, svsm};
use crate::configfs::TsmLookAlike;
use crate::pki::RsaSize;
use crate::store::StoreError;
use crate::tpm::command::{ENDORSEMENT, TpmError};
use crate::tpm::front::{Front, Passed, Stand};
use crate::tpm::objects::{self, template};
use crate::tpm::swtpm::{Swtpm, SwtpmError};
use ratls::crypto;
use ratls::evidence::snp::{FamilyId, ImageId, KeyDigest};
use ratls::tcb::Product;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose machine it is.
#[derive(Clone, Debug)]
pub enum Cloud {
    Azure(azure::Vm),
    Gce(gce::Instance),
    /// With NitroTPM.
    Aws,
    Svsm,
}

impl Cloud {
    /// Whose firmware measures.
    pub fn firmware(&self) -> boot::Firmware {
        match self {
            Cloud::Azure(_) => boot::Firmware::Azure,
            Cloud::Gce(_) => boot::Firmware::Gce,
            Cloud::Aws => boot::Firmware::Aws,
            Cloud::Svsm => boot::Firmware::Svsm,
        }
    }

    /// What reports of a sane guest of this cloud say.
    pub fn reports(&self, product: Product) -> Config {
        let mut config = Config::new(product);
        match self {
            // As in reports of 2023 to 2026, but for the digests.
            Cloud::Azure(_) => {
                config.policy = 0x3_001F;
                config.guest_svn = 12;
                config.family_id = FamilyId::from_bytes(first_byte(1));
                config.image_id = ImageId::from_bytes(first_byte(2));
                let signer = crypto::sha384(&[b"simulated id key of the HCL"]);
                config.id_key_digest = KeyDigest::from_bytes(*signer.as_bytes());
            }
            Cloud::Aws => config.vek = Vek::Vlek { csp: "CN=cc-eu-west-1.amazonaws.com".to_owned() },
            Cloud::Svsm => config.vmpl = svsm::GUEST_VMPL,
            Cloud::Gce(_) => {}
        }
        config
    }
}

fn first_byte(byte: u8) -> [u8; 16] {
    let mut id = [0; 16];
    if let Some(first) = id.first_mut() {
        *first = byte;
    }
    id
}

/// What a machine is beside its cloud.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cloud: Cloud,
    pub boot: boot::Guest,
    /// Whether the kernel keeps an IMA list.
    pub ima: bool,
    pub size: RsaSize,
}

impl Settings {
    pub fn new(cloud: Cloud) -> Self {
        let boot = boot::Guest::new(cloud.firmware());
        Settings { cloud, boot, ima: true, size: RsaSize::Bits4096 }
    }
}

/// Where the parts of a machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// For tpm2-tss.
    pub tcti: String,
    /// In the place of `/sys/kernel/config/tsm/report`; Azure has none.
    pub configfs: Option<PathBuf>,
    /// In the place of `/sys/class/dmi/id`.
    pub dmi: PathBuf,
    pub event_log: PathBuf,
    pub ima_log: Option<PathBuf>,
    /// In the place of `http://169.254.169.254`.
    pub metadata: String,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{NOTICE}: {0}")]
    Swtpm(#[from] SwtpmError),
    #[error("{NOTICE}: {0}")]
    Tpm(#[from] TpmError),
    #[error("{NOTICE}: cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{NOTICE}: the path {} is too long for a unix socket; choose a shorter directory", path.display())]
    TooLong { path: PathBuf },
}

/// Longest path of a unix socket (sun_path, with its terminator).
const MAX_SOCKET_PATH: usize = 107;
/// Files that a kernel with `ima_policy=tcb` measures first: path and content.
pub const OPENED: [(&str, &[u8]); 3] = [
    ("/usr/lib/systemd/systemd", b"simulated init"),
    ("/usr/bin/bash", b"simulated shell"),
    ("/usr/bin/evident-proxy", b"simulated proxy"),
];

/// A machine that runs until it is dropped.
pub struct Machine {
    places: Places,
    sp: SharedSp,
    front: Front,
    tsm: Option<TsmLookAlike>,
    _metadata: http::Server,
    _dir: VmDir,
}

impl Machine {
    /// Starts one whose authorities live in `dir` and whose reports come from `sp`.
    pub fn start(dir: &Path, settings: Settings, sp: SimulatedAmdSp) -> Result<Machine, MachineError> {
        let vm = VmDir::create(dir)?;
        let pki = Arc::clone(sp.pki());
        let endorsed = sp.config().measurement;
        let sp = SharedSp::new(sp);
        let place = |name: &str| vm.path.join(name);
        let socket = place("tpm");
        if socket.as_os_str().len() + ".ctrl".len() > MAX_SOCKET_PATH {
            return Err(MachineError::TooLong { path: socket });
        }
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| MachineError::Io { action, path, source }
        };

        let mut tpm = Swtpm::start(&place("state"), &place("swtpm"))?;
        let log = settings.boot.log();
        log.extend_into(&mut tpm)?;
        let event_log = place("event-log");
        fs::write(&event_log, log.to_bytes()).map_err(io("write", &event_log))?;
        let ima_log = settings.ima.then(|| place("ima-log"));
        if let Some(path) = &ima_log {
            let list = boot::ima::measure(&mut tpm, &log.banks, &OPENED)?;
            fs::write(path, list).map_err(io("write", path))?;
        }

        let reserved = http::Reserved::new().map_err(io("open", Path::new("a loopback port")))?;
        let base_url = reserved.base_url().map_err(io("open", Path::new("a loopback port")))?;
        let mut pages = HashMap::new();
        let mut further = Vec::new();
        let mut stand: Box<dyn Stand> = Box::new(Passed);
        let mut ek = Vec::new();
        match &settings.cloud {
            Cloud::Azure(azure) => {
                let authorities = azure::Authorities::load_or_create(dir, &pki, settings.size)?;
                let azure = azure::Vm { secure_boot: settings.boot.secure_boot, ..azure.clone() };
                let paravisor = azure::provision(&mut tpm, sp.clone(), &authorities, azure, &base_url)?;
                stand = Box::new(paravisor);
                pages.extend(authorities.pages(&base_url));
                pages.insert(azure::IMDS_PATH.to_owned(), azure::imds(&sp));
            }
            Cloud::Gce(instance) => {
                let authorities = gce::Authorities::load_or_create(dir, &pki, settings.size)?;
                gce::provision(&mut tpm, &authorities, instance, &base_url)?;
                pages.extend(authorities.pages());
                let firmware = gce::Firmware::of(endorsed);
                further.push((gce::ENDORSEMENT_GUID, authorities.endorsement(&firmware)));
            }
            Cloud::Aws => stand = Box::new(aws::NitroTpm::new(aws::Authorities::load_or_create(dir, &pki)?)),
            Cloud::Svsm => {
                let key = objects::create_primary(&mut tpm, ENDORSEMENT, &template::rsa_ek())?;
                objects::flush(&mut tpm, key.handle)?;
                ek = key.public;
            }
        }
        let metadata = reserved.serve(pages).map_err(io("open", Path::new("a loopback port")))?;

        let tsm_dir = place("tsm");
        let hardware = match settings.cloud {
            Cloud::Azure(_) => None,
            Cloud::Svsm => Some(svsm::hardware(sp.clone(), ek)),
            Cloud::Gce(_) | Cloud::Aws => Some(svsm::plain_hardware(sp.clone(), further)),
        };
        let tsm = hardware.map(|hardware| TsmLookAlike::mount(&tsm_dir, false, hardware)).transpose().map_err(io(
            "mount the look-alike of configfs-tsm (FUSE; as root, or with the package fuse3) at",
            &tsm_dir,
        ))?;
        if let (Some(tsm), Cloud::Svsm) = (&tsm, &settings.cloud) {
            let mut state = tsm.knobs();
            (state.svsm, state.floor) = (true, svsm::GUEST_VMPL);
        }

        let dmi = place("dmi");
        write_dmi(&dmi, &settings.cloud).map_err(io("write", &dmi))?;
        let front = Front::listen(&socket, tpm, stand).map_err(io("listen at", &socket))?;
        let places = Places {
            tcti: front.tcti(),
            configfs: tsm.as_ref().map(|tsm| tsm.root().to_owned()),
            dmi,
            event_log,
            ima_log,
            metadata: metadata.base_url(),
        };
        Ok(Machine { places, sp, front, tsm, _metadata: metadata, _dir: vm })
    }

    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The AMD-SP, for somebody who changes how it answers.
    pub fn sp(&self) -> &SharedSp {
        &self.sp
    }

    /// The TPM, past what stands before it.
    pub fn tpm(&self) -> &Front {
        &self.front
    }

    /// The look-alike of configfs-tsm, where the cloud has one.
    pub fn configfs(&self) -> Option<&TsmLookAlike> {
        self.tsm.as_ref()
    }
}

/// What firmware says of itself.
fn write_dmi(dir: &Path, cloud: &Cloud) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let (file, text) = match cloud {
        Cloud::Azure(_) => ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
        Cloud::Gce(_) => ("product_name", "Google Compute Engine"),
        Cloud::Aws => ("sys_vendor", "Amazon EC2"),
        Cloud::Svsm => ("sys_vendor", "QEMU"),
    };
    fs::write(dir.join(file), format!("{text}\n"))
}

/// The directory of one machine, removed with it, and by somebody else where this process ends without having done so.
struct VmDir {
    path: PathBuf,
    /// Its end is what the other process waits for.
    _alive: Option<ChildStdin>,
}

/// Waits until we are gone, however that came about, then unmounts and removes what is left. In the background of a shell that ends
/// at once, so that it is nobody's child.
const AFTER_US: &str = "exec 3<&0; (cat <&3; umount -l \"$1\" || fusermount3 -uz \"$1\"; rm -rf -- \"$2\") &";

impl VmDir {
    fn create(dir: &Path) -> Result<Self, MachineError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!("vm-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = dir.join(name);
        if let Err(source) = fs::create_dir_all(&path) {
            return Err(MachineError::Io { action: "create", path, source });
        }
        let after_us = Command::new("sh")
            .args(["-c", AFTER_US, "sh"])
            .args([path.join("tsm/report"), path.clone()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Without it a killed process leaves a directory behind, and nothing else is wrong.
        let alive = after_us.ok().and_then(|mut shell| {
            let stdin = shell.stdin.take();
            let _ = shell.wait();
            stdin
        });
        Ok(VmDir { path, _alive: alive })
    }
}

impl Drop for VmDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
