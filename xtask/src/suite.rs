//! `cargo xtask test`: everything that must hold, on both crypto backends, and how long each part took.
//!
//! Two suites share the machinery. The ordinary one needs nothing but processes on loopback. `--system` holds what boots
//! machines, builds the product a second time or installs packages. `.config/nextest.toml` says which test binary is in
//! which; a test is in exactly one.
//!
//! Both backends share one target directory, so whatever does not depend on the backend is compiled once. The last one
//! built leaves its binaries in `target/debug`, so the default backend comes last.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::leftovers::Leftovers;
use crate::skips::{self, ExpectedSkips};
use crate::stages::Stages;
use crate::{dependencies, kernel, machine, python};

/// A crypto library under the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    AwsLcRs,
    Ring,
}

/// A nextest profile, which selects the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestProfile {
    Default,
    System,
}

impl TestProfile {
    fn name(self) -> &'static str {
        match self {
            TestProfile::Default => "default",
            TestProfile::System => "system",
        }
    }
}

const SIMULATOR: [&str; 2] = ["--features", "evident-proxy/simulator"];

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::AwsLcRs => "aws-lc-rs",
            Backend::Ring => "ring",
        }
    }

    /// Selects the whole workspace with this backend alone, and the simulator in the guest proxy.
    fn selection(self) -> Vec<&'static str> {
        let mut args = vec!["--workspace", "--no-default-features", "--features", self.name()];
        args.extend(SIMULATOR);
        args
    }
}

/// Runs the ordinary suite.
pub(crate) fn run(only: Option<Backend>) -> Result<()> {
    let mut stages = Stages::begin();
    let python = set_up(&mut stages)?;
    let expected = ExpectedSkips::read(Path::new(".ci/expected-skips"))?;
    stages.check("formatting", || cargo(&["fmt", "--all", "--check"]));
    dependencies::check(&mut stages);

    let backends = only.map_or(vec![Backend::Ring, Backend::AwsLcRs], |backend| vec![backend]);
    let mut skipped = Vec::new();
    for backend in backends {
        let name = backend.name();
        stages.need(&format!("build, {name}"), || build(backend))?;
        stages.check(&format!("lints, {name}"), || {
            let selection = backend.selection();
            cargo(&[&["clippy", "--all-targets"], selection.as_slice(), &["--", "-D", "warnings"]].concat())
        });
        stages.check(&format!("tests, {name}"), || {
            skipped.extend(test(backend, TestProfile::Default, &python)?);
            Ok(())
        });
        stages.check(&format!("documentation tests, {name}"), || {
            cargo(&[&["test", "--locked", "--doc"], backend.selection().as_slice()].concat())
        });
    }
    stages.check("documentation", document);
    finish(stages, skipped, &expected)
}

/// Runs the suite of what boots machines, builds twice or installs packages, on the default backend.
pub(crate) fn run_system() -> Result<()> {
    let mut stages = Stages::begin();
    let python = set_up(&mut stages)?;
    let expected = ExpectedSkips::read(Path::new(".ci/expected-skips"))?;
    stages.need("build", || build(Backend::AwsLcRs))?;
    let mut skipped = Vec::new();
    stages.check("system tests", || {
        skipped.extend(test(Backend::AwsLcRs, TestProfile::System, &python)?);
        Ok(())
    });
    dependencies::check_minimum_rust(&mut stages, &mut skipped);
    finish(stages, skipped, &expected)
}

fn set_up(stages: &mut Stages) -> Result<std::path::PathBuf> {
    stages.need("setup", || {
        machine::install_packages(machine::FOR_TESTS)?;
        machine::install_tools()?;
        kernel::fetch()?;
        python::environment(false)
    })
}

/// Runs the tests of a profile and returns what they said they skipped.
fn test(backend: Backend, profile: TestProfile, python: &Path) -> Result<Vec<skips::SkippedTest>> {
    let leftovers = Leftovers::watch()?;
    let report = Path::new("target/nextest").join(profile.name()).join("junit.xml");
    // An old report must not stand in for a run that wrote none.
    let _ = std::fs::remove_file(&report);
    let mut nextest = Command::new("cargo");
    nextest.args(["nextest", "run", "--locked", "--no-fail-fast", "--profile", profile.name()]);
    nextest.args(backend.selection()).env("EVIDENT_PYTHON", python);
    // Reports land where the profile's `junit.path` says, below the target folder; keep that folder here.
    nextest.env_remove("CARGO_TARGET_DIR").env("TMPDIR", leftovers.temporary_dir()).env("PYTHONDONTWRITEBYTECODE", "1");
    let outcome = machine::run(&mut nextest);
    let skipped = skips::of_report(&report, backend.name());
    leftovers.none_left()?;
    outcome?;
    skipped
}

fn finish(mut stages: Stages, skipped: Vec<skips::SkippedTest>, expected: &ExpectedSkips) -> Result<()> {
    stages.check("skipped tests", || expected.compare(&skipped));
    stages.end()
}

/// Builds binaries and tests in one go, so that the tests find the binaries and nothing is compiled twice.
pub(crate) fn build(backend: Backend) -> Result<()> {
    cargo(&[&["build", "--locked", "--all-targets"], backend.selection().as_slice()].concat())
}

fn document() -> Result<()> {
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--locked", "--no-deps"]).args(Backend::AwsLcRs.selection());
    machine::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo(args: &[&str]) -> Result<()> {
    machine::run(Command::new("cargo").args(args))
}
