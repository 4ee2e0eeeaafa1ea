//! The software TPM behind its front, seen by tpm2-tools: SIMULATED, PROVES NOTHING.

use simulator::tpm::objects::{self, Bank, template};
use simulator::tpm::{Front, Passed, Swtpm};
use std::path::Path;
use std::process::Command;

fn front(dir: &Path) -> Front {
    let mut tpm = Swtpm::start(&dir.join("state"), &dir.join("swtpm")).unwrap();
    objects::provision_nv(&mut tpm, 0x0140_0001, &[7; 2048]).unwrap();
    let ak = objects::create_primary(&mut tpm, simulator::tpm::command::ENDORSEMENT, &template::rsa_signing()).unwrap();
    objects::persist(&mut tpm, &ak, 0x8100_0003).unwrap();
    objects::extend(&mut tpm, 4, &[(Bank::Sha256, vec![1; 32]), (Bank::Sha384, vec![1; 48])]).unwrap();
    Front::listen(&dir.join("tpm"), tpm, Box::new(Passed)).unwrap()
}

/// `None` where tpm2-tools are not installed.
fn tool(front: &Front, name: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(name).args(args).arg("-T").arg(front.tcti()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn tpm2_tools_find_what_was_provisioned() {
    let dir = tempfile::tempdir().unwrap();
    let front = front(dir.path());
    let Some(pcrs) = tool(&front, "tpm2_pcrread", &["sha256:4+sha384:4"]) else {
        println!("skipped: tpm2_tools_find_what_was_provisioned: no tpm2-tools");
        return;
    };
    let expected = Bank::Sha256.hash(&[[0; 32], [1; 32]].concat());
    assert!(pcrs.to_lowercase().contains(&hex::encode(expected)), "{pcrs}");
    let index = dir.path().join("index");
    tool(&front, "tpm2_nvread", &["-C", "o", "0x1400001", "-o", index.to_str().unwrap()]);
    assert_eq!(std::fs::read(index).unwrap(), [7; 2048]);
    assert!(tool(&front, "tpm2_readpublic", &["-c", "0x81000003"]).unwrap().contains("rsassa"));
    // Not more than fit at once by themselves; the front makes room.
    for _ in 0..5 {
        tool(&front, "tpm2_createprimary", &["-C", "o", "-Q"]);
    }
}

#[test]
fn a_second_start_finds_the_same_keys_and_fresh_pcrs() {
    let dir = tempfile::tempdir().unwrap();
    let ek = |tpm: &mut Swtpm| {
        let key = objects::create_primary(tpm, simulator::tpm::command::ENDORSEMENT, &template::rsa_ek()).unwrap();
        assert_eq!(key.public.len(), 314);
        key.public
    };
    let mut first = Swtpm::start(&dir.path().join("state"), &dir.path().join("swtpm")).unwrap();
    objects::extend(&mut first, 4, &[(Bank::Sha256, vec![1; 32])]).unwrap();
    let public = ek(&mut first);
    drop(first);
    let mut second = Swtpm::start(&dir.path().join("state"), &dir.path().join("swtpm")).unwrap();
    assert_eq!(ek(&mut second), public);
    assert_eq!(objects::read_pcr(&mut second, Bank::Sha256, 4).unwrap(), [0; 32]);
}

#[test]
fn a_dropped_tpm_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&dir.path().join("state"), &dir.path().join("swtpm")).unwrap();
    let process = format!("/proc/{}", tpm.pid());
    assert!(Path::new(&process).exists());
    let front = Front::listen(&dir.path().join("tpm"), tpm, Box::new(Passed)).unwrap();
    drop(front);
    // A connection's thread may hold it for a moment.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while Path::new(&process).exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!Path::new(&process).exists());
}

#[test]
fn the_log_says_what_was_extended() {
    use simulator::boot::{Firmware, Guest};
    let dir = tempfile::tempdir().unwrap();
    for firmware in [Firmware::Azure, Firmware::Gce, Firmware::Aws, Firmware::Svsm] {
        let mut tpm = Swtpm::start(&dir.path().join(format!("{firmware:?}")), &dir.path().join("swtpm")).unwrap();
        let log = Guest::new(firmware).log();
        log.extend_into(&mut tpm).unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, log.to_bytes()).unwrap();
        let Ok(output) = Command::new("tpm2_eventlog").arg(&file).output() else {
            println!("skipped: the_log_says_what_was_extended: no tpm2-tools");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(output.status.success(), "{firmware:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let replayed = text.split_once("\npcrs:").expect("tpm2_eventlog replays").1;
        for pcr in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14] {
            for bank in &log.banks {
                let value = hex::encode(objects::read_pcr(&mut tpm, *bank, pcr).unwrap());
                let untouched = value.chars().all(|c| c == '0');
                assert!(
                    untouched || replayed.contains(&value),
                    "{firmware:?}, PCR {pcr}, {bank:?}: {value}\n{replayed}"
                );
            }
        }
    }
}

#[test]
fn gces_first_register_says_sev_snp() {
    use simulator::boot::{Firmware, Guest};
    let dir = tempfile::tempdir().unwrap();
    let mut tpm = Swtpm::start(dir.path(), &dir.path().join("swtpm")).unwrap();
    Guest::new(Firmware::Gce).log().extend_into(&mut tpm).unwrap();
    // Published by Google for firmware v2 on SEV-SNP.
    let published = "50597a27846e91d025eef597abbc89f72bff9af849094db97b0684d8bc4c515e";
    assert_eq!(hex::encode(objects::read_pcr(&mut tpm, Bank::Sha256, 0).unwrap()), published);
}

/// Started by the next test, in a process that it kills.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os("EVIDENT_TEST_SWTPM") else { return };
    let dir = Path::new(&dir);
    let tpm = Swtpm::start(&dir.join("state"), &dir.join("swtpm")).unwrap();
    std::fs::write(dir.join("pid"), tpm.pid().to_string()).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_tpm_ends_with_a_process_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed"])
        .env("EVIDENT_TEST_SWTPM", dir.path())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(what());
    };
    let pid = || std::fs::read_to_string(dir.path().join("pid")).ok().filter(|pid| !pid.is_empty());
    wait_for(&|| pid().is_some());
    let process = Path::new("/proc").join(pid().unwrap());
    assert!(process.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for(&|| !process.exists());
}
