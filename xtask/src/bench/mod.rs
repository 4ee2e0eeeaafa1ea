//! `cargo xtask bench`: measurements, not tests. Each prints what it did, its median and its spread.

mod delay;
mod rtt;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::machine;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time from ClientHello to the first application byte at the upstream, over a relay that delays
    Rtt {
        /// Handshakes per case, one at a time
        #[arg(long, default_value_t = 21)]
        rounds: usize,
        /// Measure the debug build that is there instead of building a release
        #[arg(long)]
        debug: bool,
    },
    /// The pair beside nginx, HAProxy and stunnel on every workload; writes docs/performance.md and its plots
    All {
        /// Interleaved rounds per workload and pair
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds per run
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Only these workloads, separated by commas: conn, handshake, http, slow, events, down, up, idle, flat, micro
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// The page
        #[arg(long, default_value = "docs/performance.md")]
        page: PathBuf,
    },
    /// Verification and trees alone: what one thread pays
    Micro,
}

pub(crate) fn run(bench: Bench) -> Result<()> {
    match bench {
        Bench::Rtt { rounds, debug: true } => {
            build(true)?;
            rtt::run(rounds, "debug")
        }
        Bench::Rtt { rounds, debug: false } if std::env::var_os(BINARIES).is_some() => rtt::run(rounds, "release"),
        Bench::Rtt { .. } => {
            build(false)?;
            again_with_release_binaries()
        }
        Bench::All { rounds, seconds, only, page } => {
            machine::install_packages(machine::FOR_BENCH)?;
            build(false)?;
            let release = std::path::absolute(Path::new(TARGET).join("release"))?;
            let mut report = tool()?;
            report.arg("report").arg("--binaries").arg(&release).arg("--page").arg(page);
            report.args(["--rounds", &rounds.to_string(), "--seconds", &seconds.to_string()]);
            if !only.is_empty() {
                report.arg("--only").arg(only.join(","));
            }
            ensure!(report.status()?.success(), "the measurement failed");
            Ok(())
        }
        Bench::Micro => {
            ensure!(tool()?.arg("micro").status()?.success(), "the measurement failed");
            Ok(())
        }
    }
}

/// The tool that measures, built now.
fn tool() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--target-dir", TARGET, "-p", "evident-bench"]);
    ensure!(cargo.status().context("cannot start cargo")?.success(), "the build failed");
    Ok(Command::new(std::path::absolute(Path::new(TARGET).join("release/evident-bench"))?))
}

/// A release build with the simulator must not lie where release builds are installed from.
const TARGET: &str = "target/bench";

/// Where the harness looks for the programs under test.
const BINARIES: &str = "EVIDENT_BIN_DIR";

/// The same command over, with the harness pointed at the release build.
fn again_with_release_binaries() -> Result<()> {
    let binaries = std::path::absolute(Path::new(TARGET).join("release"))?;
    let status =
        Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(BINARIES, binaries).status()?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

fn build(debug: bool) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "-p",
        "evident-proxy",
        "-p",
        "evident-client",
        "--features",
        "evident-proxy/simulator",
    ]);
    if !debug {
        cargo.args(["--release", "--target-dir", TARGET]);
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}
