//! `evident-client explain`: why a bundle is refused, down to the byte or the log entry, without a network.
//!
//! Everything that the verdict says, and under it for each fatal finding where seen and wanted part; what was booted, where the bundle
//! holds an event log; and, with the guest's files behind `--`, which machine would give the launch digest that was seen.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};
use ratls::appraise::{AttestationResult, Finding, Severity};
use ratls::time::UnixTime;
use ratls::verify::VerifyError;
use serde_json::json;

use super::measure::{MeasureArgs, measure};
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
    let details = details(&result, refused.as_ref());
    let boot: Vec<String> = look::boot(&result)
        .map(|boot| boot.sentences().into_iter().map(|said| format!("{}: {}", said.subject, said.text)).collect())
        .unwrap_or_default();
    let machine = launch.map(|args| machine(&result, args));
    let stdout = if args.json {
        let details: Vec<_> = details.iter().map(|(id, text)| json!({"id": id, "detail": text})).collect();
        let all = json!({"result": result.to_json(), "details": details, "booted": boot, "launch": machine});
        format!("{all:#}\n")
    } else {
        text(&result, &details, &boot, machine.as_deref())
    };
    Output { stdout, coloured: None, stderr: String::new(), exit: result.exit_code() }
}

fn text(result: &AttestationResult, details: &[(&str, String)], boot: &[String], machine: Option<&str>) -> String {
    let mut out = result.to_string();
    let mut section = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            write!(out, "\n{heading}\n").expect("writing to a string does not fail");
            for line in lines {
                writeln!(out, "  {}", printable(&line)).expect("writing to a string does not fail");
            }
        }
    };
    section("Where it parts", details.iter().map(|(id, detail)| format!("{id}  {detail}")).collect());
    section("What was booted", boot.to_vec());
    section(
        "The launch digest, from these files",
        machine.into_iter().flat_map(str::lines).map(str::to_owned).collect(),
    );
    out
}

/// For each fatal finding whose values can be laid side by side, where they part.
fn details(result: &AttestationResult, refused: Option<&VerifyError>) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(VerifyError::ReportData { seen, wanted }) = refused
        && let Some(parts) = parting(seen, wanted)
    {
        all.push(("R_FRESH", format!("REPORT_DATA {parts}")));
    }
    for finding in result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal) {
        all.extend(nearest(finding).map(|detail| (finding.id(), detail)));
    }
    all
}

/// Against the accepted value that is nearest.
fn nearest(finding: &Finding) -> Option<String> {
    let wanted = finding.wanted().split(" or ").filter_map(|wanted| Some((differing(finding.seen(), wanted)?, wanted)));
    let (_, wanted) = wanted.min_by_key(|(count, _)| *count)?;
    Some(format!("{} {}", finding.subject(), parting(finding.seen(), wanted)?))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    (text.len() >= 16).then(|| hex::decode(text).ok())?
}

fn differing(seen: &str, wanted: &str) -> Option<usize> {
    let (seen, wanted) = (bytes(seen)?, bytes(wanted)?);
    (seen.len() == wanted.len()).then(|| seen.iter().zip(&wanted).filter(|(a, b)| a != b).count())
}

/// `differs first at byte 3: seen 0a, wanted 0b; 1 of 48 bytes differ`.
fn parting(seen: &str, wanted: &str) -> Option<String> {
    let count = differing(seen, wanted).filter(|count| *count > 0)?;
    let (seen, wanted) = (bytes(seen)?, bytes(wanted)?);
    let (at, (a, b)) = seen.iter().zip(&wanted).enumerate().find(|(_, (a, b))| a != b)?;
    let of = seen.len();
    let hint = match count * 2 > of {
        true => ", as between digests of different things",
        false => ": a slip of the pen?",
    };
    Some(format!("differs first at byte {at}: seen {a:02x}, wanted {b:02x}; {count} of {of} bytes differ{hint}"))
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

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_laid_side_by_side() {
        let (seen, wanted) = ("00".repeat(47) + "0a", "00".repeat(48));
        let said = "differs first at byte 47: seen 0a, wanted 00; 1 of 48 bytes differ: a slip of the pen?";
        assert_eq!(parting(&seen, &wanted).unwrap(), said);
        assert!(parting(&"aa".repeat(48), &wanted).unwrap().ends_with("as between digests of different things"));
    }

    #[test]
    fn what_is_no_two_values_of_one_length_is_not_compared() {
        for (seen, wanted) in
            [("2", "0"), ("00", "01"), (&"00".repeat(48)[..], &"00".repeat(32)[..]), ("text", "other")]
        {
            assert_eq!(parting(seen, wanted), None, "{seen} {wanted}");
        }
        let same = "00".repeat(48);
        assert_eq!(parting(&same, &same), None);
    }
}
