//! What a user to whom root gave nothing is told of the TPM and of the logs, by the kernel itself: as nobody, over files that are
//! root's as the real ones are. (For configfs-tsm see configfs.rs.)

#![allow(clippy::unwrap_used)] // all of this is test code

#[path = "support/nobody.rs"]
mod nobody;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use attester::logs;
use attester::tpm::Address;

const CHILD_DIR: &str = "EVIDENT_TEST_PERMISSIONS";

/// Not a test of its own: what the test below runs as another user.
#[test]
fn child_of_the_permission_test() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let device = Address::Device(dir.join("tpmrm0")).open().err().expect("the device is root's");
    println!("answer: {device}");
    let socket = Address::Unix(dir.join("swtpm")).open().err().expect("the socket is root's");
    println!("answer: {socket}");
    println!("answer: {}", logs::event_log(&dir.join("binary_bios_measurements")).expect_err("the log is root's"));
    println!("answer: {}", logs::event_log(&dir.join("open")).map(|log| log.bytes().len()).unwrap());
}

#[test]
fn a_user_to_whom_root_gave_neither_tpm_nor_logs_is_denied_and_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let files = [("tpmrm0", 0o660), ("binary_bios_measurements", 0o440), ("open", 0o444)];
    for (name, mode) in files {
        let path = dir.path().join(name);
        fs::write(&path, [7; 40]).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let socket = dir.path().join("swtpm");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).unwrap();

    let test = "a_user_to_whom_root_gave_neither_tpm_nor_logs_is_denied_and_told_what_to_do";
    let Some(answers) = nobody::as_nobody(test, "child_of_the_permission_test", CHILD_DIR, dir.path()) else { return };
    let [device, socket, log, open] = answers.as_slice() else { panic!("{answers:?}") };
    for (answer, name) in [(device, "tpmrm0"), (socket, "swtpm")] {
        assert!(answer.contains("permission to use the TPM at") && answer.contains(name), "{answer}");
        assert!(answer.contains("give this user's group the device, as the udev rule in systemd/ does"), "{answer}");
    }
    assert!(log.contains("permission to read") && log.contains("binary_bios_measurements is denied"), "{log}");
    assert!(log.contains("have root give it to this user"), "{log}");
    assert_eq!(open, "40", "what root opened for all can be read");
}
