//! A part of a test that runs as the user nobody, whatever user the test is.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

pub const NOBODY: u32 = 65_534;

/// What the test `child` of this program prints as nobody behind `answer: `, line by line, with `path` in the variable `name`. `None`,
/// and a line that names the test, where this process cannot become another user.
pub fn as_nobody(test: &str, child: &str, name: &str, path: &Path) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let id = NOBODY.to_string();
    let child = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .arg(&program)
        .args(["--exact", child, "--nocapture"])
        .env(name, path)
        .current_dir("/")
        .output();
    let output = match child {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            println!("skipped: {test}: cannot become nobody: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            println!("skipped: {test}: setpriv: {error}");
            return None;
        }
    };
    let answers = output.lines().filter_map(|line| line.split_once("answer: ")).map(|(_, answer)| answer.to_owned());
    let answers: Vec<_> = answers.collect();
    assert!(!answers.is_empty(), "the child said {output:?}");
    Some(answers)
}
