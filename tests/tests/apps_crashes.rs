//! What an application sees when the upstream, the guest or the client proxy dies in mid-stream: never a clean end of a
//! response that was cut short, and service again without restarting what lived.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Upstream};

/// Sends without an end, until the peer is gone; reports how that showed.
fn endless(ends: mpsc::Sender<std::io::Result<usize>>) -> Result<Upstream> {
    Upstream::start("127.0.0.1:0", move |mut stream| {
        let mut reader = stream.try_clone()?;
        let reading = std::thread::spawn(move || reader.read(&mut [0; 64]));
        let broken = loop {
            match stream.write_all(&[b'.'; 1024]) {
                Ok(()) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => break error,
            }
        };
        // A reset is told once, to whichever call is there first; to a write after an end of file it would be a broken pipe.
        let end = match reading.join() {
            Ok(Ok(0)) if broken.kind() == ErrorKind::ConnectionReset => Err(broken),
            Ok(read) => read,
            Err(_) => return Err(std::io::Error::other("the reader panicked")),
        };
        let _ = ends.send(end);
        Ok(())
    })
}

/// A connection on which the stream has begun.
fn in_mid_stream(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; 10_000]).context("the beginning of the stream")?;
    Ok(stream)
}

/// Reads on to the end and gives the kind of error that it is; an error if it is a clean one.
fn end_of(mut stream: TcpStream) -> Result<ErrorKind> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the stream was cut short and passes as complete"),
            Ok(_) => {}
            Err(error) => return Ok(error.kind()),
        }
    }
}

#[test]
fn apps_a_response_that_the_upstream_ends_is_complete() -> Result<()> {
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        stream.write_all(&[b'.'; 300_000])?;
        stream.shutdown(Shutdown::Write)
    })?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let mut whole = Vec::new();
    TcpStream::connect(client.listen())?.read_to_end(&mut whole)?;
    ensure!(whole.len() == 300_000, "{} bytes", whole.len());
    Ok(())
}

#[test]
fn apps_a_crash_of_the_upstream_resets_the_application_and_nothing_else() -> Result<()> {
    let (ends, _seen) = mpsc::channel();
    let upstream = endless(ends)?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let stream = in_mid_stream(client.listen())?;
    upstream.reset_connections();
    ensure!(end_of(stream)? == ErrorKind::ConnectionReset, "wanted a reset");
    in_mid_stream(client.listen()).context("the next connection, with both proxies as they were")?;
    Ok(())
}

#[test]
fn apps_an_upstream_that_is_not_there_is_a_reset_and_then_recovers() -> Result<()> {
    let gone = Upstream::echo()?.address();
    let guest = Guest::in_front_of(gone).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let mut stream = TcpStream::connect(client.listen())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ensure!(end_of(stream.try_clone()?)? == ErrorKind::ConnectionReset, "wanted a reset");
    let _upstream = Upstream::start(&gone.to_string(), |mut stream| stream.write_all(b"back"))?;
    stream = TcpStream::connect(client.listen())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "back", "{answer:?}");
    Ok(())
}

#[test]
fn apps_a_crash_of_the_guest_resets_the_application_and_the_client_finds_the_next_guest() -> Result<()> {
    let (ends, seen) = mpsc::channel();
    let upstream = endless(ends)?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let stream = in_mid_stream(client.listen())?;
    guest.program.kill()?;
    ensure!(end_of(stream)? == ErrorKind::ConnectionReset, "wanted a reset");
    seen.recv_timeout(PATIENCE).context("the upstream noticed")?.ok();
    let again = Guest::in_front_of(upstream.address()).listen(guest.address()).simulator(guest.simulator());
    let _again = again.start()?;
    in_mid_stream(client.listen()).context("the same client, the next guest")?;
    Ok(())
}

#[test]
fn apps_a_crash_of_the_client_proxy_resets_both_sides_and_the_guest_serves_the_next() -> Result<()> {
    let (ends, seen) = mpsc::channel();
    let upstream = endless(ends)?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[]).start()?;
    let stream = in_mid_stream(client.listen())?;
    client.program.kill()?;
    ensure!(end_of(stream)? == ErrorKind::ConnectionReset, "wanted a reset at the application");
    let end = seen.recv_timeout(PATIENCE).context("the upstream noticed")?;
    ensure!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "the upstream saw {end:?}");
    let next = Client::of(&guest, &[]).start()?;
    in_mid_stream(next.listen()).context("the same guest, the next client")?;
    Ok(())
}

#[test]
fn apps_sigterm_lets_a_response_finish_and_then_ends_both_proxies() -> Result<()> {
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        for _ in 0..20 {
            stream.write_all(&[b'.'; 1000])?;
            std::thread::sleep(Duration::from_millis(50));
        }
        stream.shutdown(Shutdown::Write)
    })?;
    let mut guest = Guest::in_front_of(upstream.address()).start()?;
    let mut client = Client::of(&guest, &[]).start()?;
    let mut stream = TcpStream::connect(client.listen())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; 1000])?;
    guest.program.signal(rustix::process::Signal::TERM)?;
    client.program.signal(rustix::process::Signal::TERM)?;
    wait::until("both listeners to close", PATIENCE, || {
        Ok((!wait::listening(guest.address()) && !wait::listening(client.listen())).then_some(()))
    })?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.len() == 19_000, "{} bytes after SIGTERM", rest.len());
    drop(stream);
    ensure!(client.program.wait(PATIENCE)?.success(), "evident-client did not end well");
    ensure!(guest.program.wait(PATIENCE)?.success(), "evident-proxy did not end well");
    Ok(())
}
