//! `evident-client verify` over attestations that others keep in containers of their own, each taken apart into the files that the
//! command takes: go-tpm-tools' protobuf of GCE VMs, and dstack's reports with everything that was launched.

#![allow(clippy::unwrap_used)]

#[path = "../../ratls/tests/shared/dstack.rs"]
mod dstack;
mod verified;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use verified::{Dir, authentic, evidence, finding, refused, run, strs};

/// Fields of one protobuf message: number, value, bytes. Enough of the format for these files.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = vec![];
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = varint(&mut message);
        let (bytes, rest) =
            if key & 7 == 2 { message.split_at(usize::try_from(value).unwrap()) } else { (&message[..0], message) };
        found.push((key >> 3, value, bytes));
        message = rest;
    }
    found
}

fn field<'a>(message: &[(u64, u64, &'a [u8])], number: u64) -> &'a [u8] {
    message.iter().find(|(field, ..)| *field == number).unwrap().2
}

/// The pieces of a go-tpm-tools attestation: key, quote in this bank, values, log, certificate.
struct Attestation {
    ak: String,
    quote: String,
    signature: String,
    pcrs: Value,
    log: String,
    certificate: String,
}

fn attestation(dir: &Dir, file: &Path, algorithm: u64, bank: &str) -> Attestation {
    let bytes = fs::read(file).unwrap();
    let whole = fields(&bytes);
    let quotes = whole.iter().filter(|(number, ..)| *number == 2).map(|(_, _, quote)| fields(quote));
    let of_bank = |quote: &Vec<(u64, u64, &[u8])>| fields(field(quote, 3))[0].1 == algorithm;
    let quote = quotes.into_iter().find(of_bank).unwrap();
    let registers: serde_json::Map<_, _> = fields(field(&quote, 3))[1..]
        .iter()
        .map(|(_, _, entry)| {
            let entry = fields(entry);
            let index = entry.iter().find(|(number, ..)| *number == 1).map_or(0, |(_, index, _)| *index);
            (index.to_string(), hex::encode(field(&entry, 2)).into())
        })
        .collect();
    Attestation {
        ak: dir.write("ak", field(&whole, 1)),
        quote: dir.write("quote", field(&quote, 1)),
        signature: dir.write("signature", field(&quote, 2)),
        pcrs: json!({ bank: registers }),
        log: dir.write("log", field(&whole, 3)),
        certificate: dir.write("ak.der", field(&whole, 6)),
    }
}

#[test]
fn attestations_of_go_tpm_tools_are_authentic_with_key_certificate_log_and_values() {
    let test = "attestations_of_go_tpm_tools_are_authentic_with_key_certificate_log_and_values";
    let Some(folder) = evidence(test) else { return };
    let path = |file: &str| folder.join("tpm-gcp").join(file).display().to_string();
    let ca = path("ca-certs__tpm_ek_intermediate_2.crt");
    let at = "2026-07-01T00:00:00Z";
    for (file, algorithm, bank) in [
        ("attestations__gce-cos-85-no-nonce.pb", 0x0B, "sha256"),
        ("attestations__gce-cos-85-no-nonce.pb", 0x0C, "sha384"),
        ("attestations__gce-cos-85-nonce9009.pb", 0x0B, "sha256"),
        ("attestations__gce-cos-85-nonce9009.pb", 0x0C, "sha384"),
    ] {
        let name = format!("{file} {bank}");
        let dir = Dir::new(&name.replace(' ', "-"));
        let pieces = attestation(&dir, Path::new(&path(file)), algorithm, bank);
        let pcrs = dir.write("pcrs.json", pieces.pcrs.to_string());
        let quoted = |values: &str| -> Vec<String> {
            let flags = ["--quote", &pieces.quote, "--quote-signature", &pieces.signature, "--pcrs", values];
            flags.map(str::to_owned).to_vec()
        };
        let with = |args: Vec<String>, more: &[&str]| {
            let args = strs(&args).into_iter().chain(more.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
            run(at, &strs(&args))
        };

        // The bare key: genuine, and nobody vouches.
        let bare = with(quoted(&pcrs), &["--ak", &pieces.ak]);
        authentic(&name, &bare);
        assert_eq!(bare.1["evidence"]["tpm"]["proof"], "unproven", "{name}");
        assert_eq!(bare.1["evidence"]["tpm"]["pcrs"], pieces.pcrs[bank], "{name}");

        // With Google's certificate, in the older hierarchy, and the log.
        let whole = with(quoted(&pcrs), &["--cert", &pieces.certificate, &ca, "--event-log", &pieces.log]);
        authentic(&name, &whole);
        let json = &whole.1;
        assert_eq!((&json["profile"], &json["simulated"]), (&"gcp-snp".into(), &false.into()), "{name}");
        assert_eq!(json["evidence"]["tpm"]["anchor"], "vtpm", "{name}");
        assert_eq!(json["evidence"]["gcp"]["project_id"], "google.com:wuale-gcp-testing", "{name}");
        assert!(finding(json, "R_MISSING").is_some(), "{name}: it is no SNP guest, and says so");

        // One thing wrong each: no CA, another value, something else for a signature, a cut log.
        refused(&name, &with(quoted(&pcrs), &["--cert", &pieces.certificate]), "T_AK_ROOT");
        let mut other = pieces.pcrs.clone();
        other[bank]["4"] = "11".repeat(if bank == "sha256" { 32 } else { 48 }).into();
        let other = dir.write("other.json", other.to_string());
        refused(&name, &with(quoted(&other), &["--ak", &pieces.ak]), "Q_DIG");
        let unsigned = ["--quote", &pieces.quote, "--quote-signature", &pieces.quote, "--pcrs", &pcrs];
        refused(&name, &run(at, &[&unsigned[..], &["--ak", &pieces.ak]].concat()), "Q_SIG");
        let log = fs::read(&pieces.log).unwrap();
        let cut = dir.write("cut", &log[..log.len() - 1]);
        refused(&name, &with(quoted(&pcrs), &["--ak", &pieces.ak, "--event-log", &cut]), "L_PARSE");
    }
}

fn policy(inputs: &Value, kernel: &Value) -> String {
    let sections: Vec<_> = inputs["ovmf_sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{{ gpa = {}, size = {}, type = {} }}", s["gpa"], s["size"], s["section_type"]))
        .collect();
    format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsigning_keys = [\"vcek\"]\nsmt = \"allow\"\n\
         minimum_tcb.milan = {{ bl = 1, tee = 0, snp = 1, ucode = 1 }}\n\
         [[reference]]\nkind = \"launch\"\nfirmware_digest = {}\n\
         layout = {{ reset_eip = {}, hash_table = {}, sections = [{}] }}\n\
         kernel_sha256 = {kernel}\ninitrd_sha256 = {}\ncmdline = {}\nkernel_hashes = \"enforced by this firmware\"\n\
         vmm = [\"qemu\"]\nvcpus = [{}]\nvcpu_types = [{}]\n",
        inputs["ovmf_hash"],
        inputs["sev_es_reset_eip"],
        inputs["sev_hashes_table_gpa"],
        sections.join(", "),
        inputs["initrd_hash"],
        inputs["base_cmdline"],
        inputs["vcpus"],
        inputs["vcpu_type"],
    )
}

#[test]
fn reports_with_everything_that_was_launched_are_authentic_and_recomputed_under_a_policy() {
    let test = "reports_with_everything_that_was_launched_are_authentic_and_recomputed_under_a_policy";
    let Some(folder) = evidence(test) else { return };
    let snp = |file: &str| fs::read(folder.join("snp/milan-v3-vcek-a20e02a2").join(file)).unwrap();
    let at = "2026-11-01T00:00:00Z";
    for file in ["sev_snp_attestation.bin", "sev-snp-attestation.json"] {
        let dir = Dir::new(file);
        let case = dstack::read(&folder.join("launch").join(file));
        let report = dir.write("report.bin", &case.report);
        // One of them brings its certificates; of the other they lie beside the same chip's report.
        let certificates = match case.certificates.as_slice() {
            [] => vec![dir.write("vek.der", snp("vek.der")), dir.write("issuer.der", snp("issuer.der"))],
            [issuer, vek] => vec![dir.write("issuer.pem", issuer), dir.write("vek.pem", vek)],
            more => panic!("{file}: {} certificates", more.len()),
        };
        assert_eq!(case.certificates.is_empty(), file.ends_with("bin"), "{file}");
        let args = [&["--snp-report", &report, "--cert"][..], &strs(&certificates)].concat();
        let alone = run(at, &args);
        authentic(file, &alone);
        assert_eq!((&alone.1["profile"], &alone.1["simulated"]), (&"snp".into(), &false.into()), "{file}");

        let under = |kernel: &Value| {
            let policy = dir.write("policy.toml", policy(&case.inputs, kernel));
            run(at, &[&args[..], &["--policy", &policy]].concat())
        };
        let (output, json) = under(&case.inputs["kernel_hash"]);
        assert_eq!((output.exit, &json["verdict"]), (0, &"accepted".into()), "{file}: {}", json["findings"]);
        let (output, json) = under(&"5e".repeat(32).into());
        assert_eq!((output.exit, &json["refused_by"]), (3, &"appraise".into()), "{file}: {output:?}");
        assert_eq!(finding(&json, "R_LD").unwrap()["severity"], "fatal", "{file}");

        // One byte of the report, and a time before its certificates.
        let mut changed = case.report.clone();
        changed[0x90] ^= 1;
        let changed = dir.write("changed.bin", changed);
        refused(file, &run(at, &[&["--snp-report", &changed, "--cert"][..], &strs(&certificates)].concat()), "R_SIG");
        refused(file, &run("2019-01-01T00:00:00Z", &args), "E_VALIDITY");
    }
}
