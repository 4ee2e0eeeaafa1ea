//! The batcher at scale: its rule (ARCHITECTURE.md, "One connection"), over guests and connections in numbers that no machine here holds.
//!
//! A guest's device takes `report` for one report and may be asked once per `interval` (a burst of 8 first, where nobody else
//! shares it). Whatever is pending when it may be asked becomes one batch. Arrivals come evenly in time with a xorshift for jitter,
//! so that every run gives the same numbers.

use std::fmt::Write as _;

/// One kind of device.
struct Device {
    name: &'static str,
    report_s: f64,
    interval_s: f64,
}

const DEVICES: [Device; 3] = [
    Device { name: "AMD-SP of a guest, 7 ms", report_s: 0.007, interval_s: 0.1 },
    Device { name: "throttled to one in 2 s (GCE)", report_s: 0.04, interval_s: 2.0 },
    Device { name: "paravisor, one in 2.2 s (Azure)", report_s: 0.5, interval_s: 2.2 },
];

struct Rng(u64);

impl Rng {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Batched {
    reports: usize,
    largest: usize,
    longest_wait_s: f64,
    mean_wait_s: f64,
}

/// Arrival times, sorted → what the batcher does with them.
fn batch(arrivals: &[f64], device: &Device) -> Batched {
    const LARGEST_TREE: usize = 16_384;
    let (mut at, mut free, mut allowed) = (0, 0.0_f64, 0.0_f64);
    let mut seen = Batched { reports: 0, largest: 0, longest_wait_s: 0.0, mean_wait_s: 0.0 };
    while let Some(first) = arrivals.get(at) {
        let start = first.max(free).max(allowed);
        let pending = arrivals[at..].iter().take_while(|arrival| **arrival <= start).count().clamp(1, LARGEST_TREE);
        let done = start + device.report_s;
        for arrival in arrivals.iter().skip(at).take(pending) {
            seen.longest_wait_s = seen.longest_wait_s.max(done - arrival);
            seen.mean_wait_s += done - arrival;
        }
        seen.reports += 1;
        seen.largest = seen.largest.max(pending);
        (free, allowed) = (done, start + device.interval_s);
        at += pending;
    }
    seen.mean_wait_s /= arrivals.len().max(1) as f64;
    seen
}

/// 1,000 guests with 1,000 tunnels each: all at once, and evenly over ten minutes (the life of a pooled connection).
pub(crate) fn at_scale() -> String {
    let mut text = String::from(
        "| device | 10^6 tunnels on 1,000 guests | reports in all | most leaves in one | longest wait | mean wait |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
    for device in &DEVICES {
        for (what, spread_s) in [("all within one second", 1.0), ("renewed over ten minutes", 600.0)] {
            let mut sum = Batched { reports: 0, largest: 0, longest_wait_s: 0.0, mean_wait_s: 0.0 };
            for _ in 0..1_000 {
                let mut arrivals: Vec<f64> = (0..1_000).map(|_| rng.next() * spread_s).collect();
                arrivals.sort_by(f64::total_cmp);
                let guest = batch(&arrivals, device);
                sum.reports += guest.reports;
                sum.largest = sum.largest.max(guest.largest);
                sum.longest_wait_s = sum.longest_wait_s.max(guest.longest_wait_s);
                sum.mean_wait_s += guest.mean_wait_s / 1_000.0;
            }
            let _ = writeln!(
                text,
                "| {} | {what} | {} | {} | {:.0} ms | {:.0} ms |",
                device.name,
                sum.reports,
                sum.largest,
                sum.longest_wait_s * 1e3,
                sum.mean_wait_s * 1e3,
            );
        }
    }
    text
}

/// What was measured, as costs of one unit each.
pub(crate) struct Costs {
    /// CPU µs of both halves: a tunnel on a connection that waits, with one request.
    pub(crate) tunnel_us: f64,
    /// CPU µs of the guest: a handshake with its share of ATTEST.
    pub(crate) handshake_us: f64,
    /// CPU µs of both halves: a request on a kept tunnel.
    pub(crate) request_us: f64,
    /// CPU s of both halves for 10^9 bytes down.
    pub(crate) gigabyte_s: f64,
    /// Memory of both halves for an idle tunnel.
    pub(crate) idle_kib: f64,
}

impl Costs {
    /// What that makes for a fleet.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| at 1,000 guests and 10^6 tunnels | in all | per guest |\n| --- | --- | --- |\n");
        let mut row = |what: &str, all: f64, unit: &str, digits: usize| {
            let _ = writeln!(text, "| {what} | {all:.digits$} {unit} | {:.3} {unit} |", all / 1_000.0);
        };
        row("memory of held tunnels, both halves", self.idle_kib * 1e6 / 1024.0 / 1024.0, "GiB", 1);
        row("CPU of opening each tunnel once more per minute", self.tunnel_us * 1e6 / 60.0 / 1e6, "cores", 1);
        row(
            "CPU of a fresh handshake each ten minutes for each, guests' half",
            self.handshake_us * 1e6 / 600.0 / 1e6,
            "cores",
            2,
        );
        row("CPU of one request per second on each", self.request_us, "cores", 1);
        row("CPU of 1 Gbit/s through each guest", self.gigabyte_s * 0.125 * 1e3, "cores", 1);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_waits_is_one_report_and_nobody_waits_twice_the_interval_longer() {
        let device = &DEVICES[1];
        let arrivals: Vec<f64> = (0..10_000).map(|n| f64::from(n) * 0.001).collect();
        let seen = batch(&arrivals, device);
        assert_eq!(seen.reports, 6, "one at once, then one in two seconds");
        assert!(seen.longest_wait_s <= 2.0 * device.interval_s);
        assert!(seen.largest >= 1_999);
    }
}
