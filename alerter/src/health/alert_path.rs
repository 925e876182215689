//! Decides whether an alert that arises now would reach people: every part of the path from a
//! reading to a person works.
//!
//! Pure.

use std::time::Duration;

/// Longest time for which a partition may have lag without progress.
const STALLED_MAX: Duration = Duration::from_secs(120);

/// Longest time for which a critical notification may wait.
const CRITICAL_WAIT_MAX: Duration = Duration::from_secs(120);

/// The parts of the path from a reading to a person.
#[derive(Debug, Clone)]
pub struct AlertPath {
    /// The probes of this replica: its loops run, and it evaluates and writes what it owns.
    pub probes: Result<(), String>,
    /// Whether MySQL and Kafka answer, and the position and the end of every partition are known.
    pub answers: bool,
    /// Whether a reading came, and readings have not stopped.
    pub readings_arrive: bool,
    /// Longest time for which a partition of the group has had lag without progress.
    pub stalled: Duration,
    /// Age of the oldest pending critical notification. `None`: not measured lately.
    pub critical_age: Option<Duration>,
    /// Critical notifications that are owed for another reason than a silence.
    pub critical_owed: u64,
    /// Whether accounts were used and none works.
    pub accounts_fail: bool,
}

impl AlertPath {
    /// Checks the parts. The error names the first that does not work.
    pub fn check(&self) -> Result<(), String> {
        self.probes.clone()?;
        let critical_age = self.critical_age.ok_or("the outbox cannot be measured")?;
        for (holds, fault) in [
            (self.answers, "MySQL or Kafka does not answer for every partition"),
            (self.readings_arrive, "no reading arrives"),
            (self.stalled <= STALLED_MAX, "a partition does not move"),
            (critical_age <= CRITICAL_WAIT_MAX, "a critical notification is not sent"),
            (self.critical_owed == 0, "a critical notification reaches nobody"),
            (!self.accounts_fail, "no account works"),
        ] {
            if !holds {
                return Err(fault.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working() -> AlertPath {
        AlertPath {
            probes: Ok(()),
            answers: true,
            readings_arrive: true,
            stalled: STALLED_MAX,
            critical_age: Some(CRITICAL_WAIT_MAX),
            critical_owed: 0,
            accounts_fail: false,
        }
    }

    #[test]
    fn each_part_that_does_not_work_is_named() {
        let more = Duration::from_millis(1);
        assert_eq!(working().check(), Ok(()));
        for (path, fault) in [
            (AlertPath { probes: Err("the sender stands".into()), ..working() }, "the sender"),
            (AlertPath { answers: false, ..working() }, "MySQL or Kafka"),
            (AlertPath { readings_arrive: false, ..working() }, "no reading"),
            (AlertPath { stalled: STALLED_MAX + more, ..working() }, "a partition"),
            (AlertPath { critical_age: None, ..working() }, "the outbox"),
            (AlertPath { critical_age: Some(CRITICAL_WAIT_MAX + more), ..working() }, "not sent"),
            (AlertPath { critical_owed: 1, ..working() }, "nobody"),
            (AlertPath { accounts_fail: true, ..working() }, "no account"),
        ] {
            let found = path.check().unwrap_err();
            assert!(found.contains(fault), "{found} for {path:?}");
        }
    }
}
