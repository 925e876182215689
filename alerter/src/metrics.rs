//! The alerter's metrics, and what its log says of them every minute.

use ljwx_ledger::metrics::{LAG_RECORDS, LAG_SECONDS};
use ljwx_service::telemetry::{Item, Service, Shown};

ljwx_service::declare_metrics! {
    /// Readings by outcome: judged, late, ahead, undecodable.
    Counter READINGS = "alerter_readings_total" by "outcome";
    /// Verdicts that were breaches.
    Counter BREACHES = "alerter_breaches_total";
    /// Transitions of episodes.
    Counter TRANSITIONS = "alerter_transitions_total" by "to";
    /// Episodes open on this replica's partitions.
    Gauge EPISODES_OPEN = "alerter_episodes_open" by "severity";
    /// Notifications by outcome: sent, retried, refused, dropped, failed, unreachable, silenced. The
    /// errcode is the platform's, or a word for why nobody was asked.
    Counter NOTIFICATIONS = "alerter_notifications_total" by "outcome", "channel", "errcode";
    /// Times that a notification was put off before anybody was asked.
    Counter POSTPONED = "alerter_notifications_postponed_total" by "reason";
    /// Digests written.
    Counter DIGESTS = "alerter_digests_total";
    /// Notifications that a digest tells of.
    Counter FOLDED = "alerter_notifications_folded_total";
    /// 1 while an account fails and has not worked since.
    Gauge BREAKER_OPEN = "wechat_breaker_open" by "account";
    /// What operators were to hear by webhook, by outcome: sent, retried, lost.
    Counter OPERATOR_NEWS = "alerter_operator_news_total" by "outcome";
    /// Tokens asked of WeChat, by outcome: fetched, shared, failed.
    Counter TOKEN_REFRESHES = "alerter_token_refreshes_total" by "outcome";
    /// Notifications that wait in the outbox, those that a waiting digest tells of included.
    Gauge OUTBOX_DEPTH = "alerter_outbox_depth";
    /// Age of the oldest of them.
    Gauge OUTBOX_OLDEST_SECONDS = "alerter_outbox_oldest_seconds";
    /// Time from a batch's arrival to its commit.
    Histogram ALERT_CHECK_SECONDS = "alert_check_seconds";
    /// Rules by state: valid, refused, `last_good` (those of the refused ones whose last good
    /// version stands), event.
    Gauge RULES = "alerter_rules" by "state";
    /// Silences that last or are to come.
    Gauge SILENCES = "alerter_silences";
    /// Times that the source of the rules could not be read, or was not believed.
    Counter RULE_LOAD_ERRORS = "alerter_rule_load_errors_total";
    /// Attempts to keep the last good versions of rules, or to read them, that failed.
    Counter RULE_KEEP_ERRORS = "alerter_rule_keep_errors_total";
    /// States of a rule on a device that are in memory.
    Gauge RULE_STATES = "alerter_rule_states";
    /// Rows that MySQL refused for a value, by table and the server's error number; they were written
    /// in a plain form or left out.
    Counter REFUSED_ROWS = "alerter_refused_rows_total" by "table", "errno";
    /// Commits that failed and were tried again.
    Counter COMMIT_RETRIES = "alerter_commit_retries_total";
}

/// What the alerter says about itself.
pub const SERVICE: Service = Service {
    name: "alerter",
    metrics: &[DECLARED, ljwx_ledger::metrics::DECLARED],
    zeros: &[
        (READINGS, "outcome", &["judged", "late", "ahead", "undecodable"]),
        (OPERATOR_NEWS, "outcome", &["sent", "retried", "lost"]),
        (TOKEN_REFRESHES, "outcome", &["fetched", "shared", "failed"]),
    ],
    summary: &[
        Item::growth("judged", READINGS, "outcome=\"judged\""),
        Item::growth("repeated or late", READINGS, "outcome=\"late\""),
        Item::growth("transitions", TRANSITIONS, ""),
        Item::growth("notifications sent", NOTIFICATIONS, "outcome=\"sent\""),
        Item::growth("notifications failed", NOTIFICATIONS, "outcome=\"failed\""),
        Item::gauge("notifications waiting", OUTBOX_DEPTH, Shown::Largest),
        Item::gauge("episodes open", EPISODES_OPEN, Shown::Sum),
        Item::gauge("waiting in Kafka", LAG_RECORDS, Shown::Sum),
        Item::seconds("oldest waiting", LAG_SECONDS),
    ],
};
