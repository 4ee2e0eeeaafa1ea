//! `evident-client verify` as a function, over the evidence of others.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // each test file uses a part

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use evident_client::tools::Output;
use evident_client::tools::verify::{VerifyArgs, verify};
use ratls::time::UnixTime;
use serde_json::Value;

#[derive(Parser)]
pub struct Cli {
    #[command(flatten)]
    pub verify: VerifyArgs,
}

pub fn evidence(test: &str) -> Option<PathBuf> {
    let from_env = std::env::var_os("EVIDENT_EVIDENCE").map(PathBuf::from);
    let folder = from_env.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {test}: no evidence folder");
    None
}

/// The command with JSON, judged at this time.
pub fn run(at: &str, args: &[&str]) -> (Output, Value) {
    let at = UnixTime::parse_rfc3339(at).unwrap();
    let cli = Cli::try_parse_from(["verify", "--json"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}"));
    let output = verify(&cli.verify, at);
    let json = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output, json)
}

#[track_caller]
pub fn authentic(name: &str, (output, json): &(Output, Value)) {
    assert_eq!(output.exit, 0, "{name}: {output:?}");
    assert_eq!(json["verdict"], "authentic", "{name}");
}

#[track_caller]
pub fn refused(name: &str, (output, json): &(Output, Value), id: &str) {
    assert_eq!(output.exit, 1, "{name}: {output:?}");
    assert_eq!((&json["verdict"], &json["refused_by"]), (&"refused".into(), &"verify".into()), "{name}");
    assert_eq!(json["evidence"], serde_json::json!({}), "{name}: nothing of refused evidence is shown");
    let finding = &json["findings"][0];
    assert_eq!(finding["id"], id, "{name}: {finding}");
    for key in ["subject", "seen", "wanted", "help"] {
        assert!(!finding[key].as_str().unwrap().is_empty(), "{name}: {key} of {finding}");
    }
}

pub fn finding<'a>(json: &'a Value, id: &str) -> Option<&'a Value> {
    json["findings"].as_array().unwrap().iter().find(|f| f["id"] == id)
}

/// Files of one test, gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(test: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("evident-verify-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, contents).unwrap();
        path.display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn fixture(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
}

pub fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
