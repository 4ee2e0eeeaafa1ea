//! Many connections against a slow device: one report for everything that waits, and nobody waits longer than
//! twice the device's time, beyond what the handshakes themselves take.
//!
//! Everybody comes from one address here, so the caps per source are raised in both files.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evident_tests::observe::{metric, until_metric, until_ready};
use evident_tests::{Client, Guest, Upstream};
use proxy_core::nofile::Descriptors;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const REPORTS: &str = "evident_hardware_reports_total{outcome=\"ok\"}";
const OPEN_TUNNELS: &str = "evident_open_tunnels";
/// Nothing here may take longer; what does has hung.
const HANG: Duration = Duration::from_secs(90);

const GUEST_LIMITS: &str = "[limits]\n\
    connections_per_source = 4000\n\
    pending_leaves_per_source = 4000\n\
    idle_connections_per_source = 4000\n\
    client_hello = \"60s\"\n\
    handshake = \"60s\"\n\
    attest = \"60s\"\n";
/// Each connection is to be one handshake and one leaf.
const CLIENT_LIMITS: &str = "[limits]\n\
    pool_connections = 0\n\
    connections = 4000\n\
    connections_per_source = 4000\n\
    handshake = \"60s\"\n\
    attest = \"60s\"\n";

/// A pair whose device takes so long, ready; the client's own first attestation is over.
fn pair(upstream: SocketAddr, device: Duration) -> Result<(Guest, Client)> {
    let latency = format!("latency_ms = {}", device.as_millis());
    let guest = Guest::in_front_of(upstream).simulated(&latency).config(GUEST_LIMITS).log("warn").start()?;
    let client = Client::of(&guest, &[]).config(CLIENT_LIMITS).log("warn").start()?;
    until_ready(client.admin())?;
    Ok((guest, client))
}

/// How long each of `count` connections, opened at once and all kept, took from connecting to its first echo.
async fn open_at_once(address: SocketAddr, count: u32) -> Result<(Vec<Duration>, Vec<TcpStream>)> {
    let begun = Instant::now();
    let mut opening = JoinSet::new();
    for number in 0..count {
        opening.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&number.to_be_bytes()).await?;
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed).await.with_context(|| format!("connection {number}"))?;
            ensure!(echoed == number.to_be_bytes(), "connection {number} got another's bytes");
            Ok((begun.elapsed(), stream))
        });
    }
    let opened = timeout(HANG, opening.join_all()).await.context("a connection hangs")?;
    opened.into_iter().collect::<Result<Vec<_>>>().map(|opened| opened.into_iter().unzip())
}

/// An echo that thousands may use at once.
async fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    Ok(address)
}

#[test]
fn system_two_thousand_connections_at_once_are_served_by_four_reports_heavy() -> Result<()> {
    const CONNECTIONS: u32 = 2_000;
    // The clients' and the upstream's ends are descriptors of this process.
    ensure!(Descriptors::raised().limit() > 6_000, "needs 6,000 descriptors");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let upstream = runtime.block_on(echo())?;

    // What the same handshakes take where the device takes nothing.
    let handshakes = {
        let (_guest, client) = pair(upstream, Duration::ZERO)?;
        let (times, _open) = runtime.block_on(open_at_once(client.listen(), CONNECTIONS))?;
        times.into_iter().max().context("some connections")?
    };

    // A second, or on a machine whose handshakes take several by themselves a device that is as much slower.
    let device = Duration::from_secs(1).max(handshakes / 2);
    let (guest, client) = pair(upstream, device)?;
    let before = metric(guest.admin(), REPORTS)?;
    let (times, open) = runtime.block_on(open_at_once(client.listen(), CONNECTIONS))?;
    let reports = metric(guest.admin(), REPORTS)? - before;
    let longest = times.iter().max().copied().context("some connections")?;
    println!(
        "{CONNECTIONS} connections, {device:?} a report: {reports} reports, longest {longest:?}; without {handshakes:?}"
    );

    ensure!(times.len() == 2_000, "{} were served", times.len());
    ensure!(reports <= 4.0, "{reports} reports were asked for");
    // The handshakes were measured at another moment of the machine: half as much again.
    ensure!(
        longest <= 2 * device + handshakes * 3 / 2,
        "a connection waited {longest:?}; handshakes alone take {handshakes:?}"
    );
    ensure!(metric(client.admin(), OPEN_TUNNELS)? == 2_000.0, "all are open at once");
    drop(open);
    until_metric(guest.admin(), OPEN_TUNNELS, 0.0)?;
    until_metric(client.admin(), OPEN_TUNNELS, 0.0)
}

#[test]
fn system_everything_that_waits_is_served_by_one_report() -> Result<()> {
    const DEVICE: Duration = Duration::from_secs(2);
    let upstream = Upstream::echo()?;
    let (guest, client) = pair(upstream.address(), DEVICE)?;
    let before = metric(guest.admin(), REPORTS)?;
    let leaves_before = metric(guest.admin(), "evident_batch_leaves_sum")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    let longest = runtime.block_on(async {
        let first = tokio::spawn(open_at_once(client.listen(), 1));
        // The device is held by the first one's report; these come meanwhile and wait together.
        tokio::time::sleep(DEVICE / 4).await;
        let (times, _open) = open_at_once(client.listen(), 40).await?;
        let (_, _open) = first.await??;
        times.into_iter().max().context("some connections")
    })?;
    let reports = metric(guest.admin(), REPORTS)? - before;
    ensure!(reports == 2.0, "{reports} reports in {:?}", begun.elapsed());
    ensure!(metric(guest.admin(), "evident_batch_leaves_sum")? - leaves_before == 41.0, "each connection is one leaf");
    ensure!(longest <= 2 * DEVICE, "one waited {longest:?}");
    Ok(())
}

#[test]
fn system_a_throttled_device_is_asked_no_sooner_than_it_allows() -> Result<()> {
    let upstream = Upstream::echo()?;
    let simulated = "latency_ms = 5\nmin_interval_ms = 1000";
    let guest = Guest::in_front_of(upstream.address()).simulated(simulated).config(GUEST_LIMITS).start()?;
    let client = Client::of(&guest, &[]).config(CLIENT_LIMITS).start()?;
    until_ready(client.admin())?;
    let before = metric(guest.admin(), REPORTS)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    let longest = runtime.block_on(async {
        let mut opened = Vec::new();
        while begun.elapsed() < Duration::from_secs(3) {
            opened.push(tokio::spawn(open_at_once(client.listen(), 1)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut longest = Duration::ZERO;
        for one in opened {
            longest = longest.max(one.await??.0.into_iter().max().unwrap_or_default());
        }
        anyhow::Ok(longest)
    })?;
    let reports = metric(guest.admin(), REPORTS)? - before;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!((3.0..=seconds + 1.0).contains(&reports), "{reports} reports in {seconds} s");
    ensure!(metric(guest.admin(), "evident_hardware_reports_total{outcome=\"busy\"}")? == 0.0, "the device said BUSY");
    // Twice the interval, and a second for a handshake on a busy machine.
    ensure!(longest <= Duration::from_secs(3), "one waited {longest:?}");
    Ok(())
}
