//! What processes use of the machine, from `/proc`.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::stack::process::Service;

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// Readings that processor times are stated for.
const CPU_PER: f64 = 100_000.0;

/// How far a service has come, and what it and the servers have used so far.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    /// Readings that it is through with.
    pub(super) done: i64,
    service: f64,
    server: f64,
    redis: f64,
}

/// What was used between two marks, processor times per 100,000 readings.
#[derive(Debug)]
pub(super) struct Usage {
    /// Readings.
    pub(super) readings: f64,
    /// Time.
    pub(super) seconds: f64,
    /// The service's processor seconds.
    pub(super) cpu: f64,
    /// Those of the database's server.
    pub(super) server_cpu: f64,
    /// Those of Redis.
    pub(super) redis_cpu: f64,
}

impl Mark {
    /// Now, with `done` readings through.
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

    /// From here to `last`.
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
    /// Readings a second.
    pub(super) fn rate(&self) -> f64 {
        self.readings / self.seconds
    }
}

/// Processor time of a process so far, in seconds; none: there is no such process.
pub(super) fn cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted after the name, which may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Resident memory of a service, in MiB.
pub(super) fn resident(service: &Service) -> f64 {
    service.memory("VmRSS").unwrap_or(f64::NAN)
}

/// Process of the stack's first server of these names that runs here.
pub(super) fn server(names: &[&str]) -> Option<u32> {
    let folder = PathBuf::from(std::env::var_os("STACK_DIR")?).join("pids");
    names
        .iter()
        .find_map(|name| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
}
