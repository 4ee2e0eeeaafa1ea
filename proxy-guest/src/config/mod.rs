//! What this proxy is told to do: flags over the TOML file over the defaults, checked as a whole before a port is bound.
//!
//! ```text
//!  cli::ServeFlags ─┐
//!                   ├─▶ Config ─▶ serve
//!  file (TOML) ─────┘      └────▶ measured_settings: what the statement commits to (docs/protocol.md, "Statement", key 11)
//! ```
//!
//! Files that the configuration names (tokens, a CA) are read here too, so that `check-config` finds what a start would
//! find. Settings, units and defaults are listed in docs/configuration.md.

mod error;
mod file;
mod limits;
mod source;

use std::fmt;
use std::path::PathBuf;

use attester::tpm::Address;
use proxy_core::admin::AdminAddr;
use proxy_core::net::Addr;
use proxy_core::telemetry;
use rustls::RootCertStore;
use serde::Deserialize;

use crate::cli::{DeviceFlags, ServeFlags};
use crate::tokens::Tokens;
pub use error::{ConfigError, Origin, Reason};
pub use limits::Limits;
use source::Source;

pub const DEFAULT_LISTEN: &str = "[::]:8443";
/// AMD's Key Distribution Service (AMD 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification").
pub const DEFAULT_KDS_URL: &str = "https://kdsintf.amd.com";
/// What has to stand in the configuration to send plaintext out of the guest.
pub const OUTSIDE: &str = "plaintext leaves the guest";

/// Everything that `evident-proxy` needs to serve.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Addr,
    pub upstream: Upstream,
    /// The names that this guest claims, in lower case and sorted.
    pub names: Vec<String>,
    pub device: Device,
    pub plain_clients: PlainClients,
    pub access: Access,
    pub forwarded: ForwardedHeaders,
    pub x_forwarded_for: ForwardedFor,
    pub admin: Option<AdminAddr>,
    pub log: Log,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub addr: Addr,
    pub mode: UpstreamMode,
    pub scope: Scope,
}

/// What ordinary HTTPS clients get: their requests parsed and passed on, or their bytes. Tunnels are always bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamMode {
    Http,
    Tcp,
}

/// Where the plaintext goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    InsideGuest,
    /// The statement says so (key 15), and clients refuse it unless their policy says otherwise.
    OutsideGuest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PlainClients {
    Allow,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    Auto,
    Snp,
    Azure,
    Gcp,
    Aws,
    Svsm,
}

/// Who may use the upstream.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody who reaches the port.
    Anyone,
    /// Who shows a token in OPEN.
    Token(Tokens),
    /// Who has a certificate of this CA; ordinary HTTPS clients as well. Costs the half-RTT.
    Certificate(RootCertStore),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardedFor {
    /// Passed on as the client sent it.
    Keep,
    /// The client's address is added at its end.
    Append,
    /// Only the client's address. Follows from `forwarded` where this setting is left out.
    #[serde(skip)]
    Replace,
}

/// What happens to X-Forwarded-* and `Forwarded` in requests of ordinary clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardedHeaders {
    /// Taken away; X-Forwarded-Proto, -Host and -For are set from what we saw.
    Replace,
    /// Passed on as the client sent them; nothing is added.
    Keep,
}

/// The hardware, and where its endorsements come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub platform: Platform,
    /// The VMPL that reports are asked for.
    pub vmpl: u32,
    /// The configfs entry that root has made for us (systemd does); `None`: make one.
    pub configfs_entry: Option<PathBuf>,
    pub tpm: Address,
    /// The firmware's event log.
    pub event_log: PathBuf,
    /// IMA's list; `None`: not sent.
    pub ima_list: Option<PathBuf>,
    pub kds_url: String,
    /// Azure's instance metadata.
    pub metadata_url: String,
    /// Where endorsements survive a restart; `None`: they are fetched anew.
    pub cache_dir: Option<PathBuf>,
    /// Certificates in DER that neither host nor AMD may give, such as a VLEK; untrusted like all others.
    pub certificates: Vec<Vec<u8>>,
    #[cfg(feature = "simulator")]
    pub simulate: Option<Simulate>,
}

/// The software AMD-SP in the device's place: SIMULATED, PROVES NOTHING.
#[cfg(feature = "simulator")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulate {
    /// Where its keys and its root are kept; `None`: a folder of a fixed name in the current one.
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: telemetry::Format,
    pub level: telemetry::Level,
}

impl Config {
    /// Reads the file that the flags name, if they do, and everything that it names.
    pub fn load(flags: &ServeFlags) -> Result<Self, ConfigError> {
        Self::resolve(flags, &Source::read(flags.device.config.as_deref())?)
    }

    fn resolve(flags: &ServeFlags, source: &Source) -> Result<Self, ConfigError> {
        let file = &source.file;
        if flags.client_policy.is_some() {
            return Err(ConfigError::at(Origin::flag("--client-policy"), Reason::ClientPolicy));
        }
        if let Some(given) = &file.clients.policy {
            return Err(ConfigError::at(source.origin("clients.policy", given), Reason::ClientPolicy));
        }
        let access = source.access(flags)?;
        let listen = (flags.listen.clone())
            .or_else(|| file.listen.clone())
            .unwrap_or_else(|| DEFAULT_LISTEN.parse().expect("the default is an address"));
        let forwarded = file.forwarded.unwrap_or(ForwardedHeaders::Replace);
        Ok(Config {
            upstream: source.upstream(flags)?,
            names: source.names()?,
            device: source.device(&flags.device)?,
            plain_clients: source.plain_clients(flags, &access, &listen)?,
            listen,
            access,
            forwarded,
            x_forwarded_for: file.x_forwarded_for.unwrap_or(match forwarded {
                ForwardedHeaders::Replace => ForwardedFor::Replace,
                ForwardedHeaders::Keep => ForwardedFor::Keep,
            }),
            admin: source.admin(flags)?,
            log: source.log(),
            limits: source.limits()?,
        })
    }

    /// Whether people elsewhere may use the server without showing anything. evident-client asks for no permission, so
    /// that ordinary clients are refused changes nothing here.
    pub fn is_open_to_anyone(&self) -> bool {
        matches!(self.access, Access::Anyone) && !self.listen.is_local()
    }

    /// The settings that decide what happens to a client's plaintext, by name in alphabetical order. The statement
    /// commits to their encoding, so a name, once released, keeps its meaning; where we listen and log is not among them.
    pub fn measured_settings(&self) -> Vec<(&'static str, String)> {
        let (token, certificate) = match &self.access {
            Access::Anyone => ("no", "no"),
            Access::Token(_) => ("required", "no"),
            Access::Certificate(_) => ("no", "required"),
        };
        let mut settings = vec![
            ("clients.certificate", certificate.to_owned()),
            ("clients.token", token.to_owned()),
            ("forwarded", self.forwarded.to_string()),
            ("names", self.names.join(",")),
            ("plain_clients", self.plain_clients.to_string()),
            ("upstream", self.upstream.addr.to_string()),
            ("upstream_mode", self.upstream.mode.to_string()),
            ("upstream_scope", self.upstream.scope.to_string()),
            ("vmpl", self.device.vmpl.to_string()),
            ("x_forwarded_for", self.x_forwarded_for.to_string()),
        ];
        settings.sort_unstable_by_key(|(name, _)| *name);
        settings
    }

    /// The settings that the statement does not commit to, for `check-config`.
    pub fn other_settings(&self) -> Vec<(&'static str, String)> {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        let path = |path: &Option<PathBuf>| or_none(path.as_ref().map(|p| p.display().to_string()));
        let mut settings = vec![
            ("admin", or_none(self.admin.as_ref().map(|admin| admin.addr().to_string()))),
            ("device.configfs_entry", path(&self.device.configfs_entry)),
            ("device.event_log", self.device.event_log.display().to_string()),
            ("device.ima_list", path(&self.device.ima_list)),
            ("device.tpm", self.device.tpm.to_string()),
            ("endorsements.cache_dir", path(&self.device.cache_dir)),
            (
                "endorsements.certificates",
                match self.device.certificates.len() {
                    0 => "none".into(),
                    count => format!("{count} in files"),
                },
            ),
            ("endorsements.kds_url", self.device.kds_url.clone()),
            ("endorsements.metadata_url", self.device.metadata_url.clone()),
            ("listen", self.listen.to_string()),
            ("log.format", format!("{:?}", self.log.format).to_lowercase()),
            ("log.level", self.log.level.as_str().to_owned()),
            ("platform", self.device.platform.to_string()),
        ];
        settings.extend(self.limits.settings());
        settings
    }
}

impl Device {
    /// For the subcommand `evidence`, which serves nobody.
    pub fn load(flags: &DeviceFlags) -> Result<Self, ConfigError> {
        Source::read(flags.config.as_deref())?.device(flags)
    }
}

/// The spellings of the configuration file, which are also those of the measured settings.
macro_rules! spelled {
    ($type:ty { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
    };
}
spelled!(UpstreamMode { Http => "http", Tcp => "tcp" });
spelled!(Scope { InsideGuest => "inside the guest", OutsideGuest => "outside the guest" });
spelled!(PlainClients { Allow => "allow", Refuse => "refuse" });
spelled!(ForwardedFor { Keep => "keep", Append => "append", Replace => "replace" });
spelled!(ForwardedHeaders { Replace => "replace", Keep => "keep" });
spelled!(Platform { Auto => "auto", Snp => "snp", Azure => "azure", Gcp => "gcp", Aws => "aws", Svsm => "svsm" });

#[cfg(test)]
mod tests;
