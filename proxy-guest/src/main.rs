//! evident-proxy: see `--help`, the README and docs/configuration.md.

#![warn(clippy::unwrap_used)]

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use evident_proxy::cli::{Cli, Command};
use evident_proxy::config::Config;
use evident_proxy::{evidence, run, start};
use proxy_core::exit;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: the TLS stack moves secrets through blocks that nobody else can wipe.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let checks_only = matches!(cli.command, Some(Command::CheckConfig(_)));
    if !checks_only && let Err(error) = start::now().check_clock() {
        return fail(exit::USAGE, &error);
    }
    match cli.command {
        Some(Command::CheckConfig(flags)) => match Config::load(&flags) {
            Ok(config) => exit::print("evident-proxy", &run::describe(&config), 0),
            Err(error) => fail(exit::USAGE, &error),
        },
        Some(Command::Evidence(flags)) => block_on(evidence::run(flags)),
        None => match Config::load(&cli.serve) {
            Ok(config) => block_on(run::run(config)),
            Err(error) => fail(exit::USAGE, &error),
        },
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(exit::FAILED, &error),
    };
    let ended = runtime.block_on(future);
    // A blocking call that hangs (a device) must not hold up the end.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| fail(exit::FAILED, error.as_ref()))
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    exit::fail("evident-proxy", error, code)
}
