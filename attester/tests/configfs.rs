//! The file protocol of configfs-tsm against a FUSE look-alike of the kernel's, with the kernel's ownership and errors.

#![allow(clippy::unwrap_used)] // all of this is test code

#[path = "support/nobody.rs"]
mod nobody;
#[path = "support/tsm_fs.rs"]
mod tsm_fs;

use attester::configfs::ConfigfsTsm;
use attester::detect::{self, Places};
use attester::{DeviceError, ReportDevice};
use fuser::Errno;
use nobody::NOBODY;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tsm_fs::{Hardware, TsmLookAlike, report_over};

fn willing() -> Hardware {
    Box::new(|data, vmpl| Ok((report_over(data, vmpl), b"table".to_vec())))
}

/// Mounts, or leaves the test with a line that names it.
macro_rules! mount {
    ($hardware:expr) => {{
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        match TsmLookAlike::mount(&name, $hardware) {
            Some(tsm) => tsm,
            None => return,
        }
    }};
}

#[test]
fn gives_the_report_that_was_asked_for_and_the_certificate_table() {
    let tsm = mount!(willing());
    let mut device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    for n in 1..=3 {
        let answer = device.report(&[n; 64]).unwrap();
        assert_eq!(answer.report, report_over(&[n; 64], 0));
        assert_eq!(answer.certificates, b"table");
    }
    assert_eq!(tsm.knobs().asked, 3, "one request each, although both blobs were read");
}

#[test]
fn removes_its_own_entry_and_leaves_a_prepared_one() {
    let tsm = mount!(willing());
    let device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    let second = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    assert_eq!(tsm.entries().len(), 2);
    drop((device, second));
    assert_eq!(tsm.entries().len(), 0);

    let prepared = tsm.root.join("evident");
    fs::create_dir(&prepared).unwrap();
    let mut device = ConfigfsTsm::reuse(&prepared, 0).unwrap();
    assert_eq!(device.report(&[5; 64]).unwrap().report, report_over(&[5; 64], 0));
    drop(device);
    assert_eq!(tsm.entries(), [prepared]);
}

#[test]
fn asks_for_the_configured_vmpl_even_where_the_entry_held_another() {
    let tsm = mount!(willing());
    let prepared = tsm.root.join("evident");
    fs::create_dir(&prepared).unwrap();
    fs::write(prepared.join("privlevel"), "3").unwrap();
    assert_eq!(ConfigfsTsm::reuse(&prepared, 0).unwrap().report(&[1; 64]).unwrap().report, report_over(&[1; 64], 0));
    assert_eq!(ConfigfsTsm::reuse(&prepared, 2).unwrap().report(&[1; 64]).unwrap().report, report_over(&[1; 64], 2));
}

#[test]
fn refuses_a_vmpl_below_the_floor_or_above_three() {
    let tsm = mount!(willing());
    tsm.knobs().floor = 2;
    assert!(matches!(ConfigfsTsm::create(&tsm.root, 0), Err(DeviceError::PrivilegeFloor { floor: 2, wanted: 0 })));
    assert!(matches!(ConfigfsTsm::create(&tsm.root, 4), Err(DeviceError::PrivilegeFloor { floor: 2, wanted: 4 })));
    assert!(ConfigfsTsm::create(&tsm.root, 2).is_ok());
    assert_eq!(tsm.entries().len(), 0, "a refused device leaves nothing behind");
}

#[test]
fn refuses_hardware_of_another_kind() {
    let tsm = mount!(willing());
    tsm.knobs().provider = "tdx_guest";
    let refused = ConfigfsTsm::create(&tsm.root, 0).unwrap_err();
    assert!(matches!(&refused, DeviceError::Provider { seen, .. } if seen == "tdx_guest"), "{refused}");
    assert_eq!(tsm.entries().len(), 0);
}

#[test]
fn begins_anew_when_a_rival_wrote_in_between_and_gives_up_in_the_end() {
    let tsm = mount!(willing());
    let mut device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    tsm.knobs().rivals = 2;
    assert_eq!(device.report(&[9; 64]).unwrap().report, report_over(&[9; 64], 0));
    tsm.knobs().rivals = u32::MAX;
    assert!(matches!(device.report(&[9; 64]), Err(DeviceError::Busy { .. })));
    tsm.knobs().rivals = 0;
    assert!(device.report(&[9; 64]).is_ok(), "recovers when the rival goes");
}

#[test]
fn never_passes_on_a_report_over_other_bytes() {
    let tsm = mount!(Box::new(|_, vmpl| Ok((report_over(&[0xBB; 64], vmpl), vec![]))));
    let refused = ConfigfsTsm::create(&tsm.root, 0).unwrap().report(&[1; 64]).unwrap_err();
    assert!(matches!(refused, DeviceError::WrongReportData), "{refused}");
}

#[test]
fn retries_a_busy_device_and_says_busy_when_it_stays_so() {
    let tsm = mount!(willing());
    let mut device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    tsm.knobs().errors.extend([Errno::EBUSY, Errno::EWOULDBLOCK]);
    assert!(device.report(&[1; 64]).is_ok());
    tsm.knobs().errors.extend([Errno::EBUSY; 5]);
    assert!(matches!(device.report(&[2; 64]), Err(DeviceError::Busy { .. })));
    assert!(device.report(&[2; 64]).is_ok());
}

#[test]
fn tells_a_disabled_key_from_a_refusal() {
    let tsm = mount!(willing());
    let mut device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    tsm.knobs().errors.extend([Errno::ENOTTY, Errno::EIO, Errno::ENXIO]);
    assert!(matches!(device.report(&[1; 64]), Err(DeviceError::Gone)));
    assert!(matches!(device.report(&[1; 64]), Err(DeviceError::Refused { .. })));
    assert!(matches!(device.report(&[1; 64]), Err(DeviceError::Gone)));
}

#[test]
fn refuses_a_report_or_table_of_impossible_size() {
    let tsm = mount!(Box::new(|data, vmpl| match data[0] {
        0 => Ok((report_over(data, vmpl)[..1183].to_vec(), vec![])),
        1 => Ok((vec![0; 1185], vec![])),
        _ => Ok((report_over(data, vmpl), vec![0; 0x4001])),
    }));
    let mut device = ConfigfsTsm::create(&tsm.root, 0).unwrap();
    assert!(matches!(device.report(&[0; 64]), Err(DeviceError::ReportLength { seen: 1183 })));
    assert!(matches!(device.report(&[1; 64]), Err(DeviceError::Oversized { max_bytes: 1184, .. })));
    assert!(matches!(device.report(&[2; 64]), Err(DeviceError::Oversized { max_bytes: 0x4000, .. })));
}

#[test]
fn the_look_alike_treats_inblob_as_the_kernel_does() {
    let tsm = mount!(willing());
    let entry = tsm.root.join("raw");
    fs::create_dir(&entry).unwrap();
    let write = |bytes: &[u8]| {
        use std::io::Write;
        fs::OpenOptions::new().write(true).open(entry.join("inblob")).unwrap().write(bytes)
    };
    assert_eq!(write(&[0; 65]).unwrap_err().raw_os_error(), Some(27), "EFBIG");
    write(&[0; 63]).unwrap();
    assert_eq!(fs::read(entry.join("outblob")).unwrap_err().raw_os_error(), Some(22), "EINVAL");
    assert_eq!(fs::read_to_string(entry.join("generation")).unwrap(), "1\n");
    write(&[0; 64]).unwrap();
    assert_eq!(fs::read(entry.join("outblob")).unwrap().len(), 1184);
    assert_eq!(fs::read_to_string(entry.join("generation")).unwrap(), "2\n");
    assert_eq!(fs::metadata(entry.join("inblob")).unwrap().permissions().mode() & 0o777, 0o200);
}

#[test]
fn detection_finds_configfs_and_names_it() {
    let tsm = mount!(willing());
    let nowhere = tempfile::tempdir().unwrap();
    let places = Places {
        prepared_entry: None,
        configfs_root: tsm.root.clone(),
        sev_guest: nowhere.path().join("sev-guest"),
        dmi: nowhere.path().to_owned(),
        ..Places::of_this_machine(None)
    };
    let mut device = detect::open(&places, 0).unwrap();
    assert!(device.describe().contains("configfs-tsm"), "{}", device.describe());
    assert!(!device.simulated());
    assert!(device.report(&[3; 64]).is_ok());
    drop(device);
    tsm.knobs().provider = "arm_cca_guest";
    let refused = detect::open(&places, 0).err().expect("other hardware").to_string();
    assert!(refused.contains("arm_cca_guest") && refused.contains("sev-guest: not there"), "{refused}");
}

/// Names the entry for the child below.
const CHILD_ENTRY: &str = "EVIDENT_TEST_CONFIGFS_ENTRY";

/// Not a test of its own: what the two tests below run as another user.
#[test]
fn child_of_the_ownership_tests() {
    let Some(entry) = std::env::var_os(CHILD_ENTRY) else { return };
    let entry = Path::new(&entry);
    match entry.file_name().is_some_and(|name| name == "report") {
        true => println!("answer: {}", ConfigfsTsm::create(entry, 0).expect_err("only root makes entries")),
        false => match ConfigfsTsm::reuse(entry, 0).and_then(|mut device| device.report(&[4; 64])) {
            Ok(answer) => println!("answer: a report of {} bytes", answer.report.len()),
            Err(error) => println!("answer: {error}"),
        },
    }
}

/// What the child says as user nobody; `None` where this process cannot become another user.
fn as_nobody(test: &str, entry: &Path) -> Option<String> {
    let answers = nobody::as_nobody(test, "child_of_the_ownership_tests", CHILD_ENTRY, entry)?;
    answers.into_iter().next()
}

#[test]
fn a_user_who_owns_nothing_is_denied_and_told_what_root_has_to_do() {
    let tsm = mount!(willing());
    let entry = tsm.root.join("evident");
    fs::create_dir(&entry).unwrap();
    let test = "a_user_who_owns_nothing_is_denied_and_told_what_root_has_to_do";
    let Some(answer) = as_nobody(test, &entry) else { return };
    assert!(answer.contains("permission to write") && answer.contains("inblob is denied"), "{answer}");
    assert!(answer.contains("have root make one entry and hand its files to this user"), "{answer}");
    let Some(answer) = as_nobody(test, &tsm.root) else { return };
    assert!(answer.contains("permission to make the entry"), "{answer}");
    assert!(answer.contains("have root make one entry"), "{answer}");
}

#[test]
fn a_user_to_whom_root_gave_a_prepared_entry_gets_reports() {
    let tsm = mount!(willing());
    let entry = tsm.root.join("evident");
    fs::create_dir(&entry).unwrap();
    for file in ["inblob", "privlevel"] {
        std::os::unix::fs::chown(entry.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let test = "a_user_to_whom_root_gave_a_prepared_entry_gets_reports";
    let Some(answer) = as_nobody(test, &entry) else { return };
    assert_eq!(answer, "a report of 1184 bytes");
}
