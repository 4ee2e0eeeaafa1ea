//! What stands in `systemd/`: units that systemd takes and calls tight, and a preparation step that gives the proxy's user
//! what docs/configuration.md, "As a service", says and nothing more.
//!
//! systemd itself does not run here; that the sandbox and the proxies get on with each other is seen on a real machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use evident_proxy::cli::Cli;
use evident_proxy::config::{Config, Limits};

const UNITS: [&str; 2] = ["evident-proxy.service", "evident-client.service"];
/// `systemd-analyze security`, times ten: below 20 is its "OK". What is left over is the network and, in the guest, the
/// device.
const MAX_EXPOSURE: &str = "15";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// Whether a program of systemd is there; says the test's name where not.
fn has(program: &str, test: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: {test}: no {program}");
    }
    there
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The value of a key of a unit; the last where there are several.
fn value(unit: &str, key: &str) -> String {
    let text = fs::read_to_string(folder().join(unit)).unwrap();
    let found = text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{unit} has no {key}")).to_owned()
}

#[test]
fn systemd_takes_the_units_without_a_remark() {
    if !has("systemd-analyze", "systemd_takes_the_units_without_a_remark") {
        return;
    }
    // The programs are not installed here, so something executable stands in their place.
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        let installed =
            text.replace("/usr/bin/evident-", "/bin/true evident-").replace("/usr/libexec/evident/", "/bin/true ");
        let copy = dir.path().join(unit);
        fs::write(&copy, installed).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = text_about(&output, unit);
        assert!(output.status.success() && said.is_empty(), "{unit}: {said}");
    }
}

/// What was said about one unit; other units of this machine may have faults of their own.
fn text_about(output: &Output, unit: &str) -> String {
    text(output).lines().filter(|line| line.contains(unit)).collect::<Vec<_>>().join("\n")
}

#[test]
fn systemd_calls_the_units_tight() {
    if !has("systemd-analyze", "systemd_calls_the_units_tight") {
        return;
    }
    for unit in UNITS {
        let output = Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true", "--threshold", MAX_EXPOSURE])
            .arg(folder().join(unit))
            .output()
            .unwrap();
        assert!(output.status.success(), "{unit}: {}", text(&output));
    }
}

#[test]
fn the_user_of_the_units_is_the_one_that_is_made() {
    assert_eq!(value("evident-proxy.service", "User"), "evident");
    assert_eq!(value("evident-client.service", "DynamicUser"), "yes");
    let rule = fs::read_to_string(folder().join("udev/70-evident.rules")).unwrap();
    assert!(rule.contains(r#"KERNEL=="sev-guest", OWNER="root", GROUP="evident", MODE="0660""#));
    let test = "the_user_of_the_units_is_the_one_that_is_made";
    if !has("systemd-sysusers", test) || !is_root(test) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("usr/lib/sysusers.d");
    fs::create_dir_all(&place).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::copy(folder().join("sysusers.d/evident.conf"), place.join("evident.conf")).unwrap();
    let output = Command::new("systemd-sysusers").arg(format!("--root={}", root.path().display())).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(users.lines().any(|line| line.starts_with("evident:") && line.ends_with("/nologin")), "{users}");
}

/// `[audit]` as docs/configuration.md has it, whose folder systemd must make: nothing else outside `/run` can be written to.
#[test]
fn the_audit_log_of_the_documentation_can_be_written_under_the_unit() {
    let documents = fs::read_to_string(folder().join("../docs/configuration.md")).unwrap();
    let folder = documents.lines().find_map(|line| line.strip_prefix("folder = ")).expect("an example of [audit]");
    let made = Path::new("/var/log").join(value("evident-client.service", "LogsDirectory"));
    assert_eq!(folder.trim_matches('"'), made.to_str().unwrap());
    assert_eq!(value("evident-client.service", "LogsDirectoryMode"), "0700");
    for socket in ["socks5", "admin"] {
        let unix = documents.lines().filter_map(|line| line.strip_prefix(socket)?.strip_prefix(" = \"unix:"));
        for path in unix {
            let made = UNITS.map(|unit| format!("/run/{}/", value(unit, "RuntimeDirectory")));
            assert!(made.iter().any(|made| path.starts_with(made)), "{socket}: {path}");
        }
    }
}

/// What `Documentation=` names is a file that the commands of docs/configuration.md install.
#[test]
fn the_page_that_the_units_name_is_installed() {
    let commands = fs::read_to_string(folder().join("../docs/configuration.md")).unwrap();
    for unit in UNITS {
        let page = value(unit, "Documentation");
        let (place, name) = page.strip_prefix("file:").unwrap().rsplit_once('/').unwrap();
        let installs = |line: &str| line.contains(&format!("-t {place} ")) && line.ends_with(&format!("docs/{name}"));
        assert!(commands.lines().any(installs), "{unit}: {page}");
    }
}

#[test]
fn a_stop_waits_longer_than_the_drain() {
    let drain = Limits::default().drain_deadline.get().as_secs();
    for unit in UNITS {
        let stop: u64 = value(unit, "TimeoutStopSec").parse().unwrap();
        assert!(stop > drain, "{unit}: {stop}");
    }
}

#[test]
fn the_configuration_that_is_shipped_is_taken() {
    let file = folder().join("proxy.toml");
    let cli = Cli::try_parse_from(["evident-proxy", "--config", file.to_str().unwrap()]).unwrap();
    let config = Config::load(&cli.serve).unwrap();
    let entry = config.device.configfs_entry.expect("the entry that the preparation makes");
    let sandbox = value("evident-proxy.service", "ReadWritePaths");
    let paths: Vec<&str> = sandbox.split(' ').map(|path| path.trim_start_matches('-')).collect();
    let entry = entry.to_str().unwrap();
    assert_eq!(paths, [entry, &format!("{entry}{}", attester::detect::ORDINARY)]);
    let devices = fs::read_to_string(folder().join("evident-proxy.service")).unwrap();
    assert!(devices.contains(&format!("DeviceAllow={} rw", config.device.tpm)), "the TPM that is used");
    let cache = config.device.cache_dir.expect("a cache that survives restarts");
    assert_eq!(cache, Path::new("/var/cache").join(value("evident-proxy.service", "CacheDirectory")));
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test}: needs root");
    }
    root
}

/// The preparation, with a folder in the place of /sys and a user that every machine has.
fn prepare(sys: &Path, user: &str) -> Output {
    Command::new(folder().join("libexec/prepare")).env("EVIDENT_SYS", sys).env("EVIDENT_USER", user).output().unwrap()
}

fn file(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// (owner, group, permissions)
fn access(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
}

#[test]
fn the_preparation_gives_the_entry_and_the_logs_and_nothing_else() {
    if !is_root("the_preparation_gives_the_entry_and_the_logs_and_nothing_else") {
        return;
    }
    let sys = tempfile::tempdir().unwrap();
    let report = sys.path().join("kernel/config/tsm/report");
    let (inblob, outblob) = (report.join("evident/inblob"), report.join("evident/outblob"));
    let other = report.join("other/inblob");
    let log = sys.path().join("kernel/security/tpm0/binary_bios_measurements");
    let ascii = sys.path().join("kernel/security/tpm0/ascii_bios_measurements");
    // The permissions that the kernel gives.
    for (path, mode) in [(&inblob, 0o200), (&outblob, 0o400), (&other, 0o200), (&log, 0o440), (&ascii, 0o440)] {
        file(path, mode);
    }
    let daemon = 1;
    for _ in 0..2 {
        let output = prepare(sys.path(), "daemon");
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(access(&inblob), (daemon, 0, 0o200));
        assert_eq!(access(&outblob), (daemon, 0, 0o400));
        assert_eq!(access(&report.join("evident")).0, 0);
        assert_eq!(access(&other), (0, 0, 0o200));
        assert_eq!(access(&log), (0, daemon, 0o440));
        assert_eq!(access(&ascii), (0, 0, 0o440));
    }
}

#[test]
fn the_preparation_makes_a_second_entry_only_below_an_svsm() {
    if !is_root("the_preparation_makes_a_second_entry_only_below_an_svsm") {
        return;
    }
    let sys = tempfile::tempdir().unwrap();
    let report = sys.path().join("kernel/config/tsm/report");
    let ordinary = report.join("evident-ordinary/inblob");
    // The kernel makes the files with the folder; here they are there before.
    for path in [&report.join("evident/inblob"), &ordinary] {
        file(path, 0o200);
    }
    assert!(prepare(sys.path(), "daemon").status.success());
    assert_eq!(access(&ordinary).0, 0, "nothing is asked of a service here");
    file(&report.join("evident/service_provider"), 0o200);
    assert!(prepare(sys.path(), "daemon").status.success());
    assert_eq!(access(&ordinary), (1, 0, 0o200));
}

#[test]
fn the_preparation_passes_over_what_a_machine_does_not_have() {
    let sys = tempfile::tempdir().unwrap();
    let output = prepare(sys.path(), "daemon");
    assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
}

#[test]
fn the_preparation_fails_where_it_cannot_give_what_is_there() {
    let sys = tempfile::tempdir().unwrap();
    file(&sys.path().join("kernel/config/tsm/report/evident/inblob"), 0o200);
    let output = prepare(sys.path(), "no-such-user-here");
    assert!(!output.status.success());
    assert!(text(&output).contains("no-such-user-here"), "{}", text(&output));
}
