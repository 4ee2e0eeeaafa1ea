//! docs/performance.md and its plots.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::model::{Costs, at_scale};
use crate::peers::ALL;
use crate::run::{Measured, WORKLOADS};

/// Quantity, heading, digits after the point.
type Column = (&'static str, &'static str, usize);

const PER_OPERATION: &[Column] = &[
    ("pair_us", "pair CPU µs", 0),
    ("client_us", "client half", 0),
    ("server_us", "server half", 0),
    ("per_s", "per second", 0),
    ("p50_us", "p50 µs", 0),
    ("p99_us", "p99 µs", 0),
    ("errors", "errors", 0),
];
const PER_BYTE: &[Column] = &[
    ("pair_s_per_gb", "pair CPU s/GB", 2),
    ("client_s_per_gb", "client half", 2),
    ("server_s_per_gb", "server half", 2),
    ("gb_per_s", "GB/s", 2),
    ("errors", "errors", 0),
];
const PER_TUNNEL: &[Column] =
    &[("pair_kib", "both halves KiB", 1), ("client_kib", "client half", 1), ("server_kib", "server half", 1)];

fn columns(workload: &str) -> &'static [Column] {
    match workload {
        "down" | "up" => PER_BYTE,
        "idle" => PER_TUNNEL,
        "events" => {
            &[("p50_us", "p50 µs", 0), ("p99_us", "p99 µs", 0), ("pair_us", "pair CPU µs", 0), ("errors", "errors", 0)]
        }
        "handshake" => &[("server_us", "server CPU µs", 0), ("p50_us", "p50 µs", 0), ("errors", "errors", 0)],
        _ => PER_OPERATION,
    }
}

pub(crate) fn write(page: &Path, measured: &Measured) -> Result<()> {
    let folder = page.with_extension("");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let name = folder.file_name().context("a page has a name")?.to_string_lossy().into_owned();
    let date = time::OffsetDateTime::now_utc().date();
    let mut text = format!(
        "# Performance\n\n\
         Measured on {date} by `cargo xtask bench all` on {}. The attestation device is the simulator: SIMULATED, PROVES NOTHING; it signs in the \
         guest's process, which is counted as the guest's CPU.\n\n\
         A *pair* is `client (plain in) → TLS 1.3 → server (plain out) → upstream`, all on loopback of one machine. Runs are interleaved, {} rounds of \
         {} s, medians. CPU per operation is user and system time of both halves and moves least with noise; a rate on loopback is the cost of the whole \
         chain, load and upstream with it. The peers verify a pinned certificate and attest nothing; a first connection to evident waits for its report, which \
         the device is asked for at most ten times a second.\n",
        crate::proc::machine(),
        measured.rounds,
        measured.seconds,
    );
    for workload in &WORKLOADS {
        if !measured.runs.contains_key(workload.name) {
            continue;
        }
        let columns = columns(workload.name);
        let _ = write!(text, "\n## {}\n\n| pair |", workload.title);
        columns.iter().for_each(|(_, heading, _)| text.push_str(&format!(" {heading} |")));
        let _ = write!(text, "\n| --- |{}\n", " --- |".repeat(columns.len()));
        for pair in ALL {
            let _ = write!(text, "| {pair} |");
            for (quantity, _, digits) in columns {
                match measured.median(workload.name, pair, quantity) {
                    Some(value) => text.push_str(&format!(" {value:.digits$} |")),
                    None => text.push_str(" – |"),
                }
            }
            text.push('\n');
        }
        if workload.name == "conn" {
            text.push_str("\nTunnels of evident run on pooled connections that were attested before; the peers make a handshake for each connection.\n");
        }
        if let Some((quantity, heading, digits)) = columns.first() {
            let bars: Vec<(&str, f64)> = ALL
                .into_iter()
                .filter_map(|pair| Some((pair, measured.median(workload.name, pair, quantity)?)))
                .collect();
            std::fs::write(
                folder.join(format!("{}.svg", workload.name)),
                plot(workload.title, heading, &bars, *digits),
            )?;
            let _ = write!(text, "\n![{}: {heading}]({name}/{}.svg)\n", workload.title, workload.name);
        }
    }
    if !measured.flatness.is_empty() {
        text.push_str("\n## Memory that does not grow\n\n| after | both halves grew by |\n| --- | --- |\n");
        for (what, kib) in &measured.flatness {
            let _ = writeln!(text, "| {what} | {kib:.0} KiB |");
        }
    }
    if !measured.micro.is_empty() {
        text.push_str("\n## Verification and trees\n\nCPU of one thread, medians, aws-lc-rs. \"Target\" is what this project allows itself on such a machine; no test holds it.\n\n| what | measured | target |\n| --- | --- | --- |\n");
        measured.micro.iter().for_each(|row| {
            let _ = writeln!(text, "{row}");
        });
    }
    text.push_str(&model(measured));
    std::fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

fn model(measured: &Measured) -> String {
    let of = |workload, quantity| measured.median(workload, "evident", quantity);
    let mut text = String::from(
        "\n## Cost model\n\n\
         CPU and memory are linear in what is carried, hardware reports are not: a tunnel costs none where an attested connection waits, a fresh connection costs a \
         leaf, and a batch costs one report however many leaves it has.\n\n",
    );
    if let (Some(tunnel_us), Some(handshake_us), Some(request_us), Some(gigabyte_s), Some(idle_kib)) = (
        of("conn", "pair_us"),
        of("handshake", "server_us"),
        of("http", "pair_us"),
        of("down", "pair_s_per_gb"),
        of("idle", "pair_kib"),
    ) {
        let _ = write!(
            text,
            "```\nCPU of both halves [µs] = {tunnel_us:.0} · tunnels + {request_us:.0} · further requests + {:.0} · MB\n\
             CPU of the guest   [µs] = {handshake_us:.0} · fresh connections, its share of a batch of 16 included\n\
             memory of both    [KiB] = {idle_kib:.1} · held tunnels, 0 for buffers of idle ones\n\
             reports                 = min(fresh connections, seconds / max(report, interval)), quotes the same\n```\n\n",
            gigabyte_s * 1e3,
        );
        text.push_str(&Costs { tunnel_us, handshake_us, request_us, gigabyte_s, idle_kib }.table());
        text.push('\n');
    }
    text.push_str("The batcher at that scale, simulated by its rule (everything that is pending is one batch; one request per interval):\n\n");
    text.push_str(&at_scale());
    text
}

/// Horizontal bars; the shortest is best everywhere.
fn plot(title: &str, heading: &str, bars: &[(&str, f64)], digits: usize) -> String {
    const ROW: usize = 30;
    let height = 50 + ROW * bars.len();
    let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"640\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{}: {}</text>\n",
        escaped(title),
        escaped(heading)
    );
    for (number, (name, value)) in bars.iter().enumerate() {
        let y = 40 + ROW * number;
        let width = 430.0 * value / most;
        let fill = if *name == "evident" { "#1b7837" } else { "#9aa0a6" };
        let _ = writeln!(
            svg,
            "<text x=\"80\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"90\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value:.digits$}</text>",
            y + 15,
            escaped(name),
            96.0 + width,
            y + 15,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
