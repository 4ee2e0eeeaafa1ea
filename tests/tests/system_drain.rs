//! SIGTERM: what is under way may finish, nothing new begins, `/readyz` says so, and at the deadline the rest is cut in a
//! way that nobody takes for an end of file. `apps_crashes.rs` has the drain of one raw stream.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evident_tests::curl::{Way, curl};
use evident_tests::http::fetch;
use evident_tests::observe::until_metric;
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Running, Upstream};
use rustix::process::Signal;

const NAME: &str = "web.example";

/// Answers each request with 100 kB in three seconds.
fn slow_http() -> Result<Upstream> {
    Upstream::start("127.0.0.1:0", |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        for _ in 0..100 {
            stream.write_all(&[b'x'; 1000])?;
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    })
}

fn says_draining(admin: SocketAddr) -> Result<()> {
    wait::until("/readyz to say that it drains", PATIENCE, || {
        let ready = fetch(admin, "/readyz")?;
        Ok((ready.status == 503 && ready.body.contains("draining")).then_some(()))
    })
}

#[test]
fn system_a_drain_lets_responses_finish_and_takes_nothing_new() -> Result<()> {
    let upstream = slow_http()?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[NAME]).start()?;
    let dir = tempfile::tempdir()?;
    let mut downloads = Vec::new();
    for way in Way::all(&client, NAME) {
        let file = dir.path().join(way.name);
        downloads.push((way.name, file.clone(), way.download("/", &file).arg("--fail").spawn()?));
    }
    for http in ["--http1.1", "--http2"] {
        let file = dir.path().join(http);
        let plain = curl().args(["--insecure", "--fail", http, &format!("https://{}/", guest.address()), "--output"]);
        downloads.push((http, file.clone(), plain.arg(&file).spawn()?));
    }
    for (name, file, curl) in &mut downloads {
        let begun = |_: &Running| std::fs::metadata(&*file).ok().filter(|file| file.len() > 1000).map(|_| ());
        curl.watch(&format!("{name} to begin"), PATIENCE, begun)?;
    }
    let accepted = upstream.accepted();

    client.program.signal(Signal::TERM)?;
    guest.program.signal(Signal::TERM)?;
    says_draining(client.admin())?;
    says_draining(guest.admin())?;
    for address in [client.listen(), client.http_proxy(), client.socks5(), guest.address()] {
        let refused = TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        ensure!(refused, "{address} still takes connections");
    }
    for (name, file, mut curl) in downloads {
        let status = curl.wait(PATIENCE)?;
        let length = std::fs::metadata(file)?.len();
        ensure!(status.success() && length == 100_000, "{name}: {status}, {length} bytes: {}", curl.stderr());
    }
    for program in [&mut client.program, &mut guest.program] {
        let status = program.wait(Duration::from_secs(5))?;
        ensure!(status.success(), "{status}: {}", program.stderr());
    }
    ensure!(upstream.accepted() == accepted, "something new reached the upstream");
    Ok(())
}

#[test]
fn system_a_drain_does_not_wait_for_connections_at_rest() -> Result<()> {
    let upstream = Upstream::http()?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[NAME]).start()?;
    let mut kept = TcpStream::connect(client.http_proxy())?;
    write!(kept, "GET http://{NAME}/bytes/1 HTTP/1.1\r\nHost: {NAME}\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nx") {
        let mut byte = [0];
        kept.read_exact(&mut byte)?;
        answer.extend_from_slice(&byte);
    }
    let begun = Instant::now();
    client.program.signal(Signal::TERM)?;
    ensure!(client.program.wait(PATIENCE)?.success() && begun.elapsed() < Duration::from_secs(5), "the client stayed");
    ensure!(kept.read(&mut [0])? == 0, "a connection at rest ends cleanly");
    let begun = Instant::now();
    guest.program.signal(Signal::TERM)?;
    ensure!(guest.program.wait(PATIENCE)?.success() && begun.elapsed() < Duration::from_secs(5), "the guest stayed");
    Ok(())
}

/// Sends slowly and for ever; says how it ended.
fn endless() -> Result<(Upstream, mpsc::Receiver<ErrorKind>)> {
    let (ends, ended) = mpsc::channel();
    let upstream = Upstream::start("127.0.0.1:0", move |mut stream| {
        loop {
            if let Err(error) = stream.write_all(&[b'.'; 1000]) {
                let _ = ends.send(error.kind());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    })?;
    Ok((upstream, ended))
}

fn in_mid_stream(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; 5000]).context("the beginning of the stream")?;
    Ok(stream)
}

/// SIGTERM to a proxy whose deadline is one second: it exits 0 soon after it, and the application's stream is reset.
fn cut_at_the_deadline(program: &mut Running, mut stream: TcpStream) -> Result<()> {
    let begun = Instant::now();
    program.signal(Signal::TERM)?;
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    let ended = begun.elapsed();
    let reset = end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    ensure!(reset, "a stream that was cut ended with {end:?}");
    ensure!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&ended), "it was cut after {ended:?}");
    let status = program.wait(Duration::from_secs(5))?;
    ensure!(status.success(), "{status}");
    ensure!(program.stderr().contains("still open at the drain deadline"), "the log does not say it");
    Ok(())
}

#[test]
fn system_the_client_cuts_what_is_stuck_at_its_drain_deadline() -> Result<()> {
    let (upstream, ended) = endless()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[]).config("[limits]\ndrain = \"1s\"\n").start()?;
    let stream = in_mid_stream(client.listen())?;
    cut_at_the_deadline(&mut client.program, stream)?;
    ended.recv_timeout(PATIENCE).context("the upstream to notice")?;
    until_metric(guest.admin(), "evident_open_tunnels", 0.0)
}

#[test]
fn system_the_guest_cuts_what_is_stuck_at_its_drain_deadline() -> Result<()> {
    let (upstream, ended) = endless()?;
    let mut guest = Guest::in_front_of(upstream.address()).config("[limits]\ndrain = \"1s\"\n").start()?;
    let client = Client::of(&guest, &[]).start()?;
    let stream = in_mid_stream(client.listen())?;
    cut_at_the_deadline(&mut guest.program, stream)?;
    ended.recv_timeout(PATIENCE).context("the upstream to notice")?;
    until_metric(client.admin(), "evident_open_tunnels", 0.0)
}

/// A tunnel that rests: a port map cannot tell whether its application is done.
fn resting_tunnel(client: &Client) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&client.listen(), PATIENCE)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ensure!(stream.read(&mut [0; 1])? == 1, "no answer through the port map");
    Ok(stream)
}

#[test]
fn system_a_second_signal_ends_both_programs_at_once() -> Result<()> {
    for second in [Signal::TERM, Signal::INT] {
        let upstream = slow_http()?;
        let mut guest = Guest::in_front_of(upstream.address()).start()?;
        let mut client = Client::of(&guest, &[]).start()?;
        let _tunnel = resting_tunnel(&client)?;
        for program in [&mut client.program, &mut guest.program] {
            program.signal(Signal::INT)?;
            program.wait_for_output("draining", PATIENCE)?;
            ensure!(program.ended()?.is_none(), "the drain did not wait for an open tunnel");
            let begun = Instant::now();
            program.signal(second)?;
            let status = program.wait(PATIENCE)?;
            ensure!(
                status.success() && begun.elapsed() < Duration::from_secs(5),
                "{status} after {:?}",
                begun.elapsed()
            );
        }
    }
    Ok(())
}

#[test]
fn system_sighup_is_logged_and_ends_nothing() -> Result<()> {
    let upstream = Upstream::http()?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[]).start()?;
    for program in [&mut client.program, &mut guest.program] {
        program.signal(Signal::HUP)?;
        program.wait_for_output("SIGHUP is ignored", PATIENCE)?;
    }
    curl().args(["--fail", &format!("http://{}/", client.listen())]).run(PATIENCE)?.success()?;
    Ok(())
}
