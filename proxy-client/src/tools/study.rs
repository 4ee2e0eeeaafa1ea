//! `policy learn` and `policy diff` as commands: what they look at may be a live guest, so they wait.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ratls::appraise::AttestationResult;
use ratls::findings::EndorsementCheck;
use ratls::measured_boot::diff::{Change as BootChange, Difference, diff as boot_diff, summary};
use ratls::text::json_for_people;
use serde_json::json;

use super::diff::{self, Facts};
use super::look::{self, Subject};
use super::{EXIT_REFUSED, EXIT_USAGE, Output, learn};

#[derive(Debug, Args)]
pub struct LearnArgs {
    /// A guest, or a bundle of `inspect --save`
    #[arg(value_name = "HOST:PORT|BUNDLE")]
    pub subject: String,
    /// Root certificate of a simulator: what it signs is SIMULATED and PROVES NOTHING
    #[arg(long, value_name = "FILE")]
    pub simulator_root: Option<PathBuf>,
    /// The kernel command line, where the guest measured it and its log does not have its text: it is compared with the digest
    #[arg(long, value_name = "TEXT")]
    pub command_line: Option<String>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A guest, a bundle or a policy
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The same kind of thing, or a bundle beside a guest
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Root certificate of a simulator: what it signs is SIMULATED and PROVES NOTHING
    #[arg(long, value_name = "FILE")]
    pub simulator_root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run_learn(args: LearnArgs) -> ExitCode {
    learn(&args).await.emit()
}

pub async fn run_diff(args: DiffArgs) -> ExitCode {
    diff(&args).await.emit()
}

/// `policy learn`: the policy on standard output; exit code 1, and nothing, where the evidence is not authentic.
pub async fn learn(args: &LearnArgs) -> Output {
    let result = match result(&args.subject, args.simulator_root.as_deref()).await {
        Ok(result) => result,
        Err(output) => return output,
    };
    let told = learn::Told { command_line: args.command_line.as_deref() };
    match learn::policy(&result, &args.subject, told) {
        Err(error) => {
            let next = "Give the line as the guest's /proc/cmdline has it, or as it stands in the image.";
            Output::failed(EXIT_REFUSED, &error, next)
        }
        Ok(Some(stdout)) => {
            let stderr = "SEEN IS NOT TRUSTED: answer the questions in this file before you use it.\n".to_owned();
            Output { stdout, coloured: None, stderr, exit: 0 }
        }
        Ok(None) => not_authentic(&result, args.simulator_root.as_deref()),
    }
}

/// `policy diff`. Exit code 0 whether or not there is a difference.
pub async fn diff(args: &DiffArgs) -> Output {
    let root = args.simulator_root.as_deref();
    let (old, new) = match (side(&args.old, root).await, side(&args.new, root).await) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(output), _) | (_, Err(output)) => return output,
    };
    if old.result.is_some() != new.result.is_some() {
        let error = std::io::Error::other("a policy cannot be compared with a guest");
        return Output::failed(
            EXIT_USAGE,
            &error,
            "`verify --policy FILE BUNDLE` and `explain` say what a policy makes of a guest.",
        );
    }
    let changes = old.facts.compare(&new.facts);
    let booted = booted(&old, &new);
    let simulated = [&old, &new].iter().any(|side| side.result.as_ref().is_some_and(AttestationResult::simulated));
    let stdout = if args.json {
        let mut all = diff::to_json(&changes);
        all["booted"] = json!(booted.iter().map(ToString::to_string).collect::<Vec<_>>());
        all["simulated"] = json!(simulated);
        json_for_people(&format!("{all:#}\n"))
    } else {
        let mark = if simulated { format!("{}\n", ratls::appraise::SIMULATED) } else { String::new() };
        let summary = if booted.is_empty() { String::new() } else { format!("{}\n\n", summary(&booted)) };
        format!("{mark}{summary}{}", diff::text(&changes))
    };
    Output { stdout, coloured: None, stderr: String::new(), exit: 0 }
}

/// What was booted, in terms of meaning, where both sides have a log of it. The registers know the firmware by the name that it gives
/// itself; the launch measurement knows its bytes.
fn booted(old: &Side, new: &Side) -> Vec<Difference> {
    let (Some(a), Some(b)) = (old.boot(), new.boot()) else { return Vec::new() };
    let mut all = boot_diff(&a, &b);
    let measured = |side: &Side| Some(*side.result.as_ref()?.evidence()?.report().report().measurement());
    if let (Some(one), Some(other)) = (measured(old), measured(new))
        && one != other
    {
        all.retain(|difference| difference.subject != "firmware");
        let words = "measured at launch is another one, or the number or type of vCPUs".to_owned();
        all.insert(0, Difference { subject: "firmware", change: BootChange::Changed(words) });
    }
    all
}

struct Side {
    facts: Facts,
    result: Option<AttestationResult>,
}

impl Side {
    fn boot(&self) -> Option<ratls::measured_boot::Boot> {
        self.result.as_ref().and_then(look::boot)
    }
}

async fn side(subject: &str, root: Option<&Path>) -> Result<Side, Output> {
    if let Subject::Policy(path) = Subject::of(subject)? {
        return Ok(Side { facts: look::facts_of_policy(&path)?, result: None });
    }
    let result = result(subject, root).await?;
    if result.evidence().is_none() {
        return Err(not_authentic(&result, root));
    }
    Ok(Side { facts: look::facts_of_result(&result), result: Some(result) })
}

/// Nothing can be learned or compared. There is no policy here that could name a simulator's root.
fn not_authentic(result: &AttestationResult, root: Option<&Path>) -> Output {
    let mut stderr = result.to_string();
    if root.is_none() && result.findings().iter().any(|finding| finding.is(EndorsementCheck::Root)) {
        stderr.push_str("Of a simulated guest: give its root, --simulator-root FILE.\n");
    }
    Output { stdout: String::new(), coloured: None, stderr, exit: result.exit_code() }
}

/// Without a policy: what is there, whether or not anybody accepts it.
async fn result(subject: &str, root: Option<&Path>) -> Result<AttestationResult, Output> {
    let anchors = look::anchors(root)?;
    match Subject::of(subject)? {
        Subject::Bundle(path) => Ok(look::bundle(&path, None, &anchors, None)?.0),
        Subject::Guest(name) => crate::inspect::look(&name, anchors).await,
        Subject::Policy(path) => {
            let error = std::io::Error::other(format!("{} is a policy", path.display()));
            Err(Output::failed(EXIT_USAGE, &error, "Give HOST:PORT or a bundle."))
        }
    }
}
