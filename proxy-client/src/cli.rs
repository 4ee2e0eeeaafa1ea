//! The command line of evident-client (docs of the command line: flags, exit codes). Flags only; what they mean together
//! is decided in [`crate::config`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use proxy_core::net::{Addr, HostPort};
use proxy_core::telemetry::Format;

use crate::tools::advisories::AdvisoriesArgs;
use crate::tools::audit::AuditCommand;
use crate::tools::explain::ExplainArgs;
use crate::tools::measure::MeasureArgs;
use crate::tools::policy::PolicyCommand;
use crate::tools::verify::VerifyArgs;

/// Forward proxy that verifies a confidential guest before the first byte passes
#[derive(Debug, Parser)]
#[command(name = "evident-client", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

const EXIT_CODES: &str = "Addresses are host:port, [v6]:port, a port for loopback, or unix:/path.\n\
Exit codes: 0 accepted, 1 not authentic, 2 usage or configuration, 3 refused by the policy, 4 not reachable or readable.";

/// Serve applications; without a command, this is what evident-client does
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// The guest to attest
    #[arg(long, value_name = "HOST:PORT", value_parser = guest_addr)]
    pub guest: Option<Addr>,
    /// What is accepted of the guest; there is no default
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// File with the access token that the guest asks for
    #[arg(long, value_name = "FILE", requires = "guest")]
    pub token_file: Option<PathBuf>,
    /// Map this local address to the guest
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Addr>,
    /// Serve CONNECT and http:// requests here
    #[arg(long, value_name = "ADDR")]
    pub http_proxy: Option<Addr>,
    /// Serve SOCKS5 here
    #[arg(long, value_name = "ADDR")]
    pub socks5: Option<Addr>,
    /// Serve liveness, readiness, metrics and verdicts here
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Addr>,
    /// Guests and settings (docs/configuration.md); flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to write the log
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Format {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attest a guest and show what it proves
    Inspect(InspectArgs),
    Verify(Box<VerifyArgs>),
    Measure(Box<MeasureArgs>),
    Explain(ExplainArgs),
    Advisories(AdvisoriesArgs),
    /// Work with the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Work with policy files
    #[command(subcommand)]
    Policy(PolicyCommand),
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The guest
    #[arg(value_name = "HOST:PORT", value_parser = guest_addr)]
    pub guest: Addr,
    /// What is accepted; without it the verdict says only whether the evidence is authentic
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write a report to look at with a browser, in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the evidence to a file that `verify` reads
    #[arg(long, value_name = "BUNDLE")]
    pub save: Option<PathBuf>,
}

/// A guest is elsewhere: host and port, and no port stands for it.
fn guest_addr(text: &str) -> Result<Addr, String> {
    let address: HostPort = text.parse().map_err(|e: proxy_core::net::AddrError| e.to_string())?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0; write the port that the guest listens on"));
    }
    Ok(Addr::Tcp(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("evident-client").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_the_command_lines_of_the_contract() {
        for line in [
            "--guest llm.example:8443 --policy p.toml --listen 8080",
            "--guest [::1]:8443 --policy p.toml --http-proxy 127.0.0.1:3128 --socks5 unix:/run/s --admin 9000",
            "--config c.toml",
            "inspect llm.example:8443",
            "inspect 10.0.0.1:8443 --policy p.toml --json --save b.evident --html r.html",
            "verify b.evident",
            "verify --policy p.toml --at 2026-11-23T21:00:00Z --json --snp-report r.bin --cert a.der --cert b.pem c.pem",
            "policy check p.toml",
            "policy learn a.example:8443",
            "policy learn b.evident --simulator-root root.pem",
            "policy diff old.toml new.toml --json",
            "explain b.evident --policy p.toml --json",
            "explain b.evident --policy p.toml -- --firmware OVMF.fd --vmm qemu --vcpus 4 --vcpu-type EPYC-v4",
            "audit verify /var/log/evident --json",
            "measure --firmware o.fd --kernel k --initrd i --append ro --vcpus 4 --vcpu-type EPYC-v4 --vmm qemu",
            "measure --firmware o.fd --vcpus 1 --vmm gce --guest-features 0x21 --json",
            "measure --recipe pages.toml --json",
            "measure --igvm coconut-qemu.igvm",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn refuses_guests_without_a_port_and_unknown_flags() {
        for line in [
            "--guest llm.example",
            "--guest 8443",
            "--guest llm.example:0",
            "--guest https://llm.example:443",
            "--guest unix:/run/g",
            "--token-file t",
            "--listne 8080",
            "--listen 8080 inspect a:1",
            "inspect",
            "policy learn",
            "explain b.evident",
            "measure",
            "measure --firmware o.fd",
            "measure --firmware o.fd --vcpus 0 --vmm qemu",
            "measure --firmware o.fd --vcpus 1 --vmm xen",
            "measure --firmware o.fd --vcpus 1 --vmm qemu --vcpu-type Opteron",
            "measure --firmware o.fd --recipe p.toml --vcpus 1 --vmm qemu",
            "measure --recipe p.toml --kernel k",
            "measure --firmware o.fd --vcpus 1 --vmm qemu --kernel k --kernel-sha256 00",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
