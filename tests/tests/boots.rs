//! A guest that really boots, in QEMU: its own firmware, TPM, event log and kernel, and a client outside.

#[path = "boots/predicted.rs"]
mod predicted;

use anyhow::{Result, ensure};
use evident_tests::binaries::evident_proxy;
use evident_tests::boot::{Booted, Initrd, Kernel, Launch};
use evident_tests::client::{Client, inspect};
use evident_tests::curl::curl;
use evident_tests::policy::PolicyText;
use evident_tests::wait;
use ratls::tcb::Product;
use simulator::{Pki, RsaSize};

/// What starts the proxy in the guest; the first lines of `init.sh` put everything where this expects it.
const PROXY: &str =
    "evident-proxy --simulate=/tmp/simulator --upstream 8000 --listen 0.0.0.0:8443 --admin 127.0.0.1:9100";

/// Boots once, because that takes a quarter of a minute, and looks at everything.
#[test]
fn a_guest_that_boots_is_attested_and_serves_through_the_tunnel_heavy() -> Result<()> {
    let kernel = match Kernel::find() {
        Ok(kernel) => kernel,
        Err(error) => {
            println!("skipped: a_guest_that_boots_is_attested_and_serves_through_the_tunnel_heavy: {error}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let simulator = dir.path().join("simulator");
    Pki::load_or_create(&simulator, Product::Milan, RsaSize::Bits2048)?;
    let initrd = dir.path().join("initrd");
    Initrd::new(&kernel, &evident_proxy()?, &simulator, PROXY)?.write(&initrd)?;
    let launch = Launch { kernel, initrd, command_line: "console=ttyS0 quiet".to_owned() };
    let predicted = predicted::Predicted::of(&launch)?;
    let booted = Booted::start(&launch)?;
    predicted.holds(&booted)?;
    let said = booted.said();
    ensure!(booted.pcrs().len() == 24, "the guest's kernel shows all registers: {said:?}");
    ensure!(said.iter().any(|line| line.starts_with("event log") && !line.contains(" 0 bytes")), "{said:?}");

    let policy = PolicyText::for_simulator(&simulator);
    let client = Client::with_policy(booted.address(), policy).start()?;
    let judged = inspect(booted.address(), Some(client.policy()))?.run(wait::PATIENCE)?;
    ensure!(judged.code()? == 0, "{}{}", judged.stdout, judged.stderr);
    let page = curl().arg(format!("http://{}/hello", client.listen())).run(wait::PATIENCE)?.success()?;
    ensure!(page.contains("hello from a guest that booted"), "{page}");
    Ok(())
}
