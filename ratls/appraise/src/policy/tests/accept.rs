//! Files for several platforms: which policy applies to which guest, and what a file may not share between them.

use formats::binding::Profile;

use super::super::{AppraisalPolicy, PolicyProblem};

fn rules(measurement: char) -> String {
    format!(
        "identity = \"any\"\nsnp.measurements = [\"{}\"]\nsnp.signing_keys = [\"vcek\"]\n\
         snp.minimum_tcb.milan = {{ bl = 4, tee = 0, snp = 29, ucode = 222 }}\n",
        measurement.to_string().repeat(96)
    )
}

fn entry(profile: &str, measurement: char) -> String {
    format!("[[accept]]\nprofile = \"{profile}\"\n{}", rules(measurement))
}

fn parse(text: &str) -> Result<AppraisalPolicy, String> {
    AppraisalPolicy::parse(text, "p.toml").map_err(|error| error.to_string())
}

/// With nothing that concerns one platform: whoever signed the launch decides.
const SHARED: &str = "version = 1\nprofiles = [\"snp\", \"gcp-snp\"]\n\
    identity.launch_identity = { id_key_digest = \"KEY\", min_guest_svn = 1 }\n\
    snp.measurements = \"whatever launch_identity signed\"\nsnp.signing_keys = [\"vcek\"]\n\
    snp.minimum_tcb.milan = { bl = 4, tee = 0, snp = 29, ucode = 222 }\n";

fn shared() -> String {
    SHARED.replace("KEY", &"7".repeat(96))
}

#[test]
fn each_entry_is_a_policy_of_its_own() {
    let file = parse(&format!("version = 2\nnames = [\"a.example\"]\n{}{}", entry("snp", '1'), entry("gcp-snp", '2')))
        .unwrap();
    assert_eq!(file.profiles(), [Profile::Snp, Profile::GcpSnp]);
    assert_eq!(file.names(), ["a.example"]);
    assert!(file.only().is_none());
    assert!(file.for_profile(Profile::AzureSnp).is_none());
    for (profile, own) in [(Profile::Snp, '1'), (Profile::GcpSnp, '2')] {
        let policy = file.for_profile(profile).unwrap();
        let digests: Vec<String> = policy.snp().measurements.iter().map(ToString::to_string).collect();
        assert_eq!(digests, [own.to_string().repeat(96)]);
        assert_eq!(policy.clouds().gcp.is_some(), profile == Profile::GcpSnp);
    }
}

#[test]
fn a_file_of_version_1_with_one_platform_is_one_entry() {
    let file = parse(&format!("version = 1\nprofiles = [\"aws-snp\"]\n{}", rules('1'))).unwrap();
    assert_eq!(file.only().unwrap().profile(), Profile::AwsSnp);
}

#[test]
fn a_shared_file_may_hold_nothing_that_concerns_some_platforms_only() {
    let file = parse(&shared()).unwrap();
    assert_eq!(file.profiles(), [Profile::Snp, Profile::GcpSnp]);
    for (more, place) in [
        ("[tpm]\nrequire_pcrs = [4]\n", "p.toml:8: tpm: "),
        ("[gcp]\nprojects = [\"mine\"]\n", "p.toml:8: gcp: "),
        ("[azure]\nconsole = \"refuse\"\n", "p.toml:8: azure: "),
        ("[event_log]\nsecure_boot = \"require\"\n", "p.toml:8: event_log: "),
        ("[[reference]]\nkind = \"digest\"\n", "p.toml:8: reference: "),
        ("require_roots = [\"amd\", \"csp\"]\n", "p.toml:7: require_roots: "),
    ] {
        let text = match more.starts_with('[') {
            true => format!("{}\n{more}", shared()),
            false => format!("{}{more}", shared()),
        };
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(place) && error.contains("[[accept]]"), "{more}: {error}");
    }
    let lists = format!("{}endorsements.crl = \"require\"\n", shared());
    let error = AppraisalPolicy::parse(&lists, "p.toml").unwrap_err();
    assert_eq!((error.key(), error.problem()), ("endorsements.crl", &PolicyProblem::OfSomeProfiles));
    assert!(parse(&lists.replace("require", "require-amd")).is_ok());
    let digests = shared().replace("\"whatever launch_identity signed\"", &format!("[\"{}\"]", "1".repeat(96)));
    let error = AppraisalPolicy::parse(&digests, "p.toml").unwrap_err();
    assert_eq!((error.line(), error.key()), (4, "snp.measurements"));
    assert_eq!(error.problem(), &PolicyProblem::OfSomeProfiles);
    let ids = shared().replace("min_guest_svn = 1 }", "min_guest_svn = 1 }\nidentity.tpm.gce_instance_ids = [\"12\"]");
    let error = AppraisalPolicy::parse(&ids, "p.toml").unwrap_err();
    assert_eq!((error.key(), error.problem()), ("identity.tpm", &PolicyProblem::OfSomeProfiles));
}

#[test]
fn what_is_wrong_with_a_list_is_said_with_line_and_key() {
    let one = entry("snp", '1');
    for (text, wanted) in [
        ("version = 2\n".to_owned(), "p.toml:1: accept: missing"),
        ("version = 2\naccept = []\n".to_owned(), "p.toml:2: accept: an empty list"),
        ("version = 2\naccept = \"snp\"\n".to_owned(), "p.toml:2: accept: wanted a list of tables, seen a string"),
        ("version = 2\naccept = [1]\n".to_owned(), "p.toml:2: accept[0]: wanted a table, seen an integer"),
        (format!("version = 1\n{one}"), "accept: [[accept]] needs version = 2"),
        (format!("version = 2\nprofiles = [\"snp\"]\n{one}"), "p.toml:2: profiles: in version 2"),
        (format!("version = 2\n{}{one}", rules('1')), "identity: in version 2 every rule belongs to an [[accept]]"),
        (format!("version = 2\n{one}{one}"), "p.toml:9: accept[1].profile: another [[accept]] entry"),
        (format!("version = 2\n{}", one.replace("\"snp\"", "\"sev\"")), "accept[0].profile: wanted \"snp\" or "),
        (format!("version = 2\n{}", one.replace("profile = \"snp\"\n", "")), "accept[0].profile: missing"),
        (format!("version = 2\n{one}names = [\"x\"]\n"), "accept[0].names: unknown key"),
        (format!("version = 2\n{one}gcp.pcr0 = \"sev-snp\"\n"), "accept[0].gcp: has no effect"),
        (format!("version = 2\n{}", one.replace("identity = \"any\"\n", "")), "accept[0].identity: missing"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(wanted), "{wanted}:\n{text}\n{error}");
    }
}
