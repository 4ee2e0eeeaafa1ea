//! `evident-client explain`: why a bundle is refused, down to the byte or the log entry, without a network.
//!
//! Everything that the verdict says, and under it for each fatal finding where seen and wanted part; what was booted, where the bundle
//! holds an event log; and which machine or command line would give the launch digest that was seen: from the files that the policy
//! names, or from those behind `--`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};
use ratls::appraise::AttestationResult;
use ratls::findings::{Check, Finding, ReportCheck, Severity};
use ratls::policy::AppraisalPolicy;
use ratls::text::{Untrusted, json_for_people};
use ratls::time::UnixTime;
use serde_json::json;

use super::measure::{MeasureArgs, measure};
use super::parting::details;
use super::{EXIT_USAGE, Output, look, policy};

/// Explain offline why a bundle is refused
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A bundle, as `inspect --save` writes it
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// The policy that refused it
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Judge at this time instead of when the evidence was received
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse_rfc3339)]
    pub at: Option<UnixTime>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The guest's files as `measure` takes them: says which machine would give the launch digest that was seen
    #[arg(last = true, value_name = "MEASURE ARGUMENTS")]
    pub launch: Vec<String>,
}

#[derive(Debug, Parser)]
#[command(name = "explain … --", no_binary_name = true)]
struct Launch {
    #[command(flatten)]
    args: MeasureArgs,
}

pub fn run(args: &ExplainArgs) -> ExitCode {
    explain(args).emit()
}

/// The command. Exit codes are those of `verify`.
pub fn explain(args: &ExplainArgs) -> Output {
    let loaded = match policy::load(&args.policy) {
        Ok(loaded) => loaded,
        Err(error) => return policy::refused(&error),
    };
    let launch = match (args.launch.is_empty(), Launch::try_parse_from(&args.launch)) {
        (true, _) => None,
        (false, Ok(launch)) => Some(launch.args),
        (false, Err(error)) => return Output::failed(EXIT_USAGE, &error, "See evident-client measure --help."),
    };
    let (result, refused) = match look::bundle(&args.bundle, Some(&loaded.policy), &loaded.anchors, args.at) {
        Ok(looked) => looked,
        Err(output) => return output,
    };
    let details = details(&result, refused.as_ref(), &loaded.policy);
    let boot: Vec<String> = look::boot(&result)
        .map(|boot| boot.sentences().into_iter().map(|said| format!("{}: {}", said.subject, said.text)).collect())
        .unwrap_or_default();
    let machine = launch.map(|args| machine(&result, args));
    let near = near(&result, &loaded.policy);
    let stdout = if args.json {
        let details: Vec<_> = details.iter().map(|(check, text)| json!({"id": check.id(), "detail": text})).collect();
        let all = json!({"result": result.to_json(), "details": details, "booted": boot, "launch": machine, "launch_near": near});
        json_for_people(&format!("{all:#}\n"))
    } else {
        text(&result, &details, &boot, near.as_deref(), machine.as_deref())
    };
    Output { stdout, coloured: None, stderr: String::new(), exit: result.exit_code() }
}

fn text(
    result: &AttestationResult,
    details: &[(Check, String)],
    boot: &[String],
    near: Option<&str>,
    machine: Option<&str>,
) -> String {
    let mut out = result.to_string();
    let mut section = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            write!(out, "\n{heading}\n").expect("writing to a string does not fail");
            for line in lines {
                writeln!(out, "  {}", Untrusted(&line)).expect("writing to a string does not fail");
            }
        }
    };
    section("Where it parts", details.iter().map(|(check, detail)| format!("{}  {detail}", check.id())).collect());
    section("What was booted", boot.to_vec());
    section("The launch digest, from the policy's files", near.into_iter().map(str::to_owned).collect());
    section(
        "The launch digest, from these files",
        machine.into_iter().flat_map(str::lines).map(str::to_owned).collect(),
    );
    out
}

/// What would have to differ for a reference of the policy to give the digest that was refused: the machine, or a slip in the command
/// line.
fn near(result: &AttestationResult, policy: &AppraisalPolicy) -> Option<String> {
    let refused = |finding: &Finding| finding.is(ReportCheck::LaunchDigest) && finding.severity() == Severity::Fatal;
    if !result.findings().iter().any(refused) {
        return None;
    }
    let measured = result.evidence()?.report().report().measurement();
    let references = policy.for_profile(result.profile()?)?.references();
    if references.launches().is_empty() {
        return None;
    }
    let found = references.explain(measured).or_else(|| references.explain_line(measured));
    Some(found.unwrap_or_else(|| {
        "neither another machine nor a slip in the command line explains it: a file differs".to_owned()
    }))
}

/// What `measure` says of these files against the digest that was seen.
fn machine(result: &AttestationResult, args: MeasureArgs) -> String {
    let Some(evidence) = result.evidence() else {
        return "nothing of the evidence can be believed, so there is no digest to compare with".to_owned();
    };
    let expect = Some(*evidence.report().report().measurement());
    let measured = measure(&MeasureArgs { expect, json: false, ..args });
    format!("computed      {}{}", measured.stdout, measured.stderr)
}
