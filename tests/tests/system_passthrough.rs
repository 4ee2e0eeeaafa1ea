//! What passes through the pair, untouched: every way in carries HTTP/1.1, upgrades, events as they happen and bytes by the
//! hundred million; tunnels carry HTTP/2 and raw TCP with half-close as well. Ordinary HTTPS clients get theirs.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use evident_tests::curl::{Way, curl};
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Upstream};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_core::tls::config::client_config_for;
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;

const NAME: &str = "web.example";
const MANY: usize = 100_000_000;

fn pair(upstream: SocketAddr) -> Result<(Guest, Client)> {
    let guest = Guest::in_front_of(upstream).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    Ok((guest, client))
}

/// A tunnel of raw bytes by each way that has one.
fn tunnels(client: &Client) -> Result<[(&'static str, TcpStream); 3]> {
    let mapped = TcpStream::connect(client.listen())?;
    let mut connected = TcpStream::connect(client.http_proxy())?;
    write!(connected, "CONNECT {NAME}:80 HTTP/1.1\r\nHost: {NAME}:80\r\n\r\n")?;
    let head = head_of(&mut connected)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut socks = TcpStream::connect(client.socks5())?;
    let length = u8::try_from(NAME.len())?;
    socks.write_all(&[&[5, 1, 0, 5, 1, 0, 3, length], NAME.as_bytes(), &[0, 80]].concat())?;
    let mut reply = [0; 12];
    socks.read_exact(&mut reply)?;
    ensure!(reply[..4] == [5, 0, 5, 0], "{reply:?}");
    for stream in [&mapped, &connected, &socks] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    Ok([("port map", mapped), ("CONNECT", connected), ("SOCKS5", socks)])
}

/// Up to and with the empty line, and not a byte further.
fn head_of(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8(head)?)
}

// Raw TCP.

/// The bytes that a stream of a hundred million consists of: the same each time and never the same twice in a row.
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, chunk: &mut [u8]) {
        for word in chunk.chunks_mut(8) {
            // Marsaglia's xorshift64.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

/// Both directions full at the same time, which a relay that waits for one before the other would not survive.
#[test]
fn system_a_hundred_million_bytes_pass_both_ways_at_once_heavy() -> Result<()> {
    const CHUNK: usize = 64_000;
    let upstream = Upstream::echo()?;
    let (_guest, client) = pair(upstream.address())?;
    for (way, mut stream) in tunnels(&client)? {
        let begun = std::time::Instant::now();
        let mut writing = stream.try_clone()?;
        let writer = std::thread::spawn(move || -> Result<()> {
            let mut pattern = Pattern(0x9E37_79B9_7F4A_7C15);
            let mut chunk = vec![0; CHUNK];
            for sent in (0..MANY).step_by(CHUNK) {
                pattern.fill(&mut chunk);
                writing.write_all(&chunk[..CHUNK.min(MANY - sent)])?;
            }
            Ok(writing.shutdown(Shutdown::Write)?)
        });
        let mut pattern = Pattern(0x9E37_79B9_7F4A_7C15);
        let (mut wanted, mut seen) = (vec![0; CHUNK], vec![0; CHUNK]);
        for received in (0..MANY).step_by(CHUNK) {
            let length = CHUNK.min(MANY - received);
            pattern.fill(&mut wanted);
            stream.read_exact(&mut seen[..length]).with_context(|| format!("{way} after {received} bytes"))?;
            ensure!(seen[..length] == wanted[..length], "{way}: other bytes after {received}");
        }
        ensure!(stream.read(&mut [0])? == 0, "{way}: more than was sent");
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        println!("{way}: {MANY} bytes each way in {:?}", begun.elapsed());
    }
    Ok(())
}

#[test]
fn system_each_direction_of_a_raw_stream_ends_by_itself() -> Result<()> {
    // Answers with what it received, once that has ended.
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(format!("{} bytes", all.len()).as_bytes())
    })?;
    let (_guest, client) = pair(upstream.address())?;
    for (way, mut stream) in tunnels(&client)? {
        stream.write_all(&[7; 100_000])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(way)?;
        ensure!(answer == "100000 bytes", "{way}: {answer:?}");
    }

    // Says everything at once, ends its side, and goes on receiving.
    let (received, totals) = mpsc::channel();
    let upstream = Upstream::start("127.0.0.1:0", move |mut stream| {
        stream.write_all(b"all I have")?;
        stream.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let _ = received.send(all.len());
        Ok(())
    })?;
    let (_guest, client) = pair(upstream.address())?;
    for (way, mut stream) in tunnels(&client)? {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(way)?;
        ensure!(answer == "all I have", "{way}: {answer:?}");
        stream.write_all(&[7; 100_000])?;
        stream.shutdown(Shutdown::Write)?;
        let total = totals.recv_timeout(PATIENCE)?;
        ensure!(total == 100_000, "{way}: the upstream received {total} bytes");
    }
    Ok(())
}

// HTTP.

/// An upstream that speaks HTTP/1.1 and HTTP/2 with prior knowledge: the body back, or the version where there is none.
fn http1_and_http2() -> Result<(tokio::runtime::Runtime, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async {
                let version = format!("{:?} {}", request.version(), request.uri().path());
                let body = request.into_body().collect().await?.to_bytes();
                let body = if body.is_empty() { Bytes::from(version) } else { body };
                hyper::Result::Ok(Response::new(Full::new(body)))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await.map_err(drop) });
        }
        Ok::<(), Infallible>(())
    });
    Ok((runtime, address))
}

#[test]
fn system_http_1_passes_by_every_way_and_http_2_through_every_tunnel() -> Result<()> {
    let (_runtime, upstream) = http1_and_http2()?;
    let (_guest, client) = pair(upstream)?;
    for way in Way::all(&client, NAME) {
        let answer = way.curl("/one?a=b").run(PATIENCE)?.success()?;
        ensure!(answer == "HTTP/1.1 /one", "by {}: {answer}", way.name);
        if way.name == "absolute form" {
            continue;
        }
        let args = ["--http2-prior-knowledge", "--write-out", " as %{http_version}"];
        let answer = way.curl("/two").args(args).run(PATIENCE)?.success()?;
        ensure!(answer == "HTTP/2.0 /two as 2", "by {}: {answer}", way.name);
    }
    Ok(())
}

/// Fifty streams at once on one HTTP/2 connection, each with a body larger than a stream's window.
#[test]
fn system_http_2_streams_do_not_wait_for_each_other() -> Result<()> {
    const BODY: usize = 200_000;
    let (runtime, upstream) = http1_and_http2()?;
    let (_guest, client) = pair(upstream)?;
    for (way, stream) in tunnels(&client)? {
        stream.set_nonblocking(true)?;
        let all = async {
            let io = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
            let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            let mut asked = JoinSet::new();
            for number in 0..50 {
                let mut sender = sender.clone();
                asked.spawn(async move {
                    let body = Full::new(Bytes::from(vec![number; BODY]));
                    let request = Request::post(format!("http://{NAME}/")).body(body)?;
                    let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
                    ensure!(answer == vec![number; BODY], "stream {number}: {} bytes, or others", answer.len());
                    Ok(())
                });
            }
            asked.join_all().await.into_iter().collect::<Result<()>>()
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await }).context(way)?.context(way)?;
    }
    Ok(())
}

#[test]
fn system_a_hundred_million_bytes_of_http_pass_both_ways_heavy() -> Result<()> {
    let (_runtime, upstream) = http1_and_http2()?;
    let (guest, client) = pair(upstream)?;
    let dir = tempfile::tempdir()?;
    let (sent, received) = (dir.path().join("sent"), dir.path().join("received"));
    let mut bytes = vec![0; MANY];
    Pattern(0x2545_F491_4F6C_DD1D).fill(&mut bytes);
    std::fs::write(&sent, &bytes)?;
    let data = format!("@{}", sent.display());
    let exchange = |name: &str, args: &[&str]| -> Result<()> {
        let curl = curl().named(name).args(["--fail", "--header", "Expect:", "--data-binary", &data]).args(args);
        curl.arg("--output").arg(&received).run(Duration::from_secs(60))?.success()?;
        let same = std::fs::read(&received)? == bytes;
        ensure!(same, "{name}: {} bytes came back, or others", std::fs::metadata(&received)?.len());
        Ok(())
    };
    let absolute = &Way::all(&client, NAME)[3];
    let args: Vec<&str> = absolute.args.iter().map(String::as_str).collect();
    exchange("absolute form", &[args.as_slice(), &[&format!("{}/", absolute.base)]].concat())?;
    exchange("plain HTTP/1.1", &["--insecure", "--http1.1", &format!("https://{}/", guest.address())])?;
    exchange("plain HTTP/2", &["--insecure", "--http2", &format!("https://{}/", guest.address())])
}

#[test]
fn system_ordinary_https_clients_are_served_over_http_1_and_http_2() -> Result<()> {
    let (_runtime, upstream) = http1_and_http2()?;
    let guest = Guest::in_front_of(upstream).start()?;
    let url = format!("https://{}/page", guest.address());
    for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let args = ["--insecure", http, "--write-out", " as %{http_version}", &url];
        let answer = curl().args(args).run(PATIENCE)?.success()?;
        // Towards the upstream it is HTTP/1.1 whatever the client speaks.
        ensure!(answer == format!("HTTP/1.1 /page as {version}"), "{answer}");
    }
    let strict = curl().arg(&url).run(PATIENCE)?;
    ensure!(strict.code()? == 60, "the leaf has no CA, so curl without -k refuses it: {}", strict.stderr);

    let refusing = Guest::in_front_of(upstream).args(&["--plain-clients", "refuse"]).start()?;
    let refused = curl().args(["--insecure", &format!("https://{}/", refusing.address())]).run(PATIENCE)?;
    ensure!(refused.code()? == 35 && refused.stderr.contains("no application protocol"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn system_headers_that_only_we_may_set_are_stripped_where_http_is_parsed() -> Result<()> {
    let upstream = Upstream::http()?;
    let (guest, client) = pair(upstream.address())?;
    let forged =
        ["--header", "Evident-Verdict: accepted", "--header", "x_evident_level: 9", "--header", "X-Mine: kept"];
    let url = format!("https://{}/", guest.address());
    let parsed = [
        ("absolute form", Way::all(&client, NAME)[3].curl("/")),
        ("plain HTTP/1.1", curl().args(["--insecure", "--http1.1", &url])),
        ("plain HTTP/2", curl().args(["--insecure", "--http2", &url])),
    ];
    for (name, curl) in parsed {
        let head = curl.args(forged).run(PATIENCE)?.success()?.to_ascii_lowercase();
        ensure!(!head.contains("evident") && head.contains("x-mine: kept"), "{name}: {head}");
    }
    let head = Way::all(&client, NAME)[0].curl("/").args(forged).run(PATIENCE)?.success()?;
    ensure!(head.contains("Evident-Verdict: accepted\r\n"), "in a tunnel they are the application's bytes: {head}");
    Ok(())
}

/// Speaks as far as 101 and then echoes bytes.
fn upgrading() -> Result<Upstream> {
    Upstream::start("127.0.0.1:0", |mut stream| {
        let head = head_of(&mut stream).map_err(std::io::Error::other)?.to_ascii_lowercase();
        if !head.contains("\r\nupgrade: websocket\r\n") || !head.contains("\r\nsec-websocket-key: dghlihnhbxbszq==\r\n")
        {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        // The first frame may stand right behind the head.
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
        )?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return stream.shutdown(Shutdown::Write),
                n => stream.write_all(&buffer[..n])?,
            }
        }
    })
}

fn upgrade_and_echo(way: &str, stream: &mut (impl Read + Write), target: &str) -> Result<()> {
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dghlihnhbxbszq==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )?;
    let head = head_of(stream).with_context(|| format!("the answer by {way}"))?;
    let lower = head.to_ascii_lowercase();
    ensure!(lower.starts_with("http/1.1 101 ") && lower.contains("upgrade: websocket"), "{way}: {head}");
    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    ensure!(&first == b"\x81\x02hi", "{way}: {first:?}");
    let every_byte: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    stream.write_all(&every_byte)?;
    let mut echoed = vec![0; every_byte.len()];
    stream.read_exact(&mut echoed).with_context(|| format!("frames by {way}"))?;
    ensure!(echoed == every_byte, "{way}: other bytes came back");
    Ok(())
}

#[test]
fn system_after_an_upgrade_every_way_carries_bytes() -> Result<()> {
    let upstream = upgrading()?;
    let (guest, client) = pair(upstream.address())?;
    for (way, mut stream) in tunnels(&client)? {
        upgrade_and_echo(way, &mut stream, "/chat")?;
    }
    let mut absolute = TcpStream::connect(client.http_proxy())?;
    absolute.set_read_timeout(Some(PATIENCE))?;
    upgrade_and_echo("absolute form", &mut absolute, &format!("http://{NAME}/chat"))?;

    let tcp = TcpStream::connect(guest.address())?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let tls = rustls::ClientConnection::new(
        Arc::new(client_config_for(&[b"http/1.1"], None)?),
        ServerName::try_from("guest.example")?,
    )?;
    upgrade_and_echo("plain HTTPS", &mut rustls::StreamOwned::new(tls, tcp), "/chat")
}

/// Each event is sent only after the one before has arrived, so whatever holds one back is a hang and not a delay.
#[test]
fn system_events_arrive_one_by_one() -> Result<()> {
    let (sender, arrived) = mpsc::channel::<()>();
    let arrived = Arc::new(Mutex::new(arrived));
    let upstream = Upstream::start("127.0.0.1:0", move |mut stream| {
        head_of(&mut stream).map_err(std::io::Error::other)?;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        for number in 1..=5 {
            let event = format!("data: event {number}\n\n");
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
            let arrived = arrived.lock().map_err(|_| std::io::ErrorKind::Other)?;
            arrived.recv_timeout(PATIENCE).map_err(std::io::Error::other)?;
        }
        stream.write_all(b"0\r\n\r\n")
    })?;
    let (guest, client) = pair(upstream.address())?;
    let dir = tempfile::tempdir()?;
    let url = format!("https://{}/events", guest.address());
    let mut clients: Vec<(&str, evident_tests::Program)> =
        Way::all(&client, NAME).iter().map(|way| (way.name, way.curl("/events"))).collect();
    for http in ["--http1.1", "--http2"] {
        clients.push((http, curl().args(["--insecure", http, &url])));
    }
    for (name, curl) in clients {
        let file = dir.path().join(name);
        let mut curl = curl.arg("--output").arg(&file).spawn()?;
        for number in 1..=5 {
            let event = format!("data: event {number}\n\n");
            curl.watch(&format!("event {number} by {name}"), PATIENCE, |_| ends_with(&file, &event).then_some(()))?;
            sender.send(())?;
        }
        ensure!(curl.wait(PATIENCE)?.success(), "{name}: {}", curl.stderr());
    }
    Ok(())
}

fn ends_with(file: &Path, text: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|all| all.ends_with(text))
}

/// A body that is uploaded bit by bit arrives bit by bit as well.
#[test]
fn system_an_upload_is_not_held_back() -> Result<()> {
    let (arrived, arrivals) = mpsc::channel();
    let upstream = Upstream::start("127.0.0.1:0", move |mut stream| {
        head_of(&mut stream).map_err(std::io::Error::other)?;
        let mut buffer = [0; 1024];
        let mut body = String::new();
        loop {
            let n = stream.read(&mut buffer)?;
            body.push_str(&String::from_utf8_lossy(&buffer[..n]));
            let _ = arrived.send(body.clone());
            if n == 0 || body.ends_with("0\r\n\r\n") {
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    })?;
    let (_guest, client) = pair(upstream.address())?;
    let mut streams =
        tunnels(&client)?.map(|(way, stream)| (way, stream, "/".to_owned())).into_iter().collect::<Vec<_>>();
    let absolute = TcpStream::connect(client.http_proxy())?;
    absolute.set_read_timeout(Some(PATIENCE))?;
    streams.push(("absolute form", absolute, format!("http://{NAME}/")));
    for (way, mut stream, target) in streams {
        write!(stream, "POST {target} HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for number in 1..=3 {
            let piece = format!("piece {number}");
            write!(stream, "{:x}\r\n{piece}\r\n", piece.len())?;
            wait::until(&format!("{piece} by {way}"), PATIENCE, || match arrivals.recv_timeout(PATIENCE) {
                Ok(body) => Ok(body.contains(&piece).then_some(())),
                Err(_) => bail!("{piece} did not arrive by {way}"),
            })?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        let head = head_of(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{way}: {head}");
        while arrivals.try_recv().is_ok() {}
    }
    Ok(())
}
