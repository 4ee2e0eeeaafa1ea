//! `evident-client` beside an application: the client's end of a pair, with the ways in that a test asks for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binaries::evident_client;
use crate::guest::Guest;
use crate::policy::PolicyText;
use crate::ports::free_addr;
use crate::process::{Program, Running};
use crate::wait::PATIENCE;

/// A client proxy that runs.
pub struct Client {
    pub program: Running,
    listen: SocketAddr,
    http_proxy: SocketAddr,
    socks5: SocketAddr,
    admin: SocketAddr,
    policy: PathBuf,
    _dir: TempDir,
}

/// How to start a [`Client`].
pub struct ClientBuilder {
    guest: String,
    policy: PolicyText,
    config: String,
    args: Vec<String>,
    log: String,
    stderr: Option<Stdio>,
}

impl Client {
    /// Towards this guest, under the policy that accepts it. Names are what applications may ask for.
    pub fn of(guest: &Guest, names: &[&str]) -> ClientBuilder {
        Client::with_policy(guest.address(), guest.policy().names(names))
    }

    /// Towards whatever is at this address.
    pub fn with_policy(guest: impl ToString, policy: PolicyText) -> ClientBuilder {
        ClientBuilder {
            guest: guest.to_string(),
            policy,
            config: String::new(),
            args: Vec::new(),
            log: "info".to_owned(),
            stderr: None,
        }
    }

    /// The local port that is mapped to the guest.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Open where the policy has names.
    pub fn http_proxy(&self) -> SocketAddr {
        self.http_proxy
    }

    /// Open where the policy has names.
    pub fn socks5(&self) -> SocketAddr {
        self.socks5
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its policy file.
    pub fn policy(&self) -> &Path {
        &self.policy
    }
}

impl ClientBuilder {
    /// Changes the policy before it is written.
    pub fn policy(mut self, change: impl FnOnce(PolicyText) -> PolicyText) -> ClientBuilder {
        self.policy = change(self.policy);
        self
    }

    /// The text of a configuration file to start it with.
    pub fn config(mut self, toml: &str) -> ClientBuilder {
        self.config = toml.to_owned();
        self
    }

    pub fn args(mut self, args: &[&str]) -> ClientBuilder {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// The filter of its log (`RUST_LOG`), `info` otherwise.
    pub fn log(mut self, filter: &str) -> ClientBuilder {
        self.log = filter.to_owned();
        self
    }

    /// Where its log goes, instead of to a file.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> ClientBuilder {
        self.stderr = Some(stderr.into());
        self
    }

    /// Starts it and waits until its ways in are open: the port map, and where the policy has names the HTTP proxy and SOCKS5.
    pub fn start(self) -> Result<Client> {
        let dir = tempfile::Builder::new().prefix("evident-client-").tempdir().context("directory of a client")?;
        let policy = dir.path().join("policy.toml");
        self.policy.write(&policy)?;
        let (listen, http_proxy, socks5, admin) = (free_addr()?, free_addr()?, free_addr()?, free_addr()?);
        let mut program = Program::new(evident_client()?)
            .args(["--guest", &self.guest, "--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .arg("--policy")
            .arg(&policy)
            .env("RUST_LOG", &self.log)
            .args(&self.args);
        if !self.config.is_empty() {
            let file = dir.path().join("evident-client.toml");
            std::fs::write(&file, &self.config).context("writing a client's configuration")?;
            program = program.arg("--config").arg(file);
        }
        let mut ways_in = vec![listen, admin];
        if self.policy.has_names() {
            program = program.args(["--http-proxy", &http_proxy.to_string(), "--socks5", &socks5.to_string()]);
            ways_in.extend([http_proxy, socks5]);
        }
        if let Some(stderr) = self.stderr {
            program = program.stderr(stderr);
        }
        let mut program = program.spawn()?;
        for address in ways_in {
            program.wait_for_port(address, PATIENCE)?;
        }
        Ok(Client { program, listen, http_proxy, socks5, admin, policy, _dir: dir })
    }
}

/// `evident-client inspect` of a guest, with the policy where one is given.
pub fn inspect(guest: SocketAddr, policy: Option<&Path>) -> Result<Program> {
    let program = Program::new(evident_client()?).arg("inspect").arg(guest.to_string());
    Ok(match policy {
        Some(policy) => program.arg("--policy").arg(policy),
        None => program,
    })
}
