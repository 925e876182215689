//! Measures the memory, processor time, files and threads of this process, and its clock.

use jiff::Timestamp;
use metrics::gauge;
use metrics_process::Collector;

use crate::metrics::{CLOCK_SECONDS, MEMORY_LIMIT};

/// Files with the memory limit of a control group: version 2, then version 1.
const LIMIT_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The collector of this process's metrics.
#[derive(Debug, Clone)]
pub(super) struct ProcessMetrics {
    collector: Collector,
    memory_limit: Option<u64>,
}

impl ProcessMetrics {
    /// Creates the collector with `limit`, or with the detected limit.
    pub(super) fn new(limit: Option<u64>) -> Self {
        let collector = Collector::default();
        collector.describe();
        Self { collector, memory_limit: limit.or_else(memory_limit) }
    }

    /// Exports the present values.
    pub(super) fn collect(&self) {
        self.collector.collect();
        gauge!(CLOCK_SECONDS).set(Timestamp::now().as_millisecond() as f64 / 1000.0);
        if let Some(limit) = self.memory_limit {
            gauge!(MEMORY_LIMIT).set(limit as f64);
        }
    }
}

/// Returns this machine's name, as other machines log it.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Returns the memory that this process may use, in bytes, if the limit can be read.
pub(super) fn memory_limit() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = LIMIT_FILES.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    limit_of(&groups, &meminfo)
}

/// Returns the smallest limit of the control groups and the machine, in bytes. `max`, or more than
/// the machine has, is no limit.
fn limit_of(groups: &[String], meminfo: &str) -> Option<u64> {
    let machine = meminfo.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    });
    let groups = groups.iter().filter_map(|text| text.trim().parse().ok());
    groups.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_holds() {
        let meminfo = "MemTotal:        2048 kB\nMemFree:  12 kB\n";
        let machine = 2048 * 1024;
        for (groups, limit) in [
            (["max\n", ""], Some(machine)),
            (["1000000\n", ""], Some(1_000_000)),
            (["", "9223372036854771712\n"], Some(machine)),
            (["", ""], Some(machine)),
        ] {
            assert_eq!(limit_of(&groups.map(str::to_owned), meminfo), limit, "{groups:?}");
        }
        assert_eq!(limit_of(&[], ""), None);
    }
}
