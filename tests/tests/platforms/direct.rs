//! SNPGuard and microCVM: no TPM, the whole guest is in the launch digest, which `evident-client measure` computes from files.

use anyhow::{Result, ensure};
use evident_tests::client::inspect;
use evident_tests::launch::Launched;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Upstream, curl};

const COMMAND_LINE: &str = "boot=verity verity_disk=/dev/vda verity_roothash=5e1f0c39d41e6c3f8e2f6a6d51c2a4d7b9e80f1273645546a7b8c9dadbecfd0e ro";

/// Accepted under the digest of these files, and a page comes through; refused for `other` files, and for DEBUG.
fn is_accepted_as_itself_only(files: &Launched, other: &Launched) -> Result<()> {
    let upstream = Upstream::http()?;
    let launched = |digest: &str| format!("measurement = \"{digest}\"\n");
    let digest = files.digest()?;
    let guest = Guest::in_front_of(upstream.address()).simulated(&launched(&digest)).start()?;
    let policy = guest.policy().measurement(&digest);
    let client = Client::with_policy(guest.address(), policy.clone()).start()?;
    let page = curl::curl().arg(format!("http://{}/bytes/5", client.listen())).run(PATIENCE)?.success()?;
    ensure!(page.len() == 5, "{page}");
    let verdict = inspect(guest.address(), Some(client.policy()))?.run(PATIENCE)?;
    ensure!(verdict.stdout.contains("SIMULATED, PROVES NOTHING"), "{}", verdict.stdout);

    let refused = |simulated: String, id: &str| -> Result<()> {
        let guest =
            Guest::in_front_of(upstream.address()).simulator(guest.simulator()).simulated(&simulated).start()?;
        let before = upstream.accepted();
        let verdict = inspect(guest.address(), Some(client.policy()))?.run(PATIENCE)?;
        ensure!(verdict.code()? == 3 && verdict.stdout.contains(id), "{id}: {}", verdict.stdout);
        ensure!(upstream.accepted() == before, "something reached the upstream");
        Ok(())
    };
    let elsewhere = other.digest()?;
    ensure!(elsewhere != digest, "the digest does not tell the two apart");
    refused(launched(&elsewhere), "R_LD")?;
    refused(format!("{}policy = 0xB_0000\n", launched(&digest)), "R_DEBUG")
}

#[test]
fn snpguard_is_accepted_with_its_command_line_and_no_other() -> Result<()> {
    let files = Launched::direct_boot(COMMAND_LINE)?;
    is_accepted_as_itself_only(&files, &Launched::direct_boot(&format!("{COMMAND_LINE} init=/bin/sh"))?)
}

#[test]
fn a_microcvm_is_accepted_with_its_userspace_and_no_other() -> Result<()> {
    let files = Launched::pages("simulated workload")?;
    is_accepted_as_itself_only(&files, &Launched::pages("simulated workload, changed")?)
}
