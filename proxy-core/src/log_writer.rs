//! Where log lines go: a bounded queue, and a thread that writes them to standard error.
//!
//! A log is never worth a connection. If nobody reads standard error, the queue fills up and further lines are dropped; if
//! it cannot be written (a closed pipe, a full disk), the line is dropped. Both are counted, the count is a metric, and
//! the next line that can be written is preceded by one that states it. Nothing here blocks a caller or panics.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::telemetry::Format;

/// Lines that wait for the writer. A line is at most a few KiB, so this bounds the queue to a few MiB.
const MAX_QUEUED_LINES: usize = 2_048;

/// Lines that could not be written. Process-wide, as standard error is.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);
/// Lines that found the queue full.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Returns how many log lines this process has lost so far.
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64);
    UNWRITTEN.load(Ordering::Relaxed).saturating_add(dropped)
}

/// Writes what is still queued when it is dropped, for at most about a second.
#[must_use = "lines still queued are lost unless this lives as long as the program"]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Starts the writing thread.
pub(crate) fn start(format: Format) -> (NonBlocking, LogGuard) {
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_QUEUED_LINES)
        .thread_name("evident-log")
        .finish(ForgivingWriter::new(io::stderr(), format));
    // Logging is set up once per process; a second counter could not be told from the first.
    let _ = DROPPED.set(writer.error_counter());
    (writer, LogGuard { _worker: worker })
}

/// Counts what its inner writer cannot write, and never returns an error: whoever called would only try to log it.
struct ForgivingWriter<W> {
    inner: W,
    format: Format,
    /// What `lost_lines` returned when it was last stated in the log.
    stated: u64,
}

impl<W: Write> ForgivingWriter<W> {
    fn new(inner: W, format: Format) -> Self {
        ForgivingWriter { inner, format, stated: 0 }
    }

    /// States the loss ahead of the first line that gets through again.
    fn state_loss(&mut self, lost: u64) -> io::Result<()> {
        let count = lost.saturating_sub(self.stated);
        if count == 0 {
            return Ok(());
        }
        match self.format {
            Format::Text => writeln!(self.inner, "WARN evident: {count} log lines were lost before this one"),
            Format::Json => writeln!(
                self.inner,
                "{{\"level\":\"WARN\",\"message\":\"log lines were lost before this one\",\"count\":{count}}}"
            ),
        }?;
        self.stated = lost;
        Ok(())
    }
}

impl<W: Write> Write for ForgivingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.state_loss(lost_lines()).and_then(|()| self.inner.write_all(line));
        if written.is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.inner.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails while `broken`.
    struct Flaky<'a> {
        broken: bool,
        written: &'a mut Vec<u8>,
    }

    impl Write for Flaky<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken { Err(io::ErrorKind::BrokenPipe.into()) } else { self.written.write(bytes) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// One test, because the count is the process's.
    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_stated_once_the_writer_recovers() {
        for (format, statement) in [(Format::Text, "2 log lines were lost"), (Format::Json, "\"count\":2}")] {
            let before = lost_lines();
            let mut written = Vec::new();
            let mut writer = ForgivingWriter::new(Flaky { broken: true, written: &mut written }, format);
            writer.stated = before;
            assert_eq!(writer.write(b"a\n").unwrap(), 2);
            assert_eq!(writer.write(b"b\n").unwrap(), 2);
            assert_eq!(lost_lines() - before, 2);
            writer.inner.broken = false;
            writer.write_all(b"c\n").unwrap();
            writer.write_all(b"d\n").unwrap();
            let text = String::from_utf8(written).unwrap();
            assert!(text.contains(statement) && text.ends_with("c\nd\n"), "{text:?}");
            assert_eq!(text.matches("lost").count(), 1, "{text:?}");
        }
    }
}
