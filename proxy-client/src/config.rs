//! What evident-client is told to do: flags and the TOML file, read once, before a port is bound or a guest contacted.
//!
//! Unknown keys, empty lists, and values without a unit are errors that name file, line and key. There is no default guest
//! and no default policy: a guest without a policy is an error. Every setting, its unit and its default are in
//! `docs/configuration.md`. Paths in the file are relative to the file's folder, paths in flags to the current one.

mod document;

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy_core::admin::{AdminAddr, AdminError};
use proxy_core::duration::{Period, Timeout};
use proxy_core::net::Addr;
use proxy_core::telemetry::{Format, Level};
use toml::Spanned;

use self::document::{Document, GuestTable, HeadBytes, Source};
use crate::audit::{Bounds, Sync};
use crate::cli::RunArgs;
use crate::front::http::Deadlines;
use crate::pool::PoolLimits;
use crate::router::{Router, RouterError};
use crate::tools::policy::{self, LoadError, LoadedPolicy};

/// Addresses of one guest; each is tried.
const MAX_ADDRESSES: usize = 16;
/// 128 bits in base64; a shorter token can be guessed.
const MIN_TOKEN_CHARS: usize = 22;
/// protocol: the longest access token in OPEN.
const MAX_TOKEN_BYTES: usize = ratls::wire::limits::MAX_TOKEN;

/// Everything that a run needs. Policies are read; keys and certificates for mutual TLS are paths.
#[derive(Debug)]
pub struct Config {
    /// At least one.
    pub guests: Vec<Guest>,
    /// Names to positions in `guests`.
    pub router: Router,
    pub http_proxy: Option<Addr>,
    pub socks5: Option<Addr>,
    pub admin: Option<AdminAddr>,
    /// Whether absolute-form responses get `Evident-Verdict` and `Evident-Level`.
    pub add_verdict_headers: bool,
    /// Where verdicts are written down, and how much of it is kept.
    pub audit: Option<(PathBuf, Bounds)>,
    pub limits: Limits,
    pub log_format: Format,
    pub log_level: Level,
}

/// One guest entry.
#[derive(Debug)]
pub struct Guest {
    /// What logs call it: its first name, else its first address.
    pub label: String,
    /// What applications may ask for; empty only where nothing routes by name to it.
    pub names: Vec<String>,
    /// At least one; tried in order.
    pub addresses: Vec<Addr>,
    /// Sent as SNI; routing only, it proves nothing.
    pub server_name: Option<String>,
    pub policy: LoadedPolicy,
    /// The port map of this guest.
    pub listen: Option<Addr>,
    pub token: Option<Token>,
    pub client_certificate: Option<ClientCertificate>,
}

/// An access token. Sent only after a positive verdict; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Files for mutual TLS, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

/// Deadlines and bounds; `docs/configuration.md` says what each is for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connect: Duration,
    pub handshake: Duration,
    pub attest: Duration,
    pub request: Duration,
    pub keep_alive: Duration,
    /// None where it is off.
    pub idle: Option<Duration>,
    pub lifetime: Duration,
    pub connections: usize,
    pub connections_per_source: usize,
    pub head_bytes: usize,
    pub drain: Duration,
    pub pool: PoolLimits,
}

impl Limits {
    /// What the HTTP proxy needs of them.
    pub fn http(&self) -> Deadlines {
        Deadlines {
            request_head: self.request,
            keep_alive: self.keep_alive,
            idle: self.idle,
            lifetime: Some(self.lifetime),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{origin}: cannot read {}", file.display())]
    Read { origin: String, file: PathBuf, source: std::io::Error },
    #[error("{origin}: {} has more than {max} bytes", file.display())]
    TooLarge { origin: String, file: PathBuf, max: usize },
    #[error("{}:{line}: {key}: {problem}", file.display())]
    Document { file: PathBuf, line: usize, key: String, problem: String },
    #[error("no guest is given; use --guest HOST:PORT --policy FILE, or [[guest]] in the file of --config")]
    NoGuest,
    #[error("--guest without --policy; there is no default policy, because there is none that is safe")]
    NoPolicy,
    #[error("--policy goes with --guest; for the guests of a file, write policy into each [[guest]]")]
    PolicyWithoutGuest,
    #[error("--guest beside [[guest]] in {}: use one of them", file.display())]
    GuestTwice { file: PathBuf },
    #[error("--listen maps a port to one guest, and there are {guests}; write listen into the [[guest]] that is meant")]
    ListenAmbiguous { guests: usize },
    #[error("no way in; use --listen, --http-proxy or --socks5")]
    NoWayIn,
    #[error(
        "{guest} without names, and --http-proxy and --socks5 route by name; list them under names in the policy or the [[guest]]"
    )]
    NoNames { guest: String },
    #[error("{addr} is listened on twice, by {first} and by {second}")]
    SameAddress { addr: Addr, first: String, second: String },
    #[error(transparent)]
    Names(#[from] RouterError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("{origin}: {source}")]
    Policy { origin: String, source: Box<LoadError> },
    #[error("{origin}: {}: the token {problem}", file.display())]
    Token { origin: String, file: PathBuf, problem: &'static str },
    #[error("guest.{key}: {} cannot be used: {problem}", file.display())]
    Identity { key: &'static str, file: PathBuf, problem: String },
}

impl ConfigError {
    /// What to do next, where the error itself does not say it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            ConfigError::Read { .. } => Some("Check the name and the permissions of the file."),
            ConfigError::Policy { source, .. } => Some(source.next_step()),
            ConfigError::Token { .. } => Some("Write the guest's access token into it, one line of at most 256 bytes."),
            ConfigError::Identity { .. } => {
                Some("client_certificate and client_key name PEM files of this user, a certificate and its key.")
            }
            _ => None,
        }
    }
}

impl Config {
    /// Flags override the file that they may name.
    pub fn load(args: &RunArgs) -> Result<Config, ConfigError> {
        match &args.config {
            None => Config::resolve(args, Document::empty(), None),
            Some(file) => {
                let source = Source::read(file)?;
                Config::resolve(args, source.parse()?, Some(&source))
            }
        }
    }

    fn resolve(args: &RunArgs, document: Document, source: Option<&Source>) -> Result<Config, ConfigError> {
        let mut guests = match (&args.guest, source, document.guest.is_empty()) {
            (Some(_), Some(source), false) => return Err(ConfigError::GuestTwice { file: source.file().to_owned() }),
            (Some(address), _, true) | (Some(address), None, false) => vec![Guest::from_flags(address, args)?],
            (None, _, _) if args.policy.is_some() => return Err(ConfigError::PolicyWithoutGuest),
            (None, _, true) | (None, None, false) => return Err(ConfigError::NoGuest),
            (None, Some(source), false) => {
                document.guest.iter().map(|table| Guest::from_table(table, source)).collect::<Result<Vec<_>, _>>()?
            }
        };
        if let Some(listen) = args.listen.clone().or(document.listen) {
            let count = guests.len();
            match guests.as_mut_slice() {
                [only] => only.listen = Some(listen),
                _ => return Err(ConfigError::ListenAmbiguous { guests: count }),
            }
        }
        let outside = document.admin_outside_host.as_deref();
        let admin = args.admin.clone().or(document.admin).map(|addr| AdminAddr::new(addr, outside)).transpose()?;
        let config = Config {
            router: Router::new(guests.iter().map(|guest| &guest.names))?,
            guests,
            http_proxy: args.http_proxy.clone().or(document.http_proxy),
            socks5: args.socks5.clone().or(document.socks5),
            admin,
            add_verdict_headers: document.add_verdict_headers,
            audit: document.audit.map(|table| {
                let folder = source.map_or_else(|| table.folder.clone(), |source| source.folder().join(&table.folder));
                (folder, table.into())
            }),
            limits: document.limits.into(),
            log_format: args.log_format.map(Format::from).or(document.log.format).unwrap_or(Format::Text),
            log_level: document.log.level.unwrap_or_else(Level::info),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let by_name = self.http_proxy.is_some() || self.socks5.is_some();
        if !by_name && self.guests.iter().all(|guest| guest.listen.is_none()) {
            return Err(ConfigError::NoWayIn);
        }
        if by_name
            && let Some(guest) = self.guests.iter().find(|guest| guest.names.is_empty() && guest.listen.is_none())
        {
            return Err(ConfigError::NoNames { guest: guest.label.clone() });
        }
        if by_name && self.guests.iter().all(|guest| guest.names.is_empty()) {
            return Err(ConfigError::NoNames { guest: "every guest is".to_owned() });
        }
        let listening = self.listening();
        for (position, (addr, second)) in listening.iter().enumerate() {
            // Port 0 is another port every time.
            let is_any = matches!(addr, Addr::Tcp(tcp) if tcp.port() == 0);
            if let Some((_, first)) = listening[..position].iter().find(|(other, _)| !is_any && other == addr) {
                return Err(ConfigError::SameAddress {
                    addr: (*addr).clone(),
                    first: first.clone(),
                    second: second.clone(),
                });
            }
        }
        Ok(())
    }

    fn listening(&self) -> Vec<(&Addr, String)> {
        let maps = self.guests.iter().filter_map(|g| g.listen.as_ref().map(|a| (a, format!("listen of {}", g.label))));
        let rest = [
            (self.http_proxy.as_ref(), "http_proxy"),
            (self.socks5.as_ref(), "socks5"),
            (self.admin.as_ref().map(AdminAddr::addr), "admin"),
        ];
        maps.chain(rest.into_iter().filter_map(|(addr, what)| addr.map(|a| (a, what.to_owned())))).collect()
    }

    /// What an operator should know and nothing forbids; logged at start.
    pub fn cautions(&self) -> Vec<String> {
        let placeholders = self.guests.iter().flat_map(|guest| {
            let policy = &guest.policy.policy;
            policy.placeholder_cautions().into_iter().map(|caution| format!("{}: {caution}", policy.file()))
        });
        let exposed = self
            .listening()
            .into_iter()
            .filter(|(addr, what)| !addr.is_local() && what != "admin")
            .map(|(addr, what)| {
                format!("{what} on {addr} can be reached by other machines: they use the guests as you do, in plain text up to here")
            });
        placeholders.chain(exposed).collect()
    }
}

impl Guest {
    fn from_flags(address: &Addr, args: &RunArgs) -> Result<Guest, ConfigError> {
        let refused = |source| ConfigError::Policy { origin: "--policy".to_owned(), source: Box::new(source) };
        let policy = policy::load(args.policy.as_ref().ok_or(ConfigError::NoPolicy)?).map_err(refused)?;
        let names = policy.policy.names().to_vec();
        Ok(Guest {
            label: address.to_string(),
            names,
            addresses: vec![address.clone()],
            server_name: None,
            policy,
            listen: None,
            token: args.token_file.as_deref().map(|file| read_token(file, "--token-file")).transpose()?,
            client_certificate: None,
        })
    }

    fn from_table(table: &GuestTable, source: &Source) -> Result<Guest, ConfigError> {
        let path = |relative: &Path| source.folder().join(relative);
        let source_of = |file: &Spanned<PathBuf>, key| source.origin(file.span(), key);
        let addresses = table.addresses.as_ref();
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            let problem = format!("{} addresses; wanted 1 to {MAX_ADDRESSES}", addresses.len());
            return Err(source.error(table.addresses.span(), "guest.addresses", problem));
        }
        if let Some(addr) = addresses.iter().find(|addr| matches!(addr, Addr::Tcp(tcp) if tcp.port() == 0)) {
            return Err(source.error(table.addresses.span(), "guest.addresses", format!("{addr} has port 0")));
        }
        let refused =
            |source| ConfigError::Policy { origin: source_of(&table.policy, "guest.policy"), source: Box::new(source) };
        let policy = policy::load(&path(table.policy.as_ref())).map_err(refused)?;
        let names = match &table.names {
            None => policy.policy.names().to_vec(),
            Some(names) if names.as_ref().is_empty() => {
                let problem = "an empty list; leave the key out to use the names of the policy".to_owned();
                return Err(source.error(names.span(), "guest.names", problem));
            }
            Some(names) => names.as_ref().clone(),
        };
        let client_certificate = match (&table.client_certificate, &table.client_key) {
            (None, None) => None,
            (Some(certificates), Some(key)) => {
                Some(ClientCertificate { certificates: path(certificates.as_ref()), key: path(key.as_ref()) })
            }
            (Some(lonely), None) | (None, Some(lonely)) => {
                let problem = "client_certificate and client_key go together".to_owned();
                return Err(source.error(lonely.span(), "guest.client_certificate", problem));
            }
        };
        Ok(Guest {
            label: names.first().cloned().or_else(|| addresses.first().map(Addr::to_string)).unwrap_or_default(),
            names,
            addresses: addresses.clone(),
            server_name: table.server_name.clone(),
            policy,
            listen: table.listen.clone(),
            token: (table.token_file.as_ref())
                .map(|file| read_token(&path(file.as_ref()), &source_of(file, "guest.token_file")))
                .transpose()?,
            client_certificate,
        })
    }
}

/// A token is one line; white space around it does not count.
fn read_token(file: &Path, origin: &str) -> Result<Token, ConfigError> {
    let text = document::read_bounded(file, MAX_TOKEN_BYTES + 2, origin)?;
    let token = text.trim_ascii();
    let problem = match token.len() {
        0 => "is empty",
        _ if token.iter().any(u8::is_ascii_control) => "has more than one line",
        n if n < MIN_TOKEN_CHARS => {
            "has fewer than 22 characters, so that it could be guessed; `evident-proxy token` makes a strong one"
        }
        n if n > MAX_TOKEN_BYTES => "is longer than any that a guest takes",
        _ => return Ok(Token(token.to_vec())),
    };
    Err(ConfigError::Token { origin: origin.to_owned(), file: file.to_owned(), problem })
}

impl From<document::AuditTable> for Bounds {
    fn from(table: document::AuditTable) -> Bounds {
        let or = |n: Option<NonZeroU32>, default: u32| n.map_or(default, NonZeroU32::get);
        Bounds {
            file_bytes: u64::from(or(table.file_mib, 64)) << 20,
            evidence_bytes: u64::from(or(table.evidence_mib, 256)) << 20,
            files: usize::try_from(or(table.files, 16)).unwrap_or(usize::MAX),
            sync: table.sync.map_or(Sync::Within(Duration::from_secs(1)), |sync| sync.0),
            on_failure: table.on_failure.unwrap_or_default(),
        }
    }
}

impl From<document::LimitsTable> for Limits {
    fn from(table: document::LimitsTable) -> Limits {
        let or = |period: Option<Period>, default: u64| period.map_or(Duration::from_secs(default), Period::get);
        let count = |n: Option<NonZeroU32>, default: usize| {
            n.map_or(default, |n| usize::try_from(n.get()).unwrap_or(usize::MAX))
        };
        Limits {
            connect: or(table.connect, 10),
            handshake: or(table.handshake, 10),
            attest: or(table.attest, 20),
            request: or(table.request, 10),
            keep_alive: or(table.keep_alive, 300),
            idle: match table.idle {
                None | Some(Timeout::Off) => None,
                Some(Timeout::After(period)) => Some(period.get()),
            },
            lifetime: or(table.lifetime, 24 * 3600),
            connections: count(table.connections, 4096),
            connections_per_source: count(table.connections_per_source, 4096),
            head_bytes: count(table.head_bytes.map(HeadBytes::get), 64 * 1024),
            drain: or(table.drain, 30),
            pool: PoolLimits {
                connections: table.pool_connections.map_or(128, usize::from),
                reuse_for: or(table.pool_reuse_for, 600),
            },
        }
    }
}

#[cfg(test)]
mod tests;
