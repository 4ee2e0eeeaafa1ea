//! The command line of `evident-proxy`. Flags override the configuration file; nothing is decided here.

// Help texts of flags, in which brackets stand around addresses.
#![allow(rustdoc::broken_intra_doc_links)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use proxy_core::net::Addr;

use crate::config::{PlainClients, Platform};
use crate::version::VERSION;

/// Reverse proxy in a confidential VM (AMD SEV-SNP) that proves, per connection, what it runs in
#[derive(Debug, Parser)]
#[command(name = "evident-proxy", version = VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the hardware once and show what this guest would attest, for its operator
    Evidence(EvidenceFlags),
    /// Read flags and configuration file as a start would, print every effective setting, contact nothing
    CheckConfig(ServeFlags),
}

#[derive(Clone, Debug, Default, Args)]
pub struct ServeFlags {
    /// The server behind this proxy: loopback or a unix socket (host:port, [v6]:port, port, unix:/path)
    #[arg(long, value_name = "ADDR")]
    pub upstream: Option<Addr>,
    /// Where clients connect; default [::]:8443
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Addr>,
    #[command(flatten)]
    pub device: DeviceFlags,
    /// Whether ordinary HTTPS clients are served; default refuse, or allow where --listen is loopback or a unix socket, or
    /// clients.ca_file asks for a certificate
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub plain_clients: Option<PlainClients>,
    /// Hashes of the access tokens that open tunnels, one a line (docs/configuration.md); default none is asked for
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Appraisal policy for attested clients (mutual attestation; not in this version)
    #[arg(long, value_name = "FILE")]
    pub client_policy: Option<PathBuf>,
    /// Where /livez, /readyz, /metrics and /verdict are served: loopback or a unix socket; default nowhere
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Addr>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DeviceFlags {
    /// TOML file with every setting (docs/configuration.md); flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The platform this guest runs on; auto looks for its hardware
    #[arg(long, value_name = "P", value_enum)]
    pub platform: Option<Platform>,
    /// A software AMD-SP in the device's place: SIMULATED, PROVES NOTHING. Its keys and root are kept in DIR, else in ./evident-simulator
    #[cfg(feature = "simulator")]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub simulate: Option<Option<PathBuf>>,
}

#[derive(Clone, Debug, Args)]
pub struct EvidenceFlags {
    #[command(flatten)]
    pub device: DeviceFlags,
    /// Also write the evidence there, as a bundle for `evident-client verify`
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn takes_what_the_contract_says() {
        let cli = parse("evident-proxy --upstream 8080 --listen [::]:443 --platform snp --plain-clients refuse --admin unix:/run/a --config c.toml").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.upstream, Some(Addr::loopback(8080)));
        assert_eq!(cli.serve.device.platform, Some(Platform::Snp));
        assert_eq!(cli.serve.plain_clients, Some(PlainClients::Refuse));
        let evidence = parse("evident-proxy evidence --platform auto --save f.cbor").unwrap();
        assert!(matches!(evidence.command, Some(Command::Evidence(flags)) if flags.save.is_some()));
        let check = parse("evident-proxy check-config --config c.toml").unwrap();
        assert!(matches!(check.command, Some(Command::CheckConfig(flags)) if flags.device.config.is_some()));
    }

    #[test]
    fn wrong_flags_are_usage_errors() {
        for (line, part) in [
            ("evident-proxy --upstream http://localhost:80", "URL"),
            ("evident-proxy --upstream", "value"),
            ("evident-proxy --platform tdx", "possible values"),
            ("evident-proxy --plain-clients maybe", "possible values"),
            ("evident-proxy --insecure-sim", "unexpected argument"),
            ("evident-proxy evidence --upstream 1", "unexpected argument"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }

    #[cfg(feature = "simulator")]
    #[test]
    fn simulate_takes_a_directory_only_after_an_equals_sign() {
        let simulate = |line: &str| parse(line).unwrap().serve.device.simulate;
        assert_eq!(simulate("evident-proxy --upstream 1"), None);
        assert_eq!(simulate("evident-proxy --simulate --upstream 1"), Some(None));
        assert_eq!(simulate("evident-proxy --simulate=/tmp/s --upstream 1"), Some(Some("/tmp/s".into())));
    }

    #[cfg(not(feature = "simulator"))]
    #[test]
    fn a_build_without_the_simulator_does_not_know_the_flag() {
        assert!(parse("evident-proxy --simulate --upstream 1").is_err());
    }
}
