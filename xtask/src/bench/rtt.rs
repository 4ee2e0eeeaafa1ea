//! From ClientHello to the first application byte at the upstream: a port map, one handshake at a time, at
//! least 100 ms apart, an established TCP connection to start from, over a relay that delays.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use evident_tests::{Client, Guest};

use super::delay::DelayRelay;

/// RTT and time of a report in ms, and the target in ms; the last column is what attesting after the handshake takes.
const CASES: [(u64, u64, Option<u64>, f64); 5] = [
    (2, 7, None, 19.3),
    (20, 7, Some(48), 64.6),
    (20, 40, None, 97.8),
    (80, 7, Some(140), 214.9),
    (80, 40, None, 248.4),
];

pub(crate) fn run(rounds: usize, profile: &str) -> Result<()> {
    println!("SIMULATED, PROVES NOTHING: the device is the simulator, its report takes the time given.");
    println!("{profile} build, {rounds} handshakes per case, one at a time; milliseconds, median (min-max)\n");
    println!(
        "| RTT / report | ClientHello to first byte at the upstream | with TCP connect | target | attesting after the handshake |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (rtt, report, target, peers) in CASES {
        let mut times = measure(Duration::from_millis(rtt), report, rounds)?;
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let target =
            target.map_or("-".to_owned(), |t| format!("{t} ({})", if median <= t as f64 { "met" } else { "MISSED" }));
        println!(
            "| {rtt} / {report} | {median:.1} ({:.1}-{:.1}) | {:.1} | {target} | {peers} |",
            times[0],
            times[times.len() - 1],
            median + rtt as f64,
        );
    }
    Ok(())
}

fn measure(rtt: Duration, report_ms: u64, rounds: usize) -> Result<Vec<f64>> {
    let (upstream, arrivals) = upstream()?;
    let guest = Guest::in_front_of(upstream).simulated(&format!("latency_ms = {report_ms}\n")).start()?;
    let relay = DelayRelay::start(guest.address(), rtt)?;
    let client = Client::with_policy(relay.address, guest.policy()).start()?;
    // The client attests once at start; its connection is not one of ours.
    thread::sleep(rtt * 4 + Duration::from_millis(500));
    let mut times = vec![];
    for _ in 0..rounds {
        let mut application = TcpStream::connect(client.listen())?;
        application.set_nodelay(true)?;
        application.write_all(b"x")?;
        let arrived = arrivals.recv_timeout(Duration::from_secs(10)).context("the byte did not arrive")?;
        let hello = relay.last_first_byte().context("no ClientHello was seen")?;
        times.push(arrived.duration_since(hello).as_secs_f64() * 1000.0);
        drop(application);
        thread::sleep(Duration::from_millis(150) + rtt);
    }
    Ok(times)
}

/// An upstream that says when the first byte of each connection arrived.
fn upstream() -> Result<(std::net::SocketAddr, Receiver<Instant>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut byte = [0];
                if stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    let _ = sender.send(Instant::now());
                }
                let _ = stream.read(&mut [0; 64]);
            });
        }
    });
    Ok((address, receiver))
}
