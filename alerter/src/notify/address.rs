//! Defines the address at which a channel reaches a person, and checks addresses.
//!
//! Pure. Every address that is to become a recipient is checked here. A wrong name can reach many
//! people: WeCom takes `a|b` for two members and `@all` for the whole company.

use std::fmt;

use crate::rules::Channel;

/// The address at which a channel reaches a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The channel.
    pub channel: Channel,
    /// The person's name on the channel.
    pub name: String,
}

impl Address {
    /// Parses the outbox's form, `kind:name`.
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

/// Stands for all users of a tenant without an address of their own.
pub const EVERYBODY: i64 = 0;

/// Stands for whoever has the default address of an account.
pub const DEFAULT_USER: i64 = -1;

/// An address to notify.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    /// The address.
    pub address: Address,
    /// The user whose address it is, [`EVERYBODY`] or [`DEFAULT_USER`].
    pub user_id: i64,
}

/// Longest openid, in bytes: the size of its column.
const OPENID_BYTES_MAX: usize = 128;

/// Longest user id of a WeCom member, in bytes.
const USERID_BYTES_MAX: usize = 64;

/// Checks that `name` is the address of one person. The error says what is wrong with `name`.
pub fn check(channel: Channel, name: &str) -> Result<(), &'static str> {
    let consists_of = |signs: &[u8], bytes_max: usize| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || signs.contains(&byte);
        (1..=bytes_max).contains(&name.len()) && name.bytes().all(is_known)
    };
    let (is_address, problem) = match channel {
        Channel::Official => (
            consists_of(b"_-", OPENID_BYTES_MAX),
            "must be an openid: 1 to 128 letters, digits, _ and -",
        ),
        Channel::Wecom if name.eq_ignore_ascii_case("@all") => {
            (false, "@all would notify everybody in the company: name one member by the user id")
        }
        Channel::Wecom => (
            consists_of(b"_-@.", USERID_BYTES_MAX) && name.as_bytes()[0].is_ascii_alphanumeric(),
            "must be one member's user id: 1 to 64 letters, digits, _ - @ and ., the first a letter \
             or digit",
        ),
        Channel::Message => (
            name.parse::<i64>().is_ok_and(|id| id > 0),
            "must be the number of one of the platform's users",
        ),
    };
    if is_address { Ok(()) } else { Err(problem) }
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

    #[test]
    fn only_the_name_of_one_person_is_an_address() {
        let (long, longer) = ("a".repeat(64), "a".repeat(129));
        for (channel, name, holds) in [
            (Channel::Official, "oLVPpjqs9BhvzwPj5A-vTYAX3GLc", true),
            (Channel::Official, "", false),
            (Channel::Official, "o1|o2", false),
            (Channel::Official, "o 1", false),
            (Channel::Official, longer.as_str(), false),
            (Channel::Wecom, "zhang.san_1-2@x", true),
            (Channel::Wecom, long.as_str(), true),
            (Channel::Wecom, "@all", false),
            (Channel::Wecom, "@ALL", false),
            (Channel::Wecom, "a|b", false),
            (Channel::Wecom, "_a", false),
            (Channel::Wecom, "张三", false),
            (Channel::Wecom, longer.as_str(), false),
            (Channel::Message, "1001", true),
            (Channel::Message, "0", false),
            (Channel::Message, "all", false),
        ] {
            assert_eq!(check(channel, name).is_ok(), holds, "{channel:?} {name}");
        }
        assert!(check(Channel::Wecom, "@all").unwrap_err().contains("everybody"));
    }
}
