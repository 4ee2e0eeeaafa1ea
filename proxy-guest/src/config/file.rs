//! The TOML file as it is written; what its keys mean together is decided in the parent module.

use std::path::PathBuf;

use proxy_core::net::Addr;
use proxy_core::telemetry::{Format, Level};
use serde::Deserialize;

use super::{ForwardedFor, ForwardedHeaders, Limits, PlainClients, Platform, UpstreamMode};

/// A value that an error may have to point at.
pub(super) type Given<T> = toml::Spanned<T>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<Addr>,
    pub(super) upstream: Option<Given<Addr>>,
    pub(super) upstream_outside_guest: Option<Given<String>>,
    pub(super) upstream_mode: Option<UpstreamMode>,
    pub(super) names: Option<Given<Vec<String>>>,
    pub(super) platform: Option<Platform>,
    pub(super) vmpl: Option<Given<u32>>,
    pub(super) plain_clients: Option<Given<PlainClients>>,
    pub(super) forwarded: Option<ForwardedHeaders>,
    pub(super) x_forwarded_for: Option<ForwardedFor>,
    pub(super) admin: Option<Given<Addr>>,
    pub(super) admin_outside_host: Option<Given<String>>,
    pub(super) device: DeviceTable,
    pub(super) endorsements: EndorsementsTable,
    pub(super) clients: ClientsTable,
    pub(super) log: LogTable,
    pub(super) limits: Option<Given<Limits>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeviceTable {
    pub(super) configfs_entry: Option<PathBuf>,
    pub(super) tpm: Option<Given<String>>,
    pub(super) event_log: Option<PathBuf>,
    pub(super) ima_list: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EndorsementsTable {
    pub(super) kds_url: Option<Given<String>>,
    pub(super) metadata_url: Option<Given<String>>,
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) certificates: Option<Given<Vec<PathBuf>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientsTable {
    pub(super) tokens_file: Option<Given<PathBuf>>,
    pub(super) ca_file: Option<Given<PathBuf>>,
    pub(super) policy: Option<Given<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTable {
    pub(super) format: Option<Format>,
    pub(super) level: Option<Level>,
}
