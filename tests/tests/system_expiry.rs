//! What a policy relies on ends, and with it every tunnel that rests on it, by whatever way in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Upstream};

const NAME: &str = "web.example";
const MAX_AGE: &str = "[freshness]\nmax_age = \"2s\"\n";

#[test]
fn system_a_tunnel_of_the_port_map_ends_with_the_policys_max_age() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).policy(|policy| policy.extra(MAX_AGE)).start()?;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(client.listen())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    while stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte)).is_ok() {
        ensure!(begun.elapsed() < PATIENCE, "the tunnel outlives what it rests on");
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn system_a_kept_tunnel_of_the_http_proxy_ends_with_the_policys_max_age() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).policy(|policy| policy.extra(MAX_AGE)).start()?;
    let mut stream = TcpStream::connect(client.http_proxy())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut ask = || -> Result<usize> {
        write!(stream, "GET http://{NAME}/bytes/5 HTTP/1.1\r\nHost: {NAME}\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"xxxxx") {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk)?;
            ensure!(n > 0, "the proxy closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..n]);
        }
        Ok(upstream.accepted())
    };
    let first = ask()?;
    ensure!(ask()? == first, "a tunnel is kept while it is good");
    std::thread::sleep(Duration::from_millis(3500));
    // The application's connection to the proxy lives on; the tunnel behind it is another.
    ensure!(ask()? == first + 1, "a request went through a tunnel that rests on nothing any more");
    Ok(())
}
