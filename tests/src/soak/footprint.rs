//! What a process holds: memory, descriptors and threads. [`super::recovery`] compares this before
//! and after a fault.

use std::fs::read_dir;

use crate::stack::process::Service;

/// Greatest factor by which memory may grow. An allocator keeps what a backlog needed.
const MEMORY_FACTOR: f64 = 2.0;

/// Memory in MiB that a process may need beyond the factor. A fault may strike just after a start,
/// and a backlog may fill the memory for deliveries, of which the allocator keeps more than half.
const MEMORY_SPARE: f64 = 256.0;

/// Descriptors that a process may have more than before: the connections of its pools, which do not
/// shrink under load.
const DESCRIPTORS_SPARE: usize = 32;

/// Threads that a process may have more than before: those that run blocking calls.
const THREADS_SPARE: usize = 8;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footprint {
    /// Resident memory in MiB.
    memory: f64,
    descriptors: usize,
    threads: usize,
}

impl Footprint {
    /// Reads the footprint of a service; `None` if the service has ended.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let pid = service.pid()?;
        let entries = |folder: &str| Some(read_dir(format!("/proc/{pid}/{folder}")).ok()?.count());
        Some(Self {
            memory: service.memory("VmRSS")?,
            descriptors: entries("fd")?,
            threads: entries("task")?,
        })
    }

    /// Returns what has grown beyond its bound since `before`. `clients`: the connections that
    /// others may have opened to the process.
    pub(super) fn growth(&self, before: &Self, clients: usize) -> Vec<String> {
        let mut grown = Vec::new();
        if self.memory > before.memory * MEMORY_FACTOR + MEMORY_SPARE {
            grown.push(format!("{:.0} MiB of memory after {:.0}", self.memory, before.memory));
        }
        if self.descriptors > before.descriptors + DESCRIPTORS_SPARE + clients {
            grown.push(format!("{} descriptors after {}", self.descriptors, before.descriptors));
        }
        if self.threads > before.threads + THREADS_SPARE {
            grown.push(format!("{} threads after {}", self.threads, before.threads));
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_growth_is_named_beyond_its_bound() {
        let before = Footprint { memory: 50.0, descriptors: 40, threads: 10 };
        let bound = Footprint { memory: 356.0, descriptors: 73, threads: 18 };
        assert_eq!(bound.growth(&before, 1), Vec::<String>::new());
        for (now, named) in [
            (Footprint { memory: 357.0, ..bound }, "357 MiB of memory after 50"),
            (Footprint { descriptors: 74, ..bound }, "74 descriptors after 40"),
            (Footprint { threads: 19, ..bound }, "19 threads after 10"),
        ] {
            assert_eq!(now.growth(&before, 1), [named]);
        }
    }
}
