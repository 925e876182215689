//! The answer of a part of the pipeline to a command.

use std::time::Instant;

use serde::Serialize;
use tokio::time::timeout_at;

/// What a part of the pipeline answered, or the reason why the answer is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part<T> {
    Known(T),
    Unknown(String),
}

impl<T> Part<T> {
    /// Waits for an answer until the deadline, after which `late` is the reason. Blocking work that
    /// has not ended by then is abandoned: its requests have time limits of their own.
    pub async fn by<E: Into<anyhow::Error>>(
        deadline: Instant,
        late: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Self {
        match timeout_at(deadline.into(), work).await {
            Ok(answer) => answer.into(),
            Err(_) => Self::Unknown(late.to_owned()),
        }
    }

    /// Returns the answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(answer) => Some(answer),
            Self::Unknown(_) => None,
        }
    }

    /// Whether there is no answer.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl<T, E: Into<anyhow::Error>> From<Result<T, E>> for Part<T> {
    fn from(answer: Result<T, E>) -> Self {
        match answer {
            Ok(answer) => Self::Known(answer),
            Err(error) => {
                let error: anyhow::Error = error.into();
                Self::Unknown(format!("{error:#}"))
            }
        }
    }
}
