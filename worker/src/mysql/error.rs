//! Describes why a batch was not written, by the remedy. `pipeline` applies the remedy.

use ljwx_ledger::ledger::Advance;
use ljwx_ledger::mysql::errors::{self, Remedy};

use crate::batch::row::Identity;

/// The reason for which a batch was not written, named by the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// MySQL cannot take the batch now, or its tables are missing something: hold the batch and
    /// retry.
    #[error("{message}")]
    Retry {
        remedy: Remedy,
        /// Message of the server.
        message: String,
        /// Advances of a COMMIT without an answer, which may have taken effect; else none.
        unanswered: Vec<Advance>,
    },
    /// MySQL rejects a value: find the deliveries that carry the value.
    #[error("{code}: {message}")]
    Data {
        /// Number and SQLSTATE.
        code: String,
        /// Message of the server, without the value.
        message: String,
        /// The row that the server named, not tried on its own.
        suspect: Option<Identity>,
    },
    /// The ledger has another claim or position than the batch: query the ledger for the reason.
    #[error("the ledger stands elsewhere for {} partition(s)", .0.len())]
    Fenced(Vec<Advance>),
}

impl WriteError {
    /// Returns the stable word, a metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { remedy, .. } => remedy.as_str(),
            Self::Data { .. } => Remedy::Data.as_str(),
            Self::Fenced(_) => "fenced",
        }
    }

    /// Classifies the error of a statement that carries values of readings. Only these statements
    /// can have a data error.
    pub(super) fn of_rows(error: sqlx::Error, suspect: Option<Identity>) -> Self {
        match errors::remedy(&error) {
            Remedy::Data => Self::Data {
                code: errors::code(&error).unwrap_or_default(),
                message: errors::message(&error),
                suspect,
            },
            _ => error.into(),
        }
    }

    pub(super) fn held(error: &sqlx::Error, unanswered: Vec<Advance>) -> Self {
        let remedy = match errors::remedy(error) {
            Remedy::Data => Remedy::Infrastructure,
            remedy => remedy,
        };
        Self::Retry { remedy, message: errors::message(error), unanswered }
    }
}

/// Errors of all other statements: of the ledger's row, and of the transaction itself.
impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::held(&error, Vec::new())
    }
}
