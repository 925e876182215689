//! The alerter's metrics, and the items of its minute summary.

use ljwx_ledger::metrics::{DEAD_LETTERS, DEAD_LETTERS_ALTERED, LAG_RECORDS, LAG_SECONDS};
use ljwx_service::telemetry::{ServiceInfo, SummaryFormat, SummaryItem};

ljwx_service::declare_metrics! {
    /// Readings by outcome: evaluated, late, `ahead_of_clock`, undecodable.
    Counter READINGS = "alerter_readings_total" by "outcome";
    /// Verdicts that were breaches.
    Counter BREACHES = "alerter_breaches_total";
    /// Readings of devices beyond `--devices-max`, which are evaluated and not remembered.
    Counter NOT_REMEMBERED = "alerter_devices_not_remembered_total";
    /// Transitions of episodes.
    Counter TRANSITIONS = "alerter_transitions_total" by "transition";
    /// Episodes open on this replica's partitions.
    Gauge EPISODES_OPEN = "alerter_episodes_open" by "severity";
    /// Notifications by outcome: sent, retried, refused, moved, dropped, over, failed, unreachable,
    /// silenced. The errcode is the platform's, or a word for why no request was made.
    Counter NOTIFICATIONS = "alerter_notifications_total" by "outcome", "channel", "errcode";
    /// Open episodes of this replica's partitions that owe a notification: one was due and reached no
    /// one. By reason: silenced, `no_recipient`, `no_account`, refused, late.
    Gauge NOTIFICATIONS_OWED = "alerter_notifications_owed" by "reason", "severity";
    /// Times that a notification was postponed before any request.
    Counter POSTPONED = "alerter_notifications_postponed_total" by "reason";
    /// Digests written.
    Counter DIGESTS = "alerter_digests_total";
    /// Notifications that are part of a digest.
    Counter IN_DIGESTS = "alerter_notifications_in_digests_total";
    /// 1 while an account fails and has not worked since.
    Gauge BREAKER_OPEN = "wechat_breaker_open" by "account";
    /// Operator events by webhook, by outcome: sent, retried, lost.
    Counter OPERATOR_EVENTS = "alerter_operator_events_total" by "outcome";
    /// Heartbeats to the outside monitor, by outcome: sent; skipped, because an alert would not
    /// reach people; failed, because the monitor did not take it.
    Counter HEARTBEATS = "alerter_heartbeats_total" by "outcome";
    /// Time of the readings topic's last record, in seconds since 1970, to the interval of the
    /// checks.
    Gauge LAST_RECORD = "alerter_last_record_timestamp_seconds";
    /// 1 while no missing data is evaluated, because the readings topic has another number of
    /// partitions than was accepted.
    Gauge NO_DATA_SUSPENDED = "alerter_no_data_suspended";
    /// Access tokens of WeChat, by outcome: fetched, shared, failed.
    Counter TOKEN_REFRESHES = "alerter_token_refreshes_total" by "outcome";
    /// Notifications in the outbox that wait, by severity: pending, in a pending digest, unrouted.
    Gauge OUTBOX_DEPTH = "alerter_outbox_depth" by "severity";
    /// Age of the oldest notification that waits, by severity.
    Gauge OUTBOX_OLDEST_SECONDS = "alerter_outbox_oldest_seconds" by "severity";
    /// Time from a batch's arrival to its commit.
    Histogram ALERT_CHECK_SECONDS = "alert_check_seconds";
    /// Rules by state: valid, invalid, `last_good` (invalid rules whose last good version
    /// is active), event. Of the valid rules: weakens (the rule overrides a more severe rule of
    /// the template), `cannot_open` (no episode at one reading a minute).
    Gauge RULES = "alerter_rules" by "state";
    /// Silences in effect or still to come.
    Gauge SILENCES = "alerter_silences";
    /// Reads of a table with more rows than the alerter reads at once. The further rows have no effect.
    Counter CUT_READS = "alerter_cut_reads_total";
    /// Times that the source of the rules could not be read, or was not taken over.
    Counter RULE_LOAD_ERRORS = "alerter_rule_load_errors_total";
    /// Failed attempts to store or read the last good versions of rules.
    Counter LAST_GOOD_ERRORS = "alerter_last_good_errors_total";
    /// States of a rule on a device in memory.
    Gauge RULE_STATES = "alerter_rule_states";
    /// Rows that MySQL rejected for a value, by table and the server's error number; they were
    /// written in a plain form or left out.
    Counter REJECTED_ROWS = "alerter_refused_rows_total" by "table", "errno";
    /// Failed commits that were retried.
    Counter COMMIT_RETRIES = "alerter_commit_retries_total";
}

/// The alerter's name, metrics and minute summary.
pub const SERVICE: ServiceInfo = ServiceInfo {
    name: "alerter",
    metrics: &[DECLARED, ljwx_ledger::metrics::DECLARED],
    zeros: &[
        (READINGS, "outcome", &["evaluated", "late", "ahead_of_clock", "undecodable", "moved"]),
        (DEAD_LETTERS, "class", &["undecodable", "tombstone"]),
        (DEAD_LETTERS_ALTERED, "how", &["elsewhere", "cut"]),
        (OPERATOR_EVENTS, "outcome", &["sent", "retried", "lost"]),
        (HEARTBEATS, "outcome", &["sent", "skipped", "failed"]),
        (TOKEN_REFRESHES, "outcome", &["fetched", "shared", "failed"]),
    ],
    summary: &[
        SummaryItem::growth("evaluated", READINGS, "outcome=\"evaluated\""),
        SummaryItem::growth("repeated or late", READINGS, "outcome=\"late\""),
        SummaryItem::growth("transitions", TRANSITIONS, ""),
        SummaryItem::growth("notifications sent", NOTIFICATIONS, "outcome=\"sent\""),
        SummaryItem::growth("notifications failed", NOTIFICATIONS, "outcome=\"failed\""),
        SummaryItem::gauge("notifications waiting", OUTBOX_DEPTH, SummaryFormat::Sum),
        SummaryItem::gauge("episodes open", EPISODES_OPEN, SummaryFormat::Sum),
        SummaryItem::gauge("waiting in Kafka", LAG_RECORDS, SummaryFormat::Sum),
        SummaryItem::seconds("oldest waiting", LAG_SECONDS),
    ],
};
