//! Whose a group is, and why a partition is not claimed.

/// A row's kind; of one from before kinds were noted, what its counts say.
pub(super) const KIND: &str = "COALESCE(kind, CASE WHEN `stored` + merged + dead_lettered > 0 THEN 'worker' \
                    WHEN processed > 0 THEN 'alerter' END)";

/// What kind of service a group is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its deliveries become rows: stored, merged or dead-lettered.
    Worker,
    /// Its deliveries are judged and become no rows: processed.
    Alerter,
}

impl Kind {
    /// The stable word: the ledger's column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Alerter => "alerter",
        }
    }

    /// The setting that names such a service's group.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Worker => "WORKER_GROUP",
            Self::Alerter => "ALERTER_GROUP",
        }
    }

    /// Refuses a group whose row is of the kind `found`, if that is another one.
    pub(super) fn check(self, group: &str, found: &str) -> Result<(), ClaimError> {
        if found == self.as_str() {
            return Ok(());
        }
        Err(ClaimError::Refused(format!(
            "group {group} is {article} {found}'s: in one group workers and alerters pass each other's \
             readings. Set {} to a name that no other kind of service has",
            self.setting(),
            article = if found == Self::Alerter.as_str() { "an" } else { "a" },
        )))
    }
}

/// Why a partition was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It never will be before somebody changes the settings or the ledger.
    #[error("{0}")]
    Refused(String),
    /// It will be once somebody has run a command that was to be run before.
    #[error("{0}")]
    NotYet(String),
    /// The database did not do it; it may the next time.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
