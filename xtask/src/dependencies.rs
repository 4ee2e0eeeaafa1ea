//! What the product depends on: licences, sources and bans (`deny.toml`), known advisories, and the oldest Rust that each
//! dependency supports.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::machine;
use crate::skips::SkippedTest;
use crate::stages::Stages;

/// The same as `rust-version` in Cargo.toml.
const MINIMUM_RUST: (u64, u64) = (1, 88);

/// Checks what needs no network, and the advisories if their database can be fetched.
pub(crate) fn check(stages: &mut Stages) {
    stages.check("dependencies: licences, bans, sources", || deny(&["bans", "licenses", "sources"]));
    stages.check("dependencies: minimum Rust", every_dependency_supports_the_minimum_rust);
    stages.check("dependencies: advisories", || {
        let fetched = Command::new("cargo").args(["deny", "fetch", "db"]).stderr(Stdio::null()).status();
        if !fetched.is_ok_and(|status| status.success()) {
            println!("skipped: advisories: the RustSec database cannot be fetched from here");
            return Ok(());
        }
        deny(&["advisories"])
    });
}

fn deny(what: &[&str]) -> Result<()> {
    machine::run(Command::new("cargo").args(["deny", "--locked", "--log-level", "error", "check"]).args(what))
}

/// A dependency that declares a newer Rust than ours breaks users of ours, whatever toolchain runs this.
fn every_dependency_supports_the_minimum_rust() -> Result<()> {
    let metadata = Command::new("cargo")
        .args(["tree", "--locked", "--workspace", "--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}"])
        .output()
        .context("running cargo tree")?;
    ensure!(metadata.status.success(), "cargo tree: {}", String::from_utf8_lossy(&metadata.stderr));
    let linked: std::collections::BTreeSet<String> = String::from_utf8_lossy(&metadata.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
        })
        .collect();
    let metadata = Command::new("cargo")
        .args(["metadata", "--locked", "--format-version", "1"])
        .stderr(Stdio::null())
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    let mut newer = Vec::new();
    for package in packages {
        let (name, version) = (text(package, "name")?, text(package, "version")?);
        let Some(declared) = package["rust_version"].as_str() else { continue };
        let needs = parse(declared).with_context(|| format!("rust-version {declared:?} of {name}"))?;
        if needs > MINIMUM_RUST && linked.contains(&format!("{name} {version}")) {
            newer.push(format!("{name} {version} needs Rust {declared}"));
        }
    }
    ensure!(newer.is_empty(), "newer than Rust {}.{}: {}", MINIMUM_RUST.0, MINIMUM_RUST.1, newer.join(", "));
    Ok(())
}

fn text<'a>(package: &'a serde_json::Value, key: &str) -> Result<&'a str> {
    package[key].as_str().with_context(|| format!("cargo metadata: a package without {key}"))
}

fn parse(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next().unwrap_or("0").parse().ok()?))
}

/// Builds with the oldest supported Rust, if rustup has it.
pub(crate) fn check_minimum_rust(stages: &mut Stages, skipped: &mut Vec<SkippedTest>) {
    const NAME: &str = "build_with_the_minimum_rust";
    let toolchain = format!("{}.{}", MINIMUM_RUST.0, MINIMUM_RUST.1);
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let has =
        listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|l| l.starts_with(&toolchain)));
    if !has {
        skipped.push(SkippedTest::new(NAME, &format!("rustup has no toolchain {toolchain}"), "aws-lc-rs"));
        return;
    }
    stages.check(&format!("build with Rust {toolchain}"), || {
        machine::run(
            Command::new("rustup")
                .args(["run", &toolchain, "cargo", "check", "--locked", "--workspace"])
                .args(["--target-dir", "target/minimum-rust"]),
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_with_and_without_a_patch() {
        assert_eq!(parse("1.88"), Some((1, 88)));
        assert_eq!(parse("1.88.0"), Some((1, 88)));
        assert_eq!(parse("1"), Some((1, 0)));
        assert_eq!(parse(""), None);
    }
}
