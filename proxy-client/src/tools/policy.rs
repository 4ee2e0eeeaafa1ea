//! Policy files: loading one with the roots that it names, and `policy check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::endorsement::roots::AnchorError;
use ratls::policy::{AppraisalPolicy, MAX_POLICY_BYTES, PolicyError, ReferenceFiles};
use ratls::text::json_for_people;
use serde_json::json;

use super::input::{self, ReadFileError};
use super::reference_files::FolderFiles;
use super::study::{self, DiffArgs, LearnArgs};
use super::{EXIT_USAGE, Output};

/// A root certificate in PEM, with a text before it.
const MAX_ROOT_BYTES: usize = 64 * 1024;

/// `evident-client policy …`
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Read a policy file and say what it accepts; contacts nothing
    Check(CheckArgs),
    /// Write what a guest showed as a policy to review; it accepts nobody before its questions are answered
    Learn(LearnArgs),
    /// What differs between two guests, bundles or policies, in terms of meaning
    Diff(DiffArgs),
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
    pub source: PolicySource,
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
    /// A root that was named on the command line.
    #[error("--simulator-root: {} cannot be used", root.display())]
    RootFlag { root: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

impl LoadError {
    /// What its author does next.
    pub fn next_step(&self) -> &'static str {
        match self {
            LoadError::File(_) => "Check the name and the permissions of the policy file.",
            LoadError::RootFile { key: SIMULATOR, .. } | LoadError::Root { key: SIMULATOR, .. } => {
                "[roots] simulator names a file beside the policy: copy the simulator's root there, or remove [roots]."
            }
            LoadError::RootFile { .. } | LoadError::Root { .. } => {
                "[gcp] endorsement_root names a file beside the policy: put Google's root there, or remove the key."
            }
            LoadError::RootFlag { .. } => "Give root.pem of the simulator's directory.",
            LoadError::NotText { .. } | LoadError::Policy(_) => "Mend the policy file; docs/policy.md lists every key.",
        }
    }
}

/// What a policy was loaded from, for an archive: its text, and the roots that it names, each under its key. Files of its references
/// can be gigabytes: of each, by its name, where it is and what it was.
#[derive(Clone, Debug, Default)]
pub struct PolicySource {
    pub text: String,
    pub roots: Vec<(&'static str, Vec<u8>)>,
    pub references: BTreeMap<String, (PathBuf, Sha256Digest)>,
}

const SIMULATOR: &str = "roots.simulator";
const GCE_FIRMWARE: &str = "gcp.endorsement_root";

/// Reads a policy file, and the roots and the files of references that it may name, relative to the policy's own folder.
pub fn load(path: &Path) -> Result<LoadedPolicy, LoadError> {
    let mut files = FolderFiles::beside(path);
    let mut loaded = assemble(text(path)?, path, &mut files, |_, name| beside(path, name))?;
    loaded.source.references = files.used();
    Ok(loaded)
}

/// The text of a policy that can be parsed; the files that it names are not read.
pub fn text_of(path: &Path) -> Result<String, LoadError> {
    let text = text(path)?;
    parse(&text, path)?;
    Ok(text)
}

/// A policy of an archive; `references` has its files, and `root` says where a root is that it names under a key.
pub(crate) fn load_kept(
    path: &Path,
    references: &mut dyn ReferenceFiles,
    root: impl Fn(&str) -> PathBuf,
) -> Result<LoadedPolicy, LoadError> {
    assemble(text(path)?, path, references, |key, _| root(key))
}

fn beside(policy: &Path, name: &str) -> PathBuf {
    policy.parent().unwrap_or(Path::new("")).join(name)
}

/// The files that a policy names, by key.
fn named(policy: &AppraisalPolicy) -> Vec<(&'static str, &str)> {
    let files = [(SIMULATOR, policy.anchors_needed()), (GCE_FIRMWARE, policy.gce_firmware_root())];
    files.into_iter().filter_map(|(key, name)| Some((key, name?))).collect()
}

/// `find` says where a named root is.
fn assemble(
    text: String,
    path: &Path,
    references: &mut dyn ReferenceFiles,
    find: impl Fn(&'static str, &str) -> PathBuf,
) -> Result<LoadedPolicy, LoadError> {
    let mut policy = parse(&text, path)?;
    policy.load_references(references)?;
    let mut anchors = TrustAnchors::amd();
    let mut roots = Vec::new();
    for (key, name) in named(&policy) {
        let root = find(key, name);
        let bytes = root_file(path, key, &root)?;
        let added = match key {
            SIMULATOR => anchors.with_simulator_root(&bytes),
            _ => anchors.with_gce_firmware_root(&bytes),
        };
        anchors = added.map_err(|source| LoadError::Root { policy: path.to_owned(), key, root, source })?;
        roots.push((key, bytes));
    }
    Ok(LoadedPolicy { policy, anchors, source: PolicySource { text, roots, references: BTreeMap::new() } })
}

/// The built-in roots, and a simulator's where its file is given on the command line.
pub(super) fn anchors_with(simulator: Option<&Path>) -> Result<TrustAnchors, LoadError> {
    let Some(root) = simulator else { return Ok(TrustAnchors::amd()) };
    let refused = |source| LoadError::RootFlag { root: root.to_owned(), source };
    let bytes = input::read(root, MAX_ROOT_BYTES).map_err(|error| refused(Box::new(error)))?;
    TrustAnchors::amd().with_simulator_root(&bytes).map_err(|error| refused(Box::new(error)))
}

fn text(path: &Path) -> Result<String, LoadError> {
    let bytes = input::read(path, MAX_POLICY_BYTES).map_err(|e| LoadError::File(Box::new(e)))?;
    String::from_utf8(bytes).map_err(|_| LoadError::NotText { path: path.to_owned() })
}

fn parse(text: &str, path: &Path) -> Result<AppraisalPolicy, PolicyError> {
    AppraisalPolicy::parse(text, &path.display().to_string())
}

fn root_file(policy: &Path, key: &'static str, root: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |e: ReadFileError| LoadError::RootFile { policy: policy.to_owned(), key, source: Box::new(e) };
    input::read(root, MAX_ROOT_BYTES).map_err(failed)
}

/// A policy that cannot be used, said to the operator.
pub(crate) fn refused(error: &LoadError) -> Output {
    Output::failed(EXIT_USAGE, error, error.next_step())
}

pub async fn run(command: PolicyCommand) -> ExitCode {
    match command {
        PolicyCommand::Check(args) => check(&args).emit(),
        PolicyCommand::Learn(args) => study::run_learn(args).await,
        PolicyCommand::Diff(args) => study::run_diff(args).await,
    }
}

/// `policy check FILE`
pub fn check(args: &CheckArgs) -> Output {
    let policy = match load(&args.file) {
        Ok(loaded) => loaded.policy,
        Err(error) => return refused(&error),
    };
    let stdout = if args.json {
        let accepted: Vec<_> = policy
            .accepted()
            .iter()
            .map(|one| json!({ "profile": one.profile(), "identity": one.identity().to_string() }))
            .collect();
        let mut report = json!({
            "file": policy.file(),
            "sha256": policy.digest(),
            "profiles": policy.profiles(),
            "accept": accepted,
            "cautions": policy.cautions(),
        });
        // A file for one platform keeps the key that it had before there were several.
        if let Some(only) = policy.only() {
            report["identity"] = json!(only.identity().to_string());
        }
        json_for_people(&format!("{report:#}\n"))
    } else {
        let mut text = format!("{}: a policy, and it accepts:\n{policy}", policy.file());
        for caution in policy.cautions() {
            text.push_str(&format!("  look at       {caution}\n"));
        }
        text
    };
    Output { stdout, coloured: None, stderr: String::new(), exit: 0 }
}
