//! Where do log lines go? Into a bounded queue, which a thread of its own writes to standard error.
//!
//! A log is never worth a connection. If nobody reads standard error, the queue fills up and further lines are dropped; if
//! it cannot be written (a closed pipe, a full disk), the line is dropped. Both are counted, the count is a metric, and the
//! log states it as soon as it can be written again. Nothing here blocks a caller or panics.
//!
//! Not tracing-appender: its guard prints to standard output when the queue is full at the end, which is where a collector
//! that hangs holds both, and its bound counts lines and not bytes.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What may wait to be written: some 1,500 lines. As much again may be in the hands of the thread that writes.
const MAX_QUEUED: usize = 256 * 1024;
/// Before a sink that is full for the moment (a pipe set to non-blocking by whoever shares it) is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// How long the end of the program waits for its last lines to be taken.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that were lost. Process-wide, as standard error is.
static LOST: LostLines = LostLines(AtomicU64::new(0));

/// Returns how many log lines this process has lost so far.
pub fn lost_lines() -> u64 {
    LOST.total()
}

/// Holds the log open. Dropping it waits, for a second at most, until the lines still queued are written.
#[must_use = "lines still queued are lost unless this lives as long as the program"]
pub struct LogGuard(LogQueue);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Starts the writing thread.
pub(crate) fn start() -> io::Result<(LogQueue, LogGuard)> {
    let queue = LogQueue::start(standard_error(), &LOST, |lines| {
        tracing::warn!(lines, "log lines were lost: standard error did not take them");
    })?;
    Ok((queue.clone(), LogGuard(queue)))
}

/// A handle of its own: whoever holds the lock of `std::io::stderr` while a write is stuck would stop the others.
fn standard_error() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stderr()),
    }
}

struct LostLines(AtomicU64);

impl LostLines {
    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where log lines go. Clones share the queue.
#[derive(Clone)]
pub(crate) struct LogQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    lost: &'static LostLines,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    lines: u64,
    /// Lines dropped since this was last reported in the log.
    unreported: u64,
    /// Whether the thread holds lines that are not written yet.
    writing: bool,
    /// The last write failed. A sink that fails reports no loss until a later line has gone through: the report would be lost
    /// too, and would have to be reported.
    failing: bool,
}

impl State {
    fn owes_report(&self) -> bool {
        !self.failing && self.unreported > 0
    }
}

impl LogQueue {
    /// Starts the thread that writes to `sink`. `report` logs how many lines were lost; it runs on that thread, and what it
    /// logs comes back through this queue.
    fn start(
        sink: impl Write + Send + 'static,
        lost: &'static LostLines,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = LogQueue(Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            lost,
        }));
        let thread = queue.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || thread.write_out(sink, report))?;
        Ok(queue)
    }

    /// Takes a line, or drops it where too much is waiting. Never blocks on the sink.
    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes.len() + line.len() > MAX_QUEUED {
            state.unreported += 1;
            self.0.lost.add(1);
            return;
        }
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, at most so long.
    fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.state();
        while state.writing || !state.bytes.is_empty() || state.owes_report() {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            state = match self.0.written.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn write_out(&self, mut sink: impl Write, report: impl Fn(u64)) {
        loop {
            let (bytes, lines, lost) = self.take();
            if lost > 0 {
                report(lost);
            }
            let written = write_patiently(&mut sink, &bytes);
            let mut state = self.state();
            state.failing = written < bytes.len();
            if state.failing {
                // A line of which a part went out is lost too.
                let gone = bytes.get(..written).map_or(0, line_ends);
                let left = lines.saturating_sub(gone);
                state.unreported += left;
                self.0.lost.add(left);
            }
            state.writing = false;
            drop(state);
            self.0.written.notify_all();
        }
    }

    /// Waits for lines and takes them all; with them how many lost ones are to be reported now.
    fn take(&self) -> (Vec<u8>, u64, u64) {
        let mut state = self.state();
        while state.bytes.is_empty() && !state.owes_report() {
            state = self.0.filled.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.writing = true;
        let lost = if state.owes_report() { std::mem::take(&mut state.unreported) } else { 0 };
        // Not kept: after a burst the room is given back.
        (std::mem::take(&mut state.bytes), std::mem::take(&mut state.lines), lost)
    }

    /// Each statement under the lock leaves the queue whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One event of the log, whole: the subscriber formats it first and writes it at once. Never fails, because the subscriber
/// would complain on standard error, where writing is what failed.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as much as the sink takes, and says how much that was. A sink that takes nothing for the moment is waited for.
fn write_patiently(sink: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    written
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').map(|_| 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const SOON: Duration = Duration::from_secs(10);

    /// What a sink does with the next write: takes so many bytes, or fails.
    type Step = Result<usize, ErrorKind>;

    /// A sink that waits to be told what to do with each write, and shows what it took.
    struct Scripted {
        steps: Receiver<Step>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without a script any more, it takes everything.
            let most = self.steps.recv().unwrap_or(Ok(usize::MAX))?;
            let taken = &bytes[..bytes.len().min(most)];
            self.taken.lock().unwrap().extend_from_slice(taken);
            Ok(taken.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        queue: LogQueue,
        lost: &'static LostLines,
        steps: Sender<Step>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    fn scene() -> Scene {
        let (steps, receiver) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let lost: &'static LostLines = Box::leak(Box::new(LostLines(AtomicU64::new(0))));
        let sink = Scripted { steps: receiver, taken: taken.clone() };
        // As in the program, the report goes through the queue that it is about.
        let back: Arc<std::sync::OnceLock<LogQueue>> = Arc::default();
        let reports = back.clone();
        let report = move |lost: u64| {
            if let Some(queue) = reports.get() {
                queue.push(format!("lost {lost}\n").as_bytes());
            }
        };
        let queue = LogQueue::start(sink, lost, report).unwrap();
        assert!(back.set(queue.clone()).is_ok());
        Scene { queue, lost, steps, taken }
    }

    impl Scene {
        /// Lets the sink take everything from now on.
        fn finish(self) -> String {
            drop(self.steps);
            self.queue.flush(SOON);
            String::from_utf8(self.taken.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_stalls_nobody_and_every_line_is_written_or_counted() {
        let scene = scene();
        let begun = Instant::now();
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..10_000 {
            scene.queue.push(line.as_bytes());
        }
        assert!(begun.elapsed() < SOON, "pushing waited for the sink");
        assert!(scene.queue.state().bytes.len() <= MAX_QUEUED);
        let lost = scene.lost.total();
        assert!(lost > 7_000, "{lost}");
        let text = scene.finish();
        assert_eq!(text.lines().filter(|line| line.starts_with('x')).count() as u64 + lost, 10_000);
        // In one report or in several: the thread may have begun late.
        let reported = text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok());
        assert_eq!(reported.sum::<u64>(), lost, "the loss is not reported");
    }

    #[test]
    fn a_sink_that_fails_loses_its_lines_and_says_so_once_it_works_again() {
        let scene = scene();
        for step in [Err(ErrorKind::BrokenPipe), Err(ErrorKind::StorageFull)] {
            scene.steps.send(step).unwrap();
            scene.queue.push(b"gone\n");
            scene.queue.flush(SOON);
        }
        assert_eq!(scene.lost.total(), 2);
        scene.queue.push(b"after\n");
        let text = scene.finish();
        assert_eq!(text, "after\nlost 2\n");
    }

    #[test]
    fn a_sink_that_never_works_is_tried_once_a_line_and_not_for_ever() {
        let scene = scene();
        for _ in 0..3 {
            scene.steps.send(Err(ErrorKind::BrokenPipe)).unwrap();
            scene.queue.push(b"gone\n");
            scene.queue.flush(SOON);
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(scene.lost.total(), 3, "the report of a loss was lost and reported in turn");
    }

    #[test]
    fn short_writes_and_a_pipe_that_is_full_for_the_moment_lose_nothing() {
        let scene = scene();
        for step in [Ok(3), Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock), Ok(1)] {
            scene.steps.send(step).unwrap();
        }
        scene.queue.push(b"a whole line\n");
        let lost = scene.lost;
        assert_eq!((scene.finish().as_str(), lost.total()), ("a whole line\n", 0));
    }

    #[test]
    fn a_line_that_was_cut_is_lost_and_the_lines_before_it_are_not() {
        let scene = scene();
        // Both lines in one write: the thread is held up by a first one.
        scene.queue.push(b"first\n");
        std::thread::sleep(Duration::from_millis(50));
        scene.queue.push(b"whole\n");
        scene.queue.push(b"cut\n");
        for step in [Ok(6), Ok(8), Err(ErrorKind::StorageFull)] {
            scene.steps.send(step).unwrap();
        }
        scene.queue.flush(SOON);
        assert_eq!(scene.lost.total(), 1);
    }

    #[test]
    fn the_end_of_the_program_waits_for_a_stuck_sink_only_so_long() {
        let scene = scene();
        scene.queue.push(b"never\n");
        let begun = Instant::now();
        scene.queue.flush(Duration::from_millis(100));
        assert!(begun.elapsed() >= Duration::from_millis(100) && begun.elapsed() < SOON);
    }
}
