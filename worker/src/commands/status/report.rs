//! Concludes from the answers whether all is well. Pure.

use std::collections::BTreeMap;

use ljwx_ledger::ledger::LedgerRow;
use ljwx_service::kafka::topic_ends::Watermarks;
use serde::Serialize;

use crate::commands::audit::{EXIT_FAILURE, EXIT_UNKNOWN};
use crate::commands::part::Part;

/// Age of the oldest unprocessed reading above which a partition is not well, as in the health of a
/// worker.
const WAITS_MAX_SECONDS: f64 = 60.0;

/// States of replicas that are well.
const WELL: [&str; 2] = ["ready", "healthy"];

/// The answers, and what follows from them.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Whether all is well. `None`: nothing is known to be wrong, and a part is unknown.
    pub well: Option<bool>,
    pub groups: Vec<GroupStatus>,
    pub replicas: Vec<ReplicaStatus>,
    /// What is not well.
    pub findings: Vec<String>,
    /// What is unknown, and why.
    pub unknown: Vec<String>,
}

/// What is known about a group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupStatus {
    pub group: String,
    pub topic: String,
    /// `worker` or `alerter`.
    pub kind: &'static str,
    /// Why the group takes nothing in until an operator changes that.
    pub halted: Option<String>,
    /// The members of the consumer group: client and host.
    pub members: Part<Vec<String>>,
    pub partitions: Part<Vec<PartitionStatus>>,
    pub dead_letters: Part<DeadLetterCounts>,
}

/// What is known about a partition.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionStatus {
    pub partition: i32,
    /// The replica that claimed the partition last, as host:process. `None`: none ever did.
    pub owner: Option<String>,
    pub ledger: Option<LedgerRow>,
    /// First and next offset of the topic, if they are known.
    pub ends: Option<Watermarks>,
    /// Whether the partition's leader does not answer.
    pub is_silent: bool,
    /// Records that the group has not processed.
    pub lag_records: i64,
    /// Age of the oldest of them. `None`: Kafka did not answer in time.
    pub lag_seconds: Option<f64>,
}

/// The dead letters of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterCounts {
    pub classes: BTreeMap<String, u64>,
    /// Whether all were read. Otherwise there may be more.
    pub is_whole: bool,
    /// Whether there is no topic for them.
    pub is_missing: bool,
}

/// A replica whose admin port was asked.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaStatus {
    pub address: String,
    pub answer: Part<ReplicaAnswer>,
}

/// The answer of a replica.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaAnswer {
    /// `gateway`, `worker` or `alerter`.
    pub service: String,
    pub version: String,
    /// The status of a worker's health; of another service whether it is `ready` or `not ready`.
    pub status: String,
    pub reasons: Vec<String>,
}

impl StatusReport {
    /// Concludes from the answers. Dead letters do not count: they stay until they are purged.
    pub fn new(groups: Vec<GroupStatus>, replicas: Vec<ReplicaStatus>) -> Self {
        let mut findings: Vec<String> = groups.iter().flat_map(GroupStatus::findings).collect();
        findings.extend(replicas.iter().filter_map(ReplicaStatus::finding));
        let unknown: Vec<String> = groups.iter().flat_map(GroupStatus::unknown).collect();
        let well = match (findings.is_empty(), unknown.is_empty()) {
            (false, _) => Some(false),
            (true, false) => None,
            (true, true) => Some(true),
        };
        Self { well, groups, replicas, findings, unknown }
    }

    /// Returns the exit code.
    pub fn exit_code(&self) -> u8 {
        match self.well {
            Some(true) => 0,
            Some(false) => EXIT_FAILURE,
            None => EXIT_UNKNOWN,
        }
    }
}

impl GroupStatus {
    fn findings(&self) -> Vec<String> {
        let Self { group, kind, .. } = self;
        let mut findings = Vec::new();
        findings.extend(self.halted.iter().map(|why| format!("group {group}: {why}")));
        if self.members.known().is_some_and(Vec::is_empty) {
            findings.push(format!("group {group} has no members: start `{kind} run`"));
        }
        if self.dead_letters.known().is_some_and(|letters| letters.is_missing) {
            findings.push(format!(
                "group {group} has no dead-letter topic: run `worker migrate` with the names of the groups"
            ));
        }
        let partitions = self.partitions.known().into_iter().flatten();
        let of_partitions = partitions.flat_map(|one| {
            let place = format!("group {group}, partition {}", one.partition);
            one.findings().into_iter().map(move |finding| format!("{place}: {finding}"))
        });
        findings.extend(of_partitions);
        findings
    }

    fn unknown(&self) -> Vec<String> {
        let reason = |part: &str, reason: &str| format!("{part} of group {}: {reason}", self.group);
        let mut unknown = Vec::new();
        if let Part::Unknown(why) = &self.partitions {
            unknown.push(reason("partitions", why));
        }
        if let Part::Unknown(why) = &self.members {
            unknown.push(reason("members", why));
        }
        for one in self.partitions.known().into_iter().flatten() {
            if one.lag_records > 0 && one.lag_seconds.is_none() {
                let part = format!("age of the oldest reading in partition {}", one.partition);
                unknown.push(reason(&part, "Kafka did not answer in time"));
            }
        }
        unknown
    }
}

impl PartitionStatus {
    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.is_silent {
            findings.push("its leader does not answer".to_owned());
        }
        let Some(row) = &self.ledger else {
            findings.push("no replica has claimed it yet".to_owned());
            return findings;
        };
        if row.difference() != 0 || !row.negative().is_empty() {
            findings.push("the ledger does not balance: run `worker audit`".to_owned());
        }
        if let Some(Watermarks { low, high }) = self.ends
            && !(low..=high).contains(&row.next_offset)
        {
            let next = row.next_offset;
            findings.push(format!("it stands at {next}, and the topic has {low} to {high}"));
        }
        if let Some(seconds) = self.lag_seconds.filter(|seconds| *seconds > WAITS_MAX_SECONDS) {
            findings.push(format!("a reading has waited for {seconds:.0} s"));
        }
        findings
    }
}

impl ReplicaStatus {
    fn finding(&self) -> Option<String> {
        let address = &self.address;
        match &self.answer {
            Part::Unknown(why) => Some(format!("replica {address} does not answer: {why}")),
            Part::Known(answer) if WELL.contains(&&*answer.status) && answer.reasons.is_empty() => {
                None
            }
            Part::Known(ReplicaAnswer { service, status, reasons, .. }) => {
                let reasons = reasons.join("; ");
                Some(format!("replica {address} ({service}) is {status}: {reasons}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionStatus {
        PartitionStatus {
            owner: Some("a:1".into()),
            ledger: Some(LedgerRow { next_offset: 5, stored: 5, ..LedgerRow::default() }),
            ends: Some(Watermarks { low: 0, high: 5 }),
            lag_seconds: Some(0.0),
            ..PartitionStatus::default()
        }
    }

    fn group(partition: PartitionStatus) -> GroupStatus {
        GroupStatus {
            group: "w".into(),
            topic: "t".into(),
            kind: "worker",
            halted: None,
            members: Part::Known(vec!["a at /1".into()]),
            partitions: Part::Known(vec![partition]),
            dead_letters: Part::Known(DeadLetterCounts::default()),
        }
    }

    fn replica(status: &str, reasons: &[&str]) -> ReplicaStatus {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let (service, version) = ("worker".into(), "0.2.0".into());
        let answer = ReplicaAnswer { service, version, status: status.into(), reasons };
        ReplicaStatus { address: "h:1".into(), answer: Part::Known(answer) }
    }

    #[test]
    fn all_is_well_if_nothing_is_wrong_and_nothing_unknown() {
        let classes = [("data".into(), 7)].into();
        let dead_letters = DeadLetterCounts { classes, ..DeadLetterCounts::default() };
        let healthy = GroupStatus { dead_letters: Part::Known(dead_letters), ..group(partition()) };
        let replicas = vec![replica("ready", &[]), replica("healthy", &[])];
        let report = StatusReport::new(vec![healthy], replicas);
        assert_eq!((report.well, report.exit_code()), (Some(true), 0), "{:?}", report.findings);
    }

    #[test]
    fn each_fault_of_a_group_is_named_and_fails_the_command() {
        let row = partition().ledger.unwrap();
        let with = |change: fn(&mut PartitionStatus)| {
            let mut one = partition();
            change(&mut one);
            group(one)
        };
        for (status, named) in [
            (GroupStatus { halted: Some("paused".into()), ..group(partition()) }, "paused"),
            (GroupStatus { members: Part::Known(vec![]), ..group(partition()) }, "`worker run`"),
            (
                GroupStatus {
                    dead_letters: Part::Known(DeadLetterCounts {
                        is_missing: true,
                        ..DeadLetterCounts::default()
                    }),
                    ..group(partition())
                },
                "no dead-letter topic",
            ),
            (with(|one| one.is_silent = true), "leader"),
            (with(|one| one.ledger = None), "claimed"),
            (with(|one| one.lag_seconds = Some(61.0)), "waited for 61 s"),
            (with(|one| one.ends = Some(Watermarks { low: 6, high: 9 })), "stands at 5"),
            (
                group(PartitionStatus {
                    ledger: Some(LedgerRow { stored: 4, ..row }),
                    ..partition()
                }),
                "worker audit",
            ),
        ] {
            let report = StatusReport::new(vec![status], Vec::new());
            assert!(report.findings.len() == 1, "{named}: {:?}", report.findings);
            assert!(report.findings[0].contains(named), "{named}: {:?}", report.findings);
            assert_eq!(report.exit_code(), EXIT_FAILURE);
        }
    }

    #[test]
    fn a_replica_that_is_silent_or_not_well_fails_the_command() {
        let silent = ReplicaStatus { address: "h:1".into(), answer: Part::Unknown("gone".into()) };
        for (replica, named) in [
            (silent, "gone"),
            (replica("degraded", &["redis is not reachable"]), "degraded: redis"),
            (replica("not ready", &["/readyz: draining"]), "draining"),
            (replica("healthy", &["/readyz: draining"]), "draining"),
        ] {
            let report = StatusReport::new(vec![group(partition())], vec![replica]);
            assert!(report.findings[0].contains(named), "{named}: {:?}", report.findings);
            assert_eq!(report.exit_code(), EXIT_FAILURE);
        }
    }

    #[test]
    fn what_is_unknown_is_no_fault_and_no_success() {
        let silent = || GroupStatus { members: Part::Unknown("late".into()), ..group(partition()) };
        let report = StatusReport::new(vec![silent()], Vec::new());
        assert_eq!((report.well, report.exit_code()), (None, EXIT_UNKNOWN));
        let both = GroupStatus { partitions: Part::Unknown("gone".into()), ..silent() };
        assert_eq!(StatusReport::new(vec![both], Vec::new()).unknown.len(), 2);
        let ageless = PartitionStatus { lag_records: 3, lag_seconds: None, ..partition() };
        assert_eq!(StatusReport::new(vec![group(ageless)], Vec::new()).exit_code(), EXIT_UNKNOWN);
        let failed = GroupStatus { halted: Some("paused".into()), ..silent() };
        assert_eq!(StatusReport::new(vec![failed], Vec::new()).exit_code(), EXIT_FAILURE);
    }
}
