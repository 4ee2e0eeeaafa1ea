//! The software AMD-SP in the device's place: SIMULATED, PROVES NOTHING. Only in builds with the feature `simulator`.
//!
//! Its keys and its root live in a directory. A file `simulator.toml` in it changes what the simulated guest is, so that a
//! demonstration or a test can show a guest that a policy refuses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ratls::evidence::snp::{ChipId, Measurement};
use ratls::tcb::Product;
use serde::Deserialize;
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

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
    /// How long a report takes.
    latency_ms: Option<u64>,
    /// The throttle: a report asked for sooner is answered BUSY.
    min_interval_ms: Option<u64>,
    /// RSA-2048 roots, for tests that make many.
    small_keys: Option<bool>,
}

/// The device in `dir`, and the PEM of the root that a policy must name.
pub fn open(dir: &Path) -> Result<SimulatedAmdSp> {
    let file = dir.join(SETTINGS_FILE);
    let settings: Settings = match std::fs::read_to_string(&file) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{}", file.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let product = settings.product.unwrap_or(Product::Milan);
    let size = if settings.small_keys == Some(true) { RsaSize::Bits2048 } else { RsaSize::Bits4096 };
    let pki = Arc::new(Pki::load_or_create(dir, product, size)?);
    let mut config = Config::new(product);
    if let Some(version) = settings.report_version {
        config.report_version = version;
    }
    if let Some(measurement) = settings.measurement {
        config.measurement = measurement;
    }
    if let Some(policy) = settings.policy {
        config.policy = policy;
    }
    config.chip_id = settings.chip_id;
    let device = SimulatedAmdSp::new(&pki, config);
    let controls = device.controls();
    controls.set_latency(Duration::from_millis(settings.latency_ms.unwrap_or(7)));
    controls.set_min_interval(settings.min_interval_ms.map(Duration::from_millis));
    Ok(device)
}
