//! Standard output and standard error without the panic of `println!`: a reader that went away or a full disk is no
//! reason to end with anything but the exit code that the result has.

use std::io::{self, ErrorKind, Write};

/// Writes a result. A reader that closed its end has seen what it wanted; any other failure is the caller's to report,
/// because half a file must not look like a whole one.
pub fn write_result(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes one message for a person. If standard error cannot be written, nobody is there to be told.
pub fn write_message(text: &str) {
    let mut output = io::stderr().lock();
    let _ = writeln!(output, "{text}");
}
