//! Programs that a test starts, watches and ends.
//!
//! A [`Running`] owns its program: dropping it ends the program and every descendant, by process id. The programs stay in
//! the test's process group, so that the runner's own time limit and Ctrl-C reach them too. Output goes to files, so a
//! program never blocks on a pipe that nobody reads.

use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait;

/// How much of a log an error shows.
const TAIL_BYTES: usize = 6_000;
/// What a program gets between SIGTERM and SIGKILL when it is dropped.
const GRACE: Duration = Duration::from_secs(3);

/// A program to start; the builder of [`Running`] and [`Finished`].
pub struct Program {
    name: String,
    command: Command,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

impl Program {
    pub fn new(path: impl AsRef<OsStr>) -> Program {
        let path = path.as_ref();
        let name = Path::new(path).file_name().unwrap_or(path).to_string_lossy().into_owned();
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        Program { name, command, stdout: None, stderr: None }
    }

    /// What errors call it; otherwise the file name.
    pub fn named(mut self, name: &str) -> Program {
        self.name = name.to_owned();
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.command.arg(arg);
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Program {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    pub fn without_env(mut self, key: &str) -> Program {
        self.command.env_remove(key);
        self
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Program {
        self.command.current_dir(dir);
        self
    }

    /// Writes its standard output there instead of to the file that [`Running::stdout`] reads.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Program {
        self.stdout = Some(stdout.into());
        self
    }

    /// Writes its standard error there instead of to the file that [`Running::stderr`] reads.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Program {
        self.stderr = Some(stderr.into());
        self
    }

    /// The command as one would type it, without the paths before the program's and the files' names.
    pub fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let shown = words.map(|word| {
            let path = Path::new(word);
            let short = path.file_name().filter(|_| path.is_absolute()).unwrap_or(word);
            short.to_string_lossy().into_owned()
        });
        shown.filter(|word| word != "-u").collect::<Vec<_>>().join(" ")
    }

    pub fn spawn(mut self) -> Result<Running> {
        let logs = tempfile::Builder::new().prefix("evident-log-").tempdir().context("directory for logs")?;
        let own = File::create(logs.path().join("stdout"))?;
        let stdout = self.stdout.unwrap_or_else(|| own.into());
        let own = File::create(logs.path().join("stderr"))?;
        let stderr = self.stderr.unwrap_or_else(|| own.into());
        let child =
            self.command.stdout(stdout).stderr(stderr).spawn().with_context(|| format!("starting {}", self.name))?;
        Ok(Running { name: self.name, child, logs })
    }

    /// Runs it to its end; an error if that is not within the deadline. A status other than 0 is not an error here.
    pub fn run(self, deadline: Duration) -> Result<Finished> {
        let mut running = self.spawn()?;
        let begun = Instant::now();
        let status = running.wait(deadline)?;
        Ok(Finished {
            name: running.name.clone(),
            status,
            stdout: running.stdout(),
            stderr: running.stderr(),
            took: begun.elapsed(),
        })
    }
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Finished {
    name: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Finished {
    /// The exit code; an error if a signal ended it.
    pub fn code(&self) -> Result<i32> {
        self.status.code().with_context(|| format!("{} was ended by a signal\n{}", self.name, self.output()))
    }

    /// What it printed, if it exited 0.
    pub fn success(self) -> Result<String> {
        ensure!(self.status.success(), "{} ended with {}\n{}", self.name, self.status, self.output());
        Ok(self.stdout)
    }

    fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", tail(&self.stdout), tail(&self.stderr))
    }
}

/// A program that runs. Dropping it ends it.
pub struct Running {
    name: String,
    child: Child,
    logs: TempDir,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        read_lossy(&self.logs.path().join("stdout"))
    }

    pub fn stderr(&self) -> String {
        read_lossy(&self.logs.path().join("stderr"))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(pid_of(self.child.id())?, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Whether it has ended, without waiting.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking after {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        let waited = wait::until(&what, deadline, || Ok(child.try_wait()?));
        waited.with_context(|| self.logs_for_an_error())
    }

    /// SIGTERM, then its end.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(deadline)
    }

    /// SIGKILL, then its end: a crash, as far as its peers can tell.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Waits until somebody listens on the port, and fails at once if this program ends before.
    pub fn wait_for_port(&mut self, address: SocketAddr, deadline: Duration) -> Result<()> {
        let what = format!("{} to listen on {address}", self.name);
        self.watch(&what, deadline, |_| wait::listening(address).then_some(()))
    }

    /// Waits until its stderr or stdout holds `text`.
    pub fn wait_for_output(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let what = format!("{} to print {text:?}", self.name);
        self.watch(&what, deadline, |this| (this.stderr().contains(text) || this.stdout().contains(text)).then_some(()))
    }

    /// Asks until there is an answer, and fails at once if this program ends before.
    pub fn watch<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut ask: impl FnMut(&Running) -> Option<T>,
    ) -> Result<T> {
        let answer = wait::until(what, deadline, || {
            if let Some(answer) = ask(self) {
                return Ok(Some(answer));
            }
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status} while waiting for {what}", self.name);
            }
            Ok(None)
        });
        answer.with_context(|| self.logs_for_an_error())
    }

    fn logs_for_an_error(&self) -> String {
        format!("{}\n--- stdout\n{}\n--- stderr\n{}\n---", self.name, tail(&self.stdout()), tail(&self.stderr()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let failed = !matches!(self.child.try_wait(), Ok(Some(status)) if status.success());
        // A test that returns an error does not panic; nextest shows this only where the test failed.
        if failed && (std::thread::panicking() || std::env::var_os("NEXTEST").is_some()) {
            eprintln!("--- log of {}", self.logs_for_an_error());
        }
        // Descendants are noted first: an orphan has another parent and would not be found.
        let descendants = descendants(self.child.id());
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal(Signal::TERM);
            let end = Instant::now() + GRACE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for (pid, started) in descendants {
            if start_time(pid) == Some(started)
                && let Ok(pid) = pid_of(pid)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Every living descendant with its start time, which tells it from a later process of the same number.
fn descendants(root: u32) -> Vec<(u32, u64)> {
    let processes: Vec<(u32, u32, u64)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(parent, started)| (pid, parent, started)))
        .collect();
    let mut found: Vec<(u32, u64)> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for &(pid, _, started) in processes.iter().filter(|(_, its_parent, _)| *its_parent == parent) {
            found.push((pid, started));
            parents.push(pid);
        }
    }
    found
}

fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|(_, started)| started)
}

/// Parent and start time from /proc/PID/stat (proc(5): fields 4 and 22, counted after the command in parentheses).
fn stat(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some((parent, started))
}

fn pid_of(pid: u32) -> Result<Pid> {
    let pid = i32::try_from(pid).context("a process id")?;
    Pid::from_raw(pid).context("process id 0")
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn gives_output_and_code_of_a_program_that_ends() {
        let done = Program::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).run(wait::PATIENCE).unwrap();
        assert_eq!((done.code().unwrap(), done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", "err\n"));
        assert!(done.success().unwrap_err().to_string().contains("err"));
    }

    #[test]
    fn ends_a_program_that_outstays_its_deadline() {
        let error = Program::new("sleep").arg("60").run(Duration::from_millis(100)).unwrap_err();
        assert!(format!("{error:#}").contains("the end of sleep"), "{error:#}");
    }

    #[test]
    fn dropping_ends_the_program_and_its_descendants() {
        let mut shell = Program::new("sh").args(["-c", "sleep 600 & echo $!; wait"]).spawn().unwrap();
        let inner: u32 = shell
            .watch("the inner pid", wait::PATIENCE, |shell| shell.stdout().strip_suffix('\n')?.parse().ok())
            .unwrap();
        let outer = shell.pid();
        assert!(alive(inner) && alive(outer));
        drop(shell);
        wait::until("both to be gone", wait::PATIENCE, || Ok((!alive(inner) && !alive(outer)).then_some(()))).unwrap();
    }

    #[test]
    fn says_what_a_program_printed_before_it_ended_too_early() {
        let mut running = Program::new("sh").args(["-c", "echo no such thing >&2; exit 2"]).spawn().unwrap();
        let error = running.wait_for_port("127.0.0.1:1".parse().unwrap(), wait::PATIENCE).unwrap_err();
        assert!(format!("{error:#}").contains("no such thing"), "{error:#}");
    }
}
