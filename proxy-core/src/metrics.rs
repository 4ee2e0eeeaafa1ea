//! What both proxies count, in Prometheus' text format.
//!
//! Every label has a bounded set of values: an enum of this file, or identifiers that are constants of the program
//! (`&'static str`: finding ids, refusal reasons). Nothing that a peer wrote becomes a label; nor do addresses or names.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::ConstCounter;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::log_writer;

type Label = (&'static str, &'static str);

/// The counters of one process. Made once; shared behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    connections: Family<[Label; 1], Counter>,
    open_connections: Family<[Label; 1], Gauge>,
    refused: Family<[Label; 1], Counter>,
    verdicts: Family<[Label; 2], Counter>,
    levels: Family<[Label; 3], Counter>,
    batch_leaves: Histogram,
    hardware_reports: Family<[Label; 1], Counter>,
    hardware_latency: Histogram,
    bytes_inward: Counter,
    bytes_outward: Counter,
    tunnels: Counter,
    open_tunnels: Gauge,
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `evident/1`, at either end.
    Attested,
    /// Ordinary HTTPS, at the guest.
    Plain,
    /// From an application, at the client.
    Local,
}

/// How an appraisal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
}

/// How a request to the hardware ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Busy,
    Failed,
}

/// Seen from the application that a proxy serves: towards the server, or back to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// Reads the count where it is kept: the log outlives any one [`Metrics`].
#[derive(Debug)]
struct LostLogLines;

impl Collector for LostLogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lost = ConstCounter::new(log_writer::lost_lines());
        let metric = encoder.encode_descriptor(
            "lost_log_lines",
            "Log lines that could not be written, or found the queue full",
            None,
            lost.metric_type(),
        )?;
        lost.encode(metric)
    }
}

/// The reason of an accepted verdict.
const NO_REASON: &str = "none";

impl Metrics {
    /// `program` and `version` become the labels of `evident_build_info`.
    pub fn new(program: &'static str, version: &'static str) -> Self {
        let metrics = Metrics {
            registry: Registry::with_prefix("evident"),
            connections: Family::default(),
            open_connections: Family::default(),
            refused: Family::default(),
            verdicts: Family::default(),
            levels: Family::default(),
            // 1, 2, 4 … 32,768 leaves; a tree has at most 65,536.
            batch_leaves: Histogram::new(exponential_buckets(1.0, 2.0, 16)),
            hardware_reports: Family::default(),
            // 1 ms … 16 s: an AMD-SP takes some milliseconds, a throttled one seconds.
            hardware_latency: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            bytes_inward: Counter::default(),
            bytes_outward: Counter::default(),
            tunnels: Counter::default(),
            open_tunnels: Gauge::default(),
        };
        metrics.registered(program, version)
    }

    fn registered(mut self, program: &'static str, version: &'static str) -> Self {
        let r = &mut self.registry;
        r.register("build", "The program that answers", Info::new([("program", program), ("version", version)]));
        r.register("connections", "Connections begun, by kind", self.connections.clone());
        r.register("open_connections", "Connections open now, by kind", self.open_connections.clone());
        r.register("refused_connections", "Connections not served, by reason", self.refused.clone());
        r.register(
            "verdicts",
            "Attestation results; a refused one counts once per fatal finding",
            self.verdicts.clone(),
        );
        r.register(
            "levels",
            "Trust tables of attestation results: once per component, by level and the root that vouches",
            self.levels.clone(),
        );
        r.register("batch_leaves", "Leaves per batch, one hardware report each", self.batch_leaves.clone());
        r.register("hardware_reports", "Reports asked of the hardware, by outcome", self.hardware_reports.clone());
        r.register_with_unit(
            "hardware_report_latency",
            "Time that the hardware took for a report",
            Unit::Seconds,
            self.hardware_latency.clone(),
        );
        let bytes: Family<[Label; 1], Counter> = Family::default();
        self.bytes_inward = bytes.get_or_create_owned(&[("direction", "to_server")]);
        self.bytes_outward = bytes.get_or_create_owned(&[("direction", "to_client")]);
        r.register_with_unit("relayed", "Application bytes relayed, by direction", Unit::Bytes, bytes);
        r.register_collector(Box::new(LostLogLines));
        r.register("tunnels", "Tunnels opened", self.tunnels.clone());
        r.register("open_tunnels", "Tunnels open now", self.open_tunnels.clone());
        self
    }

    /// Counts a connection for as long as the value lives.
    pub fn connection(&self, kind: Kind) -> Counted {
        let labels = [("kind", kind.label())];
        self.connections.get_or_create(&labels).inc();
        Counted::new(self.open_connections.get_or_create_owned(&labels))
    }

    /// Counts a tunnel for as long as the value lives.
    pub fn tunnel(&self) -> Counted {
        self.tunnels.inc();
        Counted::new(self.open_tunnels.clone())
    }

    /// A connection that was ended before it was served: over a limit, or a failed handshake.
    pub fn refused_connection(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// One component of one attestation result's trust table. All three are words of the program, not of a peer.
    pub fn level(&self, component: &'static str, level: &'static str, anchor: &'static str) {
        self.levels.get_or_create(&[("component", component), ("level", level), ("anchor", anchor)]).inc();
    }

    /// One attestation result. `reasons` are the ids of the fatal findings; none with an accepted one.
    pub fn verdict(&self, verdict: Verdict, reasons: impl IntoIterator<Item = &'static str>) {
        let mut reasons = reasons.into_iter().peekable();
        if reasons.peek().is_none() {
            self.verdicts.get_or_create(&[("verdict", verdict.label()), ("reason", NO_REASON)]).inc();
        }
        for reason in reasons {
            self.verdicts.get_or_create(&[("verdict", verdict.label()), ("reason", reason)]).inc();
        }
    }

    /// One request to the hardware, for a batch of so many leaves.
    pub fn hardware_report(&self, outcome: Outcome, leaves: usize, took: Duration) {
        self.hardware_reports.get_or_create(&[("outcome", outcome.label())]).inc();
        self.batch_leaves.observe(u32::try_from(leaves).unwrap_or(u32::MAX).into());
        self.hardware_latency.observe(took.as_secs_f64());
    }

    /// The counter of one direction, for a relay to keep.
    pub fn bytes(&self, direction: Direction) -> Counter {
        match direction {
            Direction::ToServer => self.bytes_inward.clone(),
            Direction::ToClient => self.bytes_outward.clone(),
        }
    }

    /// Everything, in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String does not fail");
        out
    }
}

/// Something that is open; dropping it counts it back.
#[must_use = "it counts only as long as it lives"]
pub struct Counted {
    gauge: Gauge,
}

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Counted { gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Attested => "attested",
            Kind::Plain => "plain",
            Kind::Local => "local",
        }
    }
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Refused => "refused",
        }
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Busy => "busy",
            Outcome::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.encode().lines().any(|l| l == line)
    }

    #[test]
    fn counts_what_happened_under_stable_names() {
        let metrics = Metrics::new("evident-proxy", "0.1.0");
        let connection = metrics.connection(Kind::Attested);
        let _tunnel = metrics.tunnel();
        metrics.refused_connection("source");
        metrics.verdict(Verdict::Accepted, []);
        metrics.verdict(Verdict::Refused, ["R_SIG", "E_CHAIN"]);
        metrics.level("firmware", "L3", "amd-sp");
        metrics.hardware_report(Outcome::Ok, 3, Duration::from_millis(7));
        metrics.bytes(Direction::ToServer).inc_by(10);
        for line in [
            r#"evident_build_info{program="evident-proxy",version="0.1.0"} 1"#,
            r#"evident_connections_total{kind="attested"} 1"#,
            r#"evident_open_connections{kind="attested"} 1"#,
            r#"evident_refused_connections_total{reason="source"} 1"#,
            r#"evident_verdicts_total{verdict="accepted",reason="none"} 1"#,
            r#"evident_verdicts_total{verdict="refused",reason="R_SIG"} 1"#,
            r#"evident_verdicts_total{verdict="refused",reason="E_CHAIN"} 1"#,
            r#"evident_levels_total{component="firmware",level="L3",anchor="amd-sp"} 1"#,
            r#"evident_batch_leaves_sum 3.0"#,
            r#"evident_batch_leaves_bucket{le="2.0"} 0"#,
            r#"evident_batch_leaves_bucket{le="4.0"} 1"#,
            r#"evident_hardware_reports_total{outcome="ok"} 1"#,
            r#"evident_hardware_report_latency_seconds_count 1"#,
            r#"evident_relayed_bytes_total{direction="to_server"} 10"#,
            r#"evident_relayed_bytes_total{direction="to_client"} 0"#,
            r#"evident_tunnels_total 1"#,
            r#"evident_open_tunnels 1"#,
        ] {
            assert!(has(&metrics, line), "{line}\n{}", metrics.encode());
        }
        drop(connection);
        assert!(has(&metrics, r#"evident_open_connections{kind="attested"} 0"#));
        assert!(has(&metrics, r#"evident_connections_total{kind="attested"} 1"#));
    }
}
