//! Names what is judged about a topic: Kafka's settings, and facts that no setting holds. The names
//! are the values of the label `setting`.

pub(super) const EXISTENCE: &str = "existence";
pub(super) const RIGHTS: &str = "rights";
pub(super) const PARTITIONS: &str = "partitions";
pub(super) const REPLICATION: &str = "replication.factor";
pub(super) const INSYNC: &str = "min.insync.replicas";
pub(super) const UNCLEAN: &str = "unclean.leader.election.enable";
pub(super) const MESSAGE_BYTES: &str = "max.message.bytes";
pub(super) const CLEANUP: &str = "cleanup.policy";
pub(super) const RETENTION_MS: &str = "retention.ms";
pub(super) const RETENTION_BYTES: &str = "retention.bytes";
pub(super) const COMPRESSION: &str = "compression.type";
pub(super) const TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub(super) const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";
pub(super) const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";

/// All names.
pub(super) const ALL: [&str; 14] = [
    EXISTENCE,
    RIGHTS,
    PARTITIONS,
    REPLICATION,
    INSYNC,
    UNCLEAN,
    MESSAGE_BYTES,
    CLEANUP,
    RETENTION_MS,
    RETENTION_BYTES,
    COMPRESSION,
    TIMESTAMP_TYPE,
    TIMESTAMP_AFTER,
    TIMESTAMP_BEFORE,
];

/// The names whose warnings `--require-safe-topics` turns into refusals. Settings that cannot be
/// seen cannot be shown to be safe.
pub(super) const REQUIRED_SAFE: [&str; 4] = [RIGHTS, REPLICATION, INSYNC, UNCLEAN];

/// Whether only `DescribeConfigs` shows what a name stands for.
pub(super) fn is_described(name: &str) -> bool {
    ![EXISTENCE, RIGHTS, PARTITIONS, REPLICATION].contains(&name)
}
