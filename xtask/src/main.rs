//! The commands in the README: what they need is installed, named where it cannot be, and timed.

#![warn(clippy::unwrap_used)]

mod bench;
mod demo;
mod dependencies;
mod kernel;
mod leftovers;
mod machine;
mod python;
mod scenario;
mod skips;
mod stages;
mod suite;
mod table_1;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tasks of this repository")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests and the demo need: Debian packages, cargo-nextest, cargo-deny, a Python environment in the cache
    Setup {
        /// Also build the LLM server of examples/inference, a quarter of an hour on two cores, into the cache
        #[arg(long)]
        llm: bool,
    },
    /// Run formatting, lints and all tests on both crypto backends
    Test {
        /// Only this backend
        #[arg(long, value_enum)]
        backend: Option<suite::Backend>,
        /// The other suite: whatever boots machines, builds twice or installs packages
        #[arg(long, conflicts_with = "backend")]
        system: bool,
    },
    /// Show an application talking through the two proxies, and a tampered guest being refused. SIMULATED, PROVES NOTHING
    Demo {
        /// On an emulated machine of this deployment; otherwise plain SEV-SNP
        #[arg(long, value_enum)]
        platform: Option<demo::Deployment>,
    },
    #[command(name = "table-1")]
    /// Make docs/table-1 from six emulated deployments: text, JSON, SVG. SIMULATED, PROVES NOTHING
    Table1 {
        /// The folder for table-1.txt, table-1.json and table-1.svg
        #[arg(long, value_name = "FOLDER", default_value = "docs")]
        out: PathBuf,
    },
    /// Measure; benchmarks are not tests
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    std::env::set_current_dir(evident_tests::binaries::workspace())?;
    machine::require_rust()?;
    match task {
        Task::Setup { llm } => {
            machine::install_packages(machine::FOR_TESTS)?;
            machine::install_tools()?;
            kernel::fetch()?;
            python::environment(llm)?;
            Ok(())
        }
        Task::Test { system: true, .. } => suite::run_system(),
        Task::Test { backend, system: false } => suite::run(backend),
        Task::Demo { platform } => demo::run(platform),
        Task::Table1 { out } => table_1::run(&out),
        Task::Bench { what } => bench::run(what),
    }
}
