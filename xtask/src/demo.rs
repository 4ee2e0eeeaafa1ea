//! `cargo xtask demo`: an application that knows nothing of attestation reaches a server that knows nothing of it, through the
//! two proxies; then a tampered guest takes the server's place and is refused. With `--platform` the guest runs on an emulated machine of that
//! deployment.
//!
//! The guest's hardware is the simulator, so all of it is SIMULATED and PROVES NOTHING; it shows what happens where.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use evident_tests::binaries::workspace;
use evident_tests::client::{Client, inspect};
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Finished, Program, python};

use crate::machine;
pub(crate) use crate::scenario::Deployment;
use crate::scenario::Scenario;
use crate::stages::Stages;

const NOTICE: &str = "SIMULATED, PROVES NOTHING";
const NAME: &str = "web.example";
pub(crate) fn run(deployment: Option<Deployment>) -> Result<()> {
    println!("{NOTICE}: the guest's AMD-SP is software with roots of its own.");
    let mut stages = Stages::begin();
    stages.need("packages", || machine::install_packages(machine::FOR_DEMO))?;
    stages.need("build", build)?;
    let scenario = stages.need("the scenario", || {
        let scenario = Scenario::of(deployment)?;
        println!("{}", scenario.what);
        if let Some(measure) = scenario.measure()? {
            show(measure)?.success()?;
        }
        Ok(scenario)
    })?;

    let upstream = free_addr()?;
    let server = stages.need("an upstream: Python's http.server, unmodified", || {
        let mut server = script("server.py").arg(upstream.port().to_string()).spawn()?;
        server.wait_for_port(upstream, PATIENCE)?;
        println!("listens on {upstream}");
        Ok(server)
    })?;
    let guest = stages.need("the guest: evident-proxy --simulate in front of it", || {
        let guest = scenario.guest(upstream, &scenario.simulated).start()?;
        println!("listens on {}, {NOTICE}", guest.address());
        Ok(guest)
    })?;
    let client = stages.need("beside the application: evident-client", || {
        let client = Client::with_policy(guest.address(), scenario.policy(&guest).names(&[NAME])).start()?;
        println!("port map {}, HTTP proxy {}, SOCKS5 {}", client.listen(), client.http_proxy(), client.socks5());
        println!("its policy:\n{}", indented(&std::fs::read_to_string(client.policy())?));
        Ok(client)
    })?;

    let page = format!("http://{NAME}/hello");
    stages.need("curl, through the port map and as a proxy", || {
        show(curl().arg(format!("http://{}/hello", client.listen())))?.success()?;
        show(curl().args(["--proxy", &format!("http://{}", client.http_proxy()), &page]))?.success()?;
        show(curl().args(["--proxy", &format!("socks5h://{}", client.socks5()), &page]))?.success()
    })?;
    stages.need("a streaming client: each event as it happens", || {
        show(script("events.py").arg(format!("http://{}/events?n=8", client.listen())))?.success()
    })?;
    stages.need("the verdict", || show(inspect(guest.address(), Some(client.policy()))?)?.success())?;

    let tampered = stages.need("a tampered guest in its place, same chip, same upstream", || {
        let tampered = scenario.guest(upstream, &scenario.tampered).simulator(guest.simulator()).start()?;
        println!("listens on {}; {}, and the host may debug it", tampered.address(), scenario.tampering);
        Ok(tampered)
    })?;
    stages.need("curl again: refused, with the reason, and nothing reaches the upstream", || {
        let client = Client::with_policy(tampered.address(), scenario.policy(&guest).names(&[NAME])).start()?;
        let before = server.stderr();
        let refusal = show(curl().args(["--proxy", &format!("http://{}", client.http_proxy()), &page]))?;
        ensure!(scenario.reasons.iter().all(|id| refusal.stdout.contains(id)), "the refusal does not say why");
        ensure!(server.stderr() == before, "a request reached the upstream");
        ensure!(show(inspect(tampered.address(), Some(client.policy()))?)?.code()? == 3, "inspect does not refuse it");
        Ok(())
    })?;
    stages.need("stopping everything", || {
        drop((client, tampered, guest, server));
        Ok(())
    })?;
    println!("\n{NOTICE}");
    stages.end()
}

fn build() -> Result<()> {
    let packages = ["-p", "evident-proxy", "-p", "evident-client", "--features", "evident-proxy/simulator"];
    machine::run(Command::new("cargo").args(["build", "--locked"]).args(packages))
}

/// A script of examples/http-clients, which needs nothing but Python itself.
fn script(name: &str) -> Program {
    let path = workspace().join("examples/http-clients").join(name);
    python::without_proxies(Program::new("python3").named(name).arg("-u").arg(path))
}

fn curl() -> Program {
    python::without_proxies(Program::new("curl").args(["--disable", "--silent", "--show-error", "--max-time", "20"]))
}

/// Runs it, and prints the command and what it said.
fn show(program: Program) -> Result<Finished> {
    println!("$ {}", program.line());
    let done = program.run(Duration::from_secs(60))?;
    println!("{}", indented(&format!("{}{}", done.stdout, done.stderr)));
    Ok(done)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
