//! What the machine must have: a new enough Rust, commands from Debian packages, cargo-nextest, cargo-deny.
//!
//! Packages are judged by the command that they bring, so another distribution, or one's own build in /usr/local, will do.
//! Installing is for root; anybody else is asked first, at a terminal, and otherwise told the command. Debian 12's own Rust
//! is too old, so Rust is the one thing that must be there before.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The same as `rust-version` in Cargo.toml; cargo itself can be told to ignore that one.
const MINIMUM_RUST: (u32, u32) = (1, 88);

/// A Debian package and how to see that it is not needed any more.
pub(crate) struct Package {
    name: &'static str,
    present: fn() -> bool,
    why: &'static str,
}

pub(crate) const FOR_DEMO: &[Package] = &[
    Package { name: "gcc", present: || command("cc"), why: "compiles the C of both crypto backends, and links" },
    Package {
        name: "cryptsetup-bin",
        present: || Path::new("/usr/sbin/veritysetup").is_file(),
        why: "the second opinion on dm-verity root hashes",
    },
    Package { name: "curl", present: || command("curl"), why: "a client of the demo" },
    Package { name: "fuse3", present: || command("fusermount3"), why: "mounts the look-alike of configfs-tsm" },
    Package { name: "python3", present: || command("python3"), why: "the demo's server and streaming client" },
    Package { name: "swtpm", present: || command("swtpm"), why: "the TPM of every emulated cloud" },
];

pub(crate) const FOR_TESTS: &[Package] = &[
    Package { name: "gcc", present: || command("cc"), why: "compiles the C of both crypto backends, and links" },
    Package { name: "busybox-static", present: || command("busybox"), why: "userland of the guest that boots" },
    Package { name: "chromium", present: || command("chromium"), why: "looks at the client's page" },
    Package {
        name: "cryptsetup-bin",
        present: || Path::new("/usr/sbin/veritysetup").is_file(),
        why: "the second opinion on dm-verity root hashes",
    },
    Package { name: "cpio", present: || command("cpio"), why: "packs that guest's initrd" },
    Package { name: "curl", present: || command("curl"), why: "a client in the tests" },
    Package { name: "fuse3", present: || command("fusermount3"), why: "mounts the look-alike of configfs-tsm" },
    Package { name: "git", present: || command("git"), why: "clones through the proxies" },
    Package {
        name: "ovmf",
        present: || Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").is_file(),
        why: "firmware of the guest that boots",
    },
    Package { name: "qemu-system-x86", present: || command("qemu-system-x86_64"), why: "boots a guest" },
    Package {
        name: "openssl",
        present: || command("openssl"),
        why: "the second opinion on certificates and exporters",
    },
    Package { name: "python3", present: || command("python3"), why: "the applications in examples/" },
    Package { name: "python3-venv", present: python_venv, why: "an environment for those applications" },
    Package { name: "swtpm", present: || command("swtpm"), why: "the TPM of every emulated cloud" },
    Package { name: "systemd", present: || command("systemd-analyze"), why: "checks the service units" },
    Package { name: "binutils", present: || command("objcopy"), why: "makes unified kernel images for tests" },
    Package {
        name: "systemd-boot-efi",
        present: || Path::new("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").is_file(),
        why: "the stub of such images",
    },
    Package {
        name: "tpm2-tools",
        present: || command("tpm2_eventlog"),
        why: "the second opinion on event logs and quotes",
    },
];

/// The peers of `bench all`.
pub(crate) const FOR_BENCH: &[Package] = &[
    Package { name: "gcc", present: || command("cc"), why: "compiles the C of both crypto backends, and links" },
    Package { name: "nginx", present: || command("nginx"), why: "a peer in the measurements" },
    Package {
        name: "libnginx-mod-stream",
        present: || Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").is_file(),
        why: "TCP and TLS for that peer",
    },
    Package { name: "haproxy", present: || command("haproxy"), why: "a peer in the measurements" },
    Package { name: "stunnel4", present: || command("stunnel4"), why: "a peer in the measurements" },
];

/// For `--llm` besides.
pub(crate) const FOR_LLM: &[Package] = &[
    Package { name: "g++", present: || command("c++"), why: "compiles llama.cpp" },
    Package { name: "cmake", present: || command("cmake"), why: "builds llama.cpp" },
];

pub(crate) fn require_rust() -> Result<()> {
    let output =
        Command::new("rustc").arg("--version").output().context("running rustc; install Rust through rustup")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seen = parse_rust(&text).with_context(|| format!("the version in {text:?}"))?;
    ensure!(
        seen >= MINIMUM_RUST,
        "rustc is {}.{}; {}.{} or later is needed. Install it through rustup (https://rustup.rs), or: rustup update stable",
        seen.0,
        seen.1,
        MINIMUM_RUST.0,
        MINIMUM_RUST.1
    );
    Ok(())
}

/// "rustc 1.88.0 (…)" → (1, 88)
fn parse_rust(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(' ').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Installs what is missing, after naming it; where it may not, says what to type.
pub(crate) fn install_packages(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = wanted.iter().filter(|package| !(package.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing on this machine:");
    for package in &missing {
        eprintln!("  {:<14} {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    ensure!(command("apt-get"), "there is no apt-get here; install them by hand: {}", names.join(" "));
    let sudo = !rustix::process::geteuid().is_root();
    if sudo {
        let by_hand = format!("sudo apt-get install --no-install-recommends {}", names.join(" "));
        ensure!(command("sudo") && may_ask() && agrees(&by_hand)?, "install them first: {by_hand}");
    }
    let apt_get = |args: &[&str]| -> Result<()> {
        // `env` because sudo drops the environment.
        let prefix: &[&str] = if sudo { &["sudo", "env"] } else { &["env"] };
        let words = [prefix, &["DEBIAN_FRONTEND=noninteractive", "apt-get"], args].concat();
        let (program, rest) = words.split_first().expect("not empty");
        run(Command::new(program).args(rest))
    };
    apt_get(&["update", "-q"])?;
    apt_get(&[&["install", "-q", "-y", "--no-install-recommends"], names.as_slice()].concat())?;
    match missing.iter().find(|package| !(package.present)()) {
        Some(package) => bail!("{} is installed, and what it is for is still missing: {}", package.name, package.why),
        None => Ok(()),
    }
}

/// Installs the subcommands of cargo that the suite runs. No registry of wheels has a current build of either, so both
/// are compiled once.
pub(crate) fn install_tools() -> Result<()> {
    for (subcommand, package) in [("nextest", "cargo-nextest"), ("deny", "cargo-deny")] {
        let mut version = Command::new("cargo");
        version.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        if version.status().is_ok_and(|status| status.success()) {
            continue;
        }
        eprintln!("installing {package} from crates.io (some minutes, once)");
        run(Command::new("cargo").args(["install", "--locked", package]))?;
    }
    Ok(())
}

/// Runs it with our own output; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Whether a command of this name is on the PATH, or where root's commands are.
fn command(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(name).is_file())
}

/// Debian splits `ensurepip` off; without it a virtual environment has no pip.
fn python_venv() -> bool {
    let import = Command::new("python3").args(["-c", "import venv, ensurepip"]).stderr(Stdio::null()).status();
    import.is_ok_and(|status| status.success())
}

fn may_ask() -> bool {
    std::env::var_os("CI").is_none_or(|ci| ci != "true") && std::io::stdin().is_terminal()
}

fn agrees(command: &str) -> Result<bool> {
    eprint!("run `{command}`? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `$XDG_CACHE_HOME/evident` or `~/.cache/evident`: what is expensive and belongs to no checkout.
pub(crate) fn cache_dir() -> Result<std::path::PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if Path::new(&dir).is_absolute() => std::path::PathBuf::from(dir),
        _ => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    let dir = base.join("evident");
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_rustc() {
        assert_eq!(parse_rust("rustc 1.88.0 (6b00bc388 2025-06-23)\n"), Some((1, 88)));
        assert_eq!(parse_rust("rustc 2.0.0-nightly (x)"), Some((2, 0)));
        assert_eq!(parse_rust(""), None);
    }

    #[test]
    fn a_command_is_looked_for_by_name() {
        assert!(command("sh"));
        assert!(!command("no-such-command-of-anybody"));
    }
}
