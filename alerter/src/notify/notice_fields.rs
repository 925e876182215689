//! Puts a notice into the few words that every channel has room for: the event and its level.
//!
//! Marks and state come first. The first characters then distinguish a resolution, a relief and a
//! reminder from an opening, however much is cut.

use super::notice::Notice;
use crate::engine::episode::TransitionKind;
use crate::rules::template::quantity;
use crate::rules::{Severity, Vital};

impl Notice {
    /// Returns the event: marks, state, vital and value, such as `延迟 心率过高 151` or `已恢复 心率 88`.
    pub fn event(&self) -> String {
        let words = self.marks().into_iter().chain([self.state_word().1]).flatten();
        words.map(str::to_owned).chain([self.what()]).collect::<Vec<_>>().join(" ")
    }

    /// Whether the notice reports the end of an episode, whatever the reason.
    pub const fn is_over(&self) -> bool {
        self.transition.is_end()
    }

    /// Returns the severity, or that the episode is over. After a step down, returns the severity of
    /// what goes on.
    pub fn level(&self) -> &'static str {
        self.level_word().1
    }

    /// Returns the key of the word for the level, and the word.
    pub fn level_word(&self) -> (&'static str, &'static str) {
        let of = |severity: Severity| (severity.as_str(), severity.label());
        let over = self.transition.as_str();
        match self.transition {
            TransitionKind::Resolved => self.goes_on.map_or((over, "已恢复"), of),
            TransitionKind::Stale | TransitionKind::Superseded | TransitionKind::Closed => {
                (over, "关闭")
            }
            TransitionKind::Opened | TransitionKind::Notified | TransitionKind::Escalated => {
                of(self.severity)
            }
        }
    }

    /// Returns the whole notice in one line, without the person: `【严重】心率过高 151 (>140)`.
    pub fn headline(&self) -> String {
        let marks: String =
            self.marks().into_iter().flatten().map(|mark| format!("{mark} ")).collect();
        format!("{marks}{}", self.headline_text())
    }

    /// Returns the headline without its marks.
    pub fn headline_text(&self) -> String {
        let level = self.level();
        // The level of an ended episode already contains the state.
        let state = self.state_word().1.filter(|state| *state != level);
        let state = state.map(|state| format!("{state} ")).unwrap_or_default();
        let beyond = self.threshold().map(|threshold| format!(" ({threshold})"));
        format!("【{level}】{state}{}{}", self.what(), beyond.unwrap_or_default())
    }

    /// Returns since when the episode is open, if people are notified only later: `自 12:00 起`.
    pub fn since_text(&self) -> Option<String> {
        let since = self.since?;
        let is_today = since.date() == self.wall.date();
        let format = if is_today { "自 %H:%M 起" } else { "自 %Y-%m-%d %H:%M 起" };
        Some(since.strftime(format).to_string())
    }

    fn marks(&self) -> [Option<&'static str>; 3] {
        [
            self.test.then_some("测试"),
            self.delayed.then_some("延迟"),
            self.repeat.then_some("重复?"),
        ]
    }

    /// Returns the key of the word for the episode's state, and the word. No word: the episode
    /// opened.
    pub fn state_word(&self) -> (&'static str, Option<&'static str>) {
        let key = self.transition.as_str();
        match self.transition {
            _ if self.digest_of.is_some() => ("digest", Some("汇总")),
            TransitionKind::Opened | TransitionKind::Notified if self.flapping => {
                (key, Some("反复"))
            }
            TransitionKind::Opened => (key, None),
            TransitionKind::Notified => (key, Some("持续")),
            TransitionKind::Escalated if self.eased => ("eased", Some("缓解")),
            TransitionKind::Escalated => (key, Some("升级")),
            // The end of an alert is not the end of what its people were notified of.
            TransitionKind::Resolved if self.goes_on.is_some() => ("eased", Some("缓解")),
            TransitionKind::Resolved => (key, Some("已恢复")),
            TransitionKind::Stale => (key, Some("失联")),
            TransitionKind::Superseded | TransitionKind::Closed => (key, Some("关闭")),
        }
    }

    /// Returns the vital, the side and the value. For a digest, returns the number of its alerts.
    fn what(&self) -> String {
        if let Some(alerts) = self.digest_of {
            return format!("{alerts}条");
        }
        let side = match (self.value, self.bound) {
            _ if self.is_over() || self.eased || self.vital == Vital::NoData => "",
            (Some(value), Some(bound)) if value > bound => "过高",
            (Some(value), Some(bound)) if value < bound => "过低",
            _ => "异常",
        };
        let value = self.value_text().map(|value| format!(" {value}"));
        format!("{}{side}{}", self.sign(), value.unwrap_or_default())
    }

    /// Returns the vital in a word, or that the notice is a digest, which has several.
    pub fn sign(&self) -> &'static str {
        match self.vital {
            _ if self.digest_of.is_some() => "告警汇总",
            // Data has come back, whatever the device sent before.
            Vital::NoData if self.transition == TransitionKind::Resolved => "设备数据",
            Vital::NoData => self.silence.label(),
            vital => vital.label(),
        }
    }

    /// Returns the value. A resolved `NO_DATA` alert has no duration: the device sends again, so
    /// its silence is zero.
    pub fn value_text(&self) -> Option<String> {
        let shown = self.value.filter(|_| self.vital != Vital::NoData || !self.is_over());
        shown.map(|value| quantity(self.vital, value))
    }

    /// Returns the threshold and the side on which the value lies: `>140`.
    pub fn threshold(&self) -> Option<String> {
        let (value, bound) = (self.value?, self.bound?);
        Some(format!("{}{bound}", if value < bound { '<' } else { '>' }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Silence;
    use crate::rules::Severity;
    use crate::test_support;

    /// The page that explains messages to nurses.
    const PAGE: &str = include_str!("../../../docs/nurses.zh.md");

    /// A heart rate of 151 above 140.
    fn notice() -> Notice {
        Notice { value: Some(151.0), bound: Some(140.0), ..test_support::notice() }
    }

    fn over(to: TransitionKind) -> Notice {
        Notice { transition: to, value: Some(88.0), bound: None, ..notice() }
    }

    fn absent(to: TransitionKind, seconds: f64) -> Notice {
        Notice {
            transition: to,
            vital: Vital::NoData,
            value: Some(seconds),
            bound: None,
            ..notice()
        }
    }

    /// Asserts the event, the level and the headline of a notice, and that nurses can read of it.
    fn assert_says(notice: &Notice, [event, level, headline]: [&str; 3]) {
        assert_eq!((notice.event().as_str(), notice.level()), (event, level));
        assert_eq!(notice.headline(), headline);
        assert!(PAGE.contains(&format!("`{event}`")), "nurses read nothing of {event}");
    }

    #[test]
    fn event_level_and_headline_say_what_happened_how_bad_it_is_and_whether_it_is_over() {
        let eased = Notice {
            transition: TransitionKind::Escalated,
            eased: true,
            severity: Severity::Major,
            value: Some(150.0),
            ..notice()
        };
        let low =
            Notice { vital: Vital::BloodOxygen, value: Some(85.0), bound: Some(92.0), ..notice() };
        let digest =
            Notice { digest_of: Some(35), value: None, severity: Severity::Major, ..notice() };
        for (notice, event, level, headline) in [
            (notice(), "心率过高 151", "严重", "【严重】心率过高 151 (>140)"),
            (low, "血氧过低 85", "严重", "【严重】血氧过低 85 (<92)"),
            (Notice { bound: None, ..notice() }, "心率异常 151", "严重", "【严重】心率异常 151"),
            (over(TransitionKind::Resolved), "已恢复 心率 88", "已恢复", "【已恢复】心率 88"),
            (
                Notice { transition: TransitionKind::Notified, ..notice() },
                "持续 心率过高 151",
                "严重",
                "【严重】持续 心率过高 151 (>140)",
            ),
            (
                Notice { transition: TransitionKind::Escalated, ..notice() },
                "升级 心率过高 151",
                "严重",
                "【严重】升级 心率过高 151 (>140)",
            ),
            (eased, "缓解 心率 150", "高级", "【高级】缓解 心率 150 (>140)"),
            (
                Notice { flapping: true, ..notice() },
                "反复 心率过高 151",
                "严重",
                "【严重】反复 心率过高 151 (>140)",
            ),
            (
                Notice { value: None, ..over(TransitionKind::Stale) },
                "失联 心率",
                "关闭",
                "【关闭】失联 心率",
            ),
            (
                absent(TransitionKind::Opened, 720.0),
                "设备失联 12分",
                "严重",
                "【严重】设备失联 12分",
            ),
            (
                absent(TransitionKind::Resolved, 0.0),
                "已恢复 设备数据",
                "已恢复",
                "【已恢复】设备数据",
            ),
            (digest, "汇总 35条", "高级", "【高级】汇总 35条"),
        ] {
            assert_says(&notice, [event, level, headline]);
        }
    }

    #[test]
    fn what_goes_on_or_ends_without_a_recovery_has_words_of_its_own() {
        let step_down = Notice {
            goes_on: Some(Severity::Major),
            value: Some(150.0),
            ..over(TransitionKind::Resolved)
        };
        assert_says(&step_down, ["缓解 心率 150", "高级", "【高级】缓解 心率 150"]);
        let closed = Notice { value: None, ..over(TransitionKind::Closed) };
        assert_says(&closed, ["关闭 心率", "关闭", "【关闭】心率"]);
        for (silence, event, headline) in [
            (Silence::ClockWrong, "设备时钟错误 12分", "【严重】设备时钟错误 12分"),
            (Silence::NothingNew, "设备无新数据 12分", "【严重】设备无新数据 12分"),
        ] {
            let missing = Notice { silence, ..absent(TransitionKind::Opened, 720.0) };
            assert_says(&missing, [event, "严重", headline]);
        }
    }

    #[test]
    fn marks_come_first() {
        let late = Notice { delayed: true, ..over(TransitionKind::Resolved) };
        assert_eq!(late.event(), "延迟 已恢复 心率 88");
        let again = Notice { delayed: true, repeat: true, ..notice() };
        assert_eq!(again.event(), "延迟 重复? 心率过高 151");
        assert_eq!(again.headline(), "延迟 重复? 【严重】心率过高 151 (>140)");
        let test = Notice { test: true, ..again };
        assert_eq!(test.event(), "测试 延迟 重复? 心率过高 151");
        assert_eq!(test.headline(), "测试 延迟 重复? 【严重】心率过高 151 (>140)");
    }

    #[test]
    fn a_notice_that_comes_later_says_since_when() {
        let since = |since: &str| Notice { since: Some(since.parse().unwrap()), ..notice() };
        let today = since("2025-09-02T11:50:07");
        assert_eq!(today.since_text().as_deref(), Some("自 11:50 起"));
        let yesterday = since("2025-09-01T11:50:07");
        assert_eq!(yesterday.since_text().as_deref(), Some("自 2025-09-01 11:50 起"));
        assert_eq!(notice().since_text(), None);
    }
}
