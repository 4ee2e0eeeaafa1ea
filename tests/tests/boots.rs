//! A guest that really boots, in QEMU: its own firmware, TPM, event log and kernel, and a client outside. Its proxy quotes from
//! `/dev/tpmrm0`; the AMD-SP beside it is simulated, SIMULATED and PROVES NOTHING.

#[path = "boots/predicted.rs"]
mod predicted;

use std::path::Path;

use anyhow::{Result, ensure};
use evident_tests::binaries::{evident_client, evident_proxy};
use evident_tests::boot::{Booted, FIRMWARE, Initrd, Kernel, Launch};
use evident_tests::client::{Client, inspect};
use evident_tests::curl::curl;
use evident_tests::policy::{Platform, PolicyText};
use evident_tests::process::Program;
use evident_tests::wait;
use ratls::tcb::Product;
use simulator::cloud::gce;
use simulator::tpm::swtpm::Swtpm;
use simulator::{Pki, RsaSize};

/// What starts the proxy in the guest; the first lines of `init.sh` put everything where this expects it.
const PROXY: &str = "evident-proxy --simulate=/tmp/simulator --platform gcp --config /tmp/simulator/proxy.toml \
    --upstream 8000 --listen 0.0.0.0:8443 --admin 127.0.0.1:9100";
/// The AMD-SP is simulated, the TPM is the one that the guest's kernel has.
const SIMULATOR: &str = "small_keys = true\n[gcp]\ntpm = \"/dev/tpmrm0\"\n";
/// The machine for which the launch digest is computed.
const MACHINE: [&str; 6] = ["--vmm", "qemu", "--vcpus", "1", "--vcpu-type", "EPYC-v4"];
const CONFIG: &str = "[endorsements]\ncertificates = [\"/tmp/simulator/intermediate.der\"]\n";

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
    let (simulator, tpm) = (dir.path().join("simulator"), dir.path().join("tpm"));
    let digest = launch_digest()?;
    provision(&simulator, &tpm, &dir.path().join("tpm.sock"), &digest)?;
    let initrd = dir.path().join("initrd");
    Initrd::new(&kernel, &evident_proxy()?, &simulator, PROXY)?.write(&initrd)?;
    let launch = Launch { kernel, initrd, command_line: "console=ttyS0 quiet".to_owned(), tpm };
    let predicted = predicted::Predicted::of(&launch)?;
    let booted = Booted::start(&launch)?;
    predicted.holds(&booted)?;

    // From outside: the quote of the guest's own TPM, its event log, and the tunnel.
    let policy =
        |rules: &str| PolicyText::for_simulator(&simulator).on(Platform::Gcp).measurement(&digest).extra(rules);
    let client = Client::with_policy(booted.address(), policy(&predicted.rules())).start()?;
    let judged = inspect(booted.address(), Some(client.policy()))?.run(wait::PATIENCE)?;
    ensure!(judged.code()? == 0, "{}{}", judged.stdout, judged.stderr);
    let page = curl().arg(format!("http://{}/hello", client.listen())).run(wait::PATIENCE)?.success()?;
    ensure!(page.contains("hello from a guest that booted"), "{page}");

    // With the guest's own files in hand, the same code says level 3 of what they prove, and nothing of what they do not.
    let file = dir.path().join("files.toml");
    let in_hand = predicted.rules_of_files(dir.path(), FIRMWARE)?;
    policy(&in_hand).write(&file)?;
    let table = inspect(booted.address(), Some(&file))?.arg("--json").run(wait::PATIENCE)?.success()?;
    let table: serde_json::Value = serde_json::from_str(&table)?;
    let cell = |part: &str| {
        let cell = &table["levels"][part];
        (cell["level"].as_u64(), cell["anchor"].as_str().map(str::to_owned))
    };
    let told = ["firmware", "boot", "kernel", "userspace"].map(cell);
    let level = |level, anchor: &str| (Some(level), Some(anchor.to_owned()));
    ensure!(told[..3] == [level(3, "amd-sp"), level(3, "vtpm"), level(3, "vtpm")], "{table:#}");
    ensure!(told[3].0 == Some(0), "nothing of the userspace was compared: {table:#}");
    ensure!(table["simulated"] == true && table["verdict"] == "accepted", "{table:#}");
    let shown = inspect(booted.address(), Some(&file))?.run(wait::PATIENCE)?.success()?;
    ensure!(shown.starts_with("SIMULATED, PROVES NOTHING"), "{shown}");
    ensure!(shown.contains("◕ L3 amd-sp  ◕ L3 vtpm    ◕ L3 vtpm"), "{shown}");
    // Another kernel in hand than the one that was started.
    std::fs::write(dir.path().join(predicted::KERNEL_IN_HAND), std::fs::read(&launch.kernel.image)?)?;
    let refused = inspect(booted.address(), Some(&file))?.run(wait::PATIENCE)?;
    ensure!(refused.code()? == 3 && refused.stdout.contains("L_EVENT"), "{}", refused.stdout);

    // One thing wrong in what is expected, and the same guest is refused for it.
    for (was, instead, reason) in [
        (predicted.pcr4(), "00".repeat(32), "T_PCR"),
        (predicted.pcr9(), "00".repeat(32), "T_PCR"),
        ("quiet ".to_owned(), "quiet init=/bin/sh ".to_owned(), "L_COMMAND_LINE"),
    ] {
        let file = dir.path().join("other.toml");
        let rules = predicted.rules();
        ensure!(rules.contains(&was), "{was} is not in {rules}");
        policy(&rules.replace(&was, &instead)).write(&file)?;
        let refused = inspect(booted.address(), Some(&file))?.run(wait::PATIENCE)?;
        ensure!(refused.code()? == 3 && refused.stdout.contains(reason), "{reason}: {}", refused.stdout);
    }
    Ok(())
}

/// What an AMD-SP would measure of this firmware. The simulated one is told so.
fn launch_digest() -> Result<String> {
    let measure = Program::new(evident_client()?).args(["measure", "--firmware", FIRMWARE]).args(MACHINE);
    Ok(measure.run(wait::PATIENCE)?.success()?.trim().to_owned())
}

/// Roots and keys of the simulated AMD-SP and of a test CA in Google's place, and the TPM as Google provisions it.
fn provision(simulator: &Path, tpm: &Path, socket: &Path, digest: &str) -> Result<()> {
    let pki = Pki::load_or_create(simulator, Product::Milan, RsaSize::Bits2048)?;
    let authorities = gce::Authorities::load_or_create(simulator, &pki, RsaSize::Bits2048)?;
    std::fs::write(simulator.join("intermediate.der"), authorities.intermediate())?;
    std::fs::write(simulator.join("simulator.toml"), format!("measurement = \"{digest}\"\n{SIMULATOR}"))?;
    std::fs::write(simulator.join("proxy.toml"), CONFIG)?;
    let mut tpm = Swtpm::start(tpm, socket)?;
    // Nobody answers at that address: the intermediate is in the guest's configuration.
    gce::provision(&mut tpm, &authorities, &gce::Instance::new(), "http://127.0.0.1:1")?;
    Ok(())
}
