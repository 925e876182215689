//! What processes use of the machine, from `/proc`.

use std::path::PathBuf;

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// Processor time of a process so far, in seconds; none: there is no such process.
pub(super) fn cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted after the name, which may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Resident memory of a process, in MiB.
pub(super) fn resident(pid: Option<u32>) -> f64 {
    let pid = pid.unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Process of the stack's first server of these names that runs here.
pub(super) fn server(names: &[&str]) -> Option<u32> {
    let folder = PathBuf::from(std::env::var_os("STACK_DIR")?).join("pids");
    names
        .iter()
        .find_map(|name| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
}
