//! The example policies and docs/policy.md say the same as the code.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ratls::policy::{AppraisalPolicy, PolicyProblem};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(project(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_example_is_a_policy_and_only_the_simulated_one_names_a_simulator() {
    let examples = files("examples/policies", "toml");
    assert!(examples.len() >= 7);
    for path in examples {
        let text = fs::read_to_string(&path).unwrap();
        let policy = AppraisalPolicy::parse(&text, &path.display().to_string()).unwrap_or_else(|e| panic!("{e}"));
        let simulated = path.file_stem().unwrap() == "simulated";
        assert_eq!(policy.anchors_needed().is_some(), simulated, "{}", path.display());
        assert!(!simulated || text.starts_with("# SIMULATED, PROVES NOTHING"));
    }
}

/// The keys that each table knows, taken from the error that an unknown one gets.
#[test]
fn every_key_is_documented() {
    let docs = fs::read_to_string(project("docs/policy.md")).unwrap();
    let base = "version = 1\nprofiles = [\"snp\"]\n";
    let digest = "a".repeat(96);
    let snp = format!(
        "[snp]\nmeasurements = [\"{digest}\"]\nsigning_keys = [\"vcek\"]\n[snp.minimum_tcb.turin]\n\
         fmc = 1\nbl = 1\ntee = 1\nsnp = 1\nucode = 1\n"
    );
    let reference = |kind| format!("{base}identity = \"any\"\n{snp}[[reference]]\nkind = \"{kind}\"\nx = 1\n");
    for text in [
        "x = 1\n".to_owned(),
        "version = 2\n[[accept]]\nx = 1\n".to_owned(),
        format!("{base}identity.x = 1\n"),
        format!("{base}identity.launch_identity.x = 1\n"),
        format!("{base}identity = \"any\"\nsnp.x = 1\n"),
        format!(
            "{base}identity = \"any\"\n[snp]\nmeasurements = [\"{digest}\"]\nsigning_keys = [\"vcek\"]\nminimum_tcb.turin.x = 1"
        ),
        format!("{base}identity = \"any\"\n{snp}[endorsements]\nx = 1\n"),
        format!("{base}identity.tpm.x = 1\n"),
        format!("{}identity = \"any\"\n{snp}[tpm]\nx = 1\n", base.replace("snp", "gcp-snp")),
        format!("{}identity = \"any\"\n{snp}[tpm.pcrs]\nx = 1\n", base.replace("snp", "gcp-snp")),
        format!("{}identity = \"any\"\n{snp}[azure]\nx = 1\n", base.replace("snp", "azure-snp")),
        format!("{}identity = \"any\"\n{snp}[gcp]\nx = 1\n", base.replace("snp", "gcp-snp")),
        format!("{}identity = \"any\"\n{snp}[aws]\nx = 1\n", base.replace("snp", "aws-snp")),
        format!("{}identity = \"any\"\n{snp}[svsm]\nx = 1\n", base.replace("snp", "svsm-snp")),
        format!("{base}identity = \"any\"\n{snp}[roots]\nx = 1\n"),
        format!("{base}identity = \"any\"\n{snp}[guest]\nx = 1\n"),
        format!("{base}identity = \"any\"\n{snp}[freshness]\nx = 1\n"),
        reference("launch"),
        reference("pages"),
        reference("igvm"),
        reference("digest"),
        reference("verity"),
        reference("rebuild"),
        reference("own-build"),
    ] {
        let error = AppraisalPolicy::parse(&text, "p").unwrap_err();
        let PolicyProblem::UnknownKey { known } = error.problem() else { panic!("{error}") };
        for key in known.split(", ") {
            let documented = [
                format!("`{key}`"),
                format!("] {key}`"),
                format!("[{key}]"),
                format!(".{key}."),
                format!("[{key}."),
                format!(".{key}]`"),
            ];
            assert!(documented.iter().any(|form| docs.contains(form)), "docs/policy.md does not name {key}");
        }
    }
}
