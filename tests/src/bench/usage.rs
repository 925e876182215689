//! Measures processes' use of the machine, from `/proc`.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::stack::process::Service;

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// Number of readings to which processor times refer.
const CPU_PER: f64 = 100_000.0;

/// A service's progress, and the processor seconds of the service and the servers so far.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    /// Readings that the service has processed.
    pub(super) done: i64,
    service: f64,
    server: f64,
    redis: f64,
}

/// The use between two marks, with processor times per 100,000 readings.
#[derive(Debug)]
pub(super) struct Usage {
    /// Number of readings.
    pub(super) readings: f64,
    /// Elapsed seconds.
    pub(super) seconds: f64,
    /// The service's processor seconds.
    pub(super) cpu: f64,
    /// The database server's processor seconds.
    pub(super) server_cpu: f64,
    /// Redis's processor seconds.
    pub(super) redis_cpu: f64,
}

impl Mark {
    /// Takes a mark now, with `done` readings processed.
    pub(super) fn now(service: &Service, done: i64) -> Self {
        let cpu = |pid: Option<u32>| pid.and_then(cpu).unwrap_or(f64::NAN);
        Self {
            at: Instant::now(),
            done,
            service: cpu(service.pid()),
            server: cpu(server(&["mariadb", "mysql"])),
            redis: cpu(server(&["redis"])),
        }
    }

    /// Returns the use from this mark to `last`.
    pub(super) fn until(&self, last: &Self) -> Usage {
        let readings = (last.done - self.done) as f64;
        let cpu = |first: f64, last: f64| (last - first) / readings * CPU_PER;
        Usage {
            readings,
            seconds: (last.at - self.at).as_secs_f64(),
            cpu: cpu(self.service, last.service),
            server_cpu: cpu(self.server, last.server),
            redis_cpu: cpu(self.redis, last.redis),
        }
    }
}

impl Usage {
    /// Returns the readings a second.
    pub(super) fn rate(&self) -> f64 {
        self.readings / self.seconds
    }
}

/// Returns the processor time of a process so far, in seconds; `None` if the process does not
/// exist.
pub(super) fn cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Count the fields after the name, which may hold any character. User and system time are
    // fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Returns the resident memory of a service, in MiB.
pub(super) fn resident(service: &Service) -> f64 {
    service.memory("VmRSS").unwrap_or(f64::NAN)
}

/// Returns the process id of the first of these servers that the stack runs.
pub(super) fn server(names: &[&str]) -> Option<u32> {
    let folder = PathBuf::from(std::env::var_os("STACK_DIR")?).join("pids");
    names
        .iter()
        .find_map(|name| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
}
