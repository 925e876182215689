//! The ways a notification can go, and an address on one of them.

use std::fmt;

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

/// Where a person is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// By which way.
    pub channel: Channel,
    /// What that way calls the person.
    pub name: String,
}

impl Address {
    /// Reads the outbox's form, `kind:name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        Some(Self { channel: Channel::from_kind(kind)?, name: name.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel.kind(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outbox_s_form_reads_back() {
        for channel in Channel::ALL {
            let address = Address { channel, name: "a:b".into() };
            assert_eq!(Address::parse(&address.to_string()), Some(address));
        }
        assert_eq!(Address::parse("fax:1"), None);
    }
}
