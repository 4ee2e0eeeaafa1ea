//! Each way in which a policy file can be wrong, with the line and the key that its error must name.

mod accept;
mod booted;
mod rules;

use super::*;
use formats::tcb::{Product, TcbVersion};

const GOOD: &str = r#"version = 1
profiles = ["snp"]
identity = "any"

[snp]
measurements = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
signing_keys = ["vcek"]

[snp.minimum_tcb.milan]
bl = 4
tee = 0
snp = 24
ucode = 219
"#;

/// Everything that a file can say, each key once.
const FULL: &str = r#"version = 1
profiles = ["snp"]
names = ["LLM.example", "llm.example:8443", "[2001:db8::1]:443"]

[identity]
chip_ids = ["11111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"]
report_ids = ["2222222222222222222222222222222222222222222222222222222222222222"]

[identity.launch_identity]
id_key_digest = "333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333"
author_key_digest = "444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444"
min_guest_svn = 2
host_data = "5555555555555555555555555555555555555555555555555555555555555555"

[snp]
measurements = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
signing_keys = ["vcek", "vlek"]
csp = ["CN=cc-us-east-2.amazonaws.com"]
distrust_products = ["genoa"]
vmpl = 1
host_data = ["6666666666666666666666666666666666666666666666666666666666666666"]
min_guest_svn = 3
smt = "allow"
cxl = "allow"
migrate_ma = "allow-unused"
minimum_abi = "1.51"
require_policy = ["single-socket", "mem-aes-256-xts", "rapl-disabled", "ciphertext-hiding", "page-swap-disabled"]
require_platform_info = ["tsme", "ecc", "rapl-disabled", "ciphertext-hiding", "alias-check-complete", "tio"]
mitigations = { launch = 0x1, current = 0x8000000000000001 }

[snp.minimum_tcb]
milan = { bl = 4, tee = 0, snp = 24, ucode = 219 }
turin = { fmc = 1, bl = 3, tee = 2, snp = 5, ucode = 97 }
[snp.minimum_committed_tcb.milan]
bl = 4
tee = 0
snp = 23
ucode = 213
[snp.minimum_launch_tcb.milan]
bl = 3
tee = 0
snp = 8
ucode = 115

[endorsements]
crl = "require"
[roots]
simulator = "simulator-root.pem"
[guest]
config = ["7777777777777777777777777777777777777777777777777777777777777777"]
upstream_scope = "plaintext leaves the guest"
[levels]
view = "relaxed"
firmware = "L3"
kernel = "L2 amd-sp"
userspace = "L1 vtpm"
[freshness]
hw = "connect"
max_age = "90m"
"#;

fn parse(text: &str) -> Result<AppraisalPolicy, PolicyError> {
    AppraisalPolicy::parse(text, "p.toml")
}

/// The error of `text` as a person reads it.
#[track_caller]
fn error(text: &str) -> String {
    parse(text).expect_err("this policy must be refused").to_string()
}

/// `from` in the good policy replaced by `to`; must occur.
#[track_caller]
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the policy");
    GOOD.replacen(from, to, 1)
}

#[test]
fn what_is_left_out_has_the_strict_answer() {
    let policy = parse(GOOD).unwrap();
    assert_eq!(policy.profiles(), [Profile::Snp]);
    assert!(matches!(policy.only().unwrap().identity(), IdentityRule::Any));
    let snp = policy.only().unwrap().snp();
    assert_eq!((snp.vmpl, snp.min_guest_svn), (0, 0));
    assert_eq!((snp.smt, snp.cxl, snp.migrate_ma), (Permission::Refuse, Permission::Refuse, MigrateMa::Refuse));
    assert!(snp.minimum_tcb.floor(Product::Milan).is_some());
    assert!(snp.minimum_tcb.floor(Product::Genoa).is_none());
    assert_eq!(policy.only().unwrap().crl(), CrlRule::IfPresent);
    assert_eq!(policy.only().unwrap().guest().upstream_scope, UpstreamScope::InsideGuest);
    assert_eq!(policy.anchors_needed(), None);
    assert_eq!(policy.max_age().as_secs(), 24 * 3600);
    assert!(policy.only().unwrap().levels().wanted.is_empty());
    assert_eq!(policy.only().unwrap().levels().view, View::Strict);
    assert_eq!(policy.digest(), crypto::sha256(&[GOOD.as_bytes()]));
}

#[test]
fn everything_that_a_file_can_say_is_read() {
    let policy = parse(FULL).unwrap();
    assert_eq!(policy.names(), ["llm.example", "llm.example:8443", "[2001:db8::1]:443"]);
    let IdentityRule::All(rules) = policy.only().unwrap().identity() else { panic!("wanted rules") };
    assert_eq!(rules.chip_ids.as_ref().unwrap().len(), 1);
    assert_eq!(rules.report_ids.as_ref().unwrap().len(), 1);
    assert_eq!(rules.launch_identity.as_ref().unwrap().min_guest_svn, 2);
    let snp = policy.only().unwrap().snp();
    assert_eq!((snp.vmpl, snp.min_guest_svn), (1, 3));
    assert_eq!((snp.smt, snp.cxl, snp.migrate_ma), (Permission::Allow, Permission::Allow, MigrateMa::AllowUnused));
    assert_eq!(snp.csp, ["CN=cc-us-east-2.amazonaws.com"]);
    assert_eq!(snp.distrust_products, [Product::Genoa]);
    assert_eq!(snp.minimum_abi, Some(AbiVersion { major: 1, minor: 51 }));
    assert_eq!(snp.require_policy.iter().map(|b| b.mask).sum::<u64>(), 0b11_1101 << 20);
    assert_eq!(snp.require_platform_info.iter().map(|b| b.mask).sum::<u64>(), 0b1011_1110);
    assert_eq!((snp.mitigations.launch, snp.mitigations.current), (1, 0x8000_0000_0000_0001));
    let levels: Vec<_> =
        policy.only().unwrap().levels().wanted.iter().map(|r| format!("{} {r}", r.component.as_str())).collect();
    assert_eq!(levels, ["firmware L3", "kernel L2 amd-sp", "userspace L1 vtpm"]);
    assert_eq!(policy.only().unwrap().levels().view, View::Relaxed);
    let turin = TcbVersion::new_turin(1, 3, 2, 5, 97);
    assert_eq!(snp.minimum_tcb.floor(Product::Turin), Some(&turin));
    assert!(snp.minimum_committed_tcb.floor(Product::Milan).is_some());
    assert!(snp.minimum_launch_tcb.floor(Product::Milan).is_some());
    assert_eq!(policy.only().unwrap().crl(), CrlRule::Require);
    assert_eq!(policy.anchors_needed(), Some("simulator-root.pem"));
    assert_eq!(policy.only().unwrap().guest().config.len(), 1);
    assert_eq!(policy.only().unwrap().guest().upstream_scope, UpstreamScope::OutsideGuest);
    assert_eq!(policy.max_age().as_secs(), 90 * 60);
}

fn at(line: usize, key: &str, problem: PolicyProblem) -> PolicyError {
    PolicyError { file: "p.toml".to_owned(), line, key: key.to_owned(), problem }
}

#[test]
fn syntax_errors_name_line_and_key() {
    assert!(
        error(&with("snp = 24", "snp = ")).starts_with("p.toml:12: snp: not TOML: "),
        "{}",
        error(&with("snp = 24", "snp = "))
    );
    assert!(error(&with("ucode", "bl = 5\nucode")).starts_with("p.toml:13: bl: not TOML: duplicate key"));
    assert!(error("version = 1\n[[[\n").starts_with("p.toml:2: "));
    let long = format!("#{}", "x".repeat(MAX_POLICY_BYTES));
    assert!(error(&long).starts_with("p.toml:1: (file): the file has 1048577 bytes"));
}

#[test]
fn a_key_that_cannot_be_seen_is_named_in_quotes() {
    assert!(error("'' = 8").starts_with("p.toml:1: \"\": unknown key"), "{}", error("'' = 8"));
    assert!(error("\"a\\nb\" = 8").starts_with("p.toml:1: \"a\\nb\": unknown key"), "{}", error("\"a\\nb\" = 8"));
    assert!(error("\u{1b}[2J = 8").starts_with("p.toml:1: \"\\u{1b}[2J\": not TOML"), "{}", error("\u{1b}[2J = 8"));
}

/// One change at every byte: never a panic, and an error always names a line of the file.
#[test]
fn a_damaged_file_is_read_or_refused_with_a_line_that_exists() {
    let mut refused = 0;
    for (offset, _) in FULL.char_indices() {
        for change in ["", "\"", "[", "=", "\n", "é", "\0"] {
            let mut text = FULL.to_owned();
            match change {
                "" => drop(text.remove(offset)),
                _ => text.insert_str(offset, change),
            }
            if let Err(error) = parse(&text) {
                refused += 1;
                assert!((1..=text.lines().count() + 1).contains(&error.line()), "{error}");
                assert!(!error.key().is_empty());
            }
        }
    }
    assert!(refused > FULL.len() * 4, "{refused} of {}", FULL.len() * 7);
}
