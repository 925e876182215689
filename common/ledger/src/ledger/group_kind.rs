//! The kind of a group, and the reasons why a partition is not claimed.

/// The kind of a row. Rows older than the column `kind` are recognised by their counts.
pub(super) const KIND: &str = "COALESCE(kind, CASE WHEN `stored` + merged + dead_lettered > 0 THEN 'worker' \
                    WHEN processed > 0 THEN 'alerter' END)";

/// The kind of service that a group belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// Deliveries become rows: stored, merged or dead-lettered.
    Worker,
    /// Deliveries are evaluated and become no rows: processed.
    Alerter,
}

impl GroupKind {
    /// Returns the stable word in the ledger's column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Alerter => "alerter",
        }
    }

    /// Returns the setting for the group of this kind.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Worker => "WORKER_GROUP",
            Self::Alerter => "ALERTER_GROUP",
        }
    }

    /// Fails if `found`, the kind of the group's row, is another kind.
    pub(super) fn check(self, group: &str, found: &str) -> Result<(), ClaimError> {
        if found == self.as_str() {
            return Ok(());
        }
        Err(ClaimError::Permanent(format!(
            "group {group} is {article} {found}'s: in one group workers and alerters pass each other's \
             readings. Set {} to a name that no other kind of service has",
            self.setting(),
            article = if found == Self::Alerter.as_str() { "an" } else { "a" },
        )))
    }
}

/// The reason why a partition was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Permanent until an operator changes the settings or the ledger.
    #[error("{0}")]
    Permanent(String),
    /// Passes once an operator has run the command in the message.
    #[error("{0}")]
    NotYet(String),
    /// The database failed. The next attempt may succeed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
