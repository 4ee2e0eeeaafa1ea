//! From flags and a configuration file to what is served, and each mistake that is refused.

use super::*;
use clap::Parser;
use proxy_core::duration::{Period, Timeout};
use std::path::Path;

fn flags(line: &str) -> ServeFlags {
    crate::cli::Cli::try_parse_from(format!("evident-proxy {line}").split_whitespace()).unwrap().serve
}

fn resolve(line: &str, text: &str) -> Result<Config, ConfigError> {
    Config::resolve(&flags(line), &Source::parse(Path::new("evident.toml"), text.to_owned())?)
}

fn refused(line: &str, text: &str) -> String {
    resolve(line, text).unwrap_err().to_string()
}

#[test]
fn an_upstream_is_enough() {
    let config = resolve("--upstream 8080", "").unwrap();
    assert_eq!(config.listen.to_string(), "[::]:8443");
    assert_eq!(config.upstream.scope, Scope::InsideGuest);
    assert_eq!(config.plain_clients, PlainClients::Refuse);
    assert!(config.is_open_to_anyone());
    assert_eq!(config.limits, Limits::default());
    assert!(config.admin.is_none());
    assert!(matches!(config.access, Access::Anyone));
}

#[test]
fn flags_override_the_file() {
    let text = "listen = \"[::]:1\"\nupstream = \"1\"\nplatform = \"snp\"\nplain_clients = \"allow\"\nadmin = \"1\"";
    let config = resolve("--upstream 2 --listen 2 --platform aws --plain-clients refuse --admin 2", text).unwrap();
    assert_eq!(config.upstream.addr, Addr::loopback(2));
    assert_eq!(config.listen, Addr::loopback(2));
    assert_eq!(config.device.platform, Platform::Aws);
    assert_eq!(config.plain_clients, PlainClients::Refuse);
    assert_eq!(config.admin.unwrap().addr(), &Addr::loopback(2));
}

#[test]
fn every_key_of_the_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evident.toml");
    std::fs::write(dir.path().join("tokens"), format!("{} laptop\n", "ab".repeat(32))).unwrap();
    let text = r#"
        listen = "10.0.0.1:8443"
        upstream = "10.0.0.2:80"
        upstream_outside_guest = "plaintext leaves the guest"
        upstream_mode = "tcp"
        names = ["B.example", "a.example"]
        platform = "snp"
        vmpl = 1
        plain_clients = "refuse"
        x_forwarded_for = "append"
        admin = "0.0.0.0:9443"
        admin_outside_host = "others can read the admin page"
        [device]
        configfs_entry = "/sys/kernel/config/tsm/report/evident"
        [endorsements]
        kds_url = "http://127.0.0.1:1/"
        cache_dir = "cache"
        [clients]
        tokens_file = "tokens"
        [log]
        format = "json"
        level = "debug"
        [limits]
        idle = "off"
        lifetime = "1h"
        connections = 7
    "#;
    let source = Source::parse(&path, text.to_owned()).unwrap();
    let config = Config::resolve(&ServeFlags::default(), &source).unwrap();
    assert_eq!(config.upstream.scope, Scope::OutsideGuest);
    assert_eq!(config.upstream.mode, UpstreamMode::Tcp);
    assert_eq!(config.names, ["a.example", "b.example"]);
    assert_eq!(config.device.vmpl, 1);
    assert_eq!(config.device.kds_url, "http://127.0.0.1:1");
    assert_eq!(config.device.cache_dir, Some(dir.path().join("cache")));
    assert!(matches!(config.access, Access::Token(_)));
    assert_eq!(config.log.format, telemetry::Format::Json);
    assert_eq!(config.limits.idle_timeout, Timeout::Off);
    assert_eq!(config.limits.lifetime, Period::from_secs(3600));
    assert_eq!(config.limits.max_connections.get(), 7);
    assert_eq!(config.limits.handshake_timeout, Period::from_secs(10));
}

#[test]
fn a_mistake_is_named_with_file_line_and_key() {
    for (text, message) in [
        ("upstream = \"1\"\nlisten = \"nowhere\"", "evident.toml, line 2, listen: \"nowhere\" has no port"),
        ("\nlissen = \"1\"", "evident.toml, line 2, lissen: unknown field `lissen`"),
        ("[limits]\nidle = \"5\"", "evident.toml, line 2, limits.idle: \"5\" is not a length of time"),
        ("[limits]\nlifetime = \"off\"", "evident.toml, line 2, limits.lifetime: \"off\" is not possible here"),
        ("[limits]\nconnections = 0", "evident.toml, line 2, limits.connections: "),
        ("[limits]\nsilence = 1", "evident.toml, line 2, limits.silence: unknown field `silence`"),
        ("[log]\n\nlevel = \"inof\"", "evident.toml, line 3, log.level: \"inof\" is not a log level"),
        ("upstream = \"1\"\nupstream = \"2\"", "evident.toml, line 2, upstream: duplicate key"),
        ("plain_clients = true", "evident.toml, line 1, plain_clients: "),
        ("upstream = ", "evident.toml, line 1, upstream: "),
        ("upstream = \"1\"\nvmpl = 4", "evident.toml, line 2, vmpl: 4 is not a VMPL"),
        ("upstream = \"1\"\nadmin = \"[::]:1\"", "evident.toml, line 2, admin: the admin page on [::]:1 could be read"),
        (
            "upstream = \"1\"\nadmin_outside_host = \"x\"",
            "evident.toml, line 2, admin_outside_host: there is no admin page",
        ),
        ("upstream = \"1\"\nnames = [\"a\", \"A\"]", "evident.toml, line 2, names: \"A\" stands there twice"),
        ("upstream = \"1\"\nnames = [\"10.0.0.1\"]", "evident.toml, line 2, names: \"10.0.0.1\" is not a DNS name"),
        (
            "upstream = \"1\"\n[endorsements]\ncertificates = [\"missing.pem\"]",
            "evident.toml, line 3, endorsements.certificates: missing.pem: no certificate can be read from it",
        ),
        (
            "upstream = \"1\"\n[endorsements]\nkds_url = \"kds\"",
            "evident.toml, line 3, endorsements.kds_url: \"kds\" is not",
        ),
        ("upstream = \"1\"\n[limits]\npool_idle = \"25h\"", "pool_idle is longer than lifetime"),
        ("upstream = \"1\"\n[limits]\npending_leaves = 65537", "pending_leaves is 65537"),
    ] {
        let error = refused("", text);
        assert!(error.contains(message), "{text}\n  {error}");
    }
}

#[test]
fn an_upstream_outside_the_guest_needs_the_phrase() {
    assert!(refused("--upstream 10.0.0.1:80", "").starts_with("--upstream: 10.0.0.1:80 is outside this guest"));
    assert!(refused("", "upstream = \"db.internal:80\"").starts_with("evident.toml, line 1, upstream: "));
    let wrong = "upstream_outside_guest = \"yes\"";
    assert!(refused("--upstream 10.0.0.1:80", wrong).contains("not the phrase"));
    assert!(refused("--upstream 1", wrong).contains("not the phrase"));
    let right = "upstream_outside_guest = \"plaintext leaves the guest\"";
    assert_eq!(resolve("--upstream 10.0.0.1:80", right).unwrap().upstream.scope, Scope::OutsideGuest);
    assert_eq!(resolve("--upstream 1", right).unwrap().upstream.scope, Scope::InsideGuest);
}

#[test]
fn nothing_to_serve_is_an_error() {
    assert!(matches!(resolve("", "listen = \"1\""), Err(ConfigError::NoUpstream)));
}

#[test]
fn a_policy_for_clients_is_refused_and_not_ignored() {
    assert!(refused("--upstream 1 --client-policy p.toml", "").contains("not supported by this version yet"));
    assert!(refused("--upstream 1", "[clients]\npolicy = \"p.toml\"").contains("not supported by this version yet"));
}

#[test]
fn ordinary_clients_are_served_unasked_only_from_this_machine() {
    for local in ["127.0.0.1:1", "[::1]:1", "localhost:1", "1", "unix:/run/x"] {
        let config = resolve(&format!("--upstream 1 --listen {local}"), "").unwrap();
        assert_eq!((config.plain_clients, config.is_open_to_anyone()), (PlainClients::Allow, false), "{local}");
    }
    for elsewhere in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "host.example:1"] {
        let line = format!("--upstream 1 --listen {elsewhere}");
        let config = resolve(&line, "").unwrap();
        assert_eq!((config.plain_clients, config.is_open_to_anyone()), (PlainClients::Refuse, true), "{elsewhere}");
        // Whoever asks for it gets it, and is warned all the same.
        let config = resolve(&line, "plain_clients = \"allow\"").unwrap();
        assert_eq!((config.plain_clients, config.is_open_to_anyone()), (PlainClients::Allow, true), "{elsewhere}");
    }
}

#[test]
fn the_flag_names_a_tokens_file_and_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "00".repeat(32)).unwrap();
    let line = format!("--upstream 1 --tokens {}", tokens.display());
    // The flag overrides the file's key, which may name what is not there.
    let config = resolve(&line, "[clients]\ntokens_file = \"absent\"").unwrap();
    assert!(matches!(config.access, Access::Token(_)) && !config.is_open_to_anyone());
    assert_eq!(config.plain_clients, PlainClients::Refuse);
    std::fs::write(&tokens, "correct horse").unwrap();
    let wrong = refused(&line, "");
    assert!(wrong.starts_with("--tokens: ") && wrong.contains("line 1: wanted 64 hex digits"), "{wrong}");
    let absent = refused("--upstream 1 --tokens /nonexistent/tokens", "");
    assert!(absent.starts_with("--tokens: ") && absent.contains("cannot read /nonexistent/tokens"), "{absent}");
    let unreadable = refused(&format!("--upstream 1 --tokens {}", dir.path().display()), "");
    assert!(unreadable.starts_with("--tokens: "), "{unreadable}");
}

#[test]
fn a_token_keeps_ordinary_clients_out() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "00".repeat(32)).unwrap();
    let text = format!("[clients]\ntokens_file = {tokens:?}");
    assert_eq!(resolve("--upstream 1", &text).unwrap().plain_clients, PlainClients::Refuse);
    assert!(
        refused("--upstream 1 --plain-clients allow", &text).starts_with("--plain-clients: ordinary HTTPS clients")
    );
}

#[test]
fn files_that_it_names_must_be_good() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let missing = dir.path().join("missing");
    for (key, path) in [("tokens_file", &missing), ("ca_file", &missing), ("tokens_file", &empty), ("ca_file", &empty)]
    {
        let error = refused("--upstream 1", &format!("[clients]\n{key} = {path:?}"));
        assert!(error.starts_with(&format!("evident.toml, line 2, clients.{key}: ")), "{error}");
    }
    let both = format!("[clients]\ntokens_file = {empty:?}\nca_file = {empty:?}");
    assert!(refused("--upstream 1", &both).contains("exclude each other"));
    let unreadable = Config::load(&flags(&format!("--upstream 1 --config {}", missing.display())));
    assert!(matches!(unreadable, Err(ConfigError::Read { .. })));
}

#[test]
fn measured_settings_are_sorted_and_change_with_what_matters() {
    let base = resolve("--upstream 1", "names = [\"b\", \"a\"]").unwrap().measured_settings();
    assert!(base.is_sorted_by_key(|(name, _)| *name));
    assert!(base.contains(&("names", "a,b".into())));
    assert!(base.contains(&("upstream_scope", "inside the guest".into())));
    let changed = |line: &str, text: &str| resolve(line, text).unwrap().measured_settings() != base;
    let names = "names = [\"a\", \"b\"]\n";
    assert!(!changed("--upstream 1", names));
    assert!(!changed("--upstream 1 --listen [::]:5 --admin 6", &format!("{names}[log]\nlevel = \"debug\"")));
    assert!(changed("--upstream 2", names));
    assert!(changed("--upstream 1 --plain-clients allow", names));
    assert!(changed("--upstream 1", "names = [\"a\"]"));
    assert!(changed("--upstream 1", &format!("{names}upstream_mode = \"tcp\"")));
    assert!(changed("--upstream 1", &format!("{names}x_forwarded_for = \"append\"")));
    assert!(changed("--upstream 1", &format!("{names}forwarded = \"keep\"")));
    assert!(changed("--upstream 1", &format!("{names}vmpl = 1")));
}

#[test]
fn what_is_wrong_with_forwarded_is_said_with_line_and_key() {
    for (text, wanted) in [
        ("forwarded = \"append\"", "expected `replace` or `keep`"),
        ("forwarded = true", "string"),
        ("x_forwarded_for = \"replace\"", "expected `keep` or `append`"),
    ] {
        let error = refused("--upstream 1", &format!("vmpl = 0\n{text}\n"));
        let key = text.split(' ').next().unwrap();
        assert!(error.contains("line 2") && error.contains(key) && error.contains(wanted), "{text}: {error}");
    }
}

/// docs/configuration.md is the reference of the settings; this holds it to the code.
#[test]
fn every_setting_stands_in_the_documentation_with_its_default() {
    let page = include_str!("../../../docs/configuration.md");
    let (text, _) = page.split_once("## evident-client").expect("the page has a part for each program");
    let config = resolve("--upstream 1", "").unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for (name, value) in config.other_settings() {
        let key = name.strip_prefix("limits.").unwrap_or(name);
        let default =
            if value.bytes().all(|b| b.is_ascii_digit()) || value == "none" { value } else { format!("\"{value}\"") };
        let found = rows.iter().any(|row| {
            row.starts_with(&format!("| `{key}` |"))
                && (row.contains(&format!("| `{default}` |")) || row.contains(&format!("| {default} |")))
        });
        assert!(found, "{name} = {default}");
    }
    for (name, _) in config.measured_settings() {
        let key = match name {
            "clients.certificate" => "clients.ca_file",
            "clients.token" => "clients.tokens_file",
            // Follows from the upstream and the setting that lets it be elsewhere.
            "upstream_scope" => "upstream_outside_guest",
            key => key,
        };
        assert!(rows.iter().any(|row| row.starts_with(&format!("| `{key}` *"))), "{name}");
    }
}

#[test]
fn the_tpm_the_logs_and_the_metadata_have_defaults_and_can_be_named() {
    let device = resolve("--upstream 1", "").unwrap().device;
    assert_eq!(device.tpm.to_string(), "/dev/tpmrm0");
    assert_eq!(device.event_log, Path::new("/sys/kernel/security/tpm0/binary_bios_measurements"));
    assert_eq!((device.ima_list, device.metadata_url.as_str()), (None, "http://169.254.169.254"));
    let text = "[device]\ntpm = \"swtpm:path=/run/t\"\nevent_log = \"log\"\nima_list = \"/ima\"\n\
                [endorsements]\nmetadata_url = \"http://127.0.0.1:9/\"\n";
    let device = resolve("--upstream 1", text).unwrap().device;
    assert_eq!(device.tpm.to_string(), "swtpm:path=/run/t");
    assert_eq!(device.event_log, Path::new("log"));
    assert_eq!(device.ima_list.as_deref(), Some(Path::new("/ima")));
    assert_eq!(device.metadata_url, "http://127.0.0.1:9");
    let error = refused("--upstream 1", "[device]\ntpm = \"tpm0\"\n");
    assert!(error.contains("line 2, device.tpm") && error.contains("swtpm:path=PATH"), "{error}");
}
