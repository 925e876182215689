//! The ways a notification can go, and those that a rule asks for.
//!
//! Pure. An address on one of them is [`crate::notify::address`]'s.

/// A way to tell a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// A template message of a WeChat official account; addresses are openids.
    Official,
    /// An application's message in WeCom; addresses are its user ids.
    Wecom,
    /// A row of the platform's `t_device_message`, which the watch shows; addresses are the
    /// platform's user ids.
    Message,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Official, Self::Wecom, Self::Message];

    /// The word before an address in the outbox, and the kind of an address in our table.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Official => "openid",
            Self::Wecom => "wecom",
            Self::Message => "message",
        }
    }

    /// Reads a kind.
    pub fn from_kind(kind: &str) -> Option<Self> {
        Some(match kind {
            "openid" => Self::Official,
            "wecom" => Self::Wecom,
            "message" => Self::Message,
            _ => return None,
        })
    }

    /// The word in logs, spans and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Official => "wechat_official",
            Self::Wecom => "wecom",
            Self::Message => "message",
        }
    }
}

/// By which ways a rule's notifications go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Channels {
    /// WeChat, by whichever of official account and WeCom the tenant has.
    pub wechat: bool,
    /// WeCom, whatever else the tenant has.
    pub wecom: bool,
    /// The platform's own messages, which the watch shows.
    pub message: bool,
    /// The service's log.
    pub log: bool,
}
