//! Names of the alerter's metrics.

/// Readings by `outcome`: judged, late, ahead, undecodable.
pub const READINGS: &str = "alerter_readings_total";

/// Verdicts that were breaches.
pub const BREACHES: &str = "alerter_breaches_total";

/// Transitions of episodes, by `to`.
pub const TRANSITIONS: &str = "alerter_transitions_total";

/// Episodes open on this replica's partitions, by `severity`.
pub const EPISODES_OPEN: &str = "alerter_episodes_open";

/// Notifications by `outcome`, `channel` and `errcode`.
///
/// Outcomes: sent, retried, dropped, failed, unreachable, silenced. The errcode is the platform's, or a
/// word for why nobody was asked (`too_old`, `nobody_told`, `no_content`).
pub const NOTIFICATIONS: &str = "alerter_notifications_total";

/// Times that a notification was put off before anybody was asked, by `reason`: `recipient_limit`,
/// `account_limit`, `breaker_open`, `storm`, `no_account`, `no_table`, `database`.
pub const POSTPONED: &str = "alerter_notifications_postponed_total";

/// Digests written.
pub const DIGESTS: &str = "alerter_digests_total";

/// Notifications that a digest tells of.
pub const FOLDED: &str = "alerter_notifications_folded_total";

/// 1 while an account fails and has not worked since, by `account`.
pub const BREAKER_OPEN: &str = "wechat_breaker_open";

/// What operators were to hear by webhook, by `outcome`: sent, retried, lost.
pub const OPERATOR_NEWS: &str = "alerter_operator_news_total";

/// Tokens asked of WeChat, by `outcome`: fetched, shared, failed.
pub const TOKEN_REFRESHES: &str = "alerter_token_refreshes_total";

/// Notifications that wait in the outbox, those that a waiting digest tells of included.
pub const OUTBOX_DEPTH: &str = "alerter_outbox_depth";

/// Age of the oldest of them.
pub const OUTBOX_OLDEST_SECONDS: &str = "alerter_outbox_oldest_seconds";

/// Time from a batch's arrival to its commit.
pub const ALERT_CHECK_SECONDS: &str = "alert_check_seconds";

/// Rules by `state`: valid, refused, `last_good` (those of the refused ones whose last good version
/// stands), event.
pub const RULES: &str = "alerter_rules";

/// Silences that last or are to come.
pub const SILENCES: &str = "alerter_silences";

/// Times that the source of the rules could not be read.
pub const RULE_LOAD_ERRORS: &str = "alerter_rule_load_errors_total";

/// Attempts to keep the last good versions of rules, or to read them, that failed.
pub const RULE_KEEP_ERRORS: &str = "alerter_rule_keep_errors_total";

/// Commits that failed and were tried again.
pub const COMMIT_RETRIES: &str = "alerter_commit_retries_total";
