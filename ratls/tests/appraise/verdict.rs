//! What a verdict allows and how long, and what it says of the statement: who is accepted, and what each finding stands beside.

use super::*;

#[test]
fn a_live_guest_that_its_policy_names_is_accepted_and_gives_the_token() {
    let result = accepted(appraise(Some(&policy("")), live(|_| {})));
    assert_eq!(result.identity(), Identity::Any);
    assert_eq!(severity(&result, "I_ANY"), Severity::Warning);
    assert_eq!(result.expires(), Some(UnixTime::from_secs(NOW.as_secs() + 24 * 3600)));
    assert!(result.policy_digest().is_some());
    let token = result.into_accepted().expect("an accepted live connection gives the token");
    assert_eq!(token.result().verdict(), Verdict::Accepted);
}

#[test]
fn the_simulated_example_accepts_the_simulators_guest() {
    let text = include_str!("../../../examples/policies/simulated.toml");
    let policy = AppraisalPolicy::parse(text, "simulated.toml").unwrap();
    assert_eq!(policy.anchors_needed(), Some(simulator::ROOT_FILE));
    let result = accepted(appraise(Some(&policy), live(|_| {})));
    assert_eq!(severity(&result, "S_SIMULATED"), Severity::Warning);
    assert!(result.to_string().starts_with("SIMULATED, PROVES NOTHING\nACCEPTED by simulated.toml\n"), "{result}");
}

#[test]
fn an_accepted_file_gives_no_token() {
    let result = accepted(appraise(Some(&policy("")), file(|_| {})));
    assert_eq!(severity(&result, "C_CHANNEL"), Severity::Warning);
    assert_eq!(severity(&result, "R_FRESH"), Severity::Warning);
    assert!(result.into_accepted().is_err());
}

#[test]
fn an_acceptance_ends_with_the_certificate_if_that_is_sooner_than_the_policys_age() {
    let not_after = UnixTime::from_secs(NOW.as_secs() + 3600);
    let evidence = live(|c| c.leaf_validity = Validity { not_after, ..Validity::LONG });
    assert_eq!(accepted(appraise(Some(&policy("")), evidence)).expires(), Some(not_after));
    let short = policy_with("identity = \"any\"", "", "[freshness]\nmax_age = \"90s\"");
    let result = accepted(appraise(Some(&short), live(|_| {})));
    assert_eq!(result.expires(), Some(UnixTime::from_secs(NOW.as_secs() + 90)));
}

#[test]
fn a_refused_connection_and_one_without_a_policy_give_no_token() {
    assert!(appraise(None, live(|_| {})).into_accepted().is_err());
    let policy = policy("distrust_products = [\"milan\"]");
    assert!(appraise(Some(&policy), live(|_| {})).into_accepted().is_err());
}

#[test]
fn proto_c11_simulated_evidence_is_refused_where_the_policy_names_no_root_of_a_simulator() {
    let text =
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsmt = \"allow\"\nsigning_keys = [\"vcek\"]\n";
    let measurement = Config::new(Product::Milan).measurement;
    let text = format!(
        "{text}measurements = [\"{measurement}\"]\n[snp.minimum_tcb.milan]\nbl = 1\ntee = 0\nsnp = 1\nucode = 1\n"
    );
    let policy = AppraisalPolicy::parse(&text, "test.toml").unwrap();
    refused(&appraise(Some(&policy), live(|_| {})), "S_SIMULATED", "root");
    // Without a policy there is nobody to accept; the guest that looks at itself is told.
    let result = appraise(None, live(|_| {}));
    assert_eq!((result.verdict(), severity(&result, "S_SIMULATED")), (Verdict::Authentic, Severity::Warning));
    assert!(result.to_string().starts_with("SIMULATED, PROVES NOTHING\n"), "{result}");
    assert!(result.into_accepted().is_err());
}

#[test]
fn a_configuration_that_the_policy_does_not_name_is_refused() {
    let named = |byte: u8| {
        let digest = Sha256Digest::from_bytes(bytes(byte));
        policy_with("identity = \"any\"", "", &format!("[guest]\nconfig = [\"{digest}\"]"))
    };
    accepts(appraise(Some(&named(5)), live(|_| {})));
    refused(&appraise(Some(&named(6)), live(|_| {})), "P_CONFIG", "config");
    // A bare report carries no statement, and what cannot be compared does not pass.
    refused(&appraise(Some(&named(5)), file(|_| {})), "P_CONFIG", "config");
}

#[test]
fn an_upstream_outside_the_guest_needs_the_policys_words() {
    let outside = || live_with(|_| {}, |s| s.upstream_scope = UpstreamScope::OutsideGuest, true);
    refused(&appraise(Some(&policy("")), outside()), "P_UPSTREAM", "upstream_scope");
    let leave = policy_with("identity = \"any\"", "", "[guest]\nupstream_scope = \"plaintext leaves the guest\"");
    let result = accepted(appraise(Some(&leave), outside()));
    assert_eq!(severity(&result, "P_UPSTREAM"), Severity::Warning);
}

#[test]
fn a_guest_that_claims_other_names_is_refused() {
    let named = policy_with("names = [\"llm.example\"]\nidentity = \"any\"", "", "");
    let claims = |name: &'static str| live_with(|_| {}, move |s| s.names = vec![name.to_owned()], true);
    accepts(appraise(Some(&named), claims("LLM.example")));
    refused(&appraise(Some(&named), claims("db.example")), "P_NAME", "names");
    let result = accepted(appraise(Some(&named), live(|_| {})));
    assert_eq!(severity(&result, "P_NAME"), Severity::Info);
}

#[test]
fn all_findings_are_returned_and_the_fatal_ones_come_first() {
    let evidence = live(|c| {
        c.policy |= 1 << 19;
        c.vmpl = 2;
        c.measurement = Measurement::from_bytes(bytes(1));
    });
    let result = appraise(Some(&policy("distrust_products = [\"milan\"]")), evidence);
    let fatal: Vec<_> =
        result.findings().iter().take_while(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect();
    for id in ["R_DEBUG", "R_VMPL", "R_LD", "R_PRODUCT"] {
        assert!(fatal.contains(&id), "{id} is not among {fatal:?}");
    }
    assert!(result.findings().is_sorted_by_key(|f| f.severity()));
    let text = result.to_string();
    assert!(text.lines().nth(1).unwrap().ends_with("4 reasons"), "{text}");
}
