//! The channels of notifications, and the channels that a rule chooses.
//!
//! Pure. Addresses belong to [`crate::notify::address`].

use serde::{Deserialize, Serialize};

/// A channel that notifies a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// A template message of a WeChat official account; addresses are openids.
    Official,
    /// A message of a WeCom application; addresses are its user ids.
    Wecom,
    /// A row of the platform's `t_device_message`, which the watch shows; addresses are the
    /// platform's user ids.
    Message,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 3] = [Self::Official, Self::Wecom, Self::Message];

    /// Returns the word before an address in the outbox. `t_alert_recipient_address` has it as the
    /// kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Official => "openid",
            Self::Wecom => "wecom",
            Self::Message => "message",
        }
    }

    /// Parses a kind.
    pub fn from_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.kind() == kind)
    }

    /// Returns the word for logs, spans and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Official => "wechat_official",
            Self::Wecom | Self::Message => self.kind(),
        }
    }
}

/// The channels of a rule's notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channels {
    /// WeChat: the official account or WeCom, as the tenant has.
    pub wechat: bool,
    /// WeCom, even if the tenant also has an official account.
    pub wecom: bool,
    /// The platform's own messages, which the watch shows.
    pub message: bool,
    /// The service's log.
    pub log: bool,
}

impl Channels {
    /// Whether these channels include all by which `others` notify people.
    pub fn reach_all_of(self, others: Self) -> bool {
        self.wechat >= others.wechat && self.wecom >= others.wecom && self.message >= others.message
    }

    /// Whether a person is to be notified. The log is no person.
    pub fn name_people(self) -> bool {
        self.wechat || self.wecom || self.message
    }
}
