//! What people read: a rule's text with its placeholders filled, and the notice around it.
//!
//! Knows no channel; [`crate::notify::wechat`] puts a notice into the form its platform takes.

use std::borrow::Cow;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::engine::episode::To;
use crate::rules::severity::Severity;
use crate::rules::template::duration;
use crate::rules::vital::Sign;

/// One thing to tell one person, whatever the channel. Stored beside its bytes, as JSON, so that they
/// can be made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub to: To,
    /// Severity now.
    pub severity: Severity,
    /// Whether it is one of many, and the last that is told until it settles.
    pub flapping: bool,
    /// The sign concerned.
    pub sign: Sign,
    /// Its value; none: it would say nothing of the sign. Notices of an older version have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold of a range that the value lies beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Whether a change of severity is for the better.
    #[serde(default)]
    pub eased: bool,
    /// The device.
    pub device_sn: String,
    /// Who wears it, or the device where that is not known.
    pub user: String,
    /// The organisation that cares for them, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ward: Option<String>,
    /// Wall clock of the reading.
    pub wall: DateTime,
    /// The rule's text, filled; of a digest, its lines.
    pub text: String,
    /// Whether it comes late, and what it tells of began a while ago.
    #[serde(default)]
    pub delayed: bool,
    /// Whether the person may have received it before.
    #[serde(default)]
    pub repeat: bool,
    /// Alerts that a digest tells of; none: it is no digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<usize>,
}

/// `text` in at most `bytes_max` bytes, cut at a character and marked with `…`.
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end]).into()
}

/// What is said of an episode that closes because its device has fallen silent.
pub fn stale_text(silent_ms: i64) -> String {
    format!("设备已 {} 没有数据，告警关闭", duration(silent_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{self, notice};

    #[test]
    fn a_notice_reads_back_as_it_was_stored() {
        let notice = Notice { repeat: true, digest_of: Some(2), ..notice() };
        let stored = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap(), notice);
        let old = r#"{"to":"opened","severity":"critical","flapping":false,"sign":"heart_rate",
            "device_sn":"A1","user":"A1","wall":"2025-09-02T12:00:00","text":"心率 133"}"#;
        let old: Notice = serde_json::from_str(old).unwrap();
        assert_eq!(old, Notice { value: None, bound: None, ..test_support::notice() });
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(cut("心率异常", 12), "心率异常");
        assert_eq!(cut("心率异常", 11), "心率…");
        assert_eq!(cut("心率异常", 4), "…");
    }
}
