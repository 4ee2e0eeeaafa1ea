//! Each way in which a policy file can be wrong, with the line and the key that its error must name.

use super::*;
use crate::tcb::{Product, TcbVersion};

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
    assert!(matches!(policy.identity(), IdentityRule::Any));
    let snp = policy.snp();
    assert_eq!((snp.vmpl, snp.min_guest_svn), (0, 0));
    assert_eq!((snp.smt, snp.cxl, snp.migrate_ma), (Permission::Refuse, Permission::Refuse, MigrateMa::Refuse));
    assert!(snp.minimum_tcb.floor(Product::Milan).is_some());
    assert!(snp.minimum_tcb.floor(Product::Genoa).is_none());
    assert_eq!(policy.crl(), CrlRule::IfPresent);
    assert_eq!(policy.guest().upstream_scope, UpstreamScope::InsideGuest);
    assert_eq!(policy.anchors_needed(), None);
    assert_eq!(policy.max_age().as_secs(), 24 * 3600);
    assert!(policy.levels().wanted.is_empty());
    assert_eq!(policy.levels().view, View::Strict);
    assert_eq!(policy.digest(), crypto::sha256(&[GOOD.as_bytes()]));
}

#[test]
fn everything_that_a_file_can_say_is_read() {
    let policy = parse(FULL).unwrap();
    assert_eq!(policy.names(), ["llm.example", "llm.example:8443", "[2001:db8::1]:443"]);
    let IdentityRule::All(rules) = policy.identity() else { panic!("wanted rules") };
    assert_eq!(rules.chip_ids.as_ref().unwrap().len(), 1);
    assert_eq!(rules.report_ids.as_ref().unwrap().len(), 1);
    assert_eq!(rules.launch_identity.as_ref().unwrap().min_guest_svn, 2);
    let snp = policy.snp();
    assert_eq!((snp.vmpl, snp.min_guest_svn), (1, 3));
    assert_eq!((snp.smt, snp.cxl, snp.migrate_ma), (Permission::Allow, Permission::Allow, MigrateMa::AllowUnused));
    assert_eq!(snp.csp, ["CN=cc-us-east-2.amazonaws.com"]);
    assert_eq!(snp.distrust_products, [Product::Genoa]);
    assert_eq!(snp.minimum_abi, Some(AbiVersion { major: 1, minor: 51 }));
    assert_eq!(snp.require_policy.iter().map(|b| b.mask).sum::<u64>(), 0b11_1101 << 20);
    assert_eq!(snp.require_platform_info.iter().map(|b| b.mask).sum::<u64>(), 0b1011_1110);
    assert_eq!((snp.mitigations.launch, snp.mitigations.current), (1, 0x8000_0000_0000_0001));
    let levels: Vec<_> = policy.levels().wanted.iter().map(|r| format!("{} {r}", r.component.as_str())).collect();
    assert_eq!(levels, ["firmware L3", "kernel L2 amd-sp", "userspace L1 vtpm"]);
    assert_eq!(policy.levels().view, View::Relaxed);
    let turin = TcbVersion::new_turin(1, 3, 2, 5, 97);
    assert_eq!(snp.minimum_tcb.floor(Product::Turin), Some(&turin));
    assert!(snp.minimum_committed_tcb.floor(Product::Milan).is_some());
    assert!(snp.minimum_launch_tcb.floor(Product::Milan).is_some());
    assert_eq!(policy.crl(), CrlRule::Require);
    assert_eq!(policy.anchors_needed(), Some("simulator-root.pem"));
    assert_eq!(policy.guest().config.len(), 1);
    assert_eq!(policy.guest().upstream_scope, UpstreamScope::OutsideGuest);
    assert_eq!(policy.max_age().as_secs(), 90 * 60);
}

#[test]
fn proto_i6_a_policy_without_an_identity_rule_is_refused() {
    let missing = error(&with("identity = \"any\"\n", ""));
    assert!(missing.starts_with("p.toml:1: identity: missing: identity = \"any\", or"), "{missing}");
    assert!(error(&with("identity = \"any\"", "identity = \"all\"")).starts_with("p.toml:3: identity: wanted \"any\""));
    assert!(error(&with("identity = \"any\"", "identity = {}")).starts_with("p.toml:3: identity: missing: "));
    assert!(
        error(&with("identity = \"any\"", "identity = true")).ends_with("identity: wanted a table, seen a boolean")
    );
}

#[test]
fn proto_p1_each_mandatory_key_is_missed_by_name() {
    for (line, key) in [
        ("version = 1\n", "version"),
        ("profiles = [\"snp\"]\n", "profiles"),
        ("signing_keys = [\"vcek\"]\n", "snp.signing_keys"),
        ("bl = 4\n", "snp.minimum_tcb.milan.bl"),
        ("ucode = 219\n", "snp.minimum_tcb.milan.ucode"),
    ] {
        let error = parse(&with(line, "")).unwrap_err();
        assert_eq!(error.key(), key);
        assert!(matches!(error.problem(), PolicyProblem::Missing { .. }), "{error}");
    }
    let no_measurements: String =
        GOOD.lines().filter(|l| !l.starts_with("measurements")).map(|l| format!("{l}\n")).collect();
    assert!(error(&no_measurements).starts_with("p.toml:5: snp.measurements: missing"));
    let (head, _) = GOOD.split_once("[snp.minimum_tcb").unwrap();
    assert!(error(head).starts_with("p.toml:5: snp.minimum_tcb: missing"));
    let (head, _) = GOOD.split_once("[snp]").unwrap();
    assert!(error(head).starts_with("p.toml:1: snp: missing"));
    assert!(error("").starts_with("p.toml:1: version: missing"));
}

#[test]
fn launch_digests_may_be_left_to_a_pinned_signer_or_to_google_and_to_nobody_else() {
    let lines =
        |keep: &dyn Fn(&str) -> bool| GOOD.lines().filter(|l| keep(l)).map(|l| format!("{l}\n")).collect::<String>();
    let unnamed = lines(&|line| !line.starts_with("measurements"));
    let google = unnamed.replace("[\"snp\"]", "[\"gcp-snp\"]");
    assert!(error(&google).contains("measurements: missing"));
    assert!(error(&format!("{google}[gcp]\nzones = [\"z\"]\n")).contains("measurements: missing"));
    assert!(parse(&format!("{google}[gcp]\nendorsement_root = \"tcb.crt\"\n")).is_ok());

    let by_signer = unnamed.replace("[snp]\n", "[snp]\nmeasurements = \"whatever launch_identity signed\"\n");
    assert_eq!(
        parse(&by_signer).unwrap_err(),
        at(6, "snp.measurements", PolicyProblem::Conflict("[identity] pins no launch_identity"))
    );
    let digest = "33".repeat(48);
    let identity = format!("identity.launch_identity = {{ id_key_digest = \"{digest}\", min_guest_svn = 2 }}");
    let pinned = by_signer.replace("identity = \"any\"", &identity);
    assert!(parse(&pinned).unwrap().cautions().iter().any(|caution| caution.contains("only who signed it")));
    assert!(
        error(&pinned.replace("whatever launch_identity signed", "any")).contains("whatever launch_identity signed")
    );
}

#[test]
fn proto_p1_unknown_keys_are_refused_where_they_stand() {
    assert!(error(&with("identity =", "debug = true\nidentity =")).starts_with("p.toml:3: debug: unknown key; known"));
    assert!(
        error(&with("signing_keys", "allow_debug = true\nsigning_keys")).starts_with("p.toml:7: snp.allow_debug: unk")
    );
    assert!(error(&with("bl = 4", "bl = 4\nfmc = 1")).starts_with("p.toml:11: snp.minimum_tcb.milan.fmc: unknown"));
    assert!(error(&with("tcb.milan", "tcb.naples")).starts_with("p.toml:9: snp.minimum_tcb.naples: unknown"));
    assert!(error(&with("measurements", "measurments")).starts_with("p.toml:6: snp.measurments: unknown"));
    assert!(error(&format!("{GOOD}[guest]\nconfigs = []\n")).starts_with("p.toml:15: guest.configs: unknown"));
}

#[test]
fn proto_p1_empty_lists_are_refused() {
    for list in ["profiles = [\"snp\"]", "signing_keys = [\"vcek\"]"] {
        let (key, _) = list.split_once(' ').unwrap();
        assert!(error(&with(list, &format!("{key} = []"))).contains("an empty list"), "{key}");
    }
    for key in ["distrust_products", "host_data", "require_policy", "require_platform_info", "csp"] {
        let text = with("signing_keys = [\"vcek\"]", &format!("signing_keys = [\"vlek\"]\n{key} = []"));
        let text = if key == "csp" { text } else { text.replace("\"vlek\"", "\"vcek\"") };
        assert_eq!(parse(&text).unwrap_err(), at(8, &format!("snp.{key}"), PolicyProblem::EmptyList));
    }
    for key in ["chip_ids", "report_ids"] {
        let text = with("identity = \"any\"", &format!("identity.{key} = []"));
        assert_eq!(parse(&text).unwrap_err(), at(3, &format!("identity.{key}"), PolicyProblem::EmptyList));
    }
    let text = with("identity", "names = []\nidentity");
    assert_eq!(parse(&text).unwrap_err(), at(3, "names", PolicyProblem::EmptyList));
}

fn at(line: usize, key: &str, problem: PolicyProblem) -> PolicyError {
    PolicyError { file: "p.toml".to_owned(), line, key: key.to_owned(), problem }
}

#[test]
fn proto_p1_digests_must_be_whole_and_not_zero() {
    let key = "snp.measurements[0]";
    let hex = |text: &str| parse(&with(&"a".repeat(96), text)).unwrap_err();
    assert_eq!(hex(&"0".repeat(96)), at(6, key, PolicyProblem::Zero));
    assert_eq!(hex(&"a".repeat(95)), at(6, key, PolicyProblem::Hex { seen: 95, wanted: 96 }));
    assert_eq!(hex(""), at(6, key, PolicyProblem::Hex { seen: 0, wanted: 96 }));
    assert!(hex(&"g".repeat(96)).to_string().ends_with("wanted 96 hex digits, seen another character among them"));
    let twice = with("measurements = [", &format!("measurements = [\n  \"{}\",\n  ", "A".repeat(96)));
    assert_eq!(parse(&twice).unwrap_err(), at(8, "snp.measurements[1]", PolicyProblem::Duplicate));
    let chip = with("identity = \"any\"", &format!("identity.chip_ids = [\"{}\"]", "0".repeat(128)));
    assert_eq!(parse(&chip).unwrap_err(), at(3, "identity.chip_ids[0]", PolicyProblem::Zero));
}

#[test]
fn a_floor_that_accepts_every_tcb_is_refused() {
    let text = with("bl = 4", "bl = 0").replace("snp = 24", "snp = 0").replace("ucode = 219", "ucode = 0");
    assert_eq!(parse(&text).unwrap_err(), at(9, "snp.minimum_tcb.milan", PolicyProblem::Zero));
    assert!(
        error(&with("ucode = 219", "ucode = 256"))
            .contains("p.toml:13: snp.minimum_tcb.milan.ucode: wanted an integer from 0 to 255")
    );
    assert!(error(&with("ucode = 219", "ucode = -1")).contains("p.toml:13: snp.minimum_tcb.milan.ucode"));
}

#[test]
fn profiles_are_those_of_the_platforms_and_simulated_is_none() {
    for profile in ["azure-snp", "gcp-snp", "aws-snp", "svsm-snp"] {
        assert!(parse(&with("[\"snp\"]", &format!("[\"snp\", \"{profile}\"]"))).is_ok(), "{profile}");
    }
    assert!(error(&with("[\"snp\"]", "[\"sim\"]")).contains("profiles[0]: wanted \"snp\" or "));
    assert!(error(&with("version = 1", "version = 2")).contains("version: policy version 2 is not supported"));
}

#[test]
fn csp_and_vlek_belong_together() {
    let vlek = with("[\"vcek\"]", "[\"vlek\"]");
    assert!(error(&vlek).starts_with("p.toml:5: snp.csp: missing"));
    assert!(
        error(&with("[\"vcek\"]", "[\"vcek\"]\ncsp = [\"CN=x\"]")).contains("p.toml:8: snp.csp: only a VLEK has a csp")
    );
    assert!(parse(&vlek.replace("[\"vlek\"]", "[\"vlek\"]\ncsp = [\"CN=x\"]")).is_ok());
}

#[test]
fn proto_i2_chip_ids_with_only_vlek_is_refused() {
    let text = with("[\"vcek\"]", "[\"vlek\"]\ncsp = [\"CN=x\"]");
    let text = text.replace("identity = \"any\"", &format!("identity.chip_ids = [\"{}\"]", "1".repeat(128)));
    assert!(error(&text).starts_with("p.toml:3: identity.chip_ids: can never hold"), "{}", error(&text));
    assert!(parse(&text.replace("[\"vlek\"]", "[\"vcek\", \"vlek\"]")).is_ok());
}

#[test]
fn nothing_but_fresh_evidence_can_be_asked_for() {
    let freshness = |line: &str| error(&format!("{GOOD}[freshness]\n{line}\n"));
    assert!(freshness("hw = \"within\"").contains("p.toml:15: freshness.hw: freshness \"within\" is not supported"));
    assert!(freshness("hw = \"stale\"").contains("p.toml:15: freshness.hw: wanted \"connect\""));
    for age in ["0h", "169h", "24", "h", "-1h", "1d", "18446744073709551615h", "é"] {
        assert!(freshness(&format!("max_age = \"{age}\"")).contains("p.toml:15: freshness.max_age: wanted a time"));
    }
}

#[test]
fn odd_values_are_refused() {
    assert!(
        error(&with("signing_keys", "vmpl = 4\nsigning_keys")).contains("p.toml:7: snp.vmpl: wanted an integer from 0")
    );
    assert!(
        error(&with("signing_keys", "smt = true\nsigning_keys")).contains("snp.smt: wanted a string, seen a boolean")
    );
    assert!(
        error(&with("signing_keys", "minimum_abi = \"1\"\nsigning_keys")).contains("snp.minimum_abi: wanted a version")
    );
    assert!(
        error(&with("signing_keys", "mitigations.launch = 0\nsigning_keys"))
            .contains("p.toml:7: snp.mitigations.launch: all zero")
    );
    assert!(
        error(&with("signing_keys", "mitigations = {}\nsigning_keys")).contains("p.toml:7: snp.mitigations: missing")
    );
    for name in ["*.example", "", "a/b", "a b"] {
        assert!(
            error(&with("identity", &format!("names = [\"{name}\"]\nidentity")))
                .contains("p.toml:3: names[0]: wanted a host")
        );
    }
    assert!(
        error(&format!("{GOOD}[guest]\nupstream_scope = \"outside\"\n"))
            .contains("p.toml:15: guest.upstream_scope: wanted \"inside\" or \"plaintext leaves the guest\"")
    );
    assert!(error(&format!("{GOOD}[endorsements]\n")).contains("p.toml:14: endorsements.crl: missing"));
    assert!(error(&format!("{GOOD}[roots]\nsimulator = \"\"\n")).contains("p.toml:15: roots.simulator: wanted"));
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

#[test]
fn a_level_is_asked_for_in_one_spelling_and_never_as_nothing() {
    for wrong in ["L0", "l3", "L5", "3", "L3 ", "L3  amd-sp", "L3 tpm", "L3 AMD-SP", "amd-sp", "L3 amd-sp vtpm", ""] {
        let text = format!("{GOOD}[levels]\nkernel = \"{wrong}\"\n");
        let error = error(&text);
        assert!(error.starts_with("p.toml:15: levels.kernel: wanted L1, L2, L3 or L4"), "{wrong:?}: {error}");
    }
    assert!(error(&format!("{GOOD}[levels]\nkernel = 3\n")).contains("wanted a string, seen an integer"));
    assert!(error(&format!("{GOOD}[levels]\ninitrd = \"L3\"\n")).contains("unknown key"));
    for empty in ["[levels]\n", "[levels]\nview = \"strict\"\n"] {
        assert!(error(&format!("{GOOD}{empty}")).contains("missing: at least one of firmware"), "{empty}");
    }
}

/// A policy with an `[event_log]` table of these lines, which begins at line 14.
fn event_log(lines: &str) -> String {
    format!("{GOOD}\n[event_log]\n{lines}")
}

#[test]
fn rules_about_what_was_booted_are_read() {
    let digest = "11".repeat(32);
    let policy = parse(&event_log(&format!(
        "ignore_registers = [1, 5]\ntechnology = \"sev-snp\"\nsecure_boot = \"not required\"\n\
         secure_boot_keys = {{ PK = \"{digest}\" }}\nsbat = {{ date = 2023012900, shim = 2 }}\n\
         kernel = \"{digest}\"\nfiles = \"any\"\nkernel_command_line = [\"a ${{v}}\", \"b\"]\n\
         grub_commands = [\"set x=${{v}}\"]\nvariables = {{ v = \"1\" }}\nuki = {{ \".osrel\" = \"{digest}\" }}\n\
         ima = {{ policy = \"tcb\", files = {{ \"/init\" = [\"sha256:{digest}\"] }} }}\n"
    )))
    .unwrap();
    let rules = policy.event_log().unwrap();
    assert_eq!((&rules.ignored[..], rules.secure_boot_required), (&[1, 5][..], false));
    assert_eq!((rules.kernel.len(), rules.command_lines.len(), rules.sections.len()), (1, 2, 1));
    assert_eq!(rules.files, event_log::Listed::Any);
    assert!(parse(GOOD).unwrap().event_log().is_none());
    let strict = parse(&event_log("")).unwrap();
    assert!(strict.event_log().unwrap().secure_boot_required);
}

#[test]
fn plat_n41_registers_that_are_never_evidence_cannot_be_named() {
    for pcr in [16, 17, 22, 23] {
        let error = error(&event_log(&format!("ignore_registers = [{pcr}]\n")));
        assert_eq!(
            error,
            "p.toml:16: event_log.ignore_registers[0]: this register is never evidence, and always ignored"
        );
    }
    for pcr in [10, 15] {
        assert!(
            error(&event_log(&format!("ignore_registers = [{pcr}]\n"))).ends_with("no rule speaks of this register")
        );
    }
    assert!(error(&event_log("ignore_registers = [24]\n")).contains("wanted an integer from 0 to 23"));
}

#[test]
fn wrong_rules_about_what_was_booted_name_line_and_key() {
    let zero = "0".repeat(64);
    for (line, wanted) in [
        ("secure_boot = false", "p.toml:16: event_log.secure_boot: wanted a string, seen a boolean"),
        (
            "secure_boot = \"off\"",
            "p.toml:16: event_log.secure_boot: wanted \"required\" or \"not required\", seen \"off\"",
        ),
        ("kernel = []", "p.toml:16: event_log.kernel: an empty list"),
        (
            "kernel = \"abc\"",
            "p.toml:16: event_log.kernel: wanted 64 hex digits (SHA-256) or 96 (SHA-384), seen \"abc\"",
        ),
        ("kernel = [\"ZERO\"]", "p.toml:16: event_log.kernel[0]: all zero"),
        ("files = \"all\"", "p.toml:16: event_log.files: wanted \"any\", seen \"all\""),
        ("kernel_command_line = \"${}\"", "p.toml:16: event_log.kernel_command_line: wanted a variable named"),
        ("variables = { v = \"1\" }", "p.toml:15: event_log.variables.v: stands in no pattern"),
        ("variables = {}", "p.toml:16: event_log.variables: an empty list"),
        ("pcrs = [1]", "p.toml:16: event_log.pcrs: unknown key"),
        ("uki = { \".linux\" = \"x\" }", "p.toml:16: event_log.uki..linux: unknown key"),
        ("ima = { policy = \"tcb\" }", "p.toml:16: event_log.ima.files: missing"),
        ("ima = { policy = \"\", files = {} }", "p.toml:16: event_log.ima.policy: wanted the name of a policy"),
        ("ima = { policy = \"tcb\", files = { \"/a\" = \"sha1:aa\" } }", "p.toml:16: event_log.ima.files./a: wanted"),
    ] {
        let error = error(&event_log(&format!("{}\n", line.replace("ZERO", &zero))));
        assert!(error.starts_with(wanted), "{line}: {error}");
    }
}

#[test]
fn files_of_a_boot_are_named_and_need_rules_about_it() {
    let boot = "[[reference]]\nkind = \"boot\"\nkernel = \"vmlinuz\"\nloaders = [\"shimx64.efi\", \"grubx64.efi\"]\n";
    let policy = parse(&event_log(boot)).unwrap();
    assert_eq!(policy.references().files(), ["vmlinuz", "shimx64.efi", "grubx64.efi"]);
    assert!(policy.references().boot().is_none(), "no file was read");
    struct Named;
    impl ReferenceFiles for Named {
        fn read(&mut self, name: &str, _: usize) -> Result<Vec<u8>, FileProblem> {
            Ok(format!("the file {name}").into_bytes())
        }
        fn stream(&mut self, name: &str, _: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
            Err(FileProblem(format!("{name} is not asked for in pieces")))
        }
    }
    let mut policy = policy;
    policy.load_references(&mut Named).unwrap();
    let known = crate::evidence::tpm::Bank::Sha256.hash(&[b"the file vmlinuz"]);
    assert!(policy.references().boot().unwrap().knows_as(crate::reference::Part::Kernel, &known));
    let alone = error(&format!("{GOOD}\n{boot}"));
    assert!(alone.ends_with("has no effect without the table [event_log]"), "{alone}");
    let none = error(&event_log("[[reference]]\nkind = \"boot\"\n"));
    assert!(none.contains("missing: at least one of kernel, initrd, loaders"), "{none}");
}
