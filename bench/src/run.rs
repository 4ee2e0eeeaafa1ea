//! The workloads over all pairs: interleaved (A B C, then C B A), so that what else the machine does hits all alike, and the
//! median of the rounds. CPU comes first: a rate on loopback is the cost of the whole chain, load and upstream with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::peers::{ALL, Pair, Place};
use crate::proc::machine_busy_seconds;

/// Below the ephemeral ports.
const FIRST_PORT: u16 = 23_000;

/// One workload.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    kind: &'static str,
    connections: usize,
    /// Of the server half alone.
    of_server: bool,
}

pub(crate) const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "conn",
        title: "New connection and one request, 16 at a time",
        kind: "conn",
        connections: 16,
        of_server: false,
    },
    Workload {
        name: "handshake",
        title: "First connections: full handshakes with the server half, 16 at the same moment, ten times a second",
        kind: "handshake",
        connections: 16,
        of_server: true,
    },
    Workload {
        name: "http",
        title: "Requests on kept connections, 64 at a time, 1 KiB",
        kind: "http",
        connections: 64,
        of_server: false,
    },
    Workload {
        name: "slow",
        title: "32 clients of an upstream that thinks for 100 ms",
        kind: "slow",
        connections: 32,
        of_server: false,
    },
    Workload {
        name: "events",
        title: "64 event streams, 64 bytes every 10 ms: latency added to an event",
        kind: "events",
        connections: 64,
        of_server: false,
    },
    Workload { name: "down", title: "Download, 8 streams", kind: "down", connections: 8, of_server: false },
    Workload { name: "up", title: "Upload, 8 streams", kind: "up", connections: 8, of_server: false },
    Workload { name: "idle", title: "Idle tunnels, 2,000 held", kind: "idle", connections: 2_000, of_server: false },
];

/// What one run gave, by name of the quantity.
pub(crate) type Quantities = BTreeMap<&'static str, f64>;

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Measured {
    /// workload → pair → runs.
    pub(crate) runs: BTreeMap<&'static str, BTreeMap<&'static str, Vec<Quantities>>>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) micro: Vec<String>,
    /// Name, grown KiB.
    pub(crate) flatness: Vec<(String, f64)>,
}

impl Measured {
    pub(crate) fn median(&self, workload: &str, pair: &str, quantity: &str) -> Option<f64> {
        let mut all: Vec<f64> =
            self.runs.get(workload)?.get(pair)?.iter().filter_map(|run| run.get(quantity).copied()).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn this() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn all(binaries: &Path, rounds: usize, seconds: u64, only: &[String]) -> Result<Measured> {
    let directory = std::env::temp_dir().join(format!("evident-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let upstream = address(FIRST_PORT);
    let _upstream = Killed(this()?.arg("upstream").arg(upstream.to_string()).spawn()?);
    std::thread::sleep(Duration::from_millis(300));
    let mut pairs = Vec::new();
    for (name, number) in ALL.into_iter().zip(1_u16..) {
        let place = Place {
            binaries,
            directory: directory.join(name),
            upstream,
            client: address(FIRST_PORT + 10 * number),
            server: address(FIRST_PORT + 10 * number + 1),
        };
        pairs.push(Pair::start(name, &place).with_context(|| format!("logs are in {}", directory.display()))?);
    }
    let mut measured = Measured { rounds, seconds, ..Measured::default() };
    // First: after thousands of connections there would be room that was taken before.
    if only.is_empty() || only.iter().any(|name| name == "flat") {
        measured.flatness = flatness(&pairs[0])?;
    }
    for workload in &WORKLOADS {
        if !only.is_empty() && !only.iter().any(|name| name == workload.name) {
            continue;
        }
        for round in 0..if workload.kind == "idle" { 1 } else { rounds } {
            let mut order: Vec<&Pair> = pairs.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for pair in order {
                let run =
                    one(workload, pair, seconds).with_context(|| format!("{} over {}", workload.name, pair.name))?;
                eprintln!("{} {} {run:.2?}", workload.name, pair.name);
                measured.runs.entry(workload.name).or_default().entry(pair.name).or_default().push(run);
            }
        }
    }
    if only.is_empty() || only.iter().any(|name| name == "micro") {
        measured.micro = crate::micro::run()?;
    }
    drop(pairs);
    let _ = std::fs::remove_dir_all(&directory);
    Ok(measured)
}

fn one(workload: &Workload, pair: &Pair, seconds: u64) -> Result<Quantities> {
    let to = if workload.of_server { pair.server } else { pair.client };
    let kind = match (workload.kind, pair.name) {
        ("handshake", "evident") => "handshake-evident",
        ("handshake", _) => "handshake-tls",
        (kind, _) => kind,
    };
    let mut load = this()?;
    load.args(["load", &to.to_string(), "--kind", kind, "--connections", &workload.connections.to_string()]);
    if workload.kind == "handshake" {
        // As often as the device may be asked, so that all pairs see the same arrivals. Few for a tick of 10 ms: longer.
        load.args(["--every-ms", "100", "--seconds", &(3 * seconds).to_string()]);
    } else {
        load.args(["--seconds", &seconds.to_string()]);
    }
    if workload.kind == "idle" {
        return idle(load, pair, workload.connections);
    }
    let (before, busy, begun) = (pair.cpu(), machine_busy_seconds(), Instant::now());
    let output = load.stderr(Stdio::inherit()).output()?;
    let (after, elapsed) = (pair.cpu(), begun.elapsed().as_secs_f64());
    ensure!(output.status.success(), "the load failed");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| outcome.get(key).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    let (client, server) = (after[0] - before[0], after[1] - before[1]);
    let mut run = Quantities::from([
        ("errors", number("errors")),
        ("p50_us", number("p50_us")),
        ("p99_us", number("p99_us")),
        ("busy", (machine_busy_seconds() - busy) / elapsed),
    ]);
    if number("bytes") > 0.0 {
        let gigabytes = number("bytes") / 1e9;
        run.insert("gb_per_s", gigabytes / number("seconds"));
        run.insert("client_s_per_gb", client / gigabytes);
        run.insert("server_s_per_gb", server / gigabytes);
        run.insert("pair_s_per_gb", (client + server) / gigabytes);
    } else {
        let operations = number("operations").max(1.0);
        run.insert("per_s", operations / number("seconds"));
        run.insert("client_us", client * 1e6 / operations);
        run.insert("server_us", server * 1e6 / operations);
        run.insert("pair_us", (client + server) * 1e6 / operations);
    }
    Ok(run)
}

fn idle(mut load: Command, pair: &Pair, connections: usize) -> Result<Quantities> {
    let before = pair.memory_kib();
    let mut holding = Killed(load.stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    let stdout = holding.0.stdout.take().context("it is piped")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    ensure!(line.contains(&connections.to_string()), "not all are held: {line}");
    std::thread::sleep(Duration::from_secs(2));
    let held = pair.memory_kib();
    drop(holding);
    let each = |half: usize| (held[half] - before[half]) / connections as f64;
    Ok(Quantities::from([("client_kib", each(0)), ("server_kib", each(1)), ("pair_kib", each(0) + each(1))]))
}

/// How much memory a long upload and a reader that stops for a minute cost both halves.
fn flatness(pair: &Pair) -> Result<Vec<(String, f64)>> {
    let total = |pair: &Pair| pair.memory_kib().iter().sum::<f64>();
    let warm = |bytes: &str| -> Result<()> {
        let to = pair.client.to_string();
        let status = this()?
            .args(["load", &to, "--kind", "up", "--connections", "1", "--bytes", bytes])
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "the upload failed");
        Ok(())
    };
    warm("1000000000")?;
    let before = total(pair);
    warm("10000000000")?;
    let after_upload = total(pair) - before;

    let mut stopped = std::net::TcpStream::connect(pair.client)?;
    std::io::Write::write_all(
        &mut stopped,
        b"GET /bytes/10000000000 HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
    )?;
    std::thread::sleep(Duration::from_secs(60));
    let after_stop = total(pair) - before;
    drop(stopped);
    Ok(vec![
        ("an upload of 10 GB".to_owned(), after_upload),
        ("a reader that stopped for a minute".to_owned(), after_stop),
    ])
}
