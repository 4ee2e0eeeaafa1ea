//! The audit log: what is written, that each kind of tampering shows, and its bounds. Evidence is a simulated guest's, and
//! goes through the real verifier.

#![allow(clippy::unwrap_used)]

mod saved;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evident_client::audit::{AuditError, AuditLog, Bounds, KeptPolicy, OnFailure, Sync};
use evident_client::tools::Output;
use evident_client::tools::audit::{VerifyLogArgs, verify};
use evident_client::tools::policy::PolicySource;
use ratls::appraise::{AttestationResult, Finding, appraise};
use ratls::binding::Bind32;
use ratls::bundle::Bundle;
use ratls::digest::Sha256Digest;
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::verify::{Channel, Connection, verify_connection};
use saved::{NOW, anchors, batch, pki, policy_text};
use simulator::Config;

const SOON: Sync = Sync::Within(Duration::from_millis(20));
const ROOMY: Bounds =
    Bounds { file_bytes: 1 << 20, evidence_bytes: 1 << 24, files: 8, sync: SOON, on_failure: OnFailure::Refuse };

fn judged(bundle: &Bundle, policy: &AppraisalPolicy) -> AttestationResult {
    let connection =
        Connection { leaf_certificate: &bundle.leaf_certificate, bind: bundle.bind, attest: &bundle.attest };
    match verify_connection(&connection, &anchors(), NOW) {
        Ok((evidence, _)) => appraise(Some(policy), evidence),
        Err(error) => {
            AttestationResult::refusal(Finding::of_verification(error.check(), &error), Channel::Exporter, None, NOW)
        }
    }
}

/// A log, and the policy that it keeps.
struct Open {
    log: AuditLog,
    kept: KeptPolicy,
}

impl Open {
    fn append(&self, address: &str, bundle: &Bundle, result: &AttestationResult) -> Result<(), AuditError> {
        block_on(self.log.append("llm.example", address, self.kept, bundle, result))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

struct Case {
    folder: tempfile::TempDir,
    policy: AppraisalPolicy,
    text: String,
}

impl Case {
    fn new() -> Case {
        let text = policy_text(&Config::new(Product::Milan).measurement.to_string());
        let policy = AppraisalPolicy::parse(&text, "policy.toml").unwrap();
        Case { folder: tempfile::tempdir().unwrap(), policy, text }
    }

    fn open(&self, bounds: Bounds) -> Open {
        let log = AuditLog::open(self.folder.path(), bounds).unwrap();
        let roots = vec![("roots.simulator", pki().root_pem().into_bytes())];
        let source = PolicySource { text: self.text.clone(), roots, ..PolicySource::default() };
        let kept = log.keep_policy(self.policy.digest(), &source).unwrap();
        Open { log, kept }
    }

    fn write(&self, open: &Open, bundles: &[Bundle]) {
        for bundle in bundles {
            open.append("192.0.2.1:8443", bundle, &judged(bundle, &self.policy)).unwrap();
        }
    }

    fn verify(&self, head: Option<Sha256Digest>) -> Output {
        verify(&VerifyLogArgs { folder: self.folder.path().to_owned(), head, json: false })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.log()).unwrap().lines().map(str::to_owned).collect()
    }

    fn put(&self, lines: &[String]) {
        fs::write(self.log(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// A log of three accepted connections of one batch.
    fn written() -> Case {
        let case = Case::new();
        case.write(&case.open(ROOMY), &batch(3));
        case
    }

    #[track_caller]
    fn tampered(&self, what: &str) {
        let output = self.verify(None);
        assert_eq!(output.exit, 1, "{output:?}");
        assert!(output.stdout.contains("TAMPERED") && output.stdout.contains(what), "{}", output.stdout);
    }
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_log_is_made_again_from_its_evidence() {
    let case = Case::written();
    let output = case.verify(None);
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.contains("3 verdicts made again: 3 accepted, 0 refused"), "{}", output.stdout);
    assert!(output.stdout.starts_with("SIMULATED, PROVES NOTHING"), "{}", output.stdout);
    assert_eq!(count(&case.folder.path().join("evidence")), 1, "one batch is archived once");
}

#[test]
fn refusals_are_made_again_too() {
    let case = Case::new();
    let log = case.open(ROOMY);
    let mut bundles = batch(2);
    // Another connection's exporter: not in the tree.
    bundles[0].bind = Bind32::from_exporter([99; 32]);
    bundles[1].attest = b"nonsense".to_vec();
    case.write(&log, &bundles);
    let lines = case.lines();
    assert!(lines[0].contains("B_CHANNEL") && lines[1].contains("B_ATTEST"), "{lines:?}");
    let output = case.verify(None);
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.contains("0 accepted, 2 refused"), "{}", output.stdout);
}

#[test]
fn a_log_goes_on_after_a_restart() {
    let case = Case::written();
    let log = case.open(ROOMY);
    case.write(&log, &batch(1));
    let (lines, head) = log.log.head();
    assert_eq!(lines, 4);
    assert_eq!(case.verify(Some(head)).exit, 0);
}

#[test]
fn a_changed_line_shows_in_the_one_after_it() {
    let case = Case::written();
    let mut lines = case.lines();
    lines[0] = lines[0].replace("llm.example", "llm.exampl3");
    case.put(&lines);
    case.tampered("audit.jsonl:2: the line before it is not the one that it was chained to");
}

#[test]
fn a_line_that_was_taken_out_shows() {
    let case = Case::written();
    let mut lines = case.lines();
    lines.remove(1);
    case.put(&lines);
    case.tampered("line number 2 where 1 must come");
}

#[test]
fn lines_that_changed_places_show() {
    let case = Case::written();
    let mut lines = case.lines();
    lines.swap(1, 2);
    case.put(&lines);
    case.tampered("line number 2 where 1 must come");
}

#[test]
fn a_verdict_that_was_changed_in_the_last_line_shows_in_its_evidence() {
    let case = Case::written();
    let mut lines = case.lines();
    lines[2] = lines[2].replace("\"accepted\"", "\"refused\"");
    case.put(&lines);
    let output = case.verify(None);
    assert_eq!(output.exit, 3, "{output:?}");
    assert!(output.stdout.contains("DIFFERS") && output.stdout.contains("comes out as accepted"), "{}", output.stdout);
}

#[test]
fn levels_that_were_changed_show_in_the_evidence() {
    let case = Case::written();
    let mut lines = case.lines();
    assert!(lines[2].contains("firmware=2;amd-sp"));
    lines[2] = lines[2].replace("firmware=2;amd-sp", "firmware=4;amd-sp");
    case.put(&lines);
    assert_eq!(case.verify(None).exit, 3);
}

#[test]
fn lines_cut_off_at_the_end_show_where_the_head_was_noted() {
    let case = Case::written();
    let (_, head) = case.open(ROOMY).log.head();
    assert_eq!(case.verify(Some(head)).exit, 0);
    let mut lines = case.lines();
    lines.pop();
    case.put(&lines);
    assert_eq!(case.verify(None).exit, 0, "without the head nobody can tell");
    assert_eq!(case.verify(Some(head)).exit, 1);
}

#[test]
fn evidence_and_policy_that_were_changed_or_taken_away_show() {
    for part in ["evidence", "policies", "files"] {
        for remove in [false, true] {
            let case = Case::written();
            for entry in fs::read_dir(case.folder.path().join(part)).unwrap() {
                let path = entry.unwrap().path();
                let mut bytes = fs::read(&path).unwrap();
                if remove {
                    fs::remove_file(&path).unwrap();
                } else {
                    let last = bytes.last_mut().unwrap();
                    *last ^= 1;
                    fs::write(&path, bytes).unwrap();
                }
            }
            case.tampered(if part == "evidence" { "evidence" } else { "policy" });
        }
    }
}

#[test]
fn a_line_torn_by_a_crash_is_put_aside_and_the_log_goes_on() {
    let case = Case::written();
    let whole = fs::read(case.log()).unwrap();
    fs::write(case.log(), [&whole[..], b"{\"v\":1,\"seq\":3"].concat()).unwrap();
    let log = case.open(ROOMY);
    case.write(&log, &batch(1));
    assert_eq!(case.verify(None).exit, 0);
    assert_eq!(case.lines().len(), 4);
    let torn = fs::read_dir(case.folder.path()).unwrap().filter_map(Result::ok);
    assert!(torn.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("torn-")));
}

#[test]
fn files_are_rotated_and_the_oldest_go_with_their_evidence() {
    let case = Case::new();
    let log = case.open(Bounds { file_bytes: 2_000, files: 2, ..ROOMY });
    for _ in 0..12 {
        case.write(&log, &batch(1));
    }
    let closed = fs::read_dir(case.folder.path()).unwrap().filter_map(Result::ok);
    let closed = closed.filter(|entry| entry.file_name().to_string_lossy().starts_with("audit-")).count();
    assert_eq!(closed, 2);
    let output = case.verify(Some(log.log.head().1));
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.contains("was rotated away"), "{}", output.stdout);
    assert!(count(&case.folder.path().join("evidence")) < 12);
}

#[test]
fn a_log_that_is_none_is_not_written_over() {
    let case = Case::new();
    fs::create_dir_all(case.folder.path()).unwrap();
    fs::write(case.log(), "shopping list\n").unwrap();
    assert!(AuditLog::open(case.folder.path(), ROOMY).unwrap_err().to_string().contains("no line of an audit log"));
    assert_eq!(fs::read_to_string(case.log()).unwrap(), "shopping list\n");
}

#[test]
fn lines_are_on_the_disk_within_the_time_that_is_set_and_at_the_latest_when_the_log_is_closed() {
    let case = Case::new();
    let log = case.open(ROOMY);
    case.write(&log, &batch(3));
    let by = Instant::now() + Duration::from_secs(20);
    while log.log.synced() < 3 {
        assert!(Instant::now() < by, "{} lines are on the disk", log.log.synced());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(log);
    // Nobody waits for an hour when the program ends.
    let slow = Bounds { sync: Sync::Within(Duration::from_secs(3600)), ..ROOMY };
    let before = Instant::now();
    let log = case.open(slow);
    case.write(&log, &batch(1));
    assert_eq!(log.log.synced(), 3);
    drop(log);
    assert!(before.elapsed() < Duration::from_secs(60));
    assert_eq!(case.verify(None).exit, 0);
}

#[test]
fn each_line_can_be_on_the_disk_before_its_connection_carries_a_byte() {
    let case = Case::new();
    let log = case.open(Bounds { sync: Sync::EachLine, ..ROOMY });
    for bundle in batch(3) {
        case.write(&log, &[bundle]);
        assert_eq!(log.log.synced(), log.log.head().0);
    }
    assert_eq!(case.verify(None).exit, 0);
}

#[test]
fn a_line_that_would_be_too_long_is_one_connections_end_and_not_the_logs() {
    let case = Case::new();
    let log = case.open(ROOMY);
    let bundle = batch(1).remove(0);
    let result = judged(&bundle, &case.policy);
    let long = "a".repeat(70_000);
    let error = log.append(&long, &bundle, &result).unwrap_err();
    assert!(format!("{error:?}").contains("too long"), "{error:?}");
    case.write(&log, &batch(2));
    drop(log);
    assert_eq!(case.verify(None).exit, 0);
}

#[test]
fn evidence_that_a_crash_left_half_written_is_written_again() {
    let case = Case::new();
    let bundles = batch(1);
    let log = case.open(ROOMY);
    case.write(&log, &bundles);
    drop(log);
    let file = std::fs::read_dir(case.folder.path().join("evidence")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"").unwrap();
    assert_ne!(case.verify(None).exit, 0);
    let log = case.open(ROOMY);
    case.write(&log, &bundles);
    drop(log);
    assert_eq!(case.verify(None).exit, 0);
}

#[test]
fn a_folder_that_cannot_be_made_or_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/audit");
    let error = AuditLog::open(&below, ROOMY).err().unwrap().to_string();
    assert!(error.contains(&below.display().to_string()), "{error}");
    assert!(error.ends_with("choose a folder that this user can create"), "{error}");
    let none = folder.path().join("none");
    let output = verify(&VerifyLogArgs { folder: none.clone(), head: None, json: false });
    assert_eq!(output.exit, 4, "{output:?}");
    assert!(output.stderr.contains(&none.display().to_string()), "{}", output.stderr);
}

#[test]
fn a_folder_is_of_one_program_at_a_time() {
    let case = Case::new();
    let log = case.open(ROOMY);
    let error = AuditLog::open(case.folder.path(), ROOMY).unwrap_err();
    assert!(matches!(error, AuditError::InUse { .. }), "{error}");
    drop(log);
    case.open(ROOMY);
}

#[test]
fn evidence_takes_no_more_room_than_the_bounds_allow() {
    let case = Case::new();
    let size = {
        let open = case.open(ROOMY);
        case.write(&open, &batch(1));
        let file = fs::read_dir(case.folder.path().join("evidence")).unwrap().next().unwrap().unwrap();
        file.metadata().unwrap().len()
    };
    let bounds = Bounds { evidence_bytes: 3 * size, files: 2, ..ROOMY };
    let taken = || -> u64 {
        let files = fs::read_dir(case.folder.path().join("evidence")).unwrap();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    for restart in 0..3 {
        let open = case.open(bounds);
        for _ in 0..12 {
            // A guest that may say what it likes: each time something else.
            let mut bundle = batch(1).remove(0);
            bundle.bind = Bind32::from_exporter([restart; 32]);
            case.write(&open, &[bundle]);
            assert!(taken() <= 3 * bounds.evidence_bytes + size, "{} bytes", taken());
        }
        // Of one batch it is there once, and counts once.
        case.write(&open, &batch(40));
        assert_eq!(case.verify(Some(open.log.head().1)).exit, 0);
    }
}

#[test]
fn evidence_that_cannot_be_kept_is_one_connections_end_and_not_the_logs() {
    let case = Case::new();
    let open = case.open(ROOMY);
    let bundles = batch(2);
    case.write(&open, &bundles[..1]);
    let (evidence, aside) = (case.folder.path().join("evidence"), case.folder.path().join("aside"));
    fs::rename(&evidence, &aside).unwrap();
    let other = batch(1).remove(0);
    assert!(matches!(open.append("a", &other, &judged(&other, &case.policy)), Err(AuditError::Io { .. })));
    fs::rename(&aside, &evidence).unwrap();
    case.write(&open, &[other]);
    case.write(&open, &bundles[1..]);
    drop(open);
    let output = case.verify(None);
    assert!(output.stdout.contains("3 verdicts made again"), "{output:?}");
    assert_eq!(output.exit, 0);
}

#[test]
fn a_verdict_that_cannot_be_written_counts_where_the_operator_chose_that() {
    let case = Case::new();
    let open = case.open(Bounds { on_failure: OnFailure::Serve, ..ROOMY });
    case.write(&open, &batch(1));
    let (evidence, aside) = (case.folder.path().join("evidence"), case.folder.path().join("aside"));
    fs::rename(&evidence, &aside).unwrap();
    let other = batch(1).remove(0);
    open.append("a", &other, &judged(&other, &case.policy)).unwrap();
    assert_eq!((open.log.lost(), case.lines().len()), (1, 1), "lost, and counted");
    fs::rename(&aside, &evidence).unwrap();
    case.write(&open, &[other]);
    assert_eq!((open.log.lost(), case.lines().len()), (1, 2));
    drop(open);
    assert_eq!(case.verify(None).exit, 0);
}

#[test]
fn lines_that_wait_together_share_a_write_of_the_disk_and_each_has_its_place() {
    let case = Case::new();
    let open = case.open(Bounds { sync: Sync::EachLine, ..ROOMY });
    let bundles = batch(100);
    let results: Vec<_> = bundles.iter().map(|bundle| judged(bundle, &case.policy)).collect();
    std::thread::scope(|scope| {
        for part in bundles.chunks(5).zip(results.chunks(5)) {
            let open = &open;
            scope.spawn(move || {
                for (number, (bundle, result)) in (1..).zip(part.0.iter().zip(part.1)) {
                    open.append("a", bundle, result).unwrap();
                    assert!(open.log.synced() >= number);
                }
            });
        }
    });
    assert_eq!((open.log.head().0, open.log.synced()), (100, 100));
    assert_eq!(case.verify(Some(open.log.head().1)).exit, 0);
}

#[test]
fn who_refused_and_what_was_simulated_is_made_again_too() {
    for (from, to) in
        [("\"simulated\":true", "\"simulated\":false"), ("\"refused_by\":null", "\"refused_by\":\"verify\"")]
    {
        let case = Case::written();
        let mut lines = case.lines();
        assert!(lines[2].contains(from), "{}", lines[2]);
        lines[2] = lines[2].replace(from, to);
        case.put(&lines);
        let output = case.verify(None);
        assert_eq!(output.exit, 3, "{output:?}");
    }
}

#[test]
fn a_file_that_changed_after_the_policy_was_loaded_is_not_archived_under_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kernel"), "another one").unwrap();
    let loaded = ratls::crypto::sha256(&[b"the one that was measured"]);
    let source = PolicySource {
        references: [("kernel".to_owned(), (folder.path().join("kernel"), loaded))].into(),
        ..PolicySource::default()
    };
    let log = AuditLog::open(&folder.path().join("audit"), ROOMY).unwrap();
    let error = log.keep_policy(loaded, &source).unwrap_err();
    assert!(format!("{error:?}").contains("changed while this program started"), "{error:?}");
}

/// Two policies of the same text, each beside files of its own.
#[test]
fn the_same_text_over_other_files_is_another_policy_in_the_log() {
    let case = Case::new();
    let log = AuditLog::open(case.folder.path(), ROOMY).unwrap();
    let of = |root: &[u8]| PolicySource {
        text: case.text.clone(),
        roots: vec![("roots.simulator", root.to_vec())],
        ..PolicySource::default()
    };
    let right = log.keep_policy(case.policy.digest(), &of(pki().root_pem().as_bytes())).unwrap();
    let _other = log.keep_policy(case.policy.digest(), &of(b"another root")).unwrap();
    case.write(&Open { log, kept: right }, &batch(1));
    assert_eq!(case.verify(None).exit, 0);
}

/// Files of references are gone, and the same policy judged over other files in between: each verdict is made again from those that it
/// was made of.
#[test]
fn a_verdict_from_files_in_hand_is_made_again_when_those_files_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, kept) = (folder.path().join("desk"), folder.path().join("audit"));
    fs::create_dir(&desk).unwrap();
    fs::write(desk.join("root.pem"), pki().root_pem()).unwrap();
    let list = "version = 1\n[[page]]\ntype = \"normal\"\ngpa = 0x1000\nfile = \"loader.bin\"\nfill = \"zeros\"\n\
                covers = \"firmware\"\n[[page]]\ntype = \"vmsa\"\ngpa = 0xFFFFFFFFF000\nfile = \"vmsa.bin\"\n";
    fs::write(desk.join("pages.toml"), list).unwrap();
    fs::write(desk.join("vmsa.bin"), [0x5E; 4096]).unwrap();
    let text = policy_text(&"ab".repeat(48)) + "[[reference]]\nkind = \"pages\"\nlist = \"pages.toml\"\n";
    fs::write(desk.join("policy.toml"), &text).unwrap();
    let path = desk.join("policy.toml");
    for loader in ["a loader", "a newer loader"] {
        fs::write(desk.join("loader.bin"), loader).unwrap();
        let loaded = evident_client::tools::policy::load(&path).unwrap();
        let log = AuditLog::open(&kept, ROOMY).unwrap();
        let kept = log.keep_policy(loaded.policy.digest(), &loaded.source).unwrap();
        let digest = loaded.policy.only().unwrap().references().launches()[0].digests().next().unwrap();
        let mut config = Config::new(Product::Milan);
        config.measurement = digest;
        let bundle = saved::batch_of(config, 1).remove(0);
        let result = judged(&bundle, &loaded.policy);
        assert_eq!(result.levels_if_fresh().cells()[0].level(), ratls::policy::Level::L3, "{result}");
        Open { log, kept }.append("192.0.2.1:8443", &bundle, &result).unwrap();
    }
    fs::remove_dir_all(&desk).unwrap();
    let verify = || verify(&VerifyLogArgs { folder: kept.clone(), head: None, json: false });
    let output = verify();
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.contains("2 verdicts made again: 2 accepted"), "{}", output.stdout);
    // A byte of an archived file.
    let loader = fs::read_dir(kept.join("files")).unwrap().map(|entry| entry.unwrap().path());
    let loader = loader.into_iter().find(|path| fs::read(path).unwrap() == b"a loader").unwrap();
    fs::write(&loader, "a l0ader").unwrap();
    let output = verify();
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(output.stdout.contains("or a file that it names, is missing or was changed"), "{}", output.stdout);
}
