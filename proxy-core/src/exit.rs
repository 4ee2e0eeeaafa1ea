//! With which code does a program of this project end, and in what words?

use std::error::Error;
use std::process::ExitCode;

use crate::console;

/// Evidence, or an audit log, is not what it claims to be.
pub const NOT_AUTHENTIC: u8 = 1;
/// Usage, configuration or policy file error: trying again does not help, and systemd does not.
pub const USAGE: u8 = 2;
/// Read and understood, and not what is accepted.
pub const REFUSED: u8 = 3;
/// Could not be reached, read or written.
pub const FAILED: u8 = 4;

/// Names an error and its causes on standard error.
pub fn fail(program: &str, error: &dyn Error, code: u8) -> ExitCode {
    console::write_message(&format!("{program}: {}", chain(error)));
    ExitCode::from(code)
}

/// Prints a result and ends with `code`, or with [`FAILED`] if it could not be written.
pub fn print(program: &str, text: &str, code: u8) -> ExitCode {
    match console::write_result(text) {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            console::write_message(&format!("{program}: the result could not be written to standard output: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Joins an error and its causes in one line. A cause whose text is part of what stands there already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let cause = Layer { text: "no such file", source: None };
        let middle = Layer { text: "cannot read: no such file", source: Some(Box::new(cause)) };
        let top = Layer { text: "no policy", source: Some(Box::new(middle)) };
        assert_eq!(chain(&top), "no policy: cannot read: no such file");
    }
}
