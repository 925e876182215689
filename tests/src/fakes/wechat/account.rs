//! The accounts that the stand-in knows. Who is told by them belongs to [`super::Settings`].

use super::settings::Settings;
use super::{APP_SECRET, CORP_SECRET};

/// Which of the two platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An official account; addresses are openids.
    Official,
    /// An application of WeCom; addresses are its user ids.
    Wecom,
}

impl Kind {
    /// How the id of every account of this kind begins.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Official => "wx",
            Self::Wecom => "ww",
        }
    }

    const fn secret(self) -> &'static str {
        match self {
            Self::Official => APP_SECRET,
            Self::Wecom => CORP_SECRET,
        }
    }
}

/// An account, which is what a token is given to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Which platform it is one of.
    pub kind: Kind,
    /// Its appid or corp id.
    pub id: String,
    /// What proves that a caller may use it.
    pub secret: String,
    /// The application that a WeCom secret belongs to; `None`: any.
    pub agent_id: Option<i64>,
}

impl Account {
    /// An official account.
    pub fn official(id: &str, secret: &str) -> Self {
        Self { kind: Kind::Official, id: id.into(), secret: secret.into(), agent_id: None }
    }

    /// An application of a company in WeCom. A company may have several, each with its own secret.
    pub fn wecom(id: &str, agent_id: i64, secret: &str) -> Self {
        let agent_id = Some(agent_id);
        Self { kind: Kind::Wecom, id: id.into(), secret: secret.into(), agent_id }
    }

    /// The account that `id` and `secret` stand for, or the code of what is wrong with them.
    pub(super) fn find(
        settings: &Settings,
        kind: Kind,
        id: &str,
        secret: &str,
    ) -> Result<Self, i64> {
        let wrong_secret = match kind {
            Kind::Official => 40125,
            Kind::Wecom => 40001,
        };
        let known: Vec<Self> = match &settings.accounts {
            Some(accounts) => {
                let same = |account: &&Self| account.kind == kind && account.id == id;
                accounts.iter().filter(same).cloned().collect()
            }
            None if id.starts_with(kind.prefix()) => {
                let secret = kind.secret().to_owned();
                vec![Self { kind, id: id.to_owned(), secret, agent_id: None }]
            }
            None => Vec::new(),
        };
        if known.is_empty() {
            return Err(40013);
        }
        known.into_iter().find(|account| account.secret == secret).ok_or(wrong_secret)
    }
}
