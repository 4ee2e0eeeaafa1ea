//! ARCHITECTURE.md's rules about what may know what, as tests: dependencies by `cargo tree`, everything else by reading sources.
//!
//! Reading is by substrings after comments and unit tests are cut off. It finds what somebody does by habit, not what somebody
//! hides. That signatures are checked over the bytes received is not visible this way; byte-flip tests hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::workspace;

/// The libraries that know neither I/O nor time.
const CORE: [&str; 6] = ["ratls/formats", "ratls/measure", "ratls/findings", "ratls/verify", "ratls/appraise", "ratls"];
/// What ships.
const PRODUCT: [&str; 10] = [
    "ratls/formats",
    "ratls/measure",
    "ratls/findings",
    "ratls/verify",
    "ratls/appraise",
    "ratls",
    "attester",
    "proxy-core",
    "proxy-guest",
    "proxy-client",
];

/// What ships, and the simulator.
fn crates() -> Vec<&'static str> {
    [&PRODUCT[..], &["simulator"]].concat()
}

// ---- dependencies

fn cargo_tree(args: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args(["tree", "--offline", "--locked", "--edges", "normal"])
        .args(args)
        .output()
        .context("running cargo tree")?;
    ensure!(output.status.success(), "cargo tree {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Names of everything that is linked into `package`.
fn linked(package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    let tree = cargo_tree(&[&["--package", package, "--prefix", "none", "--format", "{p}"], features].concat())?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// Who depends directly on whom, in the whole workspace with every feature that adds a dependency.
fn dependents() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let tree = cargo_tree(&["--workspace", "--all-features", "--prefix", "depth", "--format", " {p}"])?;
    let mut path: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, package) = line.split_once(' ').context("a line of cargo tree")?;
        let name = package.split(' ').next().unwrap_or_default().to_owned();
        path.truncate(depth.parse()?);
        let known = found.entry(name.clone()).or_default();
        known.extend(path.last().cloned());
        path.push(name);
    }
    Ok(found)
}

#[test]
fn our_crates_depend_on_each_other_in_one_direction() -> Result<()> {
    let dependents = dependents()?;
    let wanted: [(&str, &[&str]); 12] = [
        ("evident-formats", &["evident-measure", "evident-verify", "evident-appraise", "ratls"]),
        ("evident-measure", &["evident-verify", "evident-appraise", "ratls"]),
        ("evident-findings", &["evident-verify", "evident-appraise", "ratls"]),
        ("evident-verify", &["evident-appraise", "ratls"]),
        ("evident-appraise", &["ratls"]),
        ("ratls", &["attester", "proxy-core", "evident-proxy", "evident-client", "simulator", "evident-bench"]),
        ("attester", &["evident-proxy", "simulator"]),
        ("proxy-core", &["evident-proxy", "evident-client", "evident-bench"]),
        ("simulator", &["evident-proxy", "evident-bench"]),
        ("evident-proxy", &[]),
        ("evident-client", &[]),
        ("evident-tests", &["xtask"]),
    ];
    for (name, allowed) in wanted {
        let seen = dependents.get(name).with_context(|| format!("{name} is not in the workspace"))?;
        let foreign: Vec<_> = seen.iter().filter(|who| !allowed.contains(&who.as_str())).collect();
        ensure!(foreign.is_empty(), "{foreign:?} may not depend on {name}");
    }
    Ok(())
}

#[test]
fn the_core_links_no_runtime_no_network_no_device_and_no_random_numbers() -> Result<()> {
    let banned =
        ["tokio", "mio", "socket2", "hyper", "http", "rustls", "reqwest", "sev", "tss-esapi", "rand", "tracing"];
    for features in [&[][..], &["--no-default-features", "--features", "ring"]] {
        let linked = linked("ratls", features)?;
        ensure!(linked.contains("x509-parser"), "this is not the tree of ratls: {linked:?}");
        let seen: Vec<_> = banned.iter().filter(|name| linked.contains(**name)).collect();
        ensure!(seen.is_empty(), "ratls links {seen:?} with {features:?}");
    }
    Ok(())
}

#[test]
fn the_client_links_no_device_and_no_release_links_the_simulator() -> Result<()> {
    let client = linked("evident-client", &[])?;
    for name in ["attester", "sev", "tss-esapi", "simulator", "openssl-sys"] {
        ensure!(!client.contains(name), "evident-client links {name}");
    }
    ensure!(
        !linked("evident-proxy", &[])?.contains("simulator"),
        "evident-proxy links the simulator without the feature"
    );
    ensure!(linked("evident-proxy", &["--features", "simulator"])?.contains("simulator"), "the feature adds nothing");
    Ok(())
}

// ---- sources

/// Every source file of a crate, by its path in the workspace, without comments and unit tests.
fn sources(name: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(name).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_for_tests(&path) {
                let text = without_comments_and_tests(&std::fs::read_to_string(&path)?);
                found.push((relative(&path), text));
            }
        }
    }
    ensure!(!found.is_empty(), "no sources of {name}");
    Ok(found)
}

/// Unit tests in files of their own: `tests.rs`, `x_tests.rs`, or below `tests/`.
fn is_for_tests(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name == "tests.rs" || name.ends_with("_tests.rs") || Path::new(&relative(path)).iter().any(|part| part == "tests")
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// Unit tests stand last in a file, in `mod tests` (CONTRIBUTING.md).
fn without_comments_and_tests(text: &str) -> String {
    let end = ["#[cfg(test)]\nmod tests", "#[cfg(test)]\npub(crate) mod tests", "#[cfg(doctest)]"];
    let end = end.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let code = |line: &str| match line.find("//") {
        Some(at) if line[..at].trim().is_empty() || line[..at].ends_with(' ') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    text[..end].lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Where any of these words stands, except in the files named.
fn uses(crates: &[&str], words: &[&str], except: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut unused: BTreeSet<&str> = except.iter().copied().collect();
    for name in crates {
        for (path, text) in sources(name)? {
            for word in words.iter().filter(|word| text.contains(**word)) {
                if except.contains(&path.as_str()) {
                    unused.remove(path.as_str());
                } else {
                    found.push(format!("{path}: {word}"));
                }
            }
        }
    }
    ensure!(unused.is_empty(), "these need no exception any more: {unused:?}");
    Ok(found)
}

fn none(found: &[String], rule: &str) -> Result<()> {
    ensure!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn the_core_does_no_io_reads_no_clock_and_draws_no_random_numbers() -> Result<()> {
    let io =
        ["std::net", "std::fs", "std::env", "std::io", "std::process", "std::thread", "print!", "println!", "dbg!"];
    let time = ["SystemTime", "Instant", "now_utc", "Utc::now", "now_local"];
    let random = ["SystemRandom", "SecureRandom", "getrandom", "rand::", "rand_"];
    let waiting = ["async ", ".await", "tokio"];
    let words = [&io[..], &time, &random, &waiting].concat();
    none(&uses(&CORE, &words, &[])?, "ratls is bytes and a time in, a result out")
}

#[test]
fn wall_time_enters_at_one_place_in_each_program() -> Result<()> {
    let places = [
        "proxy-guest/src/start.rs",
        "proxy-client/src/dial.rs",
        // The name of a folder, not a time.
        "attester/src/configfs.rs",
        // Emulated documents and files have the time at which they were made.
        "simulator/src/cloud/aws.rs",
        "simulator/src/configfs/fs.rs",
    ];
    none(&uses(&crates(), &["SystemTime", "now_utc", "Utc::now", "now_local"], &places)?, "the clock is read elsewhere")
}

#[test]
fn tasks_and_threads_are_started_in_one_place() -> Result<()> {
    let places = [
        "proxy-core/src/tasks.rs",
        // One per core, each with a runtime.
        "proxy-core/src/workers.rs",
        // The report device blocks; its thread ends with the batcher.
        "attester/src/batcher/mod.rs",
        // A TPM blocks too; its thread ends with the last door to it.
        "attester/src/tpm/queue.rs",
        // Reads the system's certificates, awaited at once.
        "attester/src/kds/http.rs",
        // Standard error may never take a line, nor the service manager a datagram; both threads end with the process.
        "proxy-core/src/log_writer.rs",
        "proxy-core/src/notify.rs",
        // A disk blocks as well; its thread ends with the audit log.
        "proxy-client/src/audit/log.rs",
        // No part of a release: threads that end with the emulated TPM's sockets.
        "simulator/src/tpm/front.rs",
        "simulator/src/cloud/http.rs",
    ];
    let words =
        ["tokio::spawn", "task::spawn", "spawn_local", "thread::spawn", "thread::Builder", "TokioExecutor", "JoinSet"];
    none(&uses(&crates(), &words, &places)?, "only proxy-core/src/tasks.rs spawns")
}

#[test]
fn nothing_prints_by_a_macro_that_panics_and_nothing_exits() -> Result<()> {
    none(&uses(&crates(), &["process::exit", "process::abort"], &[])?, "a program ends by returning from main")?;
    none(&uses(&crates(), &["print!(", "println!(", "dbg!("], &[])?, "only proxy-core/src/console.rs prints")
}

#[test]
fn roots_come_from_the_binary_or_from_a_file_that_the_operator_names() -> Result<()> {
    let places = [
        "ratls/verify/src/endorsement/roots.rs",
        // The file that the policy names.
        "proxy-client/src/tools/policy.rs",
        // The guest's own device, for its verdict on itself.
        "proxy-guest/src/simulate.rs",
    ];
    none(&uses(&crates(), &["with_simulator_root"], &places)?, "a root is added elsewhere")?;
    none(
        &uses(&PRODUCT, &["ark-", "ARK_MILAN"], &["ratls/verify/src/endorsement/roots.rs"])?,
        "AMD's roots stand in one file",
    )
}

#[test]
fn crypto_libraries_are_named_in_five_files() -> Result<()> {
    let places = [
        "ratls/formats/src/crypto.rs",
        "proxy-core/src/tls/config.rs",
        // Records are sealed where they lie, which rustls' own interface does not allow.
        "proxy-core/src/tls/aead.rs",
        "attester/src/kds/http.rs",
        // OAEP, which one backend has, and which draws random numbers.
        "proxy-client/src/credential.rs",
    ];
    none(
        &uses(&PRODUCT, &["aws_lc_rs", " ring::", "::ring::", "(ring::"], &places)?,
        "a crypto backend is named elsewhere",
    )
}

#[test]
fn no_crate_allows_unsafe_code() -> Result<()> {
    let manifest: toml::Table = std::fs::read_to_string(workspace().join("Cargo.toml"))?.parse()?;
    ensure!(manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str() == Some("forbid"), "the workspace's lints");
    for name in crates() {
        let path: PathBuf = workspace().join(name).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(&path)?.parse()?;
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        ensure!(inherits == Some(true), "{} does not take the workspace's lints", path.display());
    }
    Ok(())
}
