//! A result as every command shows it: for people, or the same as JSON; and as a file of HTML where one is asked for.

use std::path::Path;

use ratls::appraise::{AttestationResult, Paint, html};
use ratls::text::json_for_people;

use super::{EXIT_UNREADABLE, Output};

/// Exit code 0, 1 or 3, by the result alone.
pub fn output(result: &AttestationResult, json: bool) -> Output {
    let (stdout, coloured) = if json {
        let text = serde_json::to_string_pretty(&result.to_json()).expect("JSON values print");
        (json_for_people(&text) + "\n", None)
    } else {
        (result.to_string(), Some(result.text(Paint::Colour)))
    };
    Output { stdout, coloured, stderr: String::new(), exit: result.exit_code() }
}

/// The same, and a report in `file` for somebody who looks with a browser. `subject` says what was looked at.
pub fn output_with_html(result: &AttestationResult, json: bool, file: Option<&Path>, subject: &str) -> Output {
    let mut output = output(result, json);
    let Some(file) = file else { return output };
    if let Err(error) = std::fs::write(file, html::report(result, subject)) {
        let next = format!("The report could not be written to {}.", file.display());
        return Output::failed(EXIT_UNREADABLE, &error, &next);
    }
    output.stderr.push_str(&format!("wrote the report to {}\n", file.display()));
    output
}
