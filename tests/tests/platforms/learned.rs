//! `policy learn` of each deployment: the policy that it writes accepts nobody, accepts the same guest once its questions are answered,
//! and refuses the guest with another command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use evident_client::tools::study::{LearnArgs, learn};
use evident_client::tools::verify::{VerifyArgs, verify};
use evident_tests::client::inspect;
use evident_tests::launch::Launched;
use evident_tests::wait::PATIENCE;
use evident_tests::{Guest as Process, Upstream};
use ratls::policy::AppraisalPolicy;
use serde_json::Value;
use simulator::boot::Guest as Booted;

use crate::guest::{Deployment, Guest, WITH_TPM};
use crate::policies;

#[derive(Parser)]
struct Verify {
    #[command(flatten)]
    args: VerifyArgs,
}

/// A folder in which an author works.
struct Desk {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Desk {
    fn new(root: &Path) -> Desk {
        Desk { dir: tempfile::tempdir().unwrap(), root: root.to_owned() }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn bundle(&self, name: &str, guest: &Guest) -> String {
        std::fs::write(self.at(name), guest.bundle().await.encode()).unwrap();
        self.at(name)
    }

    /// What `policy learn` writes.
    async fn learn(&self, subject: &str, command_line: Option<&str>) -> String {
        let args = LearnArgs {
            subject: subject.to_owned(),
            simulator_root: Some(self.root.clone()),
            command_line: command_line.map(str::to_owned),
        };
        let output = learn(&args).await;
        assert_eq!(output.exit, 0, "{}", output.stderr);
        assert!(output.stdout.contains("SEEN IS NOT TRUSTED"), "{}", output.stdout);
        let unanswered = AppraisalPolicy::parse(&output.stdout, "learned.toml").unwrap_err();
        assert_eq!(unanswered.key(), "identity", "{unanswered}\n{}", output.stdout);
        output.stdout
    }

    /// The answers of somebody who wants this guest, written to a file. Whatever else is commented out stays so.
    fn answered(&self, learned: &str) -> String {
        let mut text = learned.replacen("version = 1\n", "version = 1\nidentity = \"any\"\n", 1);
        for answer in ["smt = \"allow\"", "[roots]"] {
            let question = format!("\n# {answer}");
            assert!(text.contains(&question), "{answer} is no answer in {text}");
            text = text.replace(&question, &format!("\n{answer}"));
        }
        // A judgement about the initrd, which not every command line asks for.
        let text = text.replace("\n# verity_key", "\nverity_key");
        let text = text.replace("\n# simulator = \"root.pem\"", &format!("\nsimulator = {:?}", self.root));
        std::fs::write(self.at("answered.toml"), text).unwrap();
        self.at("answered.toml")
    }

    /// The verdict of `verify` on a bundle, and its exit code.
    fn judged(&self, policy: &str, bundle: &str) -> (u8, Value) {
        let args = Verify::parse_from(["verify", "--json", "--policy", policy, bundle]).args;
        let output = verify(&args, evident_client::dial::now());
        let json = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{policy}: {}", output.stderr));
        (output.exit, json)
    }
}

fn levels(verdict: &Value) -> Vec<u64> {
    let of = |part| verdict["levels_if_fresh"][part]["level"].as_u64().unwrap();
    ["firmware", "boot", "kernel", "userspace"].map(of).into()
}

fn fatal(verdict: &Value) -> Vec<&str> {
    let findings = verdict["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "fatal");
    findings.map(|finding| finding["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_of_a_guest_with_a_tpm_accepts_it_at_l2_and_no_other_command_line() {
    for deployment in WITH_TPM.into_iter().filter(|of| *of != Deployment::Svsm || policies::proves_aks()) {
        let guest = Guest::start(deployment).await;
        let desk = Desk::new(&guest.roots());
        let bundle = desk.bundle("bundle", &guest).await;
        let unified = matches!(deployment, Deployment::Aws | Deployment::Svsm);
        let line = unified.then(|| Booted::new(deployment.firmware()).command_line);
        let learned = desk.learn(&bundle, line.as_deref()).await;
        let policy = desk.answered(&learned);
        let (exit, verdict) = desk.judged(&policy, &bundle);
        assert_eq!((exit, &verdict["verdict"]), (0, &"accepted".into()), "{deployment:?}: {verdict:#}\n{learned}");
        // That a file says that its key was proven proves nothing to who reads it.
        let witnessed = deployment == Deployment::Svsm;
        let wanted = if witnessed { [2, 0, 0, 0] } else { [2, 2, 2, 2] };
        assert_eq!(levels(&verdict), wanted, "{deployment:?}: {verdict:#}\n{learned}");
        let row = if witnessed { "firmware" } else { "boot" };
        let why = verdict["levels_if_fresh"][row]["why"].as_str().unwrap();
        assert!(why.contains("learned from an earlier connection"), "{deployment:?}: {why}");

        let other = guest.beside("[boot]\ncommand_line = \"root=/dev/vda ro init=/bin/sh\"\n").await;
        let (exit, verdict) = desk.judged(&policy, &desk.bundle("other", &other).await);
        assert_eq!(exit, 3, "{deployment:?}: {verdict:#}");
        assert!(fatal(&verdict).iter().all(|id| matches!(*id, "L_COMMAND_LINE" | "L_EVENT")), "{verdict:#}");
        assert!(fatal(&verdict).contains(&"L_COMMAND_LINE"), "{deployment:?}: {verdict:#}");
    }
}

/// The log of a unified kernel image has the digest of its command line. It is pinned, and not taken for known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_that_nobody_has_read_is_pinned_and_holds_the_kernel_at_l1() {
    let guest = Guest::start(Deployment::Aws).await;
    let desk = Desk::new(&guest.roots());
    let bundle = desk.bundle("bundle", &guest).await;
    let learned = desk.learn(&bundle, None).await;
    assert!(learned.contains("a command line was measured whose text is not in the log"), "{learned}");
    let policy = desk.answered(&learned);
    let (exit, verdict) = desk.judged(&policy, &bundle);
    // An IMA list came, which nobody compared.
    assert_eq!((exit, levels(&verdict)), (0, vec![2, 2, 1, 1]), "{verdict:#}");
    let why = verdict["levels_if_fresh"]["kernel"]["why"].as_str().unwrap();
    assert!(why.contains("what it says is not known"), "{why}");
    let other = guest.beside("[boot]\ncommand_line = \"root=/dev/vda ro init=/bin/sh\"\n").await;
    let (exit, verdict) = desk.judged(&policy, &desk.bundle("other", &other).await);
    assert!(exit == 3 && fatal(&verdict).contains(&"L_COMMAND_LINE"), "{verdict:#}");

    let told = LearnArgs {
        subject: bundle,
        simulator_root: Some(guest.roots()),
        command_line: Some("root=/dev/vda ro".to_owned()),
    };
    let output = learn(&told).await;
    assert!(output.exit == 3 && output.stdout.is_empty(), "a line that was not measured is not written down");
    assert!(output.stderr.contains("holds this command line"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cloud_is_asked_whose_machine_it_is_and_what_it_weakens_stays_a_question() {
    for (deployment, answers) in [
        (
            Deployment::Azure,
            &["# tpm = { azure_vm_ids = [", "\nak_certificate = \"require\"", "\n# console = \"allow\""][..],
        ),
        (Deployment::Gcp, &["# tpm = { gce_instance_ids = [", "\nprojects = [\"evident-simulated\"]", "\nzones = ["]),
        (Deployment::Aws, &["# tpm = { ec2_instance_ids = [\"i-", "\nvtpm = \"document\"", "\ncsp = ["]),
        (
            Deployment::Svsm,
            &["# tpm = { ak_names = [\"000b", "\nak = \"proven\"", "# The SVSM's manifest names the EK 000b"],
        ),
    ] {
        let settings = match deployment {
            Deployment::Azure => {
                "[azure]\nregeneration_ms = 0\n\nconsole = true\n[boot]\nsecure_boot = false\nima = true\n"
            }
            _ => "[boot]\nsecure_boot = false\nima = true\n",
        };
        if deployment == Deployment::Svsm && !policies::proves_aks() {
            continue;
        }
        let guest = Guest::simulated(deployment, settings).await;
        let desk = Desk::new(&guest.roots());
        // From the guest itself.
        let learned = desk.learn(&guest.address().to_string(), None).await;
        for answer in answers {
            assert!(learned.contains(answer), "{deployment:?}: {answer:?} is not in {learned}");
        }
        assert!(learned.contains("\n# secure_boot = \"not required\"\n"), "{deployment:?}: {learned}");
        assert!(learned.contains("\n# [tpm.pcrs.") && learned.contains("compared with nothing"), "{learned}");
        assert!(
            !learned.contains("\n[event_log.ima]") && learned.contains("IMA measured"),
            "{deployment:?}: {learned}"
        );
        let policy = desk.answered(&learned);
        let (exit, verdict) = desk.judged(&policy, &desk.bundle("bundle", &guest).await);
        assert!(exit == 3 && fatal(&verdict).contains(&"L_SECURE_BOOT"), "{deployment:?}: {verdict:#}");
    }
}

/// SNPGuard and microCVM: all of it is in the launch measurement, which is pinned as a digest.
fn of_a_launch(files: &Launched, other: &Launched) -> Result<()> {
    let upstream = Upstream::http()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let guest = |files: &Launched, first: Option<&Process>| {
        let simulated = format!("measurement = \"{}\"\n", files.digest()?);
        let guest = Process::in_front_of(upstream.address()).simulated(&simulated);
        match first {
            None => guest.start(),
            Some(first) => guest.simulator(first.simulator()).start(),
        }
    };
    let first = guest(files, None)?;
    let desk = Desk::new(&first.simulator().join("root.pem"));
    let save = |guest: &Process, name: &str| -> Result<String> {
        inspect(guest.address(), None)?.args(["--save", &desk.at(name)]).run(PATIENCE)?;
        std::fs::metadata(desk.at(name)).context("nothing was saved")?;
        Ok(desk.at(name))
    };
    let bundle = save(&first, "bundle")?;
    let policy = desk.answered(&runtime.block_on(desk.learn(&bundle, None)));
    let (exit, verdict) = desk.judged(&policy, &bundle);
    ensure!(exit == 0 && levels(&verdict)[0] == 2, "{verdict:#}");
    let second = guest(other, Some(&first))?;
    let (exit, verdict) = desk.judged(&policy, &save(&second, "other")?);
    ensure!(exit == 3 && fatal(&verdict) == ["R_LD"], "{verdict:#}");
    Ok(())
}

#[test]
fn what_was_learned_of_snpguard_accepts_it_and_no_other_command_line() -> Result<()> {
    of_a_launch(&Launched::direct_boot("ro quiet")?, &Launched::direct_boot("ro quiet init=/bin/sh")?)
}

#[test]
fn what_was_learned_of_a_microcvm_accepts_it_and_no_other_userspace() -> Result<()> {
    of_a_launch(&Launched::pages("a workload")?, &Launched::pages("another workload")?)
}
