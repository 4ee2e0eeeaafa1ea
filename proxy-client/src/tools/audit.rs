//! `evident-client audit verify`: an audit log, re-checked offline, for people and as JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use ratls::digest::{HexError, Sha256Digest};
use ratls::text::json_for_people;
use serde_json::json;

use super::{EXIT_REFUSED, EXIT_UNREADABLE, Output};
use crate::audit::{self, Kind, MAX_PROBLEMS, Report};

/// `evident-client audit …`
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Check the chain of an audit log, and make each verdict again from its evidence at its time
    Verify(VerifyLogArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 everything holds, 1 something was changed, 3 a verdict comes out otherwise, 4 cannot be read."
)]
pub struct VerifyLogArgs {
    /// The folder that [audit] names
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The last line must have this SHA-256, noted when it was written: shows that none was cut off
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub head: Option<Sha256Digest>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit log in {}", folder.display())]
struct Unreadable {
    folder: PathBuf,
    source: std::io::Error,
}

fn sha256(text: &str) -> Result<Sha256Digest, HexError> {
    Sha256Digest::from_hex(text)
}

pub fn run(command: AuditCommand) -> ExitCode {
    match command {
        AuditCommand::Verify(args) => verify(&args).emit(),
    }
}

/// The command.
pub fn verify(args: &VerifyLogArgs) -> Output {
    let report = match audit::check(&args.folder) {
        Ok(report) => report,
        Err(error) => {
            return Output::failed(
                EXIT_UNREADABLE,
                &Unreadable { folder: args.folder.clone(), source: error },
                "Give the folder that holds audit.jsonl.",
            );
        }
    };
    let cut = args.head.is_some() && report.head != args.head;
    let exit = match () {
        () if cut || report.problems.iter().any(|problem| problem.kind == Kind::Tampered) => {
            proxy_core::exit::NOT_AUTHENTIC
        }
        () if !report.problems.is_empty() => EXIT_REFUSED,
        () => 0,
    };
    let stdout = if args.json { as_json(&report, cut) } else { text(&report, cut) };
    Output { stdout, coloured: None, stderr: String::new(), exit }
}

fn text(report: &Report, cut: bool) -> String {
    let mut out = String::new();
    if report.simulated > 0 {
        out.push_str(&format!("{}: {} of the verdicts\n", ratls::appraise::SIMULATED, report.simulated));
    }
    out.push_str(&format!(
        "{} verdicts made again: {} accepted, {} refused\n",
        report.lines, report.accepted, report.refused
    ));
    if let Some(first) = report.first.filter(|first| *first > 0) {
        out.push_str(&format!("the log begins at line number {first}: what stood before it was rotated away\n"));
    }
    if report.witnessed > 0 {
        out.push_str(&format!(
            "{} of them rest on a TPM's answer that only this log witnessed; it cannot be asked again\n",
            report.witnessed
        ));
    }
    for problem in &report.problems {
        let word = match problem.kind {
            Kind::Tampered => "TAMPERED",
            Kind::Differs => "DIFFERS",
        };
        out.push_str(&format!("{word}  {}:{}: {}\n", problem.file, problem.line, problem.what));
    }
    if report.problems.len() == MAX_PROBLEMS {
        out.push_str("more problems are not listed\n");
    }
    if cut {
        out.push_str(
            "TAMPERED  the last line is not the one that was noted: lines are missing, or others were put there\n",
        );
    }
    match &report.head {
        Some(head) => out.push_str(&format!("head {head}\n")),
        None => out.push_str("the log is empty\n"),
    }
    out
}

fn as_json(report: &Report, cut: bool) -> String {
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| {
            let kind = match problem.kind {
                Kind::Tampered => "tampered",
                Kind::Differs => "differs",
            };
            json!({"file": problem.file, "line": problem.line, "kind": kind, "what": problem.what})
        })
        .collect();
    let report = json!({
        "lines": report.lines,
        "accepted": report.accepted,
        "refused": report.refused,
        "simulated": report.simulated,
        "ak_witnessed": report.witnessed,
        "first": report.first,
        "head": report.head,
        "head_as_noted": !cut,
        "problems": problems,
    });
    json_for_people(&format!("{report:#}\n"))
}
