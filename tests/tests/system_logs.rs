//! A fault of the log is no fault of service: whatever standard error is, both programs go on serving, and count the
//! lines that they could not write.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use evident_tests::binaries::{evident_client, evident_proxy};
use evident_tests::curl::curl;
use evident_tests::observe::{metric, until_ready};
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Program, Upstream};

const NAME: &str = "web.example";
/// More than a pipe of 64 KiB and the queue hold together.
const MANY_LINES: usize = 3_000;

/// A standard error, and what keeps it as it is.
struct Sink {
    what: &'static str,
    stderr: Stdio,
    /// The reader's end of a pipe, if it stays open.
    _reader: Option<std::io::PipeReader>,
}

/// Every standard error that cannot be written.
fn sinks() -> Result<Vec<Sink>> {
    let (closed, writer) = std::io::pipe()?;
    drop(closed);
    let (unread, filled) = std::io::pipe()?;
    let full: File = OpenOptions::new().write(true).open("/dev/full")?;
    Ok(vec![
        Sink { what: "a pipe whose reader is gone", stderr: writer.into(), _reader: None },
        Sink { what: "a pipe that nobody reads", stderr: filled.into(), _reader: Some(unread) },
        Sink { what: "a full disk", stderr: full.into(), _reader: None },
    ])
}

/// Peers that speak no TLS; each is one log line of the guest.
fn send_nonsense(address: SocketAddr, count: usize) -> Result<()> {
    for _ in 0..count {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"\x16\x03\x01\x00\x05hello")?;
        // An alert, the end or a reset: what counts is that there is an answer.
        match stream.read(&mut [0; 64]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn loses_lines(admin: SocketAddr) -> Result<()> {
    wait::until("lost lines to be counted", PATIENCE, || {
        Ok((metric(admin, "evident_lost_log_lines_total")? > 0.0).then_some(()))
    })
}

#[test]
fn system_a_guest_whose_log_cannot_be_written_serves_on() -> Result<()> {
    for sink in sinks()? {
        let upstream = Upstream::http()?;
        let mut guest = Guest::in_front_of(upstream.address()).log("debug").stderr(sink.stderr).start()?;
        send_nonsense(guest.address(), MANY_LINES)?;
        let client = Client::of(&guest, &[]).start()?;
        curl()
            .args(["--fail", "--max-time", "10", &format!("http://{}/", client.listen())])
            .run(PATIENCE)?
            .success()?;
        let page = format!("https://{}/", guest.address());
        curl().args(["--fail", "--insecure", "--max-time", "10", &page]).run(PATIENCE)?.success()?;
        loses_lines(guest.admin())?;
        let status = guest.program.terminate(PATIENCE)?;
        ensure!(status.success(), "{}: the guest ended with {status}", sink.what);
    }
    Ok(())
}

#[test]
fn system_a_client_whose_log_cannot_be_written_serves_on() -> Result<()> {
    for sink in sinks()? {
        let upstream = Upstream::http()?;
        let guest = Guest::in_front_of(upstream.address()).start()?;
        let mut client = Client::of(&guest, &[NAME]).log("trace").stderr(sink.stderr).start()?;
        for _ in 0..MANY_LINES {
            let mut stream = TcpStream::connect_timeout(&client.http_proxy(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let request = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 4"), "{}: {answer}", sink.what);
        }
        curl()
            .args(["--fail", "--max-time", "10", &format!("http://{}/", client.listen())])
            .run(PATIENCE)?
            .success()?;
        loses_lines(client.admin())?;
        let status = client.program.terminate(PATIENCE)?;
        ensure!(status.success(), "{}: the client ended with {status}", sink.what);
    }
    Ok(())
}

/// An error message that nobody can read does not change the exit code into that of a panic.
#[test]
fn system_a_start_that_fails_keeps_its_exit_code_without_standard_error() -> Result<()> {
    for program in [evident_proxy()?, evident_client()?] {
        for sink in sinks()? {
            let failed = Program::new(&program).args(["--config", "/nonexistent.toml"]).stderr(sink.stderr);
            let code = failed.run(Duration::from_secs(20))?.code()?;
            ensure!(code == 2, "{} with {}: exit code {code}", program.display(), sink.what);
        }
    }
    Ok(())
}

/// A collector that hangs holds both outputs, and the end of the program must not wait for either.
#[test]
fn system_a_guest_ends_while_nobody_reads_either_of_its_outputs() -> Result<()> {
    let upstream = Upstream::http()?;
    let (_unread, stuck) = std::io::pipe()?;
    let stdout = stuck.try_clone()?;
    let guest = Guest::in_front_of(upstream.address()).log("debug").stderr(stuck);
    let mut guest = guest.changed(|program| program.stdout(stdout)).start()?;
    send_nonsense(guest.address(), MANY_LINES)?;
    loses_lines(guest.admin())?;
    let status = guest.program.terminate(Duration::from_secs(8))?;
    ensure!(status.success(), "the guest ended with {status}");
    Ok(())
}

#[test]
fn system_a_result_that_nobody_reads_keeps_its_exit_code_and_a_full_disk_is_a_failure() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let policy = tempfile::NamedTempFile::new()?;
    guest.policy().names(&[NAME]).write(policy.path())?;
    let policy = policy.path().to_string_lossy().into_owned();
    let commands: [(_, &[&str]); 2] = [
        (evident_client()?, &["policy", "check", &policy]),
        (evident_proxy()?, &["check-config", "--upstream", "127.0.0.1:1"]),
    ];
    for (program, args) in commands {
        let (reader, closed) = std::io::pipe()?;
        drop(reader);
        let full: File = OpenOptions::new().write(true).open("/dev/full")?;
        for (stdout, wanted) in [(Stdio::from(closed), 0), (full.into(), 4)] {
            let done = Program::new(&program).args(args).stdout(stdout).run(PATIENCE)?;
            ensure!(done.code()? == wanted, "{args:?}: {}, not {wanted}: {}", done.status, done.stderr);
        }
    }
    Ok(())
}

#[test]
fn system_a_service_manager_that_reads_nothing_holds_up_no_start() -> Result<()> {
    let upstream = Upstream::http()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let _manager = std::os::unix::net::UnixDatagram::bind(&path)?;
    // As many messages as the socket will hold.
    let filler = std::os::unix::net::UnixDatagram::unbound()?;
    filler.set_nonblocking(true)?;
    while filler.send_to(b"X=1", &path).is_ok() {}
    let guest = Guest::in_front_of(upstream.address());
    let mut guest = guest.changed(move |program| program.env("NOTIFY_SOCKET", &path)).start()?;
    until_ready(guest.admin())?;
    let status = guest.program.terminate(Duration::from_secs(8))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What `ulimit -f` does to a log file: a write beyond it raises SIGXFSZ.
#[test]
fn system_a_log_file_at_its_size_limit_ends_nobody() -> Result<()> {
    let upstream = Upstream::http()?;
    let file = tempfile::NamedTempFile::new()?;
    let log = OpenOptions::new().append(true).open(file.path())?;
    let guest = Guest::in_front_of(upstream.address()).stderr(log).start()?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(guest.program.pid())?);
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit)?;
    send_nonsense(guest.address(), 3)?;
    loses_lines(guest.admin())
}
