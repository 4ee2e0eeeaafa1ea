//! The Python that runs the applications of `examples/`.
//!
//! `cargo xtask test` makes a virtual environment with `examples/requirements.txt` in the user's cache directory and
//! links it as `target/venv`; `$EVIDENT_PYTHON` names another one.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::Program;
use crate::binaries::workspace;

/// The `python` of the environment.
pub fn python() -> Result<PathBuf> {
    let path = match std::env::var_os("EVIDENT_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => bin_dir().join("python"),
    };
    ensure!(path.exists(), "{} is missing; make it with: cargo xtask setup", path.display());
    Ok(path)
}

/// A script under `examples/`, run unbuffered and without the caller's proxy settings.
pub fn example(script: &str) -> Result<Program> {
    let path = workspace().join("examples").join(script);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(without_proxies(Program::new(python()?).named(script).arg("-u").arg(path)))
}

/// A console script that a Python package installed, such as `flower-superlink`.
pub fn console_script(name: &str) -> Result<Program> {
    let path = python()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing; make it with: cargo xtask setup", path.display());
    Ok(without_proxies(Program::new(path)).env("PYTHONUNBUFFERED", "1"))
}

/// The environment's proxy settings would send an application past the address that the test gave it.
pub fn without_proxies(program: Program) -> Program {
    let names = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy"];
    names.iter().fold(program, |program, name| program.without_env(name).without_env(&name.to_uppercase()))
}

fn bin_dir() -> PathBuf {
    workspace().join("target/venv/bin")
}
