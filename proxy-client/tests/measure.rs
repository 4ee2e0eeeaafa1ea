//! `evident-client measure`, as a person or a script calls it.

use std::path::{Path, PathBuf};

use clap::Parser;
use evident_client::cli::{Cli, Command};
use evident_client::tools::Output;
use evident_client::tools::measure::measure;
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let line = ["evident-client", "measure"].iter().chain(args);
    match Cli::try_parse_from(line).unwrap().command {
        Some(Command::Measure(args)) => measure(&args),
        _ => unreachable!("another command"),
    }
}

fn evidence(test: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("EVIDENT_EVIDENCE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"),
    };
    if !folder.is_dir() {
        println!("skipped: {test}: no evidence folder");
        return None;
    }
    Some(folder.join("launch"))
}

const FIRMWARE: &str = "fixtures__ovmf_AmdSev_suffix.bin";
const WITHOUT_HASHES: &str = "fixtures__ovmf_OvmfX64_suffix.bin";

#[test]
fn prints_the_published_digests() {
    let Some(folder) = evidence("prints_the_published_digests") else { return };
    let vectors: Value = serde_json::from_slice(&std::fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let text = |key: &str| vector[key].as_str().map(str::to_owned);
        let file = folder.join(text("firmware").unwrap());
        let mut args = vec!["--firmware".to_owned(), file.to_str().unwrap().to_owned()];
        for (flag, key) in [
            ("--vmm", "vmm"),
            ("--vcpu-type", "vcpu_type"),
            ("--kernel", "kernel"),
            ("--initrd", "initrd"),
            ("--append", "append"),
            ("--guest-features", "guest_features"),
        ] {
            args.extend(text(key).into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        args.extend(["--vcpus".to_owned(), vector["vcpus"].to_string()]);
        let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.stdout.trim(), text("launch_digest").unwrap(), "{}: {}", vector["name"], output.stderr);
        assert_eq!(output.exit, 0);
        seen += 1;
    }
    assert!(seen >= 16);
}

#[test]
fn says_what_is_covered_and_what_would_have_to_differ() {
    let Some(folder) = evidence("says_what_is_covered_and_what_would_have_to_differ") else { return };
    let firmware = folder.join(FIRMWARE);
    let base = ["--firmware", firmware.to_str().unwrap(), "--vmm", "qemu", "--vcpu-type", "EPYC-v4"];
    let with = |more: &[&str]| run(&[&base[..], more].concat());

    let alone = with(&["--vcpus", "1"]);
    assert!(
        alone.stderr.contains("kernel        not covered: the launch digest is the same whatever it is"),
        "{alone:?}"
    );

    // The published digest of four vCPUs with DebugSwap.
    let four = "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942";
    let kernel = ["--kernel", "/dev/null", "--initrd", "/dev/null", "--append", "", "--expect", four];
    let equal = with(&[&kernel[..], &["--vcpus", "4", "--guest-features", "0x21"]].concat());
    assert_eq!((equal.exit, equal.stdout.trim()), (0, four));
    assert!(equal.stderr.contains("expected      equal"), "{}", equal.stderr);

    let fewer = with(&[&kernel[..], &["--vcpus", "2", "--guest-features", "0x21"]].concat());
    assert_eq!(fewer.exit, 3);
    assert!(fewer.stderr.contains("not equal: it would match with vcpus = 4"), "{}", fewer.stderr);

    let json = with(&[&kernel[..], &["--vcpus", "8", "--json"]].concat());
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json.exit, 3);
    assert_eq!(value["equal"], false);
    let wanted = ["vcpus = 4", "guest features = 0x21 (SNP, DebugSwap)"];
    assert_eq!(value["would_match_with"], Value::from(wanted.to_vec()));
    assert_eq!(value["covers"]["kernel"], serde_json::json!({"link": "verified-by-measured", "known": "bytes"}));
    assert_eq!(value["machine"]["vcpu_type"], "EPYC");

    let changed = with(&["--kernel", "/dev/null", "--append", "ro", "--expect", four, "--vcpus", "4"]);
    assert_eq!(changed.exit, 3);
    assert!(changed.stderr.contains("would match with an empty command line"), "{}", changed.stderr);
    let unknown = with(&["--kernel", "/bin/sh", "--expect", four, "--vcpus", "4"]);
    assert!(unknown.stderr.contains("a file or the command line differs"), "{}", unknown.stderr);
}

#[test]
fn a_digest_stands_in_for_a_file_that_is_not_at_hand() {
    let Some(folder) = evidence("a_digest_stands_in_for_a_file_that_is_not_at_hand") else { return };
    let firmware = folder.join(FIRMWARE);
    let base = ["--firmware", firmware.to_str().unwrap(), "--vmm", "gce", "--vcpus", "1", "--append", "ro"];
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let by_file = run(&[&base[..], &["--kernel", "/dev/null"]].concat());
    let by_digest = run(&[&base[..], &["--kernel-sha256", empty]].concat());
    assert_eq!(by_file.stdout, by_digest.stdout);
    assert!(by_digest.stderr.contains("kernel        by its hash, which you gave"), "{}", by_digest.stderr);
    assert!(by_file.stderr.contains("kernel        by its hash; that counts"), "{}", by_file.stderr);
}

#[test]
fn errors_say_what_to_do() {
    let Some(folder) = evidence("errors_say_what_to_do") else { return };
    let (firmware, without) = (folder.join(FIRMWARE), folder.join(WITHOUT_HASHES));
    let (firmware, without) = (firmware.to_str().unwrap(), without.to_str().unwrap());
    let kernel = ["--kernel", "/dev/null"];
    for (args, exit, says) in [
        (&["--firmware", firmware, "--vmm", "qemu", "--vcpus", "1"][..], 2, "--vcpu-type is needed"),
        (&["--firmware", "/dev/null", "--vmm", "ec2", "--vcpus", "1"], 2, "whole pages of 4096"),
        (&["--firmware", "/nowhere", "--vmm", "ec2", "--vcpus", "1"], 4, "cannot read /nowhere"),
        (&["--firmware", firmware, "--vmm", "ec2", "--vcpus", "1", "--append", "ro"], 2, "beside a kernel"),
        (&["--firmware", without, "--vmm", "ec2", "--vcpus", "1", kernel[0], kernel[1]], 2, "OvmfPkg/AmdSev"),
        (&["--recipe", "/dev/null"], 2, "docs/measure.md"),
        (&["--recipe", "/nowhere"], 4, "cannot read /nowhere"),
    ] {
        let output = run(args);
        assert_eq!(output.exit, exit, "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(says), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn a_cause_is_told_once() {
    let output = run(&["--firmware", "/dev/null", "--vmm", "ec2", "--vcpus", "1"]);
    assert_eq!(output.exit, 2, "{}", output.stderr);
    assert_eq!(output.stderr.matches("the image has 0 bytes").count(), 1, "{}", output.stderr);
}

#[test]
fn a_list_of_pages_is_measured_with_the_files_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("pages.toml");
    std::fs::write(folder.path().join("kernel"), b"a kernel").unwrap();
    std::fs::write(folder.path().join("vmsa"), [7; 4096]).unwrap();
    let text = "version = 1\n\
        [[page]]\ntype = \"normal\"\ngpa = 0x100000\nfile = \"kernel\"\nfill = \"zeros\"\ncovers = \"kernel\"\n\
        [[page]]\ntype = \"vmsa\"\ngpa = 0xfffffffff000\nfile = \"vmsa\"\n";
    std::fs::write(&recipe, text).unwrap();
    let output = run(&["--recipe", recipe.to_str().unwrap()]);
    assert_eq!(output.exit, 0, "{}", output.stderr);
    assert_eq!(output.stdout.trim().len(), 96);
    assert!(output.stderr.contains("launched by   page by page, 1 vCPU"), "{}", output.stderr);
    assert!(output.stderr.contains("kernel        in the digest"), "{}", output.stderr);
    assert!(output.stderr.contains("firmware      not covered"), "{}", output.stderr);

    std::fs::write(folder.path().join("kernel"), b"another kernel").unwrap();
    assert_ne!(run(&["--recipe", recipe.to_str().unwrap()]).stdout, output.stdout);
}

#[test]
fn a_policy_recomputes_what_its_references_name() {
    let Some(launch) = evidence("a_policy_recomputes_what_its_references_name") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::copy(launch.join(FIRMWARE), folder.path().join("OVMF.fd")).unwrap();
    std::fs::write(folder.path().join("vmlinuz"), b"a kernel").unwrap();
    std::fs::write(folder.path().join("root.img"), [1; 8192]).unwrap();
    let text = "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsigning_keys = [\"vcek\"]\n\
        [snp.minimum_tcb.milan]\nbl = 3\ntee = 0\nsnp = 20\nucode = 200\n\
        [[reference]]\nkind = \"launch\"\nfirmware = \"OVMF.fd\"\nkernel = \"vmlinuz\"\ncmdline = \"ro\"\n\
        kernel_hashes = \"enforced by this firmware\"\nvmm = [\"qemu\"]\nvcpus = [1, 2]\nvcpu_types = [\"EPYC\"]\n\
        [[reference]]\nkind = \"verity\"\nimage = \"root.img\"\nsalt = \"\"\n";
    std::fs::write(&file, text).unwrap();
    let check = || {
        let line = ["evident-client", "policy", "check", file.to_str().unwrap()];
        match Cli::try_parse_from(line).unwrap().command {
            Some(Command::Policy(evident_client::tools::policy::PolicyCommand::Check(args))) => {
                evident_client::tools::policy::check(&args)
            }
            _ => unreachable!("another command"),
        }
    };
    let output = check();
    assert_eq!(output.exit, 0, "{}", output.stderr);
    assert!(output.stdout.contains("recomputed    2 launch digests"), "{}", output.stdout);
    assert!(output.stdout.contains("image         root.img, root hash"), "{}", output.stdout);

    std::fs::remove_file(folder.path().join("vmlinuz")).unwrap();
    let output = check();
    assert_eq!(output.exit, 2);
    assert!(output.stderr.contains("policy.toml:11: reference[0]: cannot read"), "{}", output.stderr);
    assert!(output.stderr.contains("vmlinuz"), "{}", output.stderr);
}
