//! What a process and its children used, from /proc.

use std::collections::HashMap;
use std::fs;

/// Ticks of `stat` are hundredths of a second on every Linux that this runs on (`getconf CLK_TCK`).
const TICK: f64 = 0.01;

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A process and everything below it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut todo) = (vec![], vec![root]);
    while let Some(pid) = todo.pop() {
        found.push(pid);
        todo.extend(children.get(&pid).into_iter().flatten());
    }
    found
}

/// User and system seconds so far, of ended children too.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let of = |pid| -> Option<f64> {
        let fields = stat(pid)?;
        Some(fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum())
    };
    tree(root).into_iter().filter_map(of).sum::<f64>() * TICK
}

/// Memory in KiB: what is shared counts by its share (PSS).
pub(crate) fn memory_kib(root: u32) -> f64 {
    let of = |pid| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().trim_end_matches(" kB").parse().ok()
    };
    tree(root).into_iter().filter_map(of).sum()
}

/// Busy seconds of the whole machine so far.
pub(crate) fn machine_busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().take(8).sum::<f64>() - idle) * TICK
}

/// What `lscpu` would say first, the kernel, the cores.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} ({cores} cores), Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel_series(kernel.trim()))
}

/// `6.18` of `6.18.44-local`: what others can have too.
fn kernel_series(release: &str) -> &str {
    let plain = release.split('-').next().unwrap_or_default();
    let second = plain.match_indices('.').nth(1).map_or(plain.len(), |(at, _)| at);
    plain.get(..second).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::kernel_series;

    #[test]
    fn a_kernel_is_named_without_what_is_of_one_machine() {
        for (release, series) in
            [("6.18.44-fc-v1", "6.18"), ("6.1.0-13-amd64", "6.1"), ("7.0-rc1", "7.0"), ("7.1", "7.1"), ("", "")]
        {
            assert_eq!(kernel_series(release), series);
        }
    }
}
