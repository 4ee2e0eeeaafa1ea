//! `evident-client verify` over reports that real hardware signed, each under its own time: what is authentic exits 0 with every
//! field that the case lists, what is not exits 1 with the check that failed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use evident_client::tools::Output;
use evident_client::tools::verify::{VerifyArgs, verify};
use ratls::time::UnixTime;
use serde_json::Value;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    verify: VerifyArgs,
}

/// Runs the command at `at`, as if that were now.
fn run_at(at: UnixTime, args: &[&str]) -> Output {
    let cli = Cli::try_parse_from(["verify"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}"));
    verify(&cli.verify, cli.verify.at.unwrap_or(at))
}

fn evidence() -> Option<PathBuf> {
    let from_env = std::env::var_os("EVIDENT_EVIDENCE").map(PathBuf::from);
    let folder = from_env.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    folder.join("snp").is_dir().then_some(folder)
}

struct Case {
    name: String,
    folder: PathBuf,
    json: Value,
}

impl Case {
    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }
    fn expect(&self) -> &str {
        self.json["expect"].as_str().unwrap()
    }
    fn at(&self) -> UnixTime {
        UnixTime::parse_rfc3339(self.json["at"].as_str().unwrap()).unwrap()
    }
    /// The command over the files of this case, `certs` in that order.
    fn verify(&self, certs: &[&str], more: &[&str]) -> Output {
        let at = self.json["at"].as_str().map_or(UnixTime::from_secs(1_800_000_000), |_| self.at());
        let report = self.path("report.bin");
        let mut args = vec!["--snp-report", &report, "--json"];
        for cert in certs {
            args.extend(["--cert", cert]);
        }
        args.extend(more);
        run_at(at, &args)
    }
}

/// All cases, or `None` with a line that says so.
fn cases(test: &str) -> Option<Vec<Case>> {
    let Some(folder) = evidence() else {
        println!("skipped: {test}: no evidence folder");
        return None;
    };
    let mut cases: Vec<_> = fs::read_dir(folder.join("snp"))
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap().path();
            let json = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
            Case { name: folder.file_name().unwrap().to_string_lossy().into_owned(), folder, json }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(cases.len() >= 19, "only {} cases", cases.len());
    Some(cases)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn finding<'a>(json: &'a Value, id: &str) -> Option<&'a Value> {
    json["findings"].as_array().unwrap().iter().find(|f| f["id"] == id)
}

/// Exit 1, refused, and the one reason.
#[track_caller]
fn refused(name: &str, output: &Output) -> String {
    assert_eq!(output.exit, 1, "{name}: {output:?}");
    let json = json(output);
    assert_eq!(json["verdict"], "refused", "{name}");
    assert_eq!(json["refused_by"], "verify", "{name}");
    assert_eq!(json["evidence"], serde_json::json!({}), "{name}: nothing of refused evidence is shown");
    let finding = &json["findings"][0];
    assert_eq!(finding["severity"], "fatal", "{name}");
    for key in ["subject", "seen", "wanted", "help"] {
        assert!(!finding[key].as_str().unwrap().is_empty(), "{name}: {key} of {finding}");
    }
    finding["id"].as_str().unwrap().to_owned()
}

#[test]
fn every_case_has_the_exit_code_and_the_fields_that_it_expects() {
    let Some(cases) = cases("every_case_has_the_exit_code_and_the_fields_that_it_expects") else { return };
    let (mut authentic, mut debug, mut vmpl_1) = (0, 0, 0);
    for case in &cases {
        let name = &case.name;
        match case.expect() {
            "authentic" => {}
            "parse-only" => {
                assert_eq!(refused(name, &case.verify(&[], &[])), "E_NO_ENDORSEMENT");
                continue;
            }
            _ => {
                refused(name, &case.verify(&[&case.path("vek.der"), &case.path("issuer.der")], &[]));
                continue;
            }
        }
        authentic += 1;
        let output = case.verify(&[&case.path("vek.der"), &case.path("issuer.der")], &[]);
        assert_eq!(output.exit, 0, "{name}: {output:?}");
        let json = json(&output);
        assert_eq!((&json["verdict"], &json["refused_by"]), (&"authentic".into(), &Value::Null), "{name}");
        assert_eq!((&json["channel"], &json["simulated"]), (&"none".into(), &false.into()), "{name}");
        assert_eq!(json["at"], case.json["at"], "{name}");
        assert!(finding(&json, "C_CHANNEL").is_some(), "{name}: says that a file proves nothing of a connection");
        let snp = &json["evidence"]["snp"];
        for (key, wanted) in case.json["fields"].as_object().unwrap() {
            let wanted = match key.as_str() {
                "signing_key" => wanted.as_str().unwrap().to_lowercase().into(),
                _ => wanted.clone(),
            };
            assert_eq!(snp[key], wanted, "{name}: {key}");
        }
        // Not every case notes what its certificate says; its name begins with the product.
        for (key, noted) in [("tcb", "vek_tcb"), ("csp", "csp")] {
            assert!(case.json.get(noted).is_none_or(|noted| *noted == snp["vek"][key]), "{name}: {key}");
        }
        assert!(name.starts_with(snp["product"].as_str().unwrap()), "{name}");

        let fields = &case.json["fields"];
        let found = |id: &str| finding(&json, id).map(|f| f["severity"].as_str().unwrap().to_owned());
        let cap_if = |applies: bool| applies.then(|| "cap".to_owned());
        assert_eq!(found("R_DEBUG"), cap_if(fields["debug"] == true), "{name}");
        assert_eq!(found("R_VMPL"), cap_if(fields["vmpl"] != 0), "{name}");
        debug += usize::from(fields["debug"] == true);
        vmpl_1 += usize::from(fields["vmpl"] == 1);
        let ok_if_fresh = if fields["debug"] == true || fields["vmpl"] != 0 { "failed" } else { "ok" };
        assert_eq!(json["levels_if_fresh"]["amd_sp"], ok_if_fresh, "{name}");
        assert_eq!(json["levels"]["amd_sp"], "failed", "{name}: a file is not fresh");
    }
    assert!(authentic >= 17 && debug == 1 && vmpl_1 == 3, "{authentic} authentic, {debug} debug, {vmpl_1} at VMPL 1");
}

#[test]
fn certificates_come_in_any_order_and_form_and_roots_among_them_are_ignored() {
    let test = "certificates_come_in_any_order_and_form_and_roots_among_them_are_ignored";
    let Some(cases) = cases(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    for case in cases.iter().filter(|c| c.expect() == "authentic") {
        let (vek, issuer) = (case.path("vek.der"), case.path("issuer.der"));
        assert_eq!(case.verify(&[&issuer, &vek], &[]).exit, 0, "{}", case.name);
        // The name of a case begins with the product.
        let product = case.name.split('-').next().unwrap();
        // ASK, ARK and ASVK in one file.
        let chain = evidence().unwrap().join(format!("endorsements/{product}_ask_ark_asvk.pem")).display().to_string();
        assert_eq!(case.verify(&[&chain, &vek], &[]).exit, 0, "{}", case.name);
        assert_eq!(case.verify(&[&vek, &chain], &[]).exit, 0, "{}", case.name);
        let pem = folder.path().join("vek.pem");
        fs::write(&pem, to_pem(&fs::read(&vek).unwrap())).unwrap();
        assert_eq!(case.verify(&[&issuer, pem.to_str().unwrap()], &[]).exit, 0, "{}", case.name);
    }
}

fn to_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            text.push(if i <= chunk.len() { char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]) } else { '=' });
        }
    }
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn a_time_outside_the_validity_is_refused_and_names_the_clock() {
    let Some(cases) = cases("a_time_outside_the_validity_is_refused_and_names_the_clock") else { return };
    for case in cases.iter().filter(|c| c.expect() == "authentic") {
        for at in ["2019-01-01T00:00:00Z", "2060-01-01T00:00:00Z"] {
            let output = case.verify(&[&case.path("vek.der"), &case.path("issuer.der")], &["--at", at]);
            assert_eq!(refused(&case.name, &output), "E_VALIDITY", "{} at {at}", case.name);
            assert!(output.stdout.contains("clock"), "{}: {}", case.name, output.stdout);
        }
    }
}

#[test]
fn a_report_with_the_certificate_of_another_is_refused() {
    let Some(cases) = cases("a_report_with_the_certificate_of_another_is_refused") else { return };
    let mut seen = std::collections::BTreeSet::new();
    for report in &cases {
        for other in cases.iter().filter(|c| c.expect() == "authentic" && c.name != report.name) {
            let (vek, issuer) = (other.path("vek.der"), other.path("issuer.der"));
            if report.expect() == "authentic" && fs::read(&vek).unwrap() == fs::read(report.path("vek.der")).unwrap() {
                continue;
            }
            let pair = format!("{} with the certificate of {}", report.name, other.name);
            // Judged when the certificate is valid, so that it is not its age that refuses.
            let path = report.path("report.bin");
            let output = run_at(other.at(), &["--snp-report", &path, "--json", "--cert", &vek, &issuer]);
            let id = refused(&pair, &output);
            let wanted = ["R_KEYSEL", "E_CHIP_ID", "R_TCB", "E_PRODUCT", "R_SIG", "R_RESERVED"];
            assert!(wanted.contains(&id.as_str()), "{pair}: {id}");
            seen.insert(id);
        }
        // The right leaf without the issuer that vouches for it.
        if report.expect() == "authentic" {
            assert_eq!(refused(&report.name, &report.verify(&[&report.path("vek.der")], &[])), "E_CHAIN");
            assert_eq!(refused(&report.name, &report.verify(&[&report.path("issuer.der")], &[])), "E_NO_ENDORSEMENT");
            assert_eq!(refused(&report.name, &report.verify(&[], &[])), "E_NO_ENDORSEMENT");
        }
    }
    assert!(seen.contains("R_KEYSEL") && seen.contains("E_CHIP_ID"), "{seen:?}");
}

#[test]
fn a_missing_certificate_says_where_amd_has_it() {
    let Some(cases) = cases("a_missing_certificate_says_where_amd_has_it") else { return };
    let help = |name: &str| {
        let case = cases.iter().find(|c| c.name == name).unwrap();
        json(&case.verify(&[], &[]))["findings"][0]["help"].as_str().unwrap().to_owned()
    };
    let turin = help("turin-v5-vcek-56b3ee54");
    let address =
        "https://kdsintf.amd.com/vcek/v1/Turin/0910b4f884ff4ba9?fmcSPL=01&blSPL=03&teeSPL=02&snpSPL=05&ucodeSPL=97";
    assert!(turin.ends_with(address), "{turin}");
    let genoa = help("genoa-v3-vcek-18e907bf");
    assert!(
        genoa.contains("/vcek/v1/Genoa/371c55d6") && genoa.ends_with("?blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=25"),
        "{genoa}"
    );
    assert!(!help("milan-v3-vlek-decdab94").contains("kdsintf"));
}

#[test]
fn forged_endorsements_are_refused() {
    let Some(cases) = cases("forged_endorsements_are_refused") else { return };
    let refuse = evidence().unwrap().join("refuse");
    for forged in ["snp__test-vcek-invalid-legacy.der", "snp__test-vcek-invalid-new.der"] {
        let forged = refuse.join(forged).display().to_string();
        for case in cases.iter().filter(|c| c.expect() == "authentic" && c.name.contains("vcek")) {
            refused(&forged, &case.verify(&[&forged, &case.path("issuer.der")], &[]));
        }
    }
}

/// A policy that accepts the genoa report, but for what `change` does to it.
fn policy(case: &Case, folder: &Path, change: impl FnOnce(String) -> String) -> String {
    let fields = &case.json["fields"];
    let text = format!(
        "version = 1\nprofiles = [\"snp\"]\n[identity]\nchip_ids = [{}]\n[snp]\nmeasurements = [{}]\n\
         signing_keys = [\"vcek\"]\nsmt = \"allow\"\n[snp.minimum_tcb.genoa]\nbl = 10\ntee = 0\nsnp = 23\nucode = 25\n",
        fields["chip_id"], fields["measurement"]
    );
    let path = folder.join("policy.toml");
    fs::write(&path, change(text)).unwrap();
    path.display().to_string()
}

#[test]
fn a_policy_accepts_or_refuses_with_exit_3_and_its_own_errors_exit_2() {
    let Some(cases) = cases("a_policy_accepts_or_refuses_with_exit_3_and_its_own_errors_exit_2") else { return };
    let folder = tempfile::tempdir().unwrap();
    let genoa = cases.iter().find(|c| c.name == "genoa-v3-vcek-18e907bf").unwrap();
    let debug = cases.iter().find(|c| c.json["fields"]["debug"] == true).unwrap();
    let with = |case: &Case, policy: &str| {
        case.verify(&[&case.path("vek.der"), &case.path("issuer.der")], &["--policy", policy])
    };

    let output = with(genoa, &policy(genoa, folder.path(), |text| text));
    assert_eq!(output.exit, 0, "{output:?}");
    let accepted = json(&output);
    assert_eq!((&accepted["verdict"], &accepted["identity"]), (&"accepted".into(), &"platform".into()));
    assert!(accepted["expires"].is_string());

    let output = with(genoa, &policy(genoa, folder.path(), |text| text.replace("ucode = 25", "ucode = 26")));
    assert_eq!(output.exit, 3, "{output:?}");
    let refused = json(&output);
    assert_eq!((&refused["verdict"], &refused["refused_by"]), (&"refused".into(), &"appraise".into()));
    assert_eq!(finding(&refused, "R_TCB").unwrap()["severity"], "fatal");
    assert!(refused["evidence"]["snp"]["measurement"].is_string(), "what was authentic is shown");

    let output = with(debug, &policy(genoa, folder.path(), |text| text));
    assert_eq!(output.exit, 3, "{output:?}");
    let refused = json(&output);
    for id in ["R_DEBUG", "R_LD", "I_CHIP", "R_TCB"] {
        assert_eq!(finding(&refused, id).unwrap()["severity"], "fatal", "{id}");
    }

    let path = policy(genoa, folder.path(), |text| text.replace("smt =", "smd ="));
    let output = with(genoa, &path);
    assert_eq!((output.exit, output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains(&format!("{path}:8: snp.smd: unknown key")), "{}", output.stderr);
    let output = with(genoa, "/nonexistent/policy.toml");
    assert_eq!(output.exit, 2);
    assert!(output.stderr.contains("/nonexistent/policy.toml: No such file"), "{}", output.stderr);
}

#[test]
fn files_that_cannot_be_read_exit_4_and_files_that_are_something_else_exit_1() {
    let Some(cases) = cases("files_that_cannot_be_read_exit_4_and_files_that_are_something_else_exit_1") else {
        return;
    };
    let case = &cases[0];
    let (vek, issuer) = (case.path("vek.der"), case.path("issuer.der"));
    let output = case.verify(&[&vek, "/nonexistent.der"], &[]);
    assert_eq!((output.exit, output.stdout.as_str()), (4, ""));
    assert!(output.stderr.contains("cannot read /nonexistent.der: No such file"), "{}", output.stderr);
    assert_eq!(run_at(case.at(), &["--snp-report", "/nonexistent"]).exit, 4);
    assert_eq!(run_at(case.at(), &["/nonexistent"]).exit, 4);
    assert_eq!(run_at(case.at(), &["/dev/zero"]).exit, 4, "an endless file is not read to its end");

    let text = case.path("case.json");
    assert_eq!(refused("text as a certificate", &case.verify(&[&text, &issuer], &[])), "E_CERTIFICATE");
    assert_eq!(refused("a report as a certificate", &case.verify(&[&case.path("report.bin")], &[])), "E_CERTIFICATE");
    let output = run_at(case.at(), &["--json", "--snp-report", &text, "--cert", &vek, &issuer]);
    assert_eq!(refused("text as a report", &output), "R_LEN");
    assert_eq!(refused("a report as a bundle", &run_at(case.at(), &["--json", &case.path("report.bin")])), "B_BUNDLE");
}

#[test]
fn any_flipped_byte_of_a_report_is_refused() {
    let Some(cases) = cases("any_flipped_byte_of_a_report_is_refused") else { return };
    let case = cases.iter().find(|c| c.name == "turin-v5-vcek-56b3ee54").unwrap();
    let report = fs::read(case.path("report.bin")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.bin").display().to_string();
    // Every 7th byte: ratls flips all of them; this shows that the command passes the refusal on.
    for offset in (0..report.len()).step_by(7) {
        let mut flipped = report.clone();
        flipped[offset] ^= 0x10;
        fs::write(&path, flipped).unwrap();
        let (vek, issuer) = (case.path("vek.der"), case.path("issuer.der"));
        let output = run_at(case.at(), &["--json", "--snp-report", &path, "--cert", &vek, "--cert", &issuer]);
        refused(&format!("byte {offset}"), &output);
    }
}

/// The hardware-signed report that came with all its launch inputs as digests, under a policy that names those.
#[test]
fn a_report_with_its_launch_inputs_is_recomputed_and_judged_l2_with_the_reason() {
    let test = "a_report_with_its_launch_inputs_is_recomputed_and_judged_l2_with_the_reason";
    let Some(cases) = cases(test) else { return };
    let case = cases.iter().find(|case| case.name == "milan-v3-vcek-a20e02a2").unwrap();
    let bytes = fs::read(evidence().unwrap().join("launch/sev_snp_attestation.bin")).unwrap();
    let start = bytes.windows(16).position(|w| w == b"{\"os_image_hash\"").unwrap();
    let mut stream = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<Value>();
    let config = stream.next().unwrap().unwrap();
    let inputs: Value = serde_json::from_str(config["sev_snp_measurement"].as_str().unwrap()).unwrap();
    let section = |s: &Value| format!("{{ gpa = {}, size = {}, type = {} }}", s["gpa"], s["size"], s["section_type"]);
    let sections: Vec<_> = inputs["ovmf_sections"].as_array().unwrap().iter().map(section).collect();
    let policy = format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsigning_keys = [\"vcek\"]\nsmt = \"allow\"\n\
         minimum_tcb.milan = {{ bl = 1, tee = 0, snp = 1, ucode = 1 }}\n[[reference]]\nkind = \"launch\"\nfirmware_digest = {}\n\
         layout = {{ reset_eip = {}, hash_table = {}, sections = [{}] }}\nkernel_sha256 = {}\ninitrd_sha256 = {}\ncmdline = {}\n\
         kernel_hashes = \"enforced by this firmware\"\nvmm = [\"qemu\"]\nvcpus = [{}]\nvcpu_types = [{}]\n\
         verity_key = \"dstack.rootfs_hash\"\n\
         neutral_words = [\"init=/init\", \"mce=off\", \"oops=panic\", \"pci=noearly\", \"pci=nommconf\", \
         \"random.trust_cpu=y\", \"random.trust_bootloader=n\", \"no-kvmclock\", \"dstack.rootfs_size=490713088\"]\n",
        inputs["ovmf_hash"],
        inputs["sev_es_reset_eip"],
        inputs["sev_hashes_table_gpa"],
        sections.join(", "),
        inputs["kernel_hash"],
        inputs["initrd_hash"],
        inputs["base_cmdline"],
        inputs["vcpus"],
        inputs["vcpu_type"],
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml").display().to_string();
    let (vek, issuer, report) = (case.path("vek.der"), case.path("issuer.der"), case.path("report.bin"));
    let judged = |policy: &str, more: &[&str]| {
        fs::write(&file, policy).unwrap();
        let args = ["--snp-report", &report, "--cert", &vek, &issuer, "--policy", &file];
        run_at(case.at(), &[&args[..], more].concat())
    };
    let output = judged(&policy, &["--json"]);
    let json = json(&output);
    assert_eq!((output.exit, &json["verdict"], &json["simulated"]), (0, &"accepted".into(), &false.into()), "{json:#}");
    for part in ["firmware", "boot", "kernel", "userspace"] {
        let cell = &json["levels_if_fresh"][part];
        assert_eq!((&cell["level"], &cell["anchor"]), (&2.into(), &"amd-sp".into()), "{part}: {json:#}");
        let why = cell["why"].as_str().unwrap();
        assert!(
            why.contains("the digest equals the one you pinned; give ") && why.contains(" to reach L3"),
            "{part}: {why}"
        );
        // A file is of no connection.
        assert_eq!(json["levels"][part]["level"], 0, "{part}: {json:#}");
    }
    let shown = judged(&policy, &[]).stdout;
    assert!(shown.contains("◑ L2 amd-sp  ◑ L2 amd-sp  ◑ L2 amd-sp  ◑ L2 amd-sp"), "{shown}");
    assert!(shown.contains("give the firmware file"), "{shown}");

    // Words of the line that nobody called neutral hold the userspace at L1, and are named.
    let (unnamed, _) = policy.split_once("neutral_words").unwrap();
    let shown = judged(unnamed, &[]).stdout;
    assert!(shown.contains("◑ L2 amd-sp  ◑ L2 amd-sp  ◑ L2 amd-sp  ◔ L1 amd-sp"), "{shown}");
    assert!(shown.contains("\"init=/init\""), "{shown}");

    // Another kernel, and the search has no other machine that explains it; another number of vCPUs, and it has.
    let other = policy.replacen("kernel_sha256 = \"dd", "kernel_sha256 = \"de", 1);
    assert_ne!(other, policy);
    let output = judged(&other, &[]);
    assert!(
        output.exit == 3 && output.stdout.contains("R_LD") && !output.stdout.contains("it would match"),
        "{output:?}"
    );
    let vcpus = inputs["vcpus"].as_u64().unwrap();
    let output = judged(&policy.replace(&format!("vcpus = [{vcpus}]"), &format!("vcpus = [{}]", vcpus + 4)), &[]);
    assert!(output.exit == 3 && output.stdout.contains(&format!("it would match with vcpus = {vcpus}")), "{output:?}");
}

/// Text, JSON and page name the advisories of a genuine report; a simulated one has none.
#[test]
fn the_advisories_of_a_genuine_report_are_shown() {
    let Some(cases) = cases("the_advisories_of_a_genuine_report_are_shown") else { return };
    let case = cases.iter().find(|case| case.name == "milan-v3-vlek-decdab94").unwrap();
    let (vek, issuer) = (case.path("vek.der"), case.path("issuer.der"));
    let output = case.verify(&[&vek, &issuer], &[]);
    let json = json(&output);
    let advisories = json["advisories"].as_array().unwrap();
    let of = |id: &str| advisories.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id}"));
    assert_eq!((&of("AMD-SB-3005")["verdict"], &of("AMD-SB-3005")["name"]), (&"met".into(), &"CacheWarp".into()));
    assert_eq!((&of("AMD-SB-3019")["verdict"], &of("AMD-SB-3019")["because"]), (&"open".into(), &"key".into()));
    assert_eq!(of("AMD-SB-3045")["verdict"], "not-provable");
    assert_eq!(of("AMD-SB-3039")["verdict"], "not-listed");
    // Those that could have made the others false come first.
    assert_eq!(advisories[0]["forges_reports"], true);
}
