//! evident-client: see `--help`, the README and docs/configuration.md.

#![warn(clippy::unwrap_used)]

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use evident_client::cli::{Cli, Command};
use evident_client::config::{Config, ConfigError};
use evident_client::{dial, inspect, run, tools};
use proxy_core::{console, exit};
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: the TLS stack moves secrets through blocks that nobody else can wipe.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Policies and launch digests hold no times, an audit log holds its own, and a given time takes the clock's place.
    let needs_clock = match &cli.command {
        Some(
            Command::Policy(_) | Command::Measure(_) | Command::Audit(_) | Command::Explain(_) | Command::Advisories(_),
        ) => false,
        Some(Command::Verify(args)) => args.at.is_none(),
        Some(Command::Inspect(_)) | None => true,
    };
    if needs_clock && let Err(error) = dial::now().check_clock() {
        return fail(exit::USAGE, &error);
    }
    match cli.command {
        Some(Command::Verify(args)) => tools::verify::run(*args),
        Some(Command::Measure(args)) => tools::measure::run(&args),
        Some(Command::Audit(command)) => tools::audit::run(command),
        Some(Command::Explain(args)) => tools::explain::run(&args),
        Some(Command::Advisories(args)) => tools::advisories::advisories(&args, dial::now()).emit(),
        Some(Command::Policy(command)) => block_on(tools::policy::run(command)),
        Some(Command::Inspect(args)) => block_on(inspect::run(args)),
        None => match Config::load(&cli.run) {
            Ok(config) => block_on(async {
                run::run(config).await.unwrap_or_else(|error| match error.downcast_ref() {
                    Some(error) => misconfigured(error),
                    None => fail(exit::FAILED, error.as_ref()),
                })
            }),
            Err(error) => misconfigured(&error),
        },
    }
}

/// It does not go away by trying again, so the exit code is the one after which systemd does not.
fn misconfigured(error: &ConfigError) -> ExitCode {
    let code = fail(exit::USAGE, error);
    if let Some(next) = error.next_step() {
        console::write_message(next);
    }
    code
}

fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            // A blocking call that hangs (a disk) must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(exit::FAILED, &error),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    exit::fail("evident-client", error, code)
}
