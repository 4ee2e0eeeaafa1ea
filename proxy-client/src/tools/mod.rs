//! The commands of evident-client that verify and print, and pass nothing through.
//!
//! Each is a function from its arguments to an [`Output`]; only [`Output::emit`] writes, so that tests call the commands
//! themselves.

pub mod advisories;
pub mod audit;
pub mod diff;
pub mod explain;
pub mod inspect_view;
pub mod learn;
pub mod measure;
pub mod policy;
pub mod study;
pub mod verify;

pub(crate) mod input;
mod look;
mod parting;
mod pieces;
mod reference_files;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use proxy_core::exit::{self, FAILED as EXIT_UNREADABLE, REFUSED as EXIT_REFUSED, USAGE as EXIT_USAGE};

/// What a command would print, and its exit code.
#[must_use]
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    /// The same text with colours, where there is such a thing.
    pub coloured: Option<String>,
    pub stderr: String,
    pub exit: u8,
}

impl Output {
    /// A command that came to nothing: the error for stderr, and what to do next.
    fn failed(exit: u8, error: &dyn std::error::Error, next: &str) -> Output {
        let stderr = format!("evident-client: {}\n{next}\n", proxy_core::exit::chain(error));
        Output { stdout: String::new(), coloured: None, stderr, exit }
    }

    /// Prints it. A reader that went away (`| head`) is no error of ours.
    pub fn emit(self) -> ExitCode {
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        let text = self.coloured.filter(|_| shows_colours()).unwrap_or(self.stdout);
        exit::print("evident-client", &text, self.exit)
    }
}

/// A terminal that understands them, and a user who has not said otherwise (https://no-color.org).
fn shows_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    std::io::stdout().is_terminal() && !unwanted && !dumb
}

/// As [`Output::failed`], for the commands outside this folder.
pub(crate) fn failed(exit: u8, error: &dyn std::error::Error, next: &str) -> Output {
    Output::failed(exit, error, next)
}
