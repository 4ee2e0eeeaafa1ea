//! Policy files: loading one with the roots that it names, and `policy check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ratls::endorsement::TrustAnchors;
use ratls::endorsement::roots::AnchorError;
use ratls::policy::{AppraisalPolicy, MAX_POLICY_BYTES, PolicyError};
use serde_json::json;

use super::input::{self, ReadFileError};
use super::reference_files::FolderFiles;
use super::{EXIT_USAGE, Output};

/// A root certificate in PEM, with a text before it.
const MAX_ROOT_BYTES: usize = 64 * 1024;

/// `evident-client policy …`
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Read a policy file and say what it accepts; contacts nothing
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The policy file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A policy and the roots that verification under it ends in.
#[derive(Debug)]
pub struct LoadedPolicy {
    pub policy: AppraisalPolicy,
    pub anchors: TrustAnchors,
}

/// Why a policy cannot be used: always the operator's to mend, before anything was contacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("the policy file cannot be used")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{}: the policy file is not UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("{}: {key}: the file cannot be used", policy.display())]
    RootFile { policy: PathBuf, key: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{}: {key}: {} is no root", policy.display(), root.display())]
    Root { policy: PathBuf, key: &'static str, root: PathBuf, source: AnchorError },
}

/// Reads a policy file, and the roots and the files of references that it may name, relative to the policy's own folder.
pub fn load(path: &Path) -> Result<LoadedPolicy, LoadError> {
    let boxed = |e: ReadFileError| -> Box<dyn std::error::Error + Send + Sync> { Box::new(e) };
    let bytes = input::read(path, MAX_POLICY_BYTES).map_err(|e| LoadError::File(boxed(e)))?;
    let text = String::from_utf8(bytes).map_err(|_| LoadError::NotText { path: path.to_owned() })?;
    let mut policy = AppraisalPolicy::parse(&text, &path.display().to_string())?;
    policy.load_references(&mut FolderFiles::beside(path))?;
    let named = |key: &'static str, name: &str| -> Result<(PathBuf, Vec<u8>), LoadError> {
        let root = path.parent().unwrap_or(Path::new("")).join(name);
        let bytes = input::read(&root, MAX_ROOT_BYTES).map_err(|e| LoadError::RootFile {
            policy: path.to_owned(),
            key,
            source: boxed(e),
        })?;
        Ok((root, bytes))
    };
    let refused = |key, root| move |source| LoadError::Root { policy: path.to_owned(), key, root, source };
    let mut anchors = TrustAnchors::amd();
    if let Some(name) = policy.anchors_needed() {
        let (root, bytes) = named("roots.simulator", name)?;
        anchors = anchors.with_simulator_root(&bytes).map_err(refused("roots.simulator", root))?;
    }
    if let Some(name) = policy.gce_firmware_root() {
        let (root, bytes) = named("gcp.endorsement_root", name)?;
        anchors = anchors.with_gce_firmware_root(&bytes).map_err(refused("gcp.endorsement_root", root))?;
    }
    Ok(LoadedPolicy { policy, anchors })
}

/// A policy that cannot be used, said to the operator.
pub(super) fn refused(error: &LoadError) -> Output {
    let next = match error {
        LoadError::File(_) => "Check the name and the permissions of the policy file.",
        LoadError::RootFile { .. } | LoadError::Root { .. } => {
            "[roots] simulator names a file beside the policy: copy the simulator's root there, or remove [roots]."
        }
        _ => "Mend the policy file; docs/policy.md lists every key.",
    };
    Output::failed(EXIT_USAGE, error, next)
}

pub fn run(command: PolicyCommand) -> ExitCode {
    match command {
        PolicyCommand::Check(args) => check(&args).emit(),
    }
}

/// `policy check FILE`
pub fn check(args: &CheckArgs) -> Output {
    let policy = match load(&args.file) {
        Ok(loaded) => loaded.policy,
        Err(error) => return refused(&error),
    };
    let stdout = if args.json {
        let report = json!({
            "file": policy.file(),
            "sha256": policy.digest(),
            "profiles": policy.profiles(),
            "identity": policy.identity().to_string(),
            "cautions": policy.cautions(),
        });
        format!("{report:#}\n")
    } else {
        let mut text = format!("{}: a policy, and it accepts:\n{policy}", policy.file());
        for caution in policy.cautions() {
            text.push_str(&format!("  look at       {caution}\n"));
        }
        text
    };
    Output { stdout, coloured: None, stderr: String::new(), exit: 0 }
}
