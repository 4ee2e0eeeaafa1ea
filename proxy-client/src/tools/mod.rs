//! The commands of evident-client that verify and print, and pass nothing through.
//!
//! Each is a function from its arguments to an [`Output`]; only [`Output::emit`] writes, so that tests call the commands
//! themselves.

pub mod inspect_view;
pub mod measure;
pub mod policy;
pub mod verify;

mod input;

use std::io::Write;
use std::process::ExitCode;

/// Usage, configuration or policy file error.
const EXIT_USAGE: u8 = 2;
/// Read and understood, and not what is accepted.
const EXIT_REFUSED: u8 = 3;
/// Could not be reached or read.
const EXIT_UNREADABLE: u8 = 4;

/// What a command would print, and its exit code.
#[must_use]
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub exit: u8,
}

impl Output {
    /// A command that came to nothing: the error for stderr, and what to do next.
    fn failed(exit: u8, error: &dyn std::error::Error, next: &str) -> Output {
        let mut stderr = format!("evident-client: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            stderr.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Output { stdout: String::new(), stderr: format!("{stderr}\n{next}\n"), exit }
    }

    /// Prints it. A reader that went away (`| head`) is no error of ours.
    pub fn emit(self) -> ExitCode {
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        let _ = std::io::stdout().write_all(self.stdout.as_bytes());
        ExitCode::from(self.exit)
    }
}

/// As [`Output::failed`], for the commands outside this folder.
pub(crate) fn failed(exit: u8, error: &dyn std::error::Error, next: &str) -> Output {
    Output::failed(exit, error, next)
}
