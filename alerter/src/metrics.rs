//! Names of the alerter's metrics.

/// Readings by `outcome`: judged, late, ahead, undecodable.
pub const READINGS: &str = "alerter_readings_total";

/// Verdicts that were breaches.
pub const BREACHES: &str = "alerter_breaches_total";

/// Transitions of episodes, by `to`.
pub const TRANSITIONS: &str = "alerter_transitions_total";

/// Episodes open on this replica's partitions, by `severity`.
pub const EPISODES_OPEN: &str = "alerter_episodes_open";

/// Notifications by `outcome` (sent, retried, dropped, failed, unreachable) and `errcode`.
pub const NOTIFICATIONS: &str = "alerter_notifications_total";

/// Tokens asked of WeChat, by `outcome`: fetched, shared, failed.
pub const TOKEN_REFRESHES: &str = "alerter_token_refreshes_total";

/// Notifications that wait in the outbox.
pub const OUTBOX_DEPTH: &str = "alerter_outbox_depth";

/// Age of the oldest of them.
pub const OUTBOX_OLDEST_SECONDS: &str = "alerter_outbox_oldest_seconds";

/// Time from a batch's arrival to its commit.
pub const ALERT_CHECK_SECONDS: &str = "alert_check_seconds";

/// Rules by `state`: valid, refused, `last_good` (those of the refused ones whose last good version
/// stands), event.
pub const RULES: &str = "alerter_rules";

/// Times that the source of the rules could not be read.
pub const RULE_LOAD_ERRORS: &str = "alerter_rule_load_errors_total";

/// Attempts to keep the last good versions of rules, or to read them, that failed.
pub const RULE_KEEP_ERRORS: &str = "alerter_rule_keep_errors_total";

/// Commits that failed and were tried again.
pub const COMMIT_RETRIES: &str = "alerter_commit_retries_total";
