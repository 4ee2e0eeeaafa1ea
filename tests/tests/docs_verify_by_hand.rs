//! docs/verify_by_hand.py against a simulated guest: an auditor's own tools come to the same values as the two proxies.
//!
//! Skipped by name where `openssl` or `python3` is absent.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use evident_tests::binaries::workspace;
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Finished, Guest, Program};

fn present(test: &str) -> bool {
    let missing = ["openssl", "python3"].into_iter().find(|name| Command::new(name).arg("--version").output().is_err());
    if let Some(name) = missing {
        println!("skipped: {test}: no {name}");
    }
    missing.is_none()
}

/// A guest whose upstream nobody needs.
fn guest(simulated: &str) -> Result<Guest> {
    Guest::in_front_of(free_addr()?).simulated(simulated).start()
}

fn script() -> std::path::PathBuf {
    workspace().join("docs/verify_by_hand.py")
}

fn by_hand(script: &Path, guest: &Guest, root: &Path) -> Program {
    Program::new("python3").named("verify_by_hand.py").arg(script).arg(guest.address().to_string()).arg(root)
}

fn refusal(done: Finished) -> Result<String> {
    ensure!(done.code()? == 1, "wanted a refusal: {done:?}");
    Ok(done.stderr)
}

#[test]
fn docs_openssl_and_python_find_the_connection_in_the_report() -> Result<()> {
    if !present("docs_openssl_and_python_find_the_connection_in_the_report") {
        return Ok(());
    }
    let guest = guest("")?;
    let output = by_hand(&script(), &guest, &guest.simulator().join("root.pem")).run(PATIENCE)?.success()?;
    for line in ["bind32", "root ", "report_data", "signature   of the report verifies", "policy      0x30000, vmpl 0"]
    {
        ensure!(output.contains(line), "no {line:?} in {output}");
    }
    ensure!(output.contains(evident_tests::policy::SIMULATED_MEASUREMENT), "{output}");
    Ok(())
}

#[test]
fn docs_a_connection_that_shares_a_report_is_found_too() -> Result<()> {
    if !present("docs_a_connection_that_shares_a_report_is_found_too") {
        return Ok(());
    }
    let guest = guest("latency_ms = 1500")?;
    let root = guest.simulator().join("root.pem");
    // The first makes the device busy; the others wait for it together.
    let running: Vec<_> = (0..5).map(|_| by_hand(&script(), &guest, &root).spawn()).collect::<Result<_>>()?;
    let mut outputs = Vec::new();
    for mut one in running {
        let status = one.wait(PATIENCE)?;
        ensure!(status.success(), "{}{}", one.stdout(), one.stderr());
        outputs.push(one.stdout());
    }
    ensure!(outputs.iter().any(|output| !output.contains("of 1 connections")), "each had a report alone: {outputs:?}");
    Ok(())
}

#[test]
fn docs_another_root_and_another_exporter_are_refused() -> Result<()> {
    if !present("docs_another_root_and_another_exporter_are_refused") {
        return Ok(());
    }
    let (guest, other) = (guest("")?, guest("")?);
    let refused = refusal(by_hand(&script(), &guest, &other.simulator().join("root.pem")).run(PATIENCE)?)?;
    ensure!(refused.contains("REFUSED: openssl verify"), "{refused}");

    let dir = tempfile::tempdir()?;
    let changed = dir.path().join("changed.py");
    let text = std::fs::read_to_string(script())?;
    std::fs::write(&changed, text.replace("EXPERIMENTAL evident bind 1", "EXPERIMENTAL evident bind 2"))?;
    let refused = refusal(by_hand(&changed, &guest, &guest.simulator().join("root.pem")).run(PATIENCE)?)?;
    ensure!(refused.contains("REFUSED: this connection is not in the statement's tree"), "{refused}");
    Ok(())
}
