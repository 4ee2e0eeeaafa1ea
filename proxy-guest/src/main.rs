//! evident-proxy: see `--help`, the README and docs/configuration.md.

#![warn(clippy::unwrap_used)]

use std::process::ExitCode;

use clap::Parser;
use evident_proxy::cli::{Cli, Command};
use evident_proxy::config::Config;
use evident_proxy::{evidence, run, start};
use proxy_core::console;

const EXIT_USAGE: u8 = 2;
const EXIT_FAILED: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let checks_only = matches!(cli.command, Some(Command::CheckConfig(_)));
    if !checks_only && let Err(error) = start::now().check_clock() {
        return fail(EXIT_USAGE, &anyhow::Error::new(error));
    }
    match cli.command {
        Some(Command::CheckConfig(flags)) => match Config::load(&flags) {
            Ok(config) => match console::write_result(&run::describe(&config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(EXIT_FAILED, &anyhow::Error::new(error).context("cannot write the result")),
            },
            Err(error) => fail(EXIT_USAGE, &anyhow::Error::new(error)),
        },
        Some(Command::Evidence(flags)) => block_on(evidence::run(flags)),
        None => match Config::load(&cli.serve) {
            Ok(config) => block_on(run::run(config)),
            Err(error) => fail(EXIT_USAGE, &anyhow::Error::new(error)),
        },
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::new).and_then(|runtime| runtime.block_on(future)) {
        Ok(code) => code,
        Err(error) => fail(EXIT_FAILED, &error),
    }
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    console::write_message(&format!("evident-proxy: {error:#}"));
    ExitCode::from(code)
}
