//! examples/federated-learning: Flower's SuperLink in the guest, two SuperNodes elsewhere, and two rounds to their end.
//!
//! Each SuperNode has its own client proxy, as it would on its own machine. The coordinator's other ports stay in the guest.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::workspace;
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Program, Running, python};

/// Two rounds take ten seconds on an idle machine; most of it is starting Python.
const RUN: Duration = Duration::from_secs(150);

#[test]
fn apps_federated_learning_finishes_its_rounds() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (fleet, control) = (free_addr()?, free_addr()?);
    let mut superlink = flower("flower-superlink", home.path())?
        .args(["--insecure", "--fleet-api-address", &fleet.to_string(), "--control-api-address", &control.to_string()])
        .args(["--serverappio-api-address", &free_addr()?.to_string()])
        .spawn()?;
    superlink.wait_for_port(fleet, PATIENCE)?;
    superlink.wait_for_port(control, PATIENCE)?;

    let guest = Guest::in_front_of(fleet).start()?;
    let clients = [Client::of(&guest, &[]).start()?, Client::of(&guest, &[]).start()?];
    let _nodes = [supernode(home.path(), clients[0].listen(), 0)?, supernode(home.path(), clients[1].listen(), 1)?];

    let config =
        format!("[superlink]\ndefault = \"here\"\n\n[superlink.here]\naddress = \"{control}\"\ninsecure = true\n");
    std::fs::write(home.path().join("config.toml"), config)?;
    let app = workspace().join("examples/federated-learning");
    let run = flower("flwr", home.path())?.arg("run").arg(app).args(["here", "--stream"]).run(RUN)?;
    let output = run.success()?;

    ensure!(output.matches("Received 2 results and 0 failures").count() == 2, "{output}");
    let line = output.lines().find(|line| line.starts_with("line: ")).context("no result")?;
    ensure!(line.contains("rounds=2 slope=3.000 intercept=1.000"), "{line}");
    Ok(())
}

fn supernode(home: &Path, superlink: SocketAddr, half: u8) -> Result<Running> {
    flower("flower-supernode", home)?
        .args(["--insecure", "--superlink", &superlink.to_string(), "--node-config", &format!("half={half}")])
        .args(["--clientappio-api-address", &free_addr()?.to_string()])
        .spawn()
}

/// A program of Flower with its files in `home`, saying nothing to its makers, and finding its own helpers.
fn flower(name: &str, home: &Path) -> Result<Program> {
    let scripts = python::python()?;
    let scripts = scripts.parent().context("a program is in a directory")?;
    let path = std::env::join_paths(
        [scripts.to_path_buf()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let program = python::console_script(name)?.env("FLWR_HOME", home).env("FLWR_TELEMETRY_ENABLED", "0");
    Ok(program.env("PATH", path).dir(home))
}
