//! `policy diff` between two guests in terms of meaning, and `explain` of what was refused: down to the byte, the character and the entry of
//! the log, with the search that says what would have matched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use evident_client::tools::explain::{ExplainArgs, explain};
use evident_client::tools::study::{DiffArgs, diff};
use evident_tests::client::inspect;
use evident_tests::launch::Launched;
use evident_tests::wait::PATIENCE;
use evident_tests::{Guest as Process, Upstream};
use simulator::tpm::objects::{self, Bank};

use crate::guest::{Deployment, Guest};
use crate::policies;

async fn save(dir: &Path, name: &str, guest: &Guest) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, guest.bundle().await.encode()).unwrap();
    path
}

async fn told(old: &Path, new: &Path, root: PathBuf) -> String {
    let text = |path: &Path| path.display().to_string();
    let args = DiffArgs { old: text(old), new: text(new), simulator_root: Some(root), json: false };
    let output = diff(&args).await;
    assert_eq!(output.exit, 0, "{output:?}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_kernel_is_told_as_that_and_what_stayed_as_unchanged() {
    let guest = Guest::start(Deployment::Gcp).await;
    let dir = tempfile::tempdir().unwrap();
    let old = save(dir.path(), "old", &guest).await;
    let upgraded = guest.beside("[boot]\nversion = \"6.12.1-simulated\"\nkernel = \"simulated kernel 6.12.1\"\n").await;
    let new = save(dir.path(), "new", &upgraded).await;
    let said = told(&old, &new, guest.roots()).await;
    for words in [
        "kernel 6.12.0-simulated → 6.12.1-simulated; ",
        "; firmware unchanged; ",
        "command line unchanged",
        "Secure Boot unchanged",
        "initrd ",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert!(said.starts_with("SIMULATED, PROVES NOTHING\n"), "{said}");
    // Another connection of the same guest differs in nothing.
    let again = save(dir.path(), "again", &guest).await;
    let said = told(&old, &again, guest.roots()).await;
    assert!(said.contains("kernel unchanged; ") && said.contains("no difference"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_command_line_is_told_by_its_words_and_another_launch_as_another_firmware() {
    let guest = Guest::start(Deployment::Azure).await;
    let dir = tempfile::tempdir().unwrap();
    let old = save(dir.path(), "old", &guest).await;
    let line =
        simulator::boot::Guest::new(Deployment::Azure.firmware()).command_line.replace(" quiet", " init=/bin/sh");
    let other = guest.beside(&format!("[boot]\ncommand_line = {line:?}\n")).await;
    let said = told(&old, &save(dir.path(), "new", &other).await, guest.roots()).await;
    assert!(said.contains("command line -quiet +init=/bin/sh") && said.contains("kernel unchanged"), "{said}");
    let measurement = "ab".repeat(48);
    let other = guest.beside(&format!("measurement = \"{measurement}\"\n")).await;
    let said = told(&old, &save(dir.path(), "launched", &other).await, guest.roots()).await;
    assert!(said.contains("firmware measured at launch is another one"), "{said}");
    assert!(!said.contains("firmware unchanged") && said.contains(&measurement), "{said}");
}

fn explained(dir: &Path, bundle: &Path, policy: &str, root: &Path, launch: &[String]) -> (u8, String) {
    let file = dir.join("explained.toml");
    std::fs::write(&file, policies::with_root(policy, root)).unwrap();
    let args = ExplainArgs { bundle: bundle.to_owned(), policy: file, at: None, json: false, launch: launch.to_vec() };
    let output = explain(&args);
    (output.exit, format!("{}{}", output.stdout, output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_boot_is_explained_down_to_the_byte_and_the_entry_of_the_log() {
    let guest = Guest::start(Deployment::Gcp).await;
    let dir = tempfile::tempdir().unwrap();
    let bundle = save(dir.path(), "bundle", &guest).await;
    let accepting = policies::accepting(Deployment::Gcp);
    let ask = |policy: &str| explained(dir.path(), &bundle, policy, &guest.roots(), &[]);
    assert_eq!(ask(&accepting).0, 0);
    // One byte of the command line.
    let (exit, said) = ask(&accepting.replace("LABEL=root", "LABEL=roof"));
    assert_eq!(exit, 3, "{said}");
    assert!(
        said.contains("(PCR 8, by grub) follows the policy for ") && said.contains("then has \"t roothash="),
        "{said}"
    );
    assert!(said.contains("where the policy has \"f roothash="), "{said}");
    // A command of grub that nobody named.
    let listed = "grub_commands = [\"search.fs_uuid 5e1f0c39 root\"]";
    let (exit, said) = ask(&accepting.replace("grub_commands = \"any\"", listed));
    assert_eq!(exit, 3, "{said}");
    let entry = "grub's text \"initrd /initrd.img-6.12.0-simulated\" follows the policy for 0 bytes";
    assert!(said.contains("of PCR 8 (EV_IPL), ") && said.contains(entry), "{said}");
    // A file in PCR 9.
    let (exit, said) = ask(&accepting.replace("files = \"any\"", &format!("files = [\"{}\"]", "ab".repeat(32))));
    assert!(exit == 3 && said.contains("of PCR 9 (EV_IPL), called \"(hd0,gpt1)/EFI/debian/grub.cfg\""), "{said}");
    // A byte of a register.
    let pcr = crate::quoting::register(&guest.tpm(), Bank::Sha256, 4);
    let mut other = hex::encode(pcr);
    other.replace_range(62..64, if other.ends_with("00") { "01" } else { "00" });
    let (_, said) = ask(&policies::with_registers(&accepting, "sha256", &[(4, other)]));
    assert!(said.contains("T_PCR  PCR 4 differs first at byte 31: "), "{said}");
}

/// What is extended after the boot is in no log, and no entry of it explains that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_that_was_extended_behind_the_log_is_told_as_one_that_no_entry_explains() {
    let guest = Guest::start(Deployment::Gcp).await;
    let dir = tempfile::tempdir().unwrap();
    crate::quoting::with_tpm(&guest.tpm(), |tpm| objects::extend(tpm, 8, &[(Bank::Sha256, vec![1; 32])]).unwrap());
    let bundle = save(dir.path(), "bundle", &guest).await;
    let (exit, said) = explained(dir.path(), &bundle, &policies::accepting(Deployment::Gcp), &guest.roots(), &[]);
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("L_REPLAY  PCR 8: leaving out, cutting off or swapping entries of the log"), "{said}");
}

/// A unified kernel image: its log has a digest of the line and no text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_of_which_only_the_digest_is_known_is_found_where_it_is_a_slip_away() {
    let guest = Guest::start(Deployment::Aws).await;
    let dir = tempfile::tempdir().unwrap();
    let bundle = save(dir.path(), "bundle", &guest).await;
    let policy = policies::accepting(Deployment::Aws).replace(" quiet\"", " quiex\"");
    let (exit, said) = explained(dir.path(), &bundle, &policy, &guest.roots(), &[]);
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("it would match with \"root=/dev/mapper/root ro "), "{said}");
    assert!(said.contains("differs from the policy's at byte "), "{said}");
}

/// A guest whose launch digest is that of `files`, refused by a policy that names the files of `named` on these vCPUs.
fn launched(files: &Launched, named: &Launched, command_line: &str, vcpus: u32) -> Result<String> {
    let upstream = Upstream::http()?;
    let simulated = format!("measurement = \"{}\"\n", files.digest()?);
    let guest = Process::in_front_of(upstream.address()).simulated(&simulated).start()?;
    let bundle = named.folder().join("bundle");
    inspect(guest.address(), None)?.args(["--save", &bundle.display().to_string()]).run(PATIENCE)?;
    std::fs::metadata(&bundle).context("nothing was saved")?;
    let policy = format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsigning_keys = [\"vcek\"]\nsmt = \"allow\"\n\
         [snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n[[reference]]\nkind = \"launch\"\n\
         firmware = \"OVMF.fd\"\nkernel = \"vmlinuz\"\ninitrd = \"initrd.img\"\ncmdline = {command_line:?}\nvmm = [\"qemu\"]\n\
         vcpus = [{vcpus}]\nvcpu_types = [\"EPYC-v4\"]\n"
    );
    let root = guest.simulator().join("root.pem");
    let (exit, by_policy) = explained(named.folder(), &bundle, &policy, &root, &[]);
    ensure!(exit == 3 && by_policy.contains("R_LD"), "{by_policy}");
    let (exit, by_files) = explained(named.folder(), &bundle, &policy, &root, named.args());
    ensure!(exit == 3, "{by_files}");
    let (_, section) = by_files.split_once("The launch digest, from these files").context("no section")?;
    Ok(format!("{by_policy}\n{section}"))
}

#[test]
fn a_launch_with_other_vcpus_is_explained_by_their_number() -> Result<()> {
    let line = "root=/dev/vda1 ro";
    let (eight, four) = (Launched::direct_boot(line)?.on_vcpus(8), Launched::direct_boot(line)?);
    let said = launched(&eight, &four, line, 4)?;
    // By the policy's own files, and by those behind `--`.
    ensure!(said.matches("it would match with vcpus = 8").count() >= 2, "{said}");
    Ok(())
}

#[test]
fn a_launch_with_another_byte_in_its_command_line_is_explained_by_the_line() -> Result<()> {
    let (seen, named) = ("root=/dev/vda2 ro", "root=/dev/vda1 ro");
    let said = launched(&Launched::direct_boot(seen)?, &Launched::direct_boot(named)?, named, 4)?;
    ensure!(said.matches(&format!("it would match with command line = {seen:?}")).count() >= 2, "{said}");
    let far = launched(&Launched::direct_boot("panic=-1")?, &Launched::direct_boot(named)?, named, 4)?;
    ensure!(far.contains("neither another machine nor a slip in the command line explains it"), "{far}");
    ensure!(!far.contains("it would match with"), "{far}");
    Ok(())
}
