//! `evident-proxy --simulate` in front of an upstream: the guest's end of a pair.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binaries::evident_proxy;
use crate::policy::PolicyText;
use crate::ports::free_addr;
use crate::process::{Program, Running};
use crate::wait::PATIENCE;

/// A guest that runs. Its simulator's keys are its own and are gone with it.
pub struct Guest {
    pub program: Running,
    address: SocketAddr,
    admin: SocketAddr,
    simulator: PathBuf,
    _dir: TempDir,
}

/// How to start a [`Guest`].
pub struct GuestBuilder {
    upstream: String,
    config: String,
    args: Vec<String>,
    simulator: Option<PathBuf>,
    simulated: String,
    listen: Option<SocketAddr>,
    log: String,
    stderr: Option<Stdio>,
    changes: Vec<Box<dyn FnOnce(Program) -> Program>>,
}

impl Guest {
    /// In front of this upstream, with the defaults of `evident-proxy`.
    pub fn in_front_of(upstream: impl ToString) -> GuestBuilder {
        GuestBuilder {
            upstream: upstream.to_string(),
            config: String::new(),
            args: Vec::new(),
            simulator: None,
            simulated: String::new(),
            listen: None,
            log: "info".to_owned(),
            stderr: None,
            changes: Vec::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The directory with the simulator's keys and `root.pem`.
    pub fn simulator(&self) -> &Path {
        &self.simulator
    }

    /// A policy that accepts this guest, as long as it was not told to be another one.
    pub fn policy(&self) -> PolicyText {
        PolicyText::for_simulator(&self.simulator)
    }
}

impl GuestBuilder {
    /// The text of a configuration file to start it with.
    pub fn config(mut self, toml: &str) -> GuestBuilder {
        self.config = toml.to_owned();
        self
    }

    pub fn args(mut self, args: &[&str]) -> GuestBuilder {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Shares another guest's simulator: the same chip and roots, another launch.
    pub fn simulator(mut self, dir: &Path) -> GuestBuilder {
        self.simulator = Some(dir.to_owned());
        self
    }

    /// What `simulator.toml` says of this guest: its measurement, its policy bits, how long a report takes.
    pub fn simulated(mut self, toml: &str) -> GuestBuilder {
        self.simulated = toml.to_owned();
        self
    }

    /// Listens there, where an earlier guest was.
    pub fn listen(mut self, address: SocketAddr) -> GuestBuilder {
        self.listen = Some(address);
        self
    }

    /// The filter of its log (`RUST_LOG`), `info` otherwise.
    pub fn log(mut self, filter: &str) -> GuestBuilder {
        self.log = filter.to_owned();
        self
    }

    /// Where its log goes, instead of to a file.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> GuestBuilder {
        self.stderr = Some(stderr.into());
        self
    }

    /// Changes how it is started, in whatever this builder has no word for.
    pub fn changed(mut self, change: impl FnOnce(Program) -> Program + 'static) -> GuestBuilder {
        self.changes.push(Box::new(change));
        self
    }

    /// Starts it and waits until its port is open, which is after it has verified a statement of its own.
    pub fn start(self) -> Result<Guest> {
        let dir = tempfile::Builder::new().prefix("evident-guest-").tempdir().context("directory of a guest")?;
        let simulator = self.simulator.unwrap_or_else(|| dir.path().join("simulator"));
        std::fs::create_dir_all(&simulator).context("directory of a simulator")?;
        // Small keys are made in a tenth of the time and change nothing else.
        std::fs::write(simulator.join("simulator.toml"), format!("small_keys = true\n{}", self.simulated))
            .context("writing simulator.toml")?;
        let address = self.listen.map_or_else(free_addr, Ok)?;
        let admin = free_addr()?;
        let mut program = Program::new(evident_proxy()?)
            .args(["--upstream", &self.upstream, "--listen", &address.to_string(), "--admin", &admin.to_string()])
            .arg(format!("--simulate={}", simulator.display()))
            .env("RUST_LOG", &self.log)
            .args(&self.args);
        if !self.config.is_empty() {
            let file = dir.path().join("evident-proxy.toml");
            std::fs::write(&file, &self.config).context("writing a guest's configuration")?;
            program = program.arg("--config").arg(file);
        }
        for change in self.changes {
            program = change(program);
        }
        if let Some(stderr) = self.stderr {
            program = program.stderr(stderr);
        }
        let mut program = program.spawn()?;
        program.wait_for_port(address, PATIENCE)?;
        Ok(Guest { program, address, admin, simulator, _dir: dir })
    }
}
