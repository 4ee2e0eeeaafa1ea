//! What a test can see of a proxy from outside: the numbers of its admin page, and what the kernel says of its process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::fetch;
use crate::wait;

/// One line of `/metrics`, by its whole name with labels; 0 where it is not there yet.
pub fn metric(admin: SocketAddr, name: &str) -> Result<f64> {
    let page = fetch(admin, "/metrics")?;
    ensure!(page.status == 200, "/metrics answered {}", page.status);
    let value = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(Ok(0.0), |value| value.parse().with_context(|| format!("{name} is {value:?}")))
}

/// Waits until a metric has this value.
pub fn until_metric(admin: SocketAddr, name: &str, wanted: f64) -> Result<()> {
    wait::until(
        &format!("{name} to be {wanted}"),
        wait::PATIENCE,
        || Ok((metric(admin, name)? == wanted).then_some(())),
    )
}

/// Waits until `/readyz` says yes.
pub fn until_ready(admin: SocketAddr) -> Result<()> {
    wait::until(&format!("{admin} to be ready"), wait::PATIENCE, || {
        Ok((fetch(admin, "/readyz")?.status == 200).then_some(()))
    })
}

/// Processor time that a process has used.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    // proc(5): utime and stime are fields 14 and 15, counted after the command in parentheses, in hundredths of a second.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a process's times")?;
    let after_command = stat.rsplit_once(')').context("a line of /proc/PID/stat")?.1;
    let mut fields = after_command.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).context("a time in /proc/PID/stat");
    Ok(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Memory of a process that is in RAM.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS in /proc/PID/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS in kB")?;
    Ok(kib * 1024)
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    let dir =
        std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).context("a process's descriptors")?;
    Ok(dir.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_this_process() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
        assert!(descriptors(pid).unwrap() >= 3);
        let before = cpu_time(pid).unwrap();
        let busy = std::time::Instant::now();
        while busy.elapsed() < Duration::from_millis(50) {}
        assert!(cpu_time(pid).unwrap() > before);
    }
}
