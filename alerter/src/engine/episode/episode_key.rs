//! The names of episodes and of their notifications: hashes, so that whoever writes one again finds
//! the same.
//!
//! Pure.

use ljwx_reading::DeviceSn;
use uuid::Uuid;

/// The key of an episode: always the same for the same rule, version, device and opening. A hash,
/// because the platform's column compares without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeKey(String);

impl EpisodeKey {
    /// Returns the key of an episode.
    pub fn new(rule_id: i64, rule_version: i64, device_sn: &DeviceSn, opened_at: i64) -> Self {
        let name = format!("{rule_id}:{rule_version}:{device_sn}:{opened_at}");
        Self(hash(&name))
    }

    /// Returns the key as text: 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key of a digest, as if the digest were an episode. No other digest of the
    /// recipient has the number.
    pub fn of_digest(customer_id: i64, recipient: &str, number: i64) -> Self {
        Self(hash(&format!("digest:{customer_id}:{recipient}:{number}")))
    }

    /// Returns the name of one notification of the episode, for the platform that is to deliver it
    /// once.
    pub fn client_msg_id(&self, transition_seq: u32, recipient: &str) -> String {
        client_msg_id(&self.0, i64::from(transition_seq), recipient, 0)
    }
}

/// Returns the name of a notification that was repeated `resends` times. Each repeat has a name of
/// its own, so the platform delivers it. A repeat that is made again has the same name.
pub fn client_msg_id(key: &str, transition_seq: i64, recipient: &str, resends: u32) -> String {
    let name = format!("{key}:{transition_seq}:{recipient}");
    match resends {
        0 => hash(&name),
        resends => hash(&format!("{name}:repeat:{resends}")),
    }
}

fn hash(name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_tell_episodes_and_recipients_apart() {
        let sn = |text| DeviceSn::new(text).unwrap();
        let key = EpisodeKey::new(1, 2, &sn("A1"), 3);
        assert_eq!(key, EpisodeKey::new(1, 2, &sn("A1"), 3));
        assert_eq!(key.as_str().len(), 32);
        let others = [
            EpisodeKey::new(2, 2, &sn("A1"), 3),
            EpisodeKey::new(1, 3, &sn("A1"), 3),
            EpisodeKey::new(1, 2, &sn("a1"), 3),
            EpisodeKey::new(1, 2, &sn("A1"), 4),
        ];
        assert!(!others.contains(&key));
        assert_eq!(key.client_msg_id(0, "openid:o1").len(), 32);
        assert_ne!(key.client_msg_id(0, "openid:o1"), key.client_msg_id(1, "openid:o1"));
        assert_ne!(key.client_msg_id(0, "openid:o1"), key.client_msg_id(0, "openid:o2"));
    }

    #[test]
    fn a_repeat_has_a_name_of_its_own_that_anybody_finds_again() {
        let key = EpisodeKey::of_digest(7, "openid:o1", 42);
        assert_eq!(key, EpisodeKey::of_digest(7, "openid:o1", 42));
        let name = |resends| client_msg_id(key.as_str(), 3, "openid:o1", resends);
        assert_eq!(name(0), key.client_msg_id(3, "openid:o1"));
        let names = std::collections::HashSet::from([0, 1, 2].map(name));
        assert_eq!(names.len(), 3);
        assert_eq!(name(2), name(2));
    }
}
