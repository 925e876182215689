//! A notice: the content of a notification, with the rule's text filled in.
//!
//! A notice does not depend on the channel. [`crate::notify::wechat`] renders a notice for its
//! platform.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::engine::Silence;
use crate::engine::episode::TransitionKind;
use crate::rules::template::duration;
use crate::rules::{Channels, Severity, Vital};

/// The content of one notification, whatever the channel. Stored as JSON beside the request's
/// bytes, so that the request can be rebuilt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The transition.
    pub transition: TransitionKind,
    /// The severity now.
    pub severity: Severity,
    /// Whether the rule is flapping. No further opening is notified until flapping ends.
    pub flapping: bool,
    /// The vital of the alert.
    pub vital: Vital,
    /// The vital's value. `None`: the value would say nothing about the vital, or an older version
    /// wrote the notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold of the range that the value exceeds or falls below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Whether the severity changed for the better.
    #[serde(default)]
    pub eased: bool,
    /// The severity of a lower rule of the vital that goes on after this end. The end is then a step
    /// down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on: Option<Severity>,
    /// What a missing device still sends.
    #[serde(default, skip_serializing_if = "Silence::is_silent")]
    pub silence: Silence,
    /// The device's serial number.
    pub device_sn: String,
    /// The device's user, or the device if the user is unknown.
    pub user: String,
    /// The organisation that cares for the user, if its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ward: Option<String>,
    /// The wall-clock time of the reading.
    pub wall: DateTime,
    /// The rule's text with its placeholders filled. In a digest, the lines of the digest.
    pub text: String,
    /// Whether the notification is delayed: its transition happened a while ago.
    #[serde(default)]
    pub delayed: bool,
    /// Whether the person may have received the notification before.
    #[serde(default)]
    pub repeat: bool,
    /// Whether the notice is that of a test message, which concerns no alert.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// The wall-clock time of the opening, if people are notified only later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime>,
    /// Fields of the account's template that are sent in their plain form, because the platform
    /// refused their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub plain_fields: BTreeSet<String>,
    /// Number of alerts in the digest. `None`: the notice is not a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<usize>,
    /// Headlines of the other alerts that the message reports, most severe first. Not stored: their
    /// rows have them.
    #[serde(skip)]
    pub beside: Vec<String>,
    /// What finds the recipients again. `None`: the notice is a digest, or an older version wrote
    /// the notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
}

/// Lines of other alerts in a message. With its own, a message has one more.
const BESIDE_LINES_MAX: usize = 4;

impl Notice {
    /// A notice of what happened at `wall`, without value, text and people.
    pub fn new(to: TransitionKind, severity: Severity, vital: Vital, wall: DateTime) -> Self {
        Self {
            transition: to,
            severity,
            flapping: false,
            vital,
            value: None,
            bound: None,
            eased: false,
            goes_on: None,
            silence: Silence::default(),
            device_sn: String::new(),
            user: String::new(),
            ward: None,
            wall,
            text: String::new(),
            delayed: false,
            repeat: false,
            test: false,
            since: None,
            plain_fields: BTreeSet::new(),
            digest_of: None,
            beside: Vec::new(),
            routing: None,
        }
    }

    /// Returns the place of the notice among those of one message. What opens or goes on comes before
    /// what is over, and the most severe comes first. A step down goes on, as severe as what is left
    /// of it.
    pub fn place(&self) -> (bool, Reverse<Severity>) {
        let severity = self.goes_on.unwrap_or(self.severity);
        (self.is_over() && self.goes_on.is_none(), Reverse(severity))
    }

    /// Returns the number of alerts that the message reports.
    pub fn alerts(&self) -> usize {
        self.digest_of.unwrap_or(self.beside.len() + 1)
    }

    /// Returns a line for each other alert that the message reports. The last line counts the alerts
    /// if there are too many.
    pub fn beside_lines(&self) -> Vec<String> {
        let mut lines = self.beside.clone();
        if lines.len() > BESIDE_LINES_MAX {
            lines.truncate(BESIDE_LINES_MAX - 1);
            lines.push(format!("…等{}条", self.alerts()));
        }
        lines
    }
}

/// What finds the recipients of a notice without its rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The device's user.
    pub user_id: Option<i64>,
    /// The user's organisation.
    pub org_id: Option<i64>,
    /// The channels that the rule names.
    pub channels: Channels,
    /// Whether a message on the watch notifies someone: only if no other channel counts.
    #[serde(default)]
    pub watch_counts: bool,
}

/// Returns `text` in at most `bytes_max` bytes, cut at a character and marked with `…`.
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end]).into()
}

/// The text of an episode that closes because its device has another wearer.
pub const CLOSED_TEXT: &str = "设备已更换佩戴者，告警关闭";

/// Returns the text of an episode that closes because its device fell silent.
pub fn stale_text(silent_ms: i64) -> String {
    format!("设备已 {} 没有数据，告警关闭", duration(silent_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{self, notice};

    #[test]
    fn a_notice_reads_back_as_it_was_stored() {
        let notice = Notice {
            repeat: true,
            digest_of: Some(2),
            since: Some("2025-09-02T11:50:00".parse().unwrap()),
            plain_fields: ["thing1".to_owned()].into(),
            routing: Some(Routing { user_id: Some(5), ..Routing::default() }),
            ..notice()
        };
        let stored = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap(), notice);
        let old = r#"{"transition":"opened","severity":"critical","flapping":false,"vital":"heart_rate",
            "device_sn":"A1","user":"A1","wall":"2025-09-02T12:00:00","text":"心率 133"}"#;
        let old: Notice = serde_json::from_str(old).unwrap();
        assert_eq!(old, Notice { value: None, bound: None, ..test_support::notice() });
    }

    #[test]
    fn a_message_names_four_other_alerts_at_most_and_counts_them_all() {
        let beside = |count: usize| {
            let headlines = (1..=count).map(|number| format!("【低级】{number}"));
            Notice { beside: headlines.collect(), ..notice() }
        };
        assert_eq!(beside(1).beside_lines(), ["【低级】1"]);
        assert_eq!(beside(4).beside_lines(), ["【低级】1", "【低级】2", "【低级】3", "【低级】4"]);
        assert_eq!(beside(5).beside_lines(), ["【低级】1", "【低级】2", "【低级】3", "…等6条"]);
        assert_eq!((beside(0).alerts(), beside(5).alerts()), (1, 6));
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(cut("心率异常", 12), "心率异常");
        assert_eq!(cut("心率异常", 11), "心率…");
        assert_eq!(cut("心率异常", 4), "…");
    }
}
