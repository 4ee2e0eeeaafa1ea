//! The limits of both proxies, from outside: how many, how long, and what it costs the process when somebody leans on them.
//!
//! Refusals have a reason where the protocol has a place for one, and a counter always.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::evident_proxy;
use evident_tests::client::inspect;
use evident_tests::curl::{Way, curl};
use evident_tests::observe::{cpu_time, descriptors, metric, resident_bytes, until_metric, until_ready};
use evident_tests::ports::free_addr;
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Program, Upstream};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::nofile::Descriptors;
use proxy_core::tls::{client_config, connect};
use ratls::wire::control::CloseCode;
use ratls::wire::frame::FrameType;
use rustls::pki_types::ServerName;

const NAME: &str = "web.example";
const REFUSED_TOTAL: &str = "evident_refused_connections_total{reason=\"total\"}";
const REFUSED_SOURCE: &str = "evident_refused_connections_total{reason=\"source\"}";
const OPEN_TUNNELS: &str = "evident_open_tunnels";

/// A tunnel through which one byte came back.
fn tunnel(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0]).context("an echo")?;
    Ok(stream)
}

/// How a stream that gets no more bytes ends, and when.
fn end_of(mut stream: TcpStream) -> Result<(std::io::Result<usize>, Duration)> {
    let begun = Instant::now();
    stream.set_read_timeout(Some(PATIENCE))?;
    let end = stream.read(&mut [0; 64]);
    let hangs = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    ensure!(!end.as_ref().is_err_and(hangs), "nobody ends it");
    Ok((end, begun.elapsed()))
}

fn is_reset(end: &std::io::Result<usize>) -> bool {
    end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn within(seen: Duration, low_ms: u64, high_ms: u64) -> Result<()> {
    let wanted = Duration::from_millis(low_ms)..Duration::from_millis(high_ms);
    ensure!(wanted.contains(&seen), "after {seen:?}, wanted {wanted:?}");
    Ok(())
}

// How many.

#[test]
fn system_the_guest_refuses_above_its_total_and_serves_again_below() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).config("[limits]\nconnections = 2\n").start()?;
    // Nothing is kept for later: each tunnel is a connection of the guest.
    let client = Client::of(&guest, &[]).config("[limits]\npool_connections = 0\n").start()?;
    until_ready(client.admin())?;
    until_metric(guest.admin(), "evident_open_connections{kind=\"attested\"}", 0.0)?;
    let held = [tunnel(client.listen())?, tunnel(client.listen())?];
    ensure!(tunnel(client.listen()).is_err(), "a third one was served");
    ensure!(metric(guest.admin(), REFUSED_TOTAL)? >= 1.0, "and not counted as refused");
    ensure!(guest.program.stderr().contains("2 connections are open, which is the limit"), "no reason in the log");
    drop(held);
    until_metric(guest.admin(), "evident_open_connections{kind=\"attested\"}", 0.0)?;
    tunnel(client.listen()).map(drop)
}

#[test]
fn system_the_guest_refuses_a_source_above_its_share() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).config("[limits]\nconnections_per_source = 2\n").start()?;
    let held = [TcpStream::connect(guest.address())?, TcpStream::connect(guest.address())?];
    until_source_refused(&guest, TcpStream::connect(guest.address())?)?;
    ensure!(guest.program.stderr().contains("127.0.0.1 has 2 connections open"), "no reason in the log");
    // Another address of loopback is another source.
    let url = format!("https://{}/", guest.address());
    let elsewhere = curl().args(["--insecure", "--interface", "127.0.0.2", "--write-out", "%{http_code}", &url]);
    let elsewhere = elsewhere.run(PATIENCE)?.success()?;
    // An echo is no HTTP response, so the answer is the guest's own.
    ensure!(elsewhere.ends_with("502"), "{elsewhere}");
    drop(held);
    Ok(())
}

fn until_source_refused(guest: &Guest, stream: TcpStream) -> Result<()> {
    let (end, _) = end_of(stream)?;
    ensure!(is_reset(&end), "{end:?}");
    until_metric(guest.admin(), REFUSED_SOURCE, 1.0)
}

#[test]
fn system_each_way_in_says_that_there_are_too_many() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).config("[limits]\nconnections = 2\n").start()?;
    let held = [tunnel(client.listen())?, tunnel(client.listen())?];

    let (end, _) = end_of(TcpStream::connect(client.listen())?)?;
    ensure!(is_reset(&end), "port map: {end:?}");
    let mut answer = [0; 64];
    let n = TcpStream::connect(client.http_proxy())?.read(&mut answer)?;
    ensure!(answer[..n].starts_with(b"HTTP/1.1 503 "), "HTTP: {:?}", String::from_utf8_lossy(&answer[..n]));
    let n = TcpStream::connect(client.socks5())?.read(&mut answer)?;
    ensure!(answer[..n] == [5, 0xFF], "SOCKS5: {:?}", &answer[..n]);
    until_metric(client.admin(), REFUSED_TOTAL, 3.0)?;

    drop(held);
    until_metric(client.admin(), "evident_open_connections{kind=\"local\"}", 0.0)?;
    tunnel(client.listen()).map(drop)
}

/// The caps fit the descriptors that there are, whatever is configured.
#[test]
fn system_few_descriptors_mean_few_connections_and_a_reason() -> Result<()> {
    let upstream = Upstream::echo()?;
    // The limit must be there when the program starts, so a shell sets it.
    let dir = tempfile::tempdir()?;
    let (address, admin) = (free_addr()?, free_addr()?);
    // 64 and 4 for each runtime are kept back. Of 36, a quarter is for connections to the upstream beyond one per client;
    // (36 - 9) / 2 tunnels fit.
    let own = 64 + 4 * (std::thread::available_parallelism()?.get() + 1);
    let limit = own + 36;
    let mut program = Program::new("sh")
        .named("evident-proxy")
        .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
        .arg(evident_proxy()?)
        .args(["--upstream", &upstream.address().to_string(), "--listen", &address.to_string()])
        .args(["--admin", &admin.to_string()])
        .arg(format!("--simulate={}", dir.path().display()))
        .spawn()?;
    program.wait_for_port(address, PATIENCE)?;
    program.wait_for_port(admin, PATIENCE)?;
    ensure!(program.stderr().contains("the descriptor limit allows fewer tunnels than configured"), "no word of it");

    let silent = (0..60).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>()?;
    until_metric(admin, REFUSED_TOTAL, 47.0)?;
    ensure!(descriptors(program.pid())? < limit - 20, "{} descriptors", descriptors(program.pid())?);
    let before = cpu_time(program.pid())?;
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_time(program.pid())? - before;
    ensure!(used < Duration::from_millis(200), "{used:?} of processor time in a second of nothing");
    drop(silent);
    wait::until("room for an inspection", PATIENCE, || {
        // 1: reached, and not authentic without the simulator's root. 4: not reached.
        Ok((inspect(address, None)?.run(PATIENCE)?.code()? == 1).then_some(()))
    })
}

/// Descriptors that run out all the same: waiting costs nothing, and service goes on when there are some again.
#[test]
fn system_without_a_descriptor_both_proxies_wait_and_do_not_spin() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[]).start()?;
    until_ready(client.admin())?;
    for (program, address) in [(&guest.program, guest.address()), (&client.program, client.listen())] {
        let pid = program.pid().to_string();
        let limit = |soft: usize| -> Result<()> {
            let nofile = format!("--nofile={soft}:");
            Program::new("prlimit").args(["--pid", &pid, &nofile]).run(PATIENCE)?.success().map(drop)
        };
        limit(descriptors(program.pid())?)?;
        let waiting = (0..5).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>()?;
        wait::until("the log to say it", PATIENCE, || {
            Ok(program.stderr().contains("cannot accept: no descriptors or memory left").then_some(()))
        })?;
        let before = cpu_time(program.pid())?;
        std::thread::sleep(Duration::from_millis(1500));
        let used = cpu_time(program.pid())? - before;
        ensure!(used < Duration::from_millis(300), "{used:?} of processor time in 1.5 s of waiting");
        ensure!(program.stderr().matches("cannot accept").count() < 50, "the log is flooded");
        limit(1000)?;
        drop(waiting);
    }
    tunnel(client.listen()).map(drop)
}

// How long.

#[test]
fn system_a_tunnel_is_idle_only_without_bytes_in_either_direction() -> Result<()> {
    let upstream = Upstream::echo()?;
    for (at_guest, at_client) in [("[limits]\nidle = \"1s\"\n", ""), ("", "[limits]\nidle = \"1s\"\n")] {
        let guest = Guest::in_front_of(upstream.address()).config(at_guest).start()?;
        let client = Client::of(&guest, &[]).config(at_client).start()?;
        let mut stream = tunnel(client.listen())?;
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(400));
            stream.write_all(b"y")?;
            stream.read_exact(&mut [0]).context("it is not idle")?;
        }
        let (end, after) = end_of(stream)?;
        ensure!(is_reset(&end), "{end:?}");
        within(after, 500, 4000)?;
    }
    Ok(())
}

#[test]
fn system_a_lifetime_ends_a_busy_tunnel() -> Result<()> {
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        while stream.write_all(&[b'.'; 100]).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })?;
    let lifetimes = [("[limits]\npool_idle = \"1s\"\nlifetime = \"2s\"\n", ""), ("", "[limits]\nlifetime = \"2s\"\n")];
    for (at_guest, at_client) in lifetimes {
        let guest = Guest::in_front_of(upstream.address()).config(at_guest).start()?;
        let client = Client::of(&guest, &[NAME]).config(at_client).start()?;
        let begun = Instant::now();
        let mut stream = TcpStream::connect(client.listen())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all);
        ensure!(is_reset(&end), "{end:?}");
        within(begun.elapsed(), 1500, 5000)?;
    }
    Ok(())
}

/// An attested connection that opens no tunnel, and what ends it.
async fn without_open(guest: SocketAddr) -> Result<(CloseCode, Duration)> {
    let begun = Instant::now();
    let io = tokio::net::TcpStream::connect(guest).await?;
    let config = Arc::new(client_config(None)?);
    let handshake = connect(config, ServerName::try_from("guest.example")?, io).await?;
    let mut framed = Framed::new(handshake.tls);
    ensure!(framed.read().await?.kind == FrameType::Attest, "ATTEST is first");
    match tokio::time::timeout(PATIENCE, framed.read()).await? {
        Err(FramingError::Closed(close)) => Ok((close.code, begun.elapsed())),
        other => anyhow::bail!("{other:?} where CLOSE was due"),
    }
}

#[test]
fn system_an_attested_connection_without_a_tunnel_is_closed_with_its_reason() -> Result<()> {
    let upstream = Upstream::echo()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guest = Guest::in_front_of(upstream.address()).config("[limits]\npool_idle = \"1s\"\n").start()?;
    let (code, after) = runtime.block_on(without_open(guest.address()))?;
    ensure!(code == CloseCode::Idle, "{code:?}");
    within(after, 1000, 4000)?;

    let guest = Guest::in_front_of(upstream.address()).config("[limits]\nidle_connections_per_source = 2\n").start()?;
    let crowd = [(); 3].map(|()| guest.address());
    let first = runtime.block_on(async {
        let ends = crowd.map(|guest| tokio::spawn(without_open(guest)));
        let [a, b, c] = ends;
        tokio::select! { one = a => one, one = b => one, one = c => one }
    })??;
    ensure!(first.0 == CloseCode::Limit, "{:?}", first.0);
    ensure!(upstream.accepted() == 0, "and nothing reached the upstream");
    Ok(())
}

#[test]
fn system_a_peer_that_stops_in_its_handshake_is_not_waited_for() -> Result<()> {
    let upstream = Upstream::echo()?;
    let config = "[limits]\nclient_hello = \"1s\"\nhandshake = \"2s\"\nfirst_byte = \"1s\"\n";
    let guest = Guest::in_front_of(upstream.address()).config(config).start()?;

    let (_, after) = end_of(TcpStream::connect(guest.address())?).context("nothing at all")?;
    within(after, 500, 3000)?;

    let mut hello = Vec::new();
    let name = ServerName::try_from("guest.example")?;
    rustls::ClientConnection::new(Arc::new(client_config(None)?), name)?.write_tls(&mut hello)?;
    let mut half = TcpStream::connect(guest.address())?;
    half.write_all(&hello[..hello.len() / 2])?;
    let (_, after) = end_of(half).context("half a ClientHello")?;
    within(after, 500, 3000)?;

    let mut no_finished = TcpStream::connect(guest.address())?;
    no_finished.write_all(&hello)?;
    no_finished.set_read_timeout(Some(PATIENCE))?;
    let begun = Instant::now();
    // The flight with the evidence comes, and then the end; the deadline is what counts.
    let mut flight = Vec::new();
    let _ = no_finished.read_to_end(&mut flight);
    ensure!(flight.len() > 100, "the server's first flight");
    within(begun.elapsed(), 1000, 6000)?;

    // An ordinary client that shakes hands and then asks nothing. Its standard input has ended, which it ignores.
    let silent = Program::new("openssl").args(["s_client", "-ign_eof", "-quiet", "-alpn", "http/1.1", "-connect"]);
    let silent = silent.arg(guest.address().to_string()).run(PATIENCE)?;
    within(silent.took, 500, 5000)?;
    ensure!(upstream.accepted() == 0, "none of them reached the upstream");
    until_metric(guest.admin(), "evident_open_connections{kind=\"plain\"}", 0.0)
}

#[test]
fn system_an_application_that_does_not_ask_is_not_waited_for() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let limits = "[limits]\nrequest = \"1s\"\nkeep_alive = \"1s\"\n";
    let client = Client::of(&guest, &[NAME]).config(limits).start()?;
    for (address, beginning) in [
        (client.http_proxy(), &b""[..]),
        (client.http_proxy(), b"GET http://web.example/ HT"),
        (client.socks5(), b""),
        (client.socks5(), b"\x05\x01\x00"),
    ] {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(beginning)?;
        if beginning.starts_with(b"\x05") {
            stream.read_exact(&mut [0; 2])?;
        }
        let (_, after) = end_of(stream).with_context(|| format!("{address} {beginning:?}"))?;
        within(after, 500, 4000)?;
    }
    let mut kept = TcpStream::connect(client.http_proxy())?;
    write!(kept, "GET http://{NAME}/bytes/1 HTTP/1.1\r\nHost: {NAME}\r\n\r\n")?;
    let begun = Instant::now();
    let mut all = Vec::new();
    kept.set_read_timeout(Some(PATIENCE))?;
    kept.read_to_end(&mut all).context("a kept connection ends cleanly")?;
    ensure!(all.ends_with(b"\r\n\r\nx"), "{}", String::from_utf8_lossy(&all));
    within(begun.elapsed(), 900, 5000)
}

#[test]
fn system_a_guest_that_says_nothing_is_not_waited_for() -> Result<()> {
    // Accepts and keeps what comes.
    let silent =
        Upstream::start("127.0.0.1:0", |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop))?;
    let dir = tempfile::tempdir()?;
    let genuine = Guest::in_front_of("127.0.0.1:9").simulator(dir.path()).start()?;
    let policy = genuine.policy().names(&[NAME]);
    let client = Client::with_policy(silent.address(), policy).config("[limits]\nhandshake = \"1s\"\n").start()?;
    let begun = Instant::now();
    let (end, after) = end_of(TcpStream::connect(client.listen())?)?;
    ensure!(is_reset(&end), "{end:?}");
    within(after, 500, 4000)?;
    let refused = Way::all(&client, NAME)[3].curl("/").args(["--write-out", "%{http_code}"]).run(PATIENCE)?;
    ensure!(refused.stdout.contains("too long") && refused.stdout.ends_with("502"), "{}", refused.stdout);
    within(begun.elapsed(), 1500, 8000)
}

// What it costs.

#[test]
fn system_a_thousand_silent_connections_cost_little_memory_and_leave_nothing_behind() -> Result<()> {
    const SILENT: usize = 1_000;
    // Half of it in a build without optimisation.
    const EACH: u64 = 64 * 1024;
    Descriptors::raised();
    let upstream = Upstream::echo()?;
    let at_guest = "[limits]\nconnections_per_source = 2000\nclient_hello = \"5s\"\n";
    let guest = Guest::in_front_of(upstream.address()).config(at_guest).start()?;
    let client = Client::of(&guest, &[NAME]).config("[limits]\nrequest = \"5s\"\n").start()?;
    until_ready(client.admin())?;
    for (program, address) in
        [(&guest.program, guest.address()), (&client.program, client.http_proxy()), (&client.program, client.socks5())]
    {
        let (memory, open) = (resident_bytes(program.pid())?, descriptors(program.pid())?);
        let silent = (0..SILENT).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>()?;
        wait::until("all to be accepted", PATIENCE, || {
            Ok((descriptors(program.pid())? >= open + SILENT).then_some(()))
        })?;
        let grown = resident_bytes(program.pid())?.saturating_sub(memory);
        let before = cpu_time(program.pid())?;
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_time(program.pid())? - before;
        println!(
            "{SILENT} silent connections to {address}: {} kB more, {used:?} of processor time a second",
            grown / 1024
        );
        ensure!(grown < EACH * SILENT as u64, "{} kB for {SILENT} silent connections", grown / 1024);
        ensure!(used < Duration::from_millis(300), "{used:?} of processor time in a second of silence");
        wait::until("the deadline to end them", PATIENCE, || {
            Ok((descriptors(program.pid())? <= open + 2).then_some(()))
        })?;
        drop(silent);
    }
    until_metric(client.admin(), OPEN_TUNNELS, 0.0)?;
    tunnel(client.listen()).map(drop)
}
