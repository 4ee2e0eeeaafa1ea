//! From flags and a configuration file to what is served, and each mistake that is refused.

use super::*;
use std::fs;

use clap::Parser;

use crate::cli::Cli;

/// A folder with a policy that parses; what it accepts does not matter here.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("p.toml", &policy("names = [\"llm.example\"]"));
        folder.write("nameless.toml", &policy(""));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn load(&self, line: &str) -> Result<Config, ConfigError> {
        let folder = self.0.path().display().to_string();
        let line = line.replace("$D", &folder);
        let cli = Cli::try_parse_from(std::iter::once("evident-client").chain(line.split_whitespace())).unwrap();
        Config::load(&cli.run)
    }

    fn of_file(&self, text: &str) -> Result<Config, ConfigError> {
        self.write("c.toml", text);
        self.load("--config $D/c.toml")
    }

    fn refused(&self, text: &str) -> String {
        self.of_file(text).unwrap_err().to_string()
    }
}

fn policy(names: &str) -> String {
    let measurement = "ab".repeat(48);
    format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n{names}\n\
         [snp]\nmeasurements = [\"{measurement}\"]\nsigning_keys = [\"vcek\"]\n\
         [snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n"
    )
}

const GUEST: &str = "[[guest]]\nnames = [\"llm.example\"]\naddresses = [\"203.0.113.7:8443\"]\npolicy = \"p.toml\"\n";

#[test]
fn flags_alone_are_enough() {
    let config = Folder::new()
        .load("--guest g.example:8443 --policy $D/p.toml --listen 8080 --http-proxy [::1]:3128 --socks5 unix:/run/s")
        .unwrap();
    assert_eq!(config.guests.len(), 1);
    assert_eq!(config.guests[0].listen, Some(Addr::loopback(8080)));
    assert_eq!(config.guests[0].label, "g.example:8443");
    assert_eq!(config.router.route("llm.example:443"), Some(0));
    assert_eq!(config.router.route("g.example:8443"), None);
    assert_eq!(config.limits.idle, None);
    assert!(!config.add_verdict_headers);
    assert!(config.cautions().is_empty());
}

#[test]
fn a_file_says_everything() {
    let folder = Folder::new();
    folder.write("token", "s3cret-s3cret-s3cret-s3cret\n");
    let config = folder
        .of_file(&format!(
            "http_proxy = \"127.0.0.1:3128\"\nadmin = \"9000\"\nadd_verdict_headers = true\n{GUEST}\
             token_file = \"token\"\nlisten = \"0.0.0.0:8080\"\n\
             [[guest]]\naddresses = [\"g2.example:8443\", \"[2001:db8::2]:8443\"]\npolicy = \"nameless.toml\"\n\
             names = [\"other.example:80\"]\nserver_name = \"g2\"\n\
             client_certificate = \"c.pem\"\nclient_key = \"k.pem\"\n\
             [limits]\nidle = \"15m\"\nconnections = 10\n[log]\nformat = \"json\"\n"
        ))
        .unwrap();
    assert_eq!(config.guests.len(), 2);
    assert_eq!(config.guests[0].token.as_ref().unwrap().as_bytes(), b"s3cret-s3cret-s3cret-s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
    assert_eq!(config.guests[1].addresses.len(), 2);
    assert!(config.guests[1].client_certificate.as_ref().unwrap().key.is_absolute());
    assert_eq!(config.router.route("other.example:80"), Some(1));
    assert_eq!(config.router.route("other.example:81"), None);
    assert_eq!(config.limits.idle, Some(Duration::from_secs(900)));
    assert_eq!(config.limits.connections, 10);
    assert_eq!(config.log_format, Format::Json);
    let cautions = config.cautions();
    assert!(cautions.len() == 1 && cautions[0].contains("0.0.0.0:8080"), "{cautions:?}");
}

#[test]
fn a_policy_whose_digests_are_placeholders_is_named_at_start() {
    let folder = Folder::new();
    folder.write("copied.toml", &policy("").replace(&"ab".repeat(48), &"1".repeat(96)));
    let config = folder.load("--guest g.example:8443 --policy $D/copied.toml --listen 8080").unwrap();
    let cautions = config.cautions();
    assert_eq!(cautions.len(), 1, "{cautions:?}");
    assert!(cautions[0].contains("copied.toml: measurements: "), "{cautions:?}");
}

#[test]
fn flags_override_the_file() {
    let folder = Folder::new();
    folder.write("c.toml", &format!("http_proxy = \"1111\"\n[log]\nformat = \"json\"\n{GUEST}"));
    let config = folder.load("--config $D/c.toml --http-proxy 2222 --log-format text").unwrap();
    assert_eq!(config.http_proxy, Some(Addr::loopback(2222)));
    assert_eq!(config.log_format, Format::Text);
}

#[test]
fn proto_p1_errors_name_file_line_and_key() {
    let folder = Folder::new();
    for (text, wanted) in [
        ("listen = \"8080\"\nlisten_to = 1\n", "c.toml:2: listen_to: unknown field"),
        ("listen = 8080\n", "c.toml:1: listen: "),
        ("[limits]\n\nidle = \"10\"\n", "c.toml:3: limits.idle: \"10\" is not a length of time"),
        ("[limits]\nattest = \"off\"\n", "c.toml:2: limits.attest: \"off\" is not possible"),
        ("[limits]\nconnections = 0\n", "c.toml:2: limits.connections: "),
        ("[limits]\nhead_bytes = 100\n", "c.toml:2: limits.head_bytes: 100 bytes; wanted"),
        (
            "[audit]\nfolder = \"a\"\non_failure = \"ignore\"\n",
            "c.toml:3: audit.on_failure: unknown variant `ignore`, expected `refuse` or `serve`",
        ),
        ("[audit]\nfolder = \"a\"\non_failure = true\n", "c.toml:3: audit.on_failure: "),
        ("[log]\nformat = \"xml\"\n", "c.toml:2: log.format: "),
        ("[[guest]]\naddresses = [\"g:1\"]\n", "policy"),
        ("[[guest]]\npolicy = \"p.toml\"\n", "addresses"),
        ("[[guest]]\naddresses = []\npolicy = \"p.toml\"\n", "c.toml:2: guest.addresses: 0 addresses"),
        ("[[guest]]\naddresses = [\"g\"]\npolicy = \"p.toml\"\n", "c.toml:2: guest.addresses: \"g\" has no port"),
        ("[[guest]]\naddresses = [\"g:0\"]\npolicy = \"p.toml\"\n", "c.toml:2: guest.addresses: g:0 has port 0"),
        ("[[guest]]\naddresses = [\"g:1\"]\npolicy = \"p.toml\"\nnames = []\n", "c.toml:4: guest.names: an empty list"),
        (
            "[[guest]]\naddresses = [\"g:1\"]\npolicy = \"p.toml\"\nclient_key = \"k\"\n",
            "c.toml:4: guest.client_certificate: client_certificate and client_key go together",
        ),
        ("a = ", "c.toml:1: a: "),
    ] {
        let refused = folder.refused(text);
        assert!(refused.contains(wanted), "{text}: {refused}");
    }
}

#[test]
fn i6_a_guest_without_a_policy_does_not_start() {
    let folder = Folder::new();
    assert!(matches!(folder.load("--guest g:1 --listen 0"), Err(ConfigError::NoPolicy)));
    folder.write("empty.toml", &policy("").replace("identity", "#"));
    assert!(matches!(
        folder.load("--guest g:1 --policy $D/empty.toml --listen 0"),
        Err(ConfigError::Policy { source, .. }) if matches!(*source, LoadError::Policy(_))
    ));
    assert!(matches!(
        folder.load("--guest g:1 --policy $D/none.toml --listen 0"),
        Err(ConfigError::Policy { source, .. }) if matches!(*source, LoadError::File(_))
    ));
}

#[test]
fn refuses_what_would_serve_nobody_or_somebody_else() {
    let folder = Folder::new();
    let flags = "--guest g:1 --policy $D/p.toml";
    assert!(matches!(folder.load(flags), Err(ConfigError::NoWayIn)));
    assert!(matches!(folder.load("--listen 1"), Err(ConfigError::NoGuest)));
    assert!(matches!(folder.load("--policy $D/p.toml --listen 1"), Err(ConfigError::PolicyWithoutGuest)));
    let nameless = folder.load("--guest g:1 --policy $D/nameless.toml --http-proxy 1");
    assert!(matches!(nameless, Err(ConfigError::NoNames { .. })));
    assert!(folder.load("--guest g:1 --policy $D/nameless.toml --listen 1").is_ok());
    let same = folder.load(&format!("{flags} --listen 1 --socks5 127.0.0.1:1"));
    assert!(matches!(same, Err(ConfigError::SameAddress { .. })), "{same:?}");
    assert!(folder.load(&format!("{flags} --listen 0 --socks5 0")).is_ok());
    let admin = folder.load(&format!("{flags} --listen 1 --admin 0.0.0.0:9000"));
    assert!(matches!(admin, Err(ConfigError::Admin(_))));
    folder.write("c.toml", GUEST);
    assert!(matches!(
        folder.load(&format!("{flags} --config $D/c.toml --listen 1")),
        Err(ConfigError::GuestTwice { .. })
    ));
    let two = format!("listen = \"1\"\n{GUEST}{}", GUEST.replace("llm", "llm2"));
    assert!(matches!(folder.of_file(&two), Err(ConfigError::ListenAmbiguous { guests: 2 })));
    let twice = format!("socks5 = \"1\"\n{GUEST}{GUEST}");
    assert!(matches!(folder.of_file(&twice), Err(ConfigError::Names(RouterError::Duplicate { .. }))));
}

#[test]
fn a_token_is_one_line() {
    let folder = Folder::new();
    let too_long = "a".repeat(MAX_TOKEN_BYTES + 1);
    for (text, problem) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a\nb", "more than one line"),
        ("123456789012345678901\n", "fewer than 22 characters"),
        (&too_long, "longer"),
    ] {
        folder.write("t", text);
        let refused =
            folder.load("--guest g:1 --policy $D/p.toml --listen 0 --token-file $D/t").unwrap_err().to_string();
        assert!(refused.contains(problem), "{text:?}: {refused}");
    }
}

#[test]
fn says_which_file_cannot_be_read_who_names_it_and_what_to_do() {
    let folder = Folder::new();
    folder.write("rootless.toml", &(policy("") + "[roots]\nsimulator = \"none.pem\"\n"));
    let of_file = |text: &str| folder.of_file(&format!("listen = \"0\"\n{text}"));
    let flags = "--guest g:1 --listen 0 --policy";
    for (refused, origin, file, next) in [
        (folder.load("--config $D/none.toml --listen 0"), "--config: ", "none.toml", "permissions of the file"),
        (folder.load(&format!("{flags} $D/none.toml")), "--policy: ", "none.toml", "permissions of the policy file"),
        (
            folder.load(&format!("{flags} $D/rootless.toml")),
            "roots.simulator: ",
            "none.pem",
            "copy the simulator's root",
        ),
        (
            folder.load(&format!("{flags} $D/p.toml --token-file $D/none")),
            "--token-file: ",
            "none",
            "permissions of the file",
        ),
        (of_file(&GUEST.replace("p.toml", "none.toml")), "c.toml:5: guest.policy: ", "none.toml", "permissions"),
        (of_file(&format!("{GUEST}token_file = \"none\"\n")), "c.toml:6: guest.token_file: ", "none", "permissions"),
    ] {
        let refused = refused.unwrap_err();
        let said = proxy_core::exit::chain(&refused);
        assert!(said.contains(origin) && said.contains(file) && said.ends_with("(os error 2)"), "{said}");
        assert!(refused.next_step().is_some_and(|step| step.contains(next)), "{said}: {:?}", refused.next_step());
    }
}
