//! Real evidence for tests: where it is, and one case of it. It is never copied into the project.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

pub mod checkquote;
pub mod lab;
pub mod logs;
pub mod soft_tpm;

use ratls::tcb::Product;
use ratls::time::UnixTime;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `$EVIDENT_EVIDENCE`, or `../shared/evidence` from the root of the workspace. Says which test is skipped where neither exists.
pub fn folder(test: &str) -> Option<PathBuf> {
    let found = match std::env::var_os("EVIDENT_EVIDENCE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"),
    };
    if found.is_dir() {
        return Some(found);
    }
    println!("skipped: {test}: no evidence folder");
    None
}

/// One report with its certificates and what is known of it.
pub struct Case {
    pub id: String,
    pub report: Vec<u8>,
    pub vek: Option<Vec<u8>>,
    pub issuer: Option<Vec<u8>>,
    pub json: Value,
}

impl Case {
    fn read(dir: &Path) -> Case {
        let json = std::fs::read(dir.join("case.json")).unwrap();
        Case {
            id: dir.file_name().unwrap().to_str().unwrap().to_owned(),
            report: std::fs::read(dir.join("report.bin")).unwrap(),
            vek: std::fs::read(dir.join("vek.der")).ok(),
            issuer: std::fs::read(dir.join("issuer.der")).ok(),
            json: serde_json::from_slice(&json).unwrap(),
        }
    }

    pub fn is_authentic(&self) -> bool {
        self.json["expect"] == "authentic"
    }

    /// The product as the case notes it.
    pub fn product(&self) -> Option<Product> {
        Product::from_name(self.json["product"].as_str()?.split('-').next()?)
    }

    /// A time at which the certificates are valid.
    pub fn at(&self) -> UnixTime {
        UnixTime::parse_rfc3339(self.json["at"].as_str().unwrap()).unwrap()
    }

    pub fn certificates(&self) -> Vec<&[u8]> {
        self.vek.iter().chain(&self.issuer).map(Vec::as_slice).collect()
    }
}

/// All cases below `snp`, in the order of their names.
pub fn cases(test: &str) -> Vec<Case> {
    let Some(folder) = folder(test) else { return Vec::new() };
    let mut dirs: Vec<_> = std::fs::read_dir(folder.join("snp")).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    let cases: Vec<_> = dirs.iter().map(|dir| Case::read(dir)).collect();
    assert!(cases.len() >= 19, "the evidence folder lost cases: {} left", cases.len());
    cases
}

/// Those that are authentic.
pub fn authentic(test: &str) -> Vec<Case> {
    let cases: Vec<_> = cases(test).into_iter().filter(Case::is_authentic).collect();
    assert!(cases.is_empty() || cases.len() >= 17, "{} authentic cases", cases.len());
    cases
}
