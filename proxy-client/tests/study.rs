//! `policy learn`, `policy diff` and `explain` over saved evidence of a simulated guest.

#![allow(clippy::unwrap_used)]

mod saved;

use std::path::PathBuf;

use evident_client::tools::Output;
use evident_client::tools::explain::{ExplainArgs, explain};
use evident_client::tools::study::{DiffArgs, LearnArgs, diff, learn};
use ratls::appraise::{Stage, Verdict, appraise};
use ratls::evidence::snp::Measurement;
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::verify::verify_bundle;
use saved::{NOW, anchors, batch_of, pki, policy_text};
use simulator::Config;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::write(folder.at("root.pem"), pki().root_pem()).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn bundle(&self, name: &str, change: impl FnOnce(&mut Config)) {
        let mut config = Config::new(Product::Milan);
        change(&mut config);
        std::fs::write(self.at(name), batch_of(config, 1)[0].encode()).unwrap();
    }

    async fn learn(&self, bundle: &str) -> Output {
        let simulator_root = Some(self.at("root.pem"));
        learn(&LearnArgs { subject: self.text(bundle), simulator_root, command_line: None }).await
    }

    async fn diff(&self, old: &str, new: &str) -> Output {
        let (old, new) = (self.text(old), self.text(new));
        diff(&DiffArgs { old, new, simulator_root: Some(self.at("root.pem")), json: false }).await
    }

    fn explain(&self, policy: &str) -> Output {
        std::fs::write(self.at("policy.toml"), policy).unwrap();
        let (bundle, policy) = (self.at("b"), self.at("policy.toml"));
        explain(&ExplainArgs { bundle, policy, at: None, json: false, launch: vec![] })
    }
}

fn answered(learned: &str) -> String {
    // What a careful author does: uncomment answers.
    let text = learned.replace("\nprofiles =", "\nidentity = \"any\"\nprofiles =");
    let text = text.replace("# smt = \"allow\"", "smt = \"allow\"");
    text.replace("# [roots]", "[roots]").replace("# simulator =", "simulator =")
}

#[tokio::test]
async fn what_was_learned_accepts_nobody_before_its_questions_are_answered() {
    let folder = Folder::new();
    folder.bundle("b", |_| {});
    let output = folder.learn("b").await;
    assert_eq!(output.exit, 0, "{output:?}");
    let learned = output.stdout;
    assert!(learned.contains("SEEN IS NOT TRUSTED") && learned.contains("SIMULATED, PROVES NOTHING"), "{learned}");
    assert_eq!(AppraisalPolicy::parse(&learned, "l.toml").unwrap_err().key(), "identity");
    let questions = learned.matches("# QUESTION ").count();
    assert!(learned.contains(&format!("There are {questions};")), "{learned}");

    let mut policy = AppraisalPolicy::parse(&answered(&learned), "l.toml").unwrap();
    policy.load_references(&mut NoFiles).unwrap();
    let judge = |name: &str| {
        let bundle = ratls::bundle::Bundle::parse(&std::fs::read(folder.at(name)).unwrap()).unwrap();
        appraise(Some(&policy), verify_bundle(&bundle, &anchors(), NOW).unwrap().0)
    };
    let result = judge("b");
    assert_eq!(result.verdict(), Verdict::Accepted, "{result}");
    let why = result.levels_if_fresh().cells()[0].why();
    assert!(why.contains("learned from an earlier connection"), "{why}");
    folder.bundle("other", |config| config.measurement = Measurement::from_bytes([9; 48]));
    assert_eq!(
        judge("other").verdict(),
        Verdict::Refused(Stage::Appraise),
        "another guest than the one that was learned"
    );
}

struct NoFiles;

impl ratls::policy::ReferenceFiles for NoFiles {
    fn read(&mut self, name: &str, _: usize) -> Result<Vec<u8>, ratls::policy::FileProblem> {
        Err(ratls::policy::FileProblem(name.to_owned()))
    }
    fn stream(&mut self, name: &str, _: &mut dyn FnMut(&[u8])) -> Result<(), ratls::policy::FileProblem> {
        Err(ratls::policy::FileProblem(name.to_owned()))
    }
}

#[tokio::test]
async fn what_a_guest_may_do_that_is_not_accepted_by_default_stays_a_question() {
    let folder = Folder::new();
    folder.bundle("b", |config| config.policy |= 1 << 18);
    let learned = folder.learn("b").await.stdout;
    assert!(learned.contains("\n# migrate_ma = \"allow-unused\"\n") && !learned.contains("\nmigrate_ma"), "{learned}");
}

#[tokio::test]
async fn evidence_that_is_not_authentic_teaches_nothing() {
    let folder = Folder::new();
    folder.bundle("b", |_| {});
    let output = learn(&LearnArgs { subject: folder.text("b"), simulator_root: None, command_line: None }).await;
    assert_eq!((output.exit, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(output.stderr.contains("E_ROOT"), "{}", output.stderr);
    let advice = "give its root, --simulator-root FILE";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    let (old, new) = (folder.text("b"), folder.text("b"));
    let output = diff(&DiffArgs { old, new, simulator_root: None, json: false }).await;
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    std::fs::write(
        folder.at("other.pem"),
        simulator::Pki::generate(Product::Milan, simulator::RsaSize::Bits2048).root_pem(),
    )
    .unwrap();
    let simulator_root = Some(folder.at("other.pem"));
    let output = learn(&LearnArgs { subject: folder.text("b"), simulator_root, command_line: None }).await;
    assert!(output.exit == 1 && !output.stderr.contains(advice), "it was given: {}", output.stderr);
}

#[tokio::test]
async fn what_is_no_root_is_told_with_where_the_root_is() {
    let folder = Folder::new();
    folder.bundle("b", |_| {});
    for name in ["b", "none"] {
        let simulator_root = Some(folder.at(name));
        let output = learn(&LearnArgs { subject: folder.text("b"), simulator_root, command_line: None }).await;
        assert_eq!((output.exit, output.stdout.as_str()), (2, ""), "{output:?}");
        let said = &output.stderr;
        assert!(said.contains(&format!("--simulator-root: {}", folder.text(name))), "{said}");
        assert!(said.ends_with("Give root.pem of the simulator's directory.\n") && !said.contains("[roots]"), "{said}");
    }
}

#[tokio::test]
async fn two_guests_differ_by_what_stays_between_connections() {
    let folder = Folder::new();
    folder.bundle("a", |_| {});
    folder.bundle("b", |config| config.measurement = Measurement::from_bytes([9; 48]));
    let same = folder.diff("a", "a").await;
    assert!(same.stdout.contains("no difference"), "{}", same.stdout);
    let other = folder.diff("a", "b").await;
    assert_eq!(other.exit, 0);
    assert!(
        other.stdout.contains(&format!("  + {}\n    the firmware is another one", "09".repeat(48))),
        "{}",
        other.stdout
    );
    assert!(other.stdout.contains("unchanged: profile"), "{}", other.stdout);
}

#[tokio::test]
async fn two_policies_differ_by_key_and_value() {
    let folder = Folder::new();
    std::fs::write(folder.at("old.toml"), policy_text(&"ab".repeat(48))).unwrap();
    std::fs::write(folder.at("new.toml"), policy_text(&"cd".repeat(48)).replace("snp = 24", "snp = 25")).unwrap();
    let output = folder.diff("old.toml", "new.toml").await;
    assert!(output.stdout.contains("snp.minimum_tcb.milan.snp\n  - 24\n  + 25\n"), "{}", output.stdout);
    assert!(output.stdout.contains(&format!("  - {}\n  + {}", "ab".repeat(48), "cd".repeat(48))), "{}", output.stdout);
    folder.bundle("b", |_| {});
    assert_eq!(folder.diff("old.toml", "b").await.exit, 2, "a policy is no guest");
}

#[test]
fn a_refusal_is_explained_down_to_the_byte() {
    let folder = Folder::new();
    folder.bundle("b", |_| {});
    let mut wanted = Config::new(Product::Milan).measurement.to_string();
    assert_eq!(folder.explain(&policy_text(&wanted)).exit, 0);
    wanted.replace_range(94..96, if wanted.ends_with("00") { "01" } else { "00" });
    let output = folder.explain(&policy_text(&wanted));
    assert_eq!(output.exit, 3, "{output:?}");
    assert!(output.stdout.contains("R_LD  measurement differs first at byte 47: seen "), "{}", output.stdout);
    assert!(output.stdout.contains("1 of 48 bytes differ: a slip of the pen?"), "{}", output.stdout);
}
