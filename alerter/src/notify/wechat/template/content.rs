//! The contents of a template's fields: pieces of a notice, each with the key of its word.
//!
//! Pure. What a field's type makes of a content belongs to [`super::field_type`].

use ljwx_reading::wall_text;
use serde::Deserialize;

use crate::engine::Silence;
use crate::notify::notice::Notice;

/// A piece of a notice that a field of a template can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The wearer's name, else the serial number.
    Patient,
    /// Marks, state, vital and value.
    Event,
    /// The severity, or that the episode is over.
    Level,
    Time,
    State,
    /// The vital, in the platform's word.
    Sign,
    Value,
    /// The value, and the threshold that the value exceeds or falls below.
    Reading,
    Device,
    Org,
    /// Number of alerts.
    Count,
    /// The rule's text, and a line for each other alert.
    Text,
}

impl Notice {
    /// Returns a content as text. Empty: the notice has no such content.
    pub fn content(&self, content: Content) -> String {
        match content {
            Content::Patient => self.user.clone(),
            Content::Event => self.event(),
            Content::Level => self.level().to_owned(),
            Content::Time => match self.since {
                Some(since) => since.strftime("%Y-%m-%d %H:%M起").to_string(),
                None => wall_text(self.wall),
            },
            Content::State => self.state_word().1.unwrap_or("发生").to_owned(),
            Content::Sign => self.sign().to_owned(),
            Content::Value => self.value_text().unwrap_or_default(),
            Content::Reading => match (self.value, self.threshold()) {
                (Some(value), Some(threshold)) => format!("{value}{threshold}"),
                _ => self.value_text().unwrap_or_default(),
            },
            Content::Device => self.device_sn.clone(),
            Content::Org => self.ward.clone().unwrap_or_default(),
            Content::Count => self.alerts().to_string(),
            Content::Text => {
                let mut lines = vec![self.text.clone()];
                lines.extend(self.beside_lines());
                lines.join("\n")
            }
        }
    }

    /// Returns the key under which an account's map of fields holds a word for a content. `None`:
    /// no words stand for the content.
    pub fn word_key(&self, content: Content) -> Option<&'static str> {
        match content {
            Content::State => Some(self.state_word().0),
            Content::Level => Some(self.level_word().0),
            Content::Sign if self.digest_of.is_some() => Some("digest"),
            Content::Sign => Some(match self.silence {
                Silence::Silent => self.vital.as_str(),
                Silence::ClockWrong => "clock_wrong",
                Silence::NothingNew => "nothing_new",
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::episode::TransitionKind;
    use crate::rules::{Severity, Vital};
    use crate::test_support;

    /// A heart rate of 151 above 140.
    fn notice() -> Notice {
        Notice { value: Some(151.0), bound: Some(140.0), ..test_support::notice() }
    }

    #[test]
    fn a_content_is_one_piece_and_its_word_is_found_by_the_state_the_severity_or_the_sign() {
        let ward = Notice { ward: Some("三病区".into()), ..notice() };
        for (content, text, key) in [
            ("patient", "A1", None),
            ("event", "心率过高 151", None),
            ("level", "严重", Some("critical")),
            ("time", "2025-09-02 12:00:00", None),
            ("state", "发生", Some("opened")),
            ("sign", "心率", Some("heart_rate")),
            ("value", "151", None),
            ("reading", "151>140", None),
            ("device", "A1", None),
            ("org", "三病区", None),
            ("count", "1", None),
            ("text", "心率 133", None),
        ] {
            let content = serde_json::from_value(content.into()).unwrap();
            assert_eq!((ward.content(content).as_str(), ward.word_key(content)), (text, key));
        }
        let low = Notice { bound: Some(160.0), ..notice() };
        assert_eq!(low.content(Content::Reading), "151<160");
        let ended = Notice {
            transition: TransitionKind::Resolved,
            value: Some(88.0),
            bound: None,
            ..notice()
        };
        assert_eq!(ended.content(Content::Reading), "88");
        assert_eq!(ended.word_key(Content::Level), Some("resolved"));
        let down = Notice { goes_on: Some(Severity::Major), ..ended };
        for (content, text, key) in
            [(Content::State, "缓解", Some("eased")), (Content::Level, "高级", Some("major"))]
        {
            assert_eq!((down.content(content).as_str(), down.word_key(content)), (text, key));
        }
        let eased = Notice { transition: TransitionKind::Escalated, eased: true, ..notice() };
        assert_eq!(eased.word_key(Content::State), Some("eased"));
        let digest = Notice { digest_of: Some(35), value: None, ..notice() };
        for (content, text, key) in [
            (Content::State, "汇总", Some("digest")),
            (Content::Sign, "告警汇总", Some("digest")),
            (Content::Reading, "", None),
            (Content::Count, "35", None),
        ] {
            assert_eq!((digest.content(content).as_str(), digest.word_key(content)), (text, key));
        }
        let silent = Notice { vital: Vital::NoData, value: Some(3_720.0), bound: None, ..notice() };
        assert_eq!(silent.content(Content::Reading), "1小时2分");
        for (silence, text, key) in [
            (Silence::Silent, "设备失联", "no_data"),
            (Silence::ClockWrong, "设备时钟错误", "clock_wrong"),
            (Silence::NothingNew, "设备无新数据", "nothing_new"),
        ] {
            let missing = Notice { silence, ..silent.clone() };
            let sign = (missing.content(Content::Sign), missing.word_key(Content::Sign));
            assert_eq!(sign, (text.to_owned(), Some(key)));
        }
        let back = Notice { transition: TransitionKind::Resolved, value: Some(0.0), ..silent };
        assert_eq!(back.content(Content::Value), "");
        let leading =
            Notice { beside: vec!["【低级】血氧过低 85 (<90)".into()], ..notice() };
        assert_eq!(leading.content(Content::Count), "2");
        assert_eq!(leading.content(Content::Text), "心率 133\n【低级】血氧过低 85 (<90)");
        let since = Some("2025-09-02T11:50:07".parse().unwrap());
        let later = Notice { since, ..notice() };
        assert_eq!(later.content(Content::Time), "2025-09-02 11:50起");
    }
}
