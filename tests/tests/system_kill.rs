//! SIGKILL in mid-stream, of each of the four: upstream, guest proxy, client proxy, application. The others end cleanly and
//! soon, nothing that was cut short passes as whole, and the next connection works with what lived as it was.
//!
//! `apps_crashes.rs` has the ends of a raw download; here are HTTP by every way in, uploads, and what the proxies' own
//! deaths look like to an application.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evident_tests::client::inspect;
use evident_tests::curl::{Way, curl};
use evident_tests::observe::until_metric;
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Program, Running, Upstream, python};

const NAME: &str = "web.example";
/// From a death to the end of everything that hung on it.
const SOON: Duration = Duration::from_secs(5);
const OPEN_TUNNELS: &str = "evident_open_tunnels";

/// A server process that can be killed: `/length` and `/chunked` are responses that go on for a minute.
const SERVER: &str = r#"
import socket, sys, threading, time
def serve(stream):
    lines = stream.makefile("rb")
    while line := lines.readline():
        path = line.split()[1]
        while lines.readline() not in (b"\r\n", b""): pass
        if path == b"/length":
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
            for _ in range(30000): stream.sendall(b"x" * 1000); time.sleep(0.002)
        elif path == b"/chunked":
            stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(30000): stream.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n"); time.sleep(0.002)
            stream.sendall(b"0\r\n\r\n")
        else:
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

fn server(address: SocketAddr) -> Result<Running> {
    let server = Program::new(python::python()?).named("upstream").args(["-c", SERVER]).arg(address.port().to_string());
    let mut server = server.spawn()?;
    server.wait_for_port(address, PATIENCE)?;
    Ok(server)
}

/// Upstream process, guest and client, and downloads by every way that are under way.
struct Stage {
    upstream_at: SocketAddr,
    upstream: Running,
    guest: Guest,
    client: Client,
    dir: tempfile::TempDir,
}

impl Stage {
    fn start() -> Result<Stage> {
        let upstream_at = free_addr()?;
        let upstream = server(upstream_at)?;
        let guest = Guest::in_front_of(upstream_at).start()?;
        let client = Client::of(&guest, &[NAME]).start()?;
        Ok(Stage { upstream_at, upstream, guest, client, dir: tempfile::tempdir()? })
    }

    /// One download by each way in and framing, each past its first bytes.
    fn downloads(&self) -> Result<Vec<(String, Running)>> {
        let mut begun = Vec::new();
        for path in ["/length", "/chunked"] {
            for way in Way::all(&self.client, NAME) {
                begun.push(self.begin(format!("{path} by {}", way.name), |file| way.download(path, file))?);
            }
        }
        begun.into_iter().map(in_mid_stream).collect()
    }

    /// The same for ordinary HTTPS clients, which no client proxy serves.
    fn plain_downloads(&self) -> Result<Vec<(String, Running)>> {
        let mut begun = Vec::new();
        for path in ["/length", "/chunked"] {
            for http in ["--http1.1", "--http2"] {
                let url = format!("https://{}{path}", self.guest.address());
                let plain = |file: &Path| curl().args(["--insecure", http, &url, "--output"]).arg(file);
                begun.push(self.begin(format!("{path} by plain {http}"), plain)?);
            }
        }
        begun.into_iter().map(in_mid_stream).collect()
    }

    fn begin(&self, name: String, curl: impl FnOnce(&Path) -> Program) -> Result<Begun> {
        let file = self.dir.path().join(name.replace(['/', ' '], "_"));
        let curl = curl(&file).spawn()?;
        Ok(Begun { name, file, curl })
    }

    fn hello_by_every_way(&self) -> Result<()> {
        for way in Way::all(&self.client, NAME) {
            let hello = way.curl("/hello").run(PATIENCE)?.success().context("the next request")?;
            ensure!(hello == "hello", "by {}: {hello:?}", way.name);
        }
        Ok(())
    }
}

struct Begun {
    name: String,
    file: std::path::PathBuf,
    curl: Running,
}

fn in_mid_stream(begun: Begun) -> Result<(String, Running)> {
    let Begun { name, file, mut curl } = begun;
    let length = |_: &Running| std::fs::metadata(&file).ok().filter(|file| file.len() > 10_000).map(|_| ());
    curl.watch(&format!("{name} to begin"), PATIENCE, length)?;
    Ok((name, curl))
}

/// Every download has failed, soon, and knows that it did: 18 is "partial file", 52 "nothing received", 56 "failure when
/// receiving", 92 "HTTP/2 stream not closed cleanly".
fn all_know(downloads: Vec<(String, Running)>) -> Result<()> {
    let end = Instant::now() + SOON;
    for (name, mut curl) in downloads {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let status = curl.wait(left).with_context(|| name.clone())?;
        let code = status.code().with_context(|| name.clone())?;
        ensure!([18, 52, 56, 92].contains(&code), "{name}: curl ended with {code}: {}", curl.stderr());
    }
    Ok(())
}

#[test]
fn system_a_killed_upstream_never_leaves_a_whole_response() -> Result<()> {
    let mut stage = Stage::start()?;
    let mut downloads = stage.downloads()?;
    downloads.extend(stage.plain_downloads()?);
    stage.upstream.kill()?;
    all_know(downloads)?;
    until_metric(stage.guest.admin(), OPEN_TUNNELS, 0.0)?;
    until_metric(stage.client.admin(), OPEN_TUNNELS, 0.0)?;
    let refused =
        Way::all(&stage.client, NAME)[3].curl("/hello").args(["--write-out", "%{http_code}"]).run(PATIENCE)?;
    ensure!(refused.stdout.contains("upstream") && refused.stdout.ends_with("502"), "{}", refused.stdout);
    stage.upstream = server(stage.upstream_at)?;
    stage.hello_by_every_way()
}

#[test]
fn system_a_killed_guest_never_leaves_a_whole_response_and_its_successor_is_accepted() -> Result<()> {
    let mut stage = Stage::start()?;
    let policy = stage.client.policy().to_owned();
    let identity = |guest: &Guest| -> Result<(String, serde_json::Value)> {
        let tls = Program::new("openssl").args(["s_client", "-alpn", "evident/1", "-connect"]);
        let shown = tls.arg(guest.address().to_string()).run(PATIENCE)?.stdout;
        let (_, certificate) = shown.split_once("BEGIN CERTIFICATE").context("openssl shows the certificate")?;
        let inspected = inspect(guest.address(), Some(&policy))?.arg("--json").run(PATIENCE)?.success()?;
        let verdict: serde_json::Value = serde_json::from_str(&inspected)?;
        ensure!(verdict["verdict"] == "accepted", "{inspected}");
        Ok((certificate.to_owned(), verdict["evidence"]["statement"]["epoch"].clone()))
    };
    let before = identity(&stage.guest)?;
    let mut downloads = stage.downloads()?;
    downloads.extend(stage.plain_downloads()?);
    stage.guest.program.kill()?;
    all_know(downloads)?;
    until_metric(stage.client.admin(), OPEN_TUNNELS, 0.0)?;
    let refused =
        Way::all(&stage.client, NAME)[3].curl("/hello").args(["--write-out", "%{http_code}"]).run(PATIENCE)?;
    ensure!(refused.stdout.ends_with("502"), "{}", refused.stdout);
    let again = Guest::in_front_of(stage.upstream_at).listen(stage.guest.address()).simulator(stage.guest.simulator());
    let again = again.start()?;
    let after = identity(&again)?;
    ensure!(after.0 != before.0 && after.1 != before.1, "the successor has its predecessor's key or epoch: {after:?}");
    stage.hello_by_every_way()
}

#[test]
fn system_a_killed_client_proxy_never_leaves_a_whole_response() -> Result<()> {
    let mut stage = Stage::start()?;
    let downloads = stage.downloads()?;
    stage.client.program.kill()?;
    all_know(downloads)?;
    until_metric(stage.guest.admin(), OPEN_TUNNELS, 0.0)?;
    stage.client = Client::of(&stage.guest, &[NAME]).start()?;
    stage.hello_by_every_way()
}

#[test]
fn system_a_killed_application_takes_nobody_along() -> Result<()> {
    let stage = Stage::start()?;
    for (name, mut application) in stage.downloads()?.into_iter().chain(stage.plain_downloads()?) {
        application.kill().context(name)?;
    }
    until_metric(stage.client.admin(), OPEN_TUNNELS, 0.0)?;
    until_metric(stage.guest.admin(), OPEN_TUNNELS, 0.0)?;
    until_metric(stage.guest.admin(), "evident_open_connections{kind=\"plain\"}", 0.0)?;
    stage.hello_by_every_way()
}

/// An upstream that receives; says how each connection's receiving ended, and that it has begun.
fn receiver() -> Result<(Upstream, mpsc::Receiver<()>, mpsc::Receiver<std::io::Result<()>>)> {
    let (begun, began) = mpsc::channel();
    let (ends, ended) = mpsc::channel();
    let upstream = Upstream::start("127.0.0.1:0", move |mut stream| {
        let mut buffer = [0; 16 * 1024];
        let mut received = 0;
        let end = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => received += n,
                Err(error) => break Err(error),
            }
            if received > 100_000 {
                let _ = begun.send(());
            }
        };
        let _ = ends.send(end);
        Ok(())
    })?;
    Ok((upstream, began, ended))
}

/// Writes until it fails; gives the kind of the failure.
fn endless_upload(address: SocketAddr) -> Result<std::thread::JoinHandle<ErrorKind>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(std::thread::spawn(move || {
        loop {
            if let Err(error) = stream.write_all(&[b'u'; 1024]) {
                return error.kind();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }))
}

fn wants_reset(end: std::io::Result<()>, who: &str) -> Result<()> {
    match end {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => anyhow::bail!("{who} was killed in mid-upload and the upstream saw {other:?}"),
    }
}

#[test]
fn system_an_upload_cut_short_is_no_whole_one_for_the_upstream() -> Result<()> {
    let (upstream, began, ended) = receiver()?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;

    let mut client = Client::of(&guest, &[]).start()?;
    let application = endless_upload(client.listen())?;
    began.recv_timeout(PATIENCE).context("the upload to begin")?;
    client.program.kill()?;
    wants_reset(ended.recv_timeout(SOON).context("the upstream to notice")?, "the client proxy")?;
    ensure!(matches!(application.join(), Ok(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "the application");

    while began.try_recv().is_ok() {}
    let client = Client::of(&guest, &[]).start()?;
    let application = endless_upload(client.listen())?;
    began.recv_timeout(PATIENCE).context("the next upload to begin")?;
    guest.program.kill()?;
    wants_reset(ended.recv_timeout(SOON).context("the upstream to notice")?, "the guest")?;
    ensure!(matches!(application.join(), Ok(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "the application");
    Ok(())
}

/// Where HTTP is parsed, a request body that breaks off is known to have broken off, whatever its sender's kernel says.
#[test]
fn system_an_application_killed_in_a_request_is_a_reset_for_the_upstream() -> Result<()> {
    let (upstream, began, ended) = receiver()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("upload");
    std::fs::write(&file, vec![b'u'; 10_000_000])?;
    let absolute = &Way::all(&client, NAME)[3];
    for framing in ["Expect:", "Transfer-Encoding: chunked"] {
        let upload = absolute.curl("/").args(["--limit-rate", "400k", "--header", framing, "--data-binary"]);
        let mut upload = upload.arg(format!("@{}", file.display())).spawn()?;
        began.recv_timeout(PATIENCE).context("the upload to begin")?;
        upload.kill()?;
        wants_reset(ended.recv_timeout(SOON).with_context(|| format!("{framing}: the upstream to notice"))?, "curl")?;
        while began.try_recv().is_ok() {}
    }
    Ok(())
}

/// A raw stream has no length to fall short of: only a reset tells that it broke off.
#[test]
fn system_a_killed_client_proxy_resets_raw_streams() -> Result<()> {
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        while stream.write_all(&[b'.'; 1024]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[NAME]).start()?;
    let mut mapped = TcpStream::connect(client.listen())?;
    let mut connected = TcpStream::connect(client.http_proxy())?;
    write!(connected, "CONNECT {NAME}:80 HTTP/1.1\r\nHost: {NAME}:80\r\n\r\n")?;
    for stream in [&mut mapped, &mut connected] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0; 10_000]).context("the beginning of the stream")?;
    }
    client.program.kill()?;
    for (way, mut stream) in [("port map", mapped), ("CONNECT", connected)] {
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        ensure!(
            end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{way}: a stream cut short ended with {end:?}"
        );
    }
    until_metric(guest.admin(), OPEN_TUNNELS, 0.0)
}
