//! `cargo xtask test`: everything that must hold, on both crypto backends, with how long each part took.
//!
//! Both backends share one target directory, so what does not depend on the backend is compiled once. The last to be built
//! leaves its binaries in `target/debug`, so the default one comes last.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::stages::Stages;
use crate::{kernel, machine, python};

/// A crypto library under the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    AwsLcRs,
    Ring,
}

const SIMULATOR: [&str; 2] = ["--features", "evident-proxy/simulator"];

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::AwsLcRs => "aws-lc-rs",
            Backend::Ring => "ring",
        }
    }

    /// The whole workspace with this backend alone, and the simulator in the guest proxy.
    fn selection(self) -> Vec<&'static str> {
        let mut args = vec!["--workspace", "--no-default-features", "--features", self.name()];
        args.extend(SIMULATOR);
        args
    }
}

pub(crate) fn run(only: Option<Backend>) -> Result<()> {
    let mut stages = Stages::begin();
    let python = stages.need("setup", || {
        machine::install_packages(machine::FOR_TESTS)?;
        machine::install_nextest()?;
        kernel::fetch()?;
        python::environment(false)
    })?;
    stages.check("formatting", || cargo(&["fmt", "--all", "--check"]));

    let backends = only.map_or(vec![Backend::Ring, Backend::AwsLcRs], |backend| vec![backend]);
    for backend in &backends {
        on(&mut stages, *backend, &python)?;
    }
    stages.end()
}

fn on(stages: &mut Stages, backend: Backend, python: &Path) -> Result<()> {
    let name = backend.name();
    stages.need(&format!("build, {name}"), || build(backend))?;
    stages.check(&format!("lints, {name}"), || {
        let selection = backend.selection();
        cargo(&[&["clippy", "--all-targets"], selection.as_slice(), &["--", "-D", "warnings"]].concat())
    });
    stages.check(&format!("tests, {name}"), || {
        let mut nextest = Command::new("cargo");
        nextest.args(["nextest", "run", "--locked", "--no-fail-fast"]).args(backend.selection());
        machine::run(nextest.env("EVIDENT_PYTHON", python))
    });
    stages.check(&format!("documentation tests, {name}"), || {
        cargo(&[&["test", "--locked", "--doc"], backend.selection().as_slice()].concat())
    });
    Ok(())
}

/// Binaries and tests in one go, so that the tests find the binaries and nothing is compiled twice.
pub(crate) fn build(backend: Backend) -> Result<()> {
    cargo(&[&["build", "--locked", "--all-targets"], backend.selection().as_slice()].concat())
}

fn cargo(args: &[&str]) -> Result<()> {
    machine::run(Command::new("cargo").args(args))
}
