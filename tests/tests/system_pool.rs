//! Attested connections that wait for their next tunnel, from outside: what gives them back, and what a dead path costs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use evident_tests::curl::Way;
use evident_tests::observe::{metric, until_ready};
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Upstream};

const NAME: &str = "web.example";
const ACCEPTED: &str = "evident_verdicts_total{verdict=\"accepted\",reason=\"none\"}";

#[test]
fn system_an_attested_connection_returns_to_the_pool_whatever_way_used_it() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    until_ready(client.admin())?;
    for way in Way::all(&client, NAME) {
        let before = metric(client.admin(), ACCEPTED)?;
        for _ in 0..20 {
            ensure!(way.curl("/bytes/2").run(PATIENCE)?.success()? == "xx", "by {}", way.name);
        }
        let made = metric(client.admin(), ACCEPTED)? - before;
        // A request may come before the connection of the one before is back.
        ensure!(made <= 4.0, "20 requests by {} took {made} attested connections", way.name);
    }
    Ok(())
}

/// A relay whose connections, once frozen, swallow everything and never end; later ones work.
fn freezable(to: SocketAddr) -> Result<(SocketAddr, Arc<AtomicBool>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let freeze = Arc::new(AtomicBool::new(false));
    let frozen = Arc::clone(&freeze);
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { return };
            let works_frozen = frozen.load(Ordering::SeqCst);
            for (from, into) in [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())] {
                let (Ok(from), Ok(into)) = (from, into) else { return };
                let frozen = Arc::clone(&frozen);
                thread::spawn(move || carry(from, into, || !works_frozen && frozen.load(Ordering::SeqCst)));
            }
        }
    });
    Ok((address, freeze))
}

fn carry(mut from: TcpStream, mut into: TcpStream, is_frozen: impl Fn() -> bool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if !is_frozen() && into.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    if !is_frozen() {
        let _ = into.shutdown(Shutdown::Both);
    }
}

#[test]
fn system_a_pooled_connection_whose_path_died_costs_a_second() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let (address, freeze) = freezable(guest.address())?;
    let client = Client::with_policy(address, guest.policy().names(&[NAME])).start()?;
    until_ready(client.admin())?;
    let ways = Way::all(&client, NAME);
    ensure!(ways[0].curl("/bytes/2").run(PATIENCE)?.success()? == "xx");
    thread::sleep(Duration::from_millis(2500));
    freeze.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    ensure!(ways[0].curl("/bytes/2").run(PATIENCE)?.success()? == "xx");
    let took = begun.elapsed();
    ensure!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "the dead path cost {took:?}");
    ensure!(upstream.accepted() == 2, "DATA went out once: {} upstream connections", upstream.accepted());
    Ok(())
}
