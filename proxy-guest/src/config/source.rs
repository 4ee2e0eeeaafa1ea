//! The configuration file as read, and each setting taken from it, from the flags, or from the defaults.

use std::path::{Path, PathBuf};

use attester::detect::DEFAULT_TPM;
use attester::endorse::MAX_FILES;
use attester::imds;
use attester::logs::EVENT_LOG;
use attester::tpm::Address;
use proxy_core::admin::AdminAddr;
use proxy_core::net::{Addr, Host};
use proxy_core::telemetry;
use ratls::wire::limits::MAX_NAMES;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[cfg(feature = "simulator")]
use super::Simulate;
use super::error::{ConfigError, Origin, Reason};
use super::file::{File, Given};
use super::{
    Access, DEFAULT_KDS_URL, Device, Limits, Log, OUTSIDE, PlainClients, Platform, Scope, Upstream, UpstreamMode,
};
use crate::cli::{DeviceFlags, ServeFlags};
use crate::tokens::Tokens;

/// The configuration file as read: what it says, and enough to say where it says it.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    pub(super) file: File,
}

impl Source {
    pub(super) fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Source { path: PathBuf::new(), text: String::new(), file: File::default() });
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, text)
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let file = toml::from_str(&text).map_err(|e| ConfigError::of_toml(path, &text, &e))?;
        Ok(Source { path: path.to_owned(), text, file })
    }

    pub(super) fn origin<T>(&self, key: &'static str, given: &Given<T>) -> Origin {
        Origin::in_file(&self.path, &self.text, given.span().start, key)
    }

    /// A path in the file is relative to the file.
    fn path_of(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn upstream(&self, flags: &ServeFlags) -> Result<Upstream, ConfigError> {
        let (addr, origin) = match (&flags.upstream, &self.file.upstream) {
            (Some(addr), _) => (addr.clone(), Origin::flag("--upstream")),
            (None, Some(given)) => (given.get_ref().clone(), self.origin("upstream", given)),
            (None, None) => return Err(ConfigError::NoUpstream),
        };
        let permitted = match &self.file.upstream_outside_guest {
            None => false,
            Some(given) if given.get_ref() == OUTSIDE => true,
            Some(given) => {
                let seen = given.get_ref().clone();
                return Err(ConfigError::at(
                    self.origin("upstream_outside_guest", given),
                    Reason::OutsidePhrase { seen },
                ));
            }
        };
        let scope = match (addr.is_local(), permitted) {
            (true, _) => Scope::InsideGuest,
            (false, true) => Scope::OutsideGuest,
            (false, false) => return Err(ConfigError::at(origin, Reason::UpstreamOutside { addr })),
        };
        Ok(Upstream { addr, mode: self.file.upstream_mode.unwrap_or(UpstreamMode::Http), scope })
    }

    pub(super) fn names(&self) -> Result<Vec<String>, ConfigError> {
        let Some(given) = &self.file.names else { return Ok(vec![]) };
        let error = |reason| ConfigError::at(self.origin("names", given), reason);
        if given.get_ref().len() > MAX_NAMES {
            return Err(error(Reason::TooManyNames { seen: given.get_ref().len() }));
        }
        let mut names = vec![];
        for text in given.get_ref() {
            match text.parse() {
                Ok(Host::Name(name)) if !names.contains(&name) => names.push(name),
                Ok(Host::Name(_)) => return Err(error(Reason::NameTwice { seen: text.clone() })),
                Ok(Host::Ip(_)) | Err(()) => return Err(error(Reason::Name { seen: text.clone() })),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn device(&self, flags: &DeviceFlags) -> Result<Device, ConfigError> {
        let file = &self.file;
        let vmpl = match &file.vmpl {
            None => 0,
            Some(given) if *given.get_ref() <= attester::configfs::MAX_VMPL => *given.get_ref(),
            Some(given) => {
                return Err(ConfigError::at(self.origin("vmpl", given), Reason::Vmpl { seen: *given.get_ref() }));
            }
        };
        let tpm = match &file.device.tpm {
            None => Address::Device(DEFAULT_TPM.into()),
            Some(given) => (given.get_ref().parse())
                .map_err(|error| ConfigError::at(self.origin("device.tpm", given), Reason::Tpm(error)))?,
        };
        let kds_url = self.url("endorsements.kds_url", file.endorsements.kds_url.as_ref(), DEFAULT_KDS_URL)?;
        let metadata_url =
            self.url("endorsements.metadata_url", file.endorsements.metadata_url.as_ref(), imds::AZURE)?;
        Ok(Device {
            platform: flags.platform.or(file.platform).unwrap_or(Platform::Auto),
            vmpl,
            configfs_entry: file.device.configfs_entry.as_deref().map(|path| self.path_of(path)),
            tpm,
            event_log: file.device.event_log.as_deref().map_or_else(|| EVENT_LOG.into(), |path| self.path_of(path)),
            ima_list: file.device.ima_list.as_deref().map(|path| self.path_of(path)),
            kds_url,
            metadata_url,
            cache_dir: file.endorsements.cache_dir.as_deref().map(|path| self.path_of(path)),
            certificates: self.certificates()?,
            #[cfg(feature = "simulator")]
            simulate: flags.simulate.clone().map(|dir| Simulate { dir }),
        })
    }

    fn url(&self, key: &'static str, given: Option<&Given<String>>, default: &str) -> Result<String, ConfigError> {
        let Some(given) = given else { return Ok(default.to_owned()) };
        let url = given.get_ref();
        let usable = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
        });
        if !usable {
            return Err(ConfigError::at(self.origin(key, given), Reason::Url { seen: url.clone() }));
        }
        Ok(url.trim_end_matches('/').to_owned())
    }

    fn certificates(&self) -> Result<Vec<Vec<u8>>, ConfigError> {
        let Some(given) = &self.file.endorsements.certificates else { return Ok(vec![]) };
        let error = |reason| ConfigError::at(self.origin("endorsements.certificates", given), reason);
        let mut certificates = vec![];
        for path in given.get_ref() {
            let path = self.path_of(path);
            let unusable = |why: String| error(Reason::Certificate { path: path.clone(), why });
            let bytes = std::fs::read(&path).map_err(|e| unusable(e.to_string()))?;
            certificates.extend(ratls::endorsement::pem::certificates(&bytes).map_err(|e| unusable(e.to_string()))?);
        }
        if certificates.len() > MAX_FILES {
            return Err(error(Reason::TooManyCertificates { seen: certificates.len() }));
        }
        Ok(certificates)
    }

    pub(super) fn access(&self, flags: &ServeFlags) -> Result<Access, ConfigError> {
        let tokens_file = match (&flags.tokens, &self.file.clients.tokens_file) {
            (Some(path), _) => Some((path.clone(), Origin::flag("--tokens"))),
            (None, Some(given)) => Some((self.path_of(given.get_ref()), self.origin("clients.tokens_file", given))),
            (None, None) => None,
        };
        match (tokens_file, &self.file.clients.ca_file) {
            (None, None) => Ok(Access::Anyone),
            (Some(_), Some(given)) => {
                Err(ConfigError::at(self.origin("clients.ca_file", given), Reason::TwoKindsOfAccess))
            }
            (Some((path, origin)), None) => {
                let tokens = Tokens::load(&path).map_err(|e| ConfigError::at(origin, Reason::Tokens(e)))?;
                Ok(Access::Token(tokens))
            }
            (None, Some(given)) => {
                let path = self.path_of(given.get_ref());
                let roots = read_roots(&path).map_err(|why| {
                    ConfigError::at(self.origin("clients.ca_file", given), Reason::Ca { path: path.clone(), why })
                })?;
                Ok(Access::Certificate(roots))
            }
        }
    }

    /// Nobody publishes a server by leaving a key out: unless told, ordinary HTTPS clients are served only from this
    /// machine, or where they show a certificate. They cannot show a token.
    pub(super) fn plain_clients(
        &self,
        flags: &ServeFlags,
        access: &Access,
        listen: &Addr,
    ) -> Result<PlainClients, ConfigError> {
        let (value, origin) = match (flags.plain_clients, &self.file.plain_clients) {
            (Some(value), _) => (Some(value), Origin::flag("--plain-clients")),
            (None, Some(given)) => (Some(*given.get_ref()), self.origin("plain_clients", given)),
            (None, None) => (None, Origin::Default),
        };
        match (value, access) {
            (Some(PlainClients::Allow), Access::Token(_)) => Err(ConfigError::at(origin, Reason::PlainBesideTokens)),
            (Some(value), _) => Ok(value),
            (None, Access::Certificate(_)) => Ok(PlainClients::Allow),
            (None, Access::Anyone) if listen.is_local() => Ok(PlainClients::Allow),
            (None, Access::Anyone | Access::Token(_)) => Ok(PlainClients::Refuse),
        }
    }

    pub(super) fn admin(&self, flags: &ServeFlags) -> Result<Option<AdminAddr>, ConfigError> {
        let (addr, origin) = match (&flags.admin, &self.file.admin) {
            (Some(addr), _) => (addr.clone(), Origin::flag("--admin")),
            (None, Some(given)) => (given.get_ref().clone(), self.origin("admin", given)),
            (None, None) => match &self.file.admin_outside_host {
                None => return Ok(None),
                Some(given) => {
                    return Err(ConfigError::at(self.origin("admin_outside_host", given), Reason::NoAdmin));
                }
            },
        };
        AdminAddr::new(addr, self.file.admin_outside_host.as_ref().map(|given| given.get_ref().as_str()))
            .map(Some)
            .map_err(|e| ConfigError::at(origin, Reason::Admin(e)))
    }

    pub(super) fn log(&self) -> Log {
        Log {
            format: self.file.log.format.unwrap_or(telemetry::Format::Text),
            level: self.file.log.level.clone().unwrap_or_else(telemetry::Level::info),
        }
    }

    pub(super) fn limits(&self) -> Result<Limits, ConfigError> {
        let Some(given) = &self.file.limits else { return Ok(Limits::default()) };
        let limits = given.get_ref().clone();
        limits.check().map_err(|reason| ConfigError::at(self.origin("limits", given), reason))?;
        Ok(limits)
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate in it".into()) } else { Ok(roots) }
}
