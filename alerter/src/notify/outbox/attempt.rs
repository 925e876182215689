//! What an attempt came to, and what becomes of the notification.
//!
//! Pure. What becomes of it is for [`crate::notify::sender`] to decide; `settle` writes it down.

use std::borrow::Cow;
use std::time::Duration;

/// What becomes of a claimed notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// The platform took it.
    Sent,
    /// It is tried again after this time.
    Later(Duration),
    /// It is not to be sent any more.
    Dropped,
    /// It can never be sent.
    Failed,
}

impl Fate {
    /// The word in the outbox.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Later(_) => "pending",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }

    /// Whether it is the end.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Later(_))
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What becomes of the notification.
    pub fate: Fate,
    /// Whether anybody was asked to deliver it.
    pub asked: bool,
    /// Whether this attempt may have arrived all the same; where nobody was asked, what was open
    /// before stays so.
    pub uncertain: bool,
    /// What the platform answered.
    pub errcode: Option<i64>,
    /// Why it was not sent; one of a few words where nobody was asked.
    pub reason: Option<Cow<'static, str>>,
}

impl Attempt {
    /// The platform took it.
    pub fn sent(errcode: Option<i64>) -> Self {
        Self { fate: Fate::Sent, asked: true, uncertain: false, errcode, reason: None }
    }

    /// Nobody was asked, for a reason that is one of a few words.
    pub fn unasked(fate: Fate, reason: &'static str) -> Self {
        let reason = Some(reason.into());
        Self { fate, asked: false, uncertain: false, errcode: None, reason }
    }

    /// Nobody was asked yet.
    pub fn later(wait: Duration, reason: &'static str) -> Self {
        Self::unasked(Fate::Later(wait), reason)
    }
}
