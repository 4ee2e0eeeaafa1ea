//! A result as every command prints it: for people, or the same as JSON.

use ratls::appraise::AttestationResult;

use super::Output;

/// Exit code 0, 1 or 3, by the result alone.
pub fn output(result: &AttestationResult, json: bool) -> Output {
    let stdout = if json {
        let mut text = serde_json::to_string_pretty(&result.to_json()).expect("JSON values print");
        text.push('\n');
        text
    } else {
        result.to_string()
    };
    Output { stdout, stderr: String::new(), exit: result.exit_code() }
}
