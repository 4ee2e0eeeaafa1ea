//! Rules that are missing, unknown, empty, or mean nothing.

use super::*;

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
        assert!(parse(&with("[\"snp\"]", &format!("[\"{profile}\"]"))).is_ok(), "{profile}");
    }
    assert!(error(&with("[\"snp\"]", "[\"sim\"]")).contains("profiles[0]: wanted \"snp\" or "));
    assert!(error(&with("version = 1", "version = 3")).contains("version: policy version 3 is not supported"));
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
