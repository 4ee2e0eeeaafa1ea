//! Five platforms against five policies, and every rule: a guest is judged by the policy of its own platform, by all of
//! it, and by nothing of another.

use super::*;

const PROFILES: [Profile; 5] = Profile::ALL;

/// A genuine guest of each platform.
fn guest(profile: Profile) -> Guest {
    let mut guest = match profile {
        Profile::Snp => Guest::of(sp().report(&B).unwrap(), anchors()),
        Profile::AzureSnp => azure::azure(azure::GOOD, true),
        Profile::GcpSnp => google::gcp(&Lab::new("matrix-gcp")),
        Profile::AwsSnp => aws::aws(&Lab::new("matrix-aws")),
        Profile::SvsmSnp => svsm::svsm(),
    };
    // One register fewer than a rule asks for.
    if let Some(tpm) = &mut guest.tpm {
        tpm.pcrs.retain(|index, _| *index != 15);
    }
    guest
}

fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap()
}

/// An entry that accepts the simulator's guest on this platform, with these lines more.
fn entry(profile: Profile, report: &[u8], identity: &str, more: &str) -> String {
    let measurement = Report::parse(report).unwrap().measurement().to_string();
    let svsm = "svsm.ak = \"accept a key that nobody vouches for\"\n";
    let lenient = if profile == Profile::SvsmSnp && !more.contains("svsm.") { svsm } else { "" };
    let measured = if more.contains("snp.measurements") {
        String::new()
    } else {
        format!("snp.measurements = [\"{measurement}\"]\n")
    };
    let smt = if more.contains("snp.smt") { "" } else { "snp.smt = \"allow\"\n" };
    let keys = if more.contains("snp.signing_keys") { "" } else { "snp.signing_keys = [\"vcek\"]\n" };
    let floor = if more.contains("snp.minimum_tcb.milan") {
        ""
    } else {
        "snp.minimum_tcb.milan = { bl = 0, tee = 0, snp = 1, ucode = 1 }\n"
    };
    format!("[[accept]]\nprofile = \"{profile}\"\n{identity}\n{measured}{smt}{keys}{floor}{lenient}{more}\n")
}

fn file(entries: &[String]) -> AppraisalPolicy {
    let text = format!("version = 2\nroots.simulator = \"root.pem\"\n{}", entries.concat());
    AppraisalPolicy::parse(&text, "p.toml").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Every kind of rule that an entry can have, each such that the simulator's guest breaks it: identity and other lines,
/// and the platforms on which it may be written.
fn rules() -> Vec<(String, String, &'static [Profile])> {
    const ALL: &[Profile] = &Profile::ALL;
    const VTPM: &[Profile] = &[Profile::AzureSnp, Profile::GcpSnp, Profile::AwsSnp, Profile::SvsmSnp];
    const CLOUDS: &[Profile] = &[Profile::AzureSnp, Profile::GcpSnp, Profile::AwsSnp];
    let any = |more: &str, profiles| (ANY.to_owned(), more.to_owned(), profiles);
    let identity = |identity: String, profiles| (identity, String::new(), profiles);
    let nine = |digits| "9".repeat(digits);
    vec![
        any(&format!("snp.measurements = [\"{}\"]\n", nine(96)), ALL),
        any("snp.signing_keys = [\"vlek\"]\nsnp.csp = [\"CN=x\"]\n", ALL),
        any("snp.minimum_tcb.milan = { bl = 255, tee = 0, snp = 1, ucode = 1 }\n", ALL),
        any("snp.minimum_committed_tcb.milan = { bl = 255, tee = 0, snp = 1, ucode = 1 }\n", ALL),
        any("snp.minimum_launch_tcb.milan = { bl = 255, tee = 0, snp = 1, ucode = 1 }\n", ALL),
        any("snp.distrust_products = [\"milan\"]\n", ALL),
        any("snp.vmpl = 3\n", ALL),
        any(&format!("snp.host_data = [\"{}\"]\n", nine(64)), ALL),
        any("snp.min_guest_svn = 9\n", ALL),
        any("snp.smt = \"refuse\"\n", ALL),
        any("snp.minimum_abi = \"9.0\"\n", ALL),
        any("snp.require_policy = [\"page-swap-disabled\"]\n", ALL),
        any("snp.require_platform_info = [\"tio\"]\n", ALL),
        any("snp.mitigations.current = 128\n", ALL),
        any("endorsements.crl = \"require-amd\"\n", ALL),
        any(&format!("guest.config = [\"{}\"]\n", nine(64)), ALL),
        any("levels.userspace = \"L3\"\n", ALL),
        any("levels.firmware = \"L4 amd-sp\"\n", ALL),
        any("tpm.require_pcrs = [15]\n", VTPM),
        any("tpm.banks = [\"sha384\"]\n", VTPM),
        any(&format!("tpm.pcrs.sha256.\"7\" = \"{}\"\n", nine(64)), VTPM),
        any(&format!("event_log.kernel = [\"{}\"]\n", nine(64)), VTPM),
        any("require_roots = [\"amd\", \"csp\"]\nendorsements.crl = \"require\"\n", CLOUDS),
        any("azure.ak_certificate = \"require\"\n", &[Profile::AzureSnp]),
        any("gcp.projects = [\"another\"]\n", &[Profile::GcpSnp]),
        any("gcp.zones = [\"another\"]\n", &[Profile::GcpSnp]),
        any("aws.max_document_age = \"1s\"\n", &[Profile::AwsSnp]),
        any("svsm.ak = \"proven\"\n", &[Profile::SvsmSnp]),
        identity(format!("identity.chip_ids = [\"{}\"]", nine(128)), ALL),
        identity(format!("identity.report_ids = [\"{}\"]", nine(64)), ALL),
        identity(format!("identity.launch_identity = {{ id_key_digest = \"{}\", min_guest_svn = 1 }}", nine(96)), ALL),
        identity(format!("identity.tpm.ak_names = [\"000b{}\"]", nine(64)), VTPM),
    ]
}

/// What decides, without the policy's own digest: ids and severities.
fn judgement(result: &AttestationResult) -> (Verdict, Vec<(&'static str, Severity)>) {
    (result.verdict(), result.findings().iter().map(|f| (f.id(), f.severity())).collect())
}

#[test]
fn a_guest_is_judged_by_all_rules_of_its_own_platform_and_by_none_of_another() {
    let guests = PROFILES.map(|profile| (profile, guest(profile)));
    let mut broken = std::collections::BTreeSet::new();
    for (own, guest) in &guests {
        let judge = |entries: &[String]| guest.judge_as(Some(*own), &file(entries));
        let plain = entry(*own, &guest.report, ANY, "");
        let alone = judge(std::slice::from_ref(&plain));
        accepted(&alone);
        for (identity, more, written_on) in rules() {
            for other in PROFILES.into_iter().filter(|other| other != own && written_on.contains(other)) {
                let foreign = entry(other, &guest.report, &identity, &more);
                // A rule of another platform changes nothing, wherever it is written.
                for entries in [[plain.clone(), foreign.clone()], [foreign.clone(), plain.clone()]] {
                    assert_eq!(
                        judgement(&judge(&entries)),
                        judgement(&alone),
                        "{own} beside {other}: {identity}{more}"
                    );
                }
                // And the other platform's policy never accepts this guest.
                let refused = judge(&[entry(other, &guest.report, ANY, "")]);
                assert!(fatal(&refused).contains(&"P_PROFILE"), "{own} under {other}");
            }
            if !written_on.contains(own) {
                continue;
            }
            // Its own rule is not escaped by what another platform is allowed.
            let strict = entry(*own, &guest.report, &identity, &more);
            let only = judge(std::slice::from_ref(&strict));
            for other in PROFILES.into_iter().filter(|other| other != own) {
                let both = judge(&[strict.clone(), entry(other, &guest.report, ANY, "")]);
                assert_eq!(judgement(&both), judgement(&only), "{own} with {other} beside: {identity}{more}");
            }
            if only.verdict() == Verdict::Refused(ratls::appraise::Stage::Appraise) {
                broken.insert(format!("{identity}{more}"));
            }
        }
    }
    // Each rule was one that refuses somewhere, or the comparison would say nothing.
    let idle: Vec<String> = rules()
        .into_iter()
        .map(|(identity, more, _)| format!("{identity}{more}"))
        .filter(|rule| !broken.contains(rule))
        .collect();
    assert!(idle.is_empty(), "never refused: {idle:#?}");
}

/// The fault that this file is about: a plain claim escapes the rules for the cloud that the guest runs on.
#[test]
fn a_guest_of_a_cloud_that_calls_itself_plain_is_held_to_the_plain_policy_alone() {
    let cloud = google::gcp(&Lab::new("plain-claim"));
    let rules = "tpm.require_pcrs = [4]\ngcp.projects = [\"p\"]\n";
    let honest = entry(Profile::GcpSnp, &cloud.report, ANY, rules);
    // The same hardware report, with everything else left out.
    let plain = Guest::of(cloud.report.clone(), anchors());
    let only_cloud = plain.judge_as(Some(Profile::Snp), &file(std::slice::from_ref(&honest)));
    assert_eq!(fatal(&only_cloud), ["P_PROFILE"]);
    let other = entry(Profile::Snp, &cloud.report, ANY, &format!("snp.measurements = [\"{}\"]\n", "9".repeat(96)));
    let with_plain = plain.judge_as(Some(Profile::Snp), &file(&[honest, other]));
    assert_eq!(fatal(&with_plain), ["R_LD"]);
}
