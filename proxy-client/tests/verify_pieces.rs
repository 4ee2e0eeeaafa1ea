//! `evident-client verify` over several files at once: each piece is compared with whatever can confirm it, each is accounted
//! for, and what gathering tools write is read.

#![allow(clippy::unwrap_used)]

mod verified;

use std::fs;
use std::path::Path;

use clap::Parser;
use data_encoding::BASE64;
use serde_json::Value;
use verified::{Cli, Dir, authentic, evidence, finding, fixture, refused, run, strs, unhex};

const REPORT: &str = "snp/milan-v3-vcek-14fd2b6e";
const AT: &str = "2028-07-29T16:33:43Z";

fn report_args(folder: &Path) -> Vec<String> {
    let path = |file: &str| folder.join(REPORT).join(file).display().to_string();
    vec!["--snp-report".into(), path("report.bin"), "--cert".into(), path("vek.der"), path("issuer.der")]
}

/// What the result says of a piece: state and reason.
fn state(json: &Value, piece: &str) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = json["pieces"].as_array().into_iter().flatten().find(|entry| entry["piece"] == piece);
    let found = found.unwrap_or_else(|| panic!("no {piece} in {}", json["pieces"]));
    (text(&found["state"]), text(&found["why"]))
}

/// The quote of Google's fixture with its values and certificates, as arguments.
fn google(folder: &Path, dir: &Dir) -> Vec<String> {
    let fixture = fixture(folder, "tpm-gcp/test-gcp-amd-fixture.json");
    let tpm = &fixture["attestation"]["tpm"]["ecc_p256"];
    let chain = fixture["attestation"]["gcp"]["ak_cert_chain"].as_str().unwrap();
    [
        ["--quote".to_owned(), dir.write("quote", unhex(&tpm["attest_data"]))],
        ["--quote-signature".to_owned(), dir.write("signature", unhex(&tpm["signature"]))],
        ["--pcrs".to_owned(), dir.write("pcrs.json", fixture["pcrs"].to_string())],
        ["--cert".to_owned(), dir.write("chain.pem", chain)],
    ]
    .concat()
}

#[test]
fn data_that_nobody_signed_is_never_authentic() {
    let Some(folder) = evidence("data_that_nobody_signed_is_never_authentic") else { return };
    let log = folder.join("eventlog/eventlogs__ubuntu-2404-amd-sevsnp.bin").display().to_string();
    let alone = run(AT, &["--event-log", &log]);
    refused("log", &alone, "F_UNSIGNED");
    assert!(alone.1["findings"][0]["seen"].as_str().unwrap().contains("event log"), "{:?}", alone.1);
    // An unused certificate beside it signs nothing of it either.
    let vek = folder.join(REPORT).join("vek.der").display().to_string();
    refused("log and a certificate", &run(AT, &["--event-log", &log, "--cert", &vek]), "F_UNSIGNED");
}

/// A forged log is found out by whatever stands beside it: values that nobody signed, a quote without a report.
#[test]
fn a_log_is_compared_with_every_register_that_came_in_each_combination() {
    let test = "a_log_is_compared_with_every_register_that_came_in_each_combination";
    let Some(folder) = evidence(test) else { return };
    let (dir, at) = (Dir::new("matrix"), "2026-07-01T00:00:00Z");
    // Of another machine than the quote.
    let log = ["--event-log".to_owned(), folder.join("eventlog/eventlogs__cos-101-amd-sev.bin").display().to_string()];
    let mut other: Value = fixture(&folder, "eventlog/expected-pcrs.json")["eventlogs__cos-101-amd-sev.bin"].clone();
    other["sha256"]["4"] = "11".repeat(32).into();
    let values = ["--pcrs".to_owned(), dir.write("other.json", other.to_string())];
    let quote = google(&folder, &dir);
    let report = report_args(&folder);

    let with = |parts: &[&[String]]| run(at, &strs(&parts.concat()));
    refused("values and log", &with(&[&values, &log]), "L_REPLAY");
    let quoted = with(&[&quote, &log]);
    assert_eq!(finding(&quoted.1, "L_REPLAY").unwrap()["severity"], "cap", "{:?}", quoted.1);
    assert_eq!(state(&quoted.1, "event log").0, "unsigned");
    assert_eq!(state(&quoted.1, "quote").0, "verified");
    // The report holds at a later time than the certificates of the quote's key.
    let with = |parts: &[&[String]]| run(AT, &strs(&parts.concat()));
    refused("report, values and log", &with(&[&report, &values, &log]), "L_REPLAY");
    let unsigned = with(&[&report, &log]);
    authentic("report and log", &unsigned);
    assert_eq!(state(&unsigned.1, "event log").0, "unsigned");
    assert!(finding(&unsigned.1, "F_UNSIGNED").is_some());
}

#[test]
fn values_beside_a_document_are_compared_with_those_that_it_signs() {
    let Some(folder) = evidence("values_beside_a_document_are_compared_with_those_that_it_signs") else { return };
    let fixture = fixture(&folder, "tpm-aws/test-nitro-fixture.json");
    let (dir, at) = (Dir::new("nitro-values"), "2026-02-03T11:00:00Z");
    let document =
        ["--nitro-document".to_owned(), dir.write("doc", unhex(&fixture["attestation"]["nitro"]["document"]))];
    let mut values = fixture["pcrs"]["sha384"].clone();
    let with = |values: &Value| {
        let pcrs = ["--pcrs".to_owned(), dir.write("pcrs.json", values.to_string())];
        run(at, &strs(&[&document[..], &pcrs].concat()))
    };
    let same = with(&values);
    authentic("the same", &same);
    assert_eq!(state(&same.1, "register values").0, "confirmed");
    values["4"] = "22".repeat(48).into();
    refused("others", &with(&values), "Q_DIG");
}

#[test]
fn a_certificate_that_nothing_rests_on_is_named_as_not_used() {
    let Some(folder) = evidence("a_certificate_that_nothing_rests_on_is_named_as_not_used") else { return };
    let ak = folder.join("tpm-azure-ak/azure_test.go.cert-3fcb21ec.der").display().to_string();
    let other_chip = folder.join("snp/milan-v3-vcek-40a2778d/vek.der").display().to_string();
    for (name, extra) in [("of a TPM", &ak), ("of another chip", &other_chip)] {
        let mut args = report_args(&folder);
        args.push(extra.clone());
        let found = run(AT, &strs(&args));
        authentic(name, &found);
        let unused = finding(&found.1, "F_UNUSED").unwrap_or_else(|| panic!("{name}: {:?}", found.1));
        assert_eq!(unused["severity"], "warning", "{name}");
        assert!(unused["seen"].as_str().unwrap().starts_with("certificate "), "{name}: {unused}");
    }
    let whole = run(AT, &strs(&report_args(&folder)));
    assert!(finding(&whole.1, "F_UNUSED").is_none(), "{:?}", whole.1);
    assert_eq!(whole.1["pieces"].as_array().unwrap().len(), 3, "report, key, issuer: {}", whole.1["pieces"]);
}

#[test]
fn googles_endorsement_is_judged_below_the_built_in_root_and_shows_its_svsm() {
    let test = "googles_endorsement_is_judged_below_the_built_in_root_and_shows_its_svsm";
    let Some(folder) = evidence(test) else { return };
    let file = folder.join("google-endorsement/endorsement.binarypb");
    let (dir, path, at) = (Dir::new("endorsement"), file.display().to_string(), "2026-06-01T00:00:00Z");
    let found = run(at, &["--firmware-endorsement", &path]);
    authentic("alone", &found);
    let snp = &found.1["evidence"]["gce_endorsement"]["snp"];
    assert_eq!((&snp["svn"], snp["measurements"].as_object().unwrap().len()), (&2.into(), 15));
    assert_eq!(snp["svsm_measurement"].as_str().unwrap().len(), 96, "{snp}");
    let bytes = fs::read(&file).unwrap();
    for place in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let (output, _) = run(at, &["--firmware-endorsement", &dir.write("changed", changed)]);
        assert_eq!(output.exit, 1, "byte {place}");
    }
}

#[test]
fn an_endorsement_that_does_not_hold_leaves_the_report_authentic() {
    let Some(folder) = evidence("an_endorsement_that_does_not_hold_leaves_the_report_authentic") else { return };
    let dir = Dir::new("side-piece");
    let mut bytes = fs::read(folder.join("google-endorsement/endorsement.binarypb")).unwrap();
    let judged = |bytes: &[u8]| {
        let file = ["--firmware-endorsement".to_owned(), dir.write("endorsement", bytes)];
        run(AT, &strs(&[report_args(&folder), file.to_vec()].concat()))
    };
    let good = judged(&bytes);
    authentic("another firmware's", &good);
    *bytes.last_mut().unwrap() ^= 1;
    let bad = judged(&bytes);
    authentic("a changed one", &bad);
    assert_eq!(finding(&bad.1, "G_SIG").unwrap()["severity"], "warning", "{:?}", bad.1);
    assert_eq!(state(&bad.1, "firmware endorsement").0, "not used");
    let junk = judged(b"no endorsement");
    authentic("junk", &junk);
    assert_eq!(finding(&junk.1, "G_PARSE").unwrap()["severity"], "warning");
}

#[test]
fn a_report_and_a_quote_are_compared_with_what_was_asked() {
    let Some(folder) = evidence("a_report_and_a_quote_are_compared_with_what_was_asked") else { return };
    let dir = Dir::new("asked");
    let report = fs::read(folder.join(REPORT).join("report.bin")).unwrap();
    let asked = hex::encode(&report[0x50..0x90]);
    let with = |value: &str| {
        run(AT, &strs(&[report_args(&folder), vec!["--report-data".to_owned(), value.to_owned()]].concat()))
    };
    authentic("what was asked", &with(&asked));
    authentic("the same with 0x", &with(&format!("0x{asked}")));
    refused("something else", &with(&"5a".repeat(64)), "R_FRESH");
    refused("a part of it", &with(&"5a".repeat(20)), "R_FRESH");

    let (quote, at) = (google(&folder, &dir), "2026-07-01T00:00:00Z");
    let other = run(at, &strs(&[quote, vec!["--nonce".to_owned(), "00ff".to_owned()]].concat()));
    refused("another nonce", &other, "Q_NONCE");

    // Azure: what the guest gave stands in the blob.
    let azure = folder.join("azure/hcl-snp-12afe089");
    let path = |file: &str| azure.join(file).display().to_string();
    let case: Value = serde_json::from_slice(&fs::read(azure.join("case.json")).unwrap()).unwrap();
    let hcl = ["--hcl".to_owned(), path("hcl.bin"), "--cert".to_owned(), path("vek.der"), path("issuer.der")];
    let at = case["at"].as_str().unwrap();
    let whole = run(at, &strs(&hcl));
    let given = whole.1["evidence"]["azure"]["user_data"].as_str().unwrap_or_default().to_owned();
    let with = |value: String| run(at, &strs(&[hcl.to_vec(), vec!["--report-data".to_owned(), value]].concat()));
    if !given.is_empty() {
        authentic("the guest's own data", &with(given));
    }
    refused("other data", &with("77".repeat(64)), "R_FRESH");
}

#[test]
fn flags_of_what_was_asked_name_what_is_wrong_with_them() {
    for (flag, value, words) in [
        ("--report-data", "zz", "hex"),
        ("--report-data", "", "1 to 64"),
        ("--nonce", "0", "hex"),
        ("--nonce", &"00".repeat(65), "65 bytes"),
    ] {
        let error =
            Cli::try_parse_from(["verify", "--quote", "q", "--quote-signature", "s", "--pcrs", "p", flag, value]);
        let text = error.err().unwrap_or_else(|| panic!("{flag} {value}")).to_string();
        assert!(text.contains(flag) && text.contains(words), "{text}");
    }
    assert!(Cli::try_parse_from(["verify", "--snp-report", "r", "--nonce", "00"]).is_err(), "nothing answers it");
}

/// Offsets and GUIDs as the GHCB specification has them, in the order of RFC 4122.
fn table(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut offset = 24 * (items.len() + 1);
    let (mut head, mut blobs) = (Vec::new(), Vec::new());
    for (guid, blob) in items {
        head.extend(hex::decode(guid.replace('-', "")).unwrap());
        head.extend(u32::try_from(offset).unwrap().to_le_bytes());
        head.extend(u32::try_from(blob.len()).unwrap().to_le_bytes());
        blobs.extend(blob);
        offset += blob.len();
    }
    [head, vec![0; 24], blobs].concat()
}

#[test]
fn certificates_are_read_as_tools_and_tpms_write_them() {
    let Some(folder) = evidence("certificates_are_read_as_tools_and_tpms_write_them") else { return };
    let (dir, case) = (Dir::new("written"), folder.join(REPORT));
    let report = case.join("report.bin").display().to_string();
    let [vek, issuer] = ["vek.der", "issuer.der"].map(|file| fs::read(case.join(file)).unwrap());
    let padded = |der: &[u8], pad: u8| [der, &[pad; 300]].concat();
    let pem = |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der));
    let both = [pem(&padded(&vek, 0xFF)), pem(&padded(&issuer, 0))].concat();
    let auxblob = table(&[
        ("63da758d-e664-4564-adc5-f4b93be8accd", vek.clone()),
        ("4ab7b379-bbac-4fe4-a02f-05aef327c782", issuer.clone()),
    ]);
    let cases: [(&str, Vec<Vec<u8>>); 4] = [
        ("padded DER", vec![padded(&vek, 0), padded(&issuer, 0xFF)]),
        ("padded PEM", vec![both.into_bytes()]),
        ("one after the other", vec![[vek, issuer].concat()]),
        ("a certificate table", vec![auxblob]),
    ];
    for (name, files) in cases {
        let files = files.iter().enumerate().map(|(index, bytes)| dir.write(&format!("cert{index}"), bytes));
        let mut args = vec!["--snp-report".to_owned(), report.clone(), "--cert".to_owned()];
        args.extend(files);
        authentic(name, &run(AT, &strs(&args)));
    }
}
