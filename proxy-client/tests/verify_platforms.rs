//! `evident-client verify` over everything in `../shared/evidence` that is not a plain report: each file as its case or the README of
//! the folder says. What goes which way:
//!
//! ```text
//! folder          the command                                     the library (ratls/tests)
//! snp             verify_real_evidence.rs                         real_evidence, second_opinion
//! azure           here: blob, quote, values, certificates         real_tpm
//! tpm-gcp         here: vaportpm's JSON, keys with certificates   real_tpm, ak_certificates
//!                 verify_attestations.rs: go-tpm-tools' protobuf  real_tpm
//! tpm-aws         here: the document, with and without a quote    nitro_document, real_tpm
//! tpm-azure-ak    here: keys with certificates, the quote         ak_certificates; its quote's values are published nowhere
//! eventlog        here                                            event_log, measured_boot
//! launch          verify_attestations.rs: both reports with what  launch_digest, references; vectors.json has digests
//!                 was launched                                    and no report, so nothing to verify: `measure` prints them
//! refuse          here                                            real_evidence, real_tpm, nitro_document, event_log
//! endorsements    the chains of the cases in snp                  real_evidence
//! ```
//!
//! None of it is a bundle: a bundle holds a connection of `evident/1`, which nobody else has. So each goes as the files that the
//! command takes one by one, and what is inside of a container is taken out of it first.

#![allow(clippy::unwrap_used)]

mod verified;

use std::fs;

use clap::Parser;
use evident_client::tools::verify::verify;
use ratls::time::UnixTime;
use serde_json::Value;
use verified::{Cli, Dir, authentic, evidence, finding, fixture, refused, run, strs, unhex};

#[test]
fn every_case_of_azure_is_as_it_says() {
    let Some(folder) = evidence("every_case_of_azure_is_as_it_says") else { return };
    let mut seen = 0;
    for entry in fs::read_dir(folder.join("azure")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let case: Value = serde_json::from_slice(&fs::read(dir.join("case.json")).unwrap()).unwrap();
        let path = |file: &str| dir.join(file).display().to_string();
        let at = case["at"].as_str().unwrap_or("2026-06-01T00:00:00Z");
        let hcl = path("hcl.bin");
        seen += 1;
        match case["expect"].as_str().unwrap() {
            "refused" => refused(&name, &run(at, &["--hcl", &hcl]), "H_TYPE"),
            "parse-only" => refused(&name, &run(at, &["--hcl", &hcl]), "E_NO_ENDORSEMENT"),
            _ => {
                let (vek, issuer) = (path("vek.der"), path("issuer.der"));
                let certificates = ["--cert", &vek, &issuer];
                let alone = run(at, &[&["--hcl", &hcl][..], &certificates].concat());
                authentic(&name, &alone);
                assert!(finding(&alone.1, "T_MISSING").is_some(), "{name}: no quote is told");
                let (quote, sig, pcrs) = (path("quote.msg"), path("quote.sig"), path("pcrs.json"));
                let quoted = ["--hcl", &hcl, "--quote", &quote, "--quote-signature", &sig, "--pcrs", &pcrs];
                let whole = run(at, &[&quoted[..], &certificates].concat());
                authentic(&name, &whole);
                let json = &whole.1;
                assert_eq!((&json["profile"], &json["simulated"]), (&"azure-snp".into(), &false.into()), "{name}");
                let tpm = &json["evidence"]["tpm"];
                assert_eq!((&tpm["kind"], &tpm["proof"]), (&"paravisor".into(), &"paravisor".into()), "{name}");
                assert_eq!((&tpm["anchor"], &tpm["bank"]), (&"amd-sp".into(), &"sha256".into()), "{name}");
                let wanted: Value = serde_json::from_slice(&fs::read(&pcrs).unwrap()).unwrap();
                assert_eq!(tpm["pcrs"], wanted, "{name}");
                let user_data = case["facts"]["user_data"].as_str().unwrap().to_lowercase();
                assert_eq!(json["evidence"]["azure"]["user_data"], Value::from(user_data), "{name}");
                assert!(finding(json, "Z_CONSOLE").is_some(), "{name}: its console is on");
                // One thing wrong each: another machine's certificates, another VM's quote, another value.
                refused(&name, &run(at, &[&quoted[..], &["--cert", &issuer]].concat()), "E_NO_ENDORSEMENT");
                let unsigned = path("hcl.bin");
                let mixed = ["--hcl", &hcl, "--quote", &quote, "--quote-signature", &unsigned, "--pcrs", &pcrs];
                refused(&name, &run(at, &[&mixed[..], &certificates].concat()), "Q_SIG");
            }
        }
    }
    assert!(seen >= 5, "{seen} cases");
}

#[test]
fn a_quote_of_another_vm_does_not_go_with_this_blob() {
    let Some(folder) = evidence("a_quote_of_another_vm_does_not_go_with_this_blob") else { return };
    let path = |file: &str| folder.join("azure").join(file).display().to_string();
    let (hcl, vek, issuer) =
        (path("hcl-snp-12afe089/hcl.bin"), path("hcl-snp-12afe089/vek.der"), path("hcl-snp-12afe089/issuer.der"));
    let (quote, sig, pcrs) =
        (path("hcl-snp-5145bacd/quote.msg"), path("hcl-snp-5145bacd/quote.sig"), path("hcl-snp-5145bacd/pcrs.json"));
    let args = ["--hcl", &hcl, "--cert", &vek, &issuer, "--quote", &quote, "--quote-signature", &sig, "--pcrs", &pcrs];
    refused("another VM's quote", &run("2026-11-01T00:00:00Z", &args), "Q_QN");
}

/// A quote of the form in which vaportpm stores it, as the command's flags.
fn quote_args(dir: &Dir, fixture: &Value) -> Vec<String> {
    let tpm = &fixture["attestation"]["tpm"]["ecc_p256"];
    vec![
        "--quote".to_owned(),
        dir.write("quote", unhex(&tpm["attest_data"])),
        "--quote-signature".to_owned(),
        dir.write("signature", unhex(&tpm["signature"])),
        "--pcrs".to_owned(),
        dir.write("pcrs.json", fixture["pcrs"].to_string()),
    ]
}

#[test]
fn the_quote_of_google_verifies_under_googles_certificate_and_is_no_guest() {
    let Some(folder) = evidence("the_quote_of_google_verifies_under_googles_certificate_and_is_no_guest") else {
        return;
    };
    let fixture = fixture(&folder, "tpm-gcp/test-gcp-amd-fixture.json");
    let dir = Dir::new("gcp");
    let chain = dir.write("chain.pem", fixture["attestation"]["gcp"]["ak_cert_chain"].as_str().unwrap());
    let mut args = quote_args(&dir, &fixture);
    let at = "2026-07-01T00:00:00Z";
    refused("without a key", &run(at, &strs(&args)), "Q_AK");
    args.extend(["--cert".to_owned(), chain]);
    let whole = run(at, &strs(&args));
    authentic("gcp", &whole);
    let json = &whole.1;
    assert_eq!(json["profile"], "gcp-snp");
    assert_eq!(
        (&json["evidence"]["tpm"]["kind"], &json["evidence"]["tpm"]["anchor"]),
        (&"host".into(), &"vtpm".into())
    );
    assert_eq!(json["evidence"]["gcp"]["instance_id"], "3414240648225485836");
    assert_eq!(json["evidence"]["gcp"]["security"]["production"], true);
    assert_eq!(json["evidence"]["tpm"]["pcrs"], fixture["pcrs"]["sha256"]);
    assert!(finding(json, "R_MISSING").is_some() && finding(json, "T_VENDOR").is_some());
    refused("expired", &run("2060-01-01T00:00:00Z", &strs(&args)), "T_AK_VALIDITY");
    // Its firmware ran under plain SEV: under a policy for SNP that is one of the reasons.
    let policy = dir.write("policy.toml", policy("gcp-snp", ""));
    args.extend(["--policy".to_owned(), policy]);
    let (output, json) = run(at, &strs(&args));
    assert_eq!((output.exit, &json["refused_by"]), (3, &"appraise".into()), "{output:?}");
    assert_eq!(finding(&json, "R_MISSING").unwrap()["severity"], "fatal");
}

fn policy(profile: &str, more: &str) -> String {
    format!(
        "version = 1\nprofiles = [\"{profile}\"]\nidentity = \"any\"\n[snp]\nmeasurements = [\"{}\"]\nsigning_keys = [\"vcek\"]\n\
         smt = \"allow\"\n[snp.minimum_tcb.milan]\nbl = 1\ntee = 0\nsnp = 1\nucode = 1\n{more}",
        "a".repeat(96)
    )
}

#[test]
fn keys_of_google_with_their_certificates_are_authentic_in_both_hierarchies() {
    let Some(folder) = evidence("keys_of_google_with_their_certificates_are_authentic_in_both_hierarchies") else {
        return;
    };
    let path = |file: &str| folder.join("tpm-gcp").join(file).display().to_string();
    let at = "2026-07-01T00:00:00Z";
    for (kind, ca) in
        [("pca", "ca-certs__gcp_ek_ak_ca_intermediate_v3.crt"), ("uca", "ca-certs__tpm_ek_intermediate_3.crt")]
    {
        for algorithm in ["ecc", "rsa"] {
            let leaf = |of: &str| path(&format!("certificates__{kind}_tpm_{algorithm}_{of}_cert.pem"));
            let found = run(at, &["--ak", &leaf("sign"), "--cert", &path(ca)]);
            authentic(kind, &found);
            assert_eq!(found.1["profile"], "gcp-snp", "{kind} {algorithm}");
            assert_eq!(found.1["evidence"]["ak"]["identity"]["zone"], "us-central1-a", "{kind} {algorithm}");
            refused("encryption key", &run(at, &["--ak", &leaf("enc"), "--cert", &path(ca)]), "T_AK_USE");
            refused("no CA", &run(at, &["--ak", &leaf("sign")]), "T_AK_ROOT");
        }
    }
}

#[test]
fn keys_of_azure_with_their_certificates_are_authentic_in_both_hierarchies() {
    let Some(folder) = evidence("keys_of_azure_with_their_certificates_are_authentic_in_both_hierarchies") else {
        return;
    };
    let path = |file: &str| folder.join("tpm-azure-ak").join(file).display().to_string();
    let at = "2026-07-01T00:00:00Z";
    let global = path("azure_test.go.cert-3fcb21ec.der");
    let found = run(at, &["--ak", &global]);
    authentic("global CA", &found);
    assert_eq!(found.1["evidence"]["ak"]["identity"]["azure_vm"], "5dc2ba9ad190");
    let (leaf, ca24, ca2025) = (
        path("azure-tdx-ak.cert-dce8be68.der"),
        path("azure-tdx-ak.cert-acad819d.der"),
        path("azure-tdx-ak.cert-41a1675d.der"),
    );
    authentic("cloud CAs", &run(at, &["--ak", &leaf, "--cert", &ca24, &ca2025]));
    refused("one CA missing", &run(at, &["--ak", &leaf, "--cert", &ca24]), "T_AK_ROOT");
    refused("a year later", &run("2027-07-01T00:00:00Z", &["--ak", &leaf, "--cert", &ca24, &ca2025]), "T_AK_VALIDITY");
    // An index of a TPM is filled up.
    let dir = Dir::new("azure-ak");
    let mut padded = fs::read(&global).unwrap();
    padded.resize(4096, 0);
    authentic("padded", &run(at, &["--ak", &dir.write("padded.der", padded)]));
    // Its quote covers PCR 1 alone: values for more are refused.
    let zeros = format!("{{\"1\": \"{0}\", \"7\": \"{0}\"}}", "00".repeat(32));
    let pcrs = dir.write("pcrs.json", zeros);
    let (quote, sig) = (path("azure_test.go.vtpm-quote.msg.bin"), path("azure_test.go.vtpm-quote.sig.bin"));
    let args = ["--ak", &global, "--quote", &quote, "--quote-signature", &sig, "--pcrs", &pcrs];
    refused("more registers than were quoted", &run(at, &args), "Q_SEL");
}

#[test]
fn the_document_of_aws_verifies_within_its_three_hours() {
    let Some(folder) = evidence("the_document_of_aws_verifies_within_its_three_hours") else { return };
    let fixture = fixture(&folder, "tpm-aws/test-nitro-fixture.json");
    let dir = Dir::new("aws");
    let document = dir.write("document", unhex(&fixture["attestation"]["nitro"]["document"]));
    let mut args = vec!["--nitro-document".to_owned(), document];
    let inside = "2026-02-03T11:00:00Z";
    let alone = run(inside, &strs(&args));
    authentic("document", &alone);
    assert_eq!(alone.1["profile"], "aws-snp");
    assert_eq!(alone.1["evidence"]["aws"]["module_id"], "i-01cfb383223e42522-tpm0000000000000000");
    assert_eq!(alone.1["evidence"]["tpm"]["proof"], "document");
    assert_eq!(alone.1["evidence"]["tpm"]["pcrs"], fixture["pcrs"]["sha384"]);
    authentic("a clock a minute slow", &run("2026-02-03T10:10:59Z", &strs(&args)));
    refused("a second more", &run("2026-02-03T10:10:58Z", &strs(&args)), "N_VALIDITY");
    refused("a second late", &run("2026-02-03T13:12:03Z", &strs(&args)), "N_VALIDITY");
    args.extend(quote_args(&dir, &fixture));
    authentic("with its quote", &run(inside, &strs(&args)));
    // The quote alone is genuine, and nobody vouches for its key.
    let ak = &fixture["ak_pubkeys"]["ecc_p256"];
    let point = [vec![4], unhex(&ak["x"]), unhex(&ak["y"])].concat();
    let spki = [hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap(), point].concat();
    let mut quote = quote_args(&dir, &fixture);
    quote.extend(["--ak".to_owned(), dir.write("ak.der", spki)]);
    let alone = run(inside, &strs(&quote));
    authentic("quote by a bare key", &alone);
    assert_eq!(
        (&alone.1["evidence"]["tpm"]["proof"], &alone.1["evidence"]["tpm"]["anchor"]),
        (&"unproven".into(), &Value::Null)
    );
    assert!(finding(&alone.1, "T_AK_UNPROVEN").is_some());
}

#[test]
fn event_logs_lead_to_the_registers_that_are_expected_and_sha1_is_refused() {
    let Some(folder) = evidence("event_logs_lead_to_the_registers_that_are_expected_and_sha1_is_refused") else {
        return;
    };
    let expected = fixture(&folder, "eventlog/expected-pcrs.json");
    let dir = Dir::new("logs");
    let at = "2026-06-01T00:00:00Z";
    let mut replayed = 0;
    for (file, pcrs) in expected.as_object().unwrap() {
        let log = folder.join("eventlog").join(file).display().to_string();
        if pcrs["sha256"].is_null() {
            refused(file, &run(at, &["--event-log", &log]), "L_SHA1");
            continue;
        }
        let values = dir.write("pcrs.json", pcrs.to_string());
        // It leads to them, and nobody signed either: that is no evidence.
        refused(file, &run(at, &["--event-log", &log, "--pcrs", &values]), "F_UNSIGNED");
        let mut other = pcrs.clone();
        other["sha256"]["4"] = "11".repeat(32).into();
        let values = dir.write("other.json", other.to_string());
        refused(file, &run(at, &["--event-log", &log, "--pcrs", &values]), "L_REPLAY");
        replayed += 1;
    }
    assert!(replayed >= 7, "{replayed} logs");
}

#[test]
fn everything_in_refuse_is_refused_with_its_own_reason() {
    let Some(folder) = evidence("everything_in_refuse_is_refused_with_its_own_reason") else { return };
    let path = |file: &str| folder.join("refuse").join(file).display().to_string();
    let at = "2026-06-01T00:00:00Z";
    let nitro = path("nitro-enclave-not-nitrotpm.bin");
    refused("enclave", &run(at, &["--nitro-document", &nitro]), "N_ENCLAVE");
    refused("truncated log", &run(at, &["--event-log", &path("eventlog-truncated.bin")]), "L_PARSE");
    let dir = Dir::new("refuse");
    let zeros: serde_json::Map<String, Value> = (0..24).map(|i| (i.to_string(), "00".repeat(32).into())).collect();
    let pcrs = dir.write("pcrs.json", Value::Object(zeros).to_string());
    let (quote, sig) = (path("az-snp-vtpm__tpm-quote.msg"), path("az-snp-vtpm__tpm-quote.sig"));
    let args = ["--quote", &quote, "--quote-signature", &sig, "--pcrs", &pcrs];
    refused("a quote without a key", &run(at, &args), "Q_AK");
    let snp = folder.join("snp/milan-v2-vcek-120d77b2/report.bin").display().to_string();
    let issuer = folder.join("snp/milan-v2-vcek-120d77b2/issuer.der").display().to_string();
    for forged in ["snp__test-vcek-invalid-legacy.der", "snp__test-vcek-invalid-new.der"] {
        let (output, json) = run(at, &["--snp-report", &snp, "--cert", &path(forged), &issuer]);
        assert_eq!(output.exit, 1, "{forged}: {output:?}");
        assert_eq!(json["refused_by"], "verify", "{forged}");
    }
}

#[test]
fn usage_errors_are_told_before_anything_is_read() {
    for args in [
        &["verify"][..],
        &["verify", "--quote", "q"],
        &["verify", "--quote", "q", "--quote-signature", "s"],
        &["verify", "--svsm-manifest", "m", "--snp-report", "r"],
        &["verify", "bundle", "--hcl", "h"],
        &["verify", "--pcrs", "p"],
    ] {
        assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
    }
    let (output, json) = {
        let cli = Cli::try_parse_from(["verify", "--hcl", "/nowhere"]).unwrap();
        let output = verify(&cli.verify, UnixTime::from_secs(0));
        (output.exit, output.stdout)
    };
    assert_eq!((output, json.as_str()), (4, ""));
}
