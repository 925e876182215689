//! Why a batch was not written, named by the remedy. What is then done belongs to `pipeline`.

use ljwx_ledger::ledger::Advance;
use ljwx_ledger::mysql::errors::{self, Remedy};

use crate::batch::row::Identity;

/// Why a batch was not written, named by the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database cannot take it now, or lacks something: hold the batch and try again.
    #[error("{message}")]
    Held {
        /// What would help.
        remedy: Remedy,
        /// What the database said.
        message: String,
        /// The moves of a COMMIT that was not answered, so that they may have been made; else none.
        unanswered: Vec<Advance>,
    },
    /// A value is refused: find the deliveries it is in.
    #[error("{code}: {message}")]
    Data {
        /// Number and SQLSTATE.
        code: String,
        /// What the database said, without the value.
        message: String,
        /// The row that it named, not tried on its own.
        suspect: Option<Identity>,
    },
    /// The ledger does not stand where the batch begins: ask it what that means.
    #[error("the ledger stands elsewhere for {} partition(s)", .0.len())]
    Fenced(Vec<Advance>),
}

impl WriteError {
    /// The stable word: metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Held { remedy, .. } => remedy.as_str(),
            Self::Data { .. } => Remedy::Data.as_str(),
            Self::Fenced(_) => "fenced",
        }
    }

    /// Of a statement that carries readings' values: the only ones that may be at fault themselves.
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
        Self::Held { remedy, message: errors::message(error), unanswered }
    }
}

/// Of everything else: the ledger's row, the transaction itself.
impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::held(&error, Vec::new())
    }
}
