//! Parses the text of a rule, and fills its placeholders.
//!
//! Pure. The text around it in a notification belongs to [`crate::notify::notice`].

use std::borrow::Cow;
use std::fmt::Write;

use jiff::civil::DateTime;
use ljwx_reading::wall_text;
use serde::Deserialize;

use crate::rules::severity::Severity;
use crate::rules::verdict::{Bounds, Measurement};
use crate::rules::vital::Vital;

/// The text of a rule without a text of its own.
pub const DEFAULT_TEMPLATE: &str = "{sign}异常：{value}（阈值 {threshold}）";

/// The text of a `NO_DATA` rule without a text of its own.
pub const NO_DATA_TEMPLATE: &str = "{sign}：设备已 {value} 没有数据";

/// A rule's text, parsed once: each part, and the placeholder behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<(Box<str>, Option<Placeholder>)>);

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Placeholder {
    DeviceSn,
    UserName,
    CustomerId,
    Sign,
    Value,
    Threshold,
    Severity,
    Timestamp,
    Duration,
}

/// The values of the placeholders.
#[derive(Debug, Clone)]
pub struct TemplateValues<'a> {
    /// The device.
    pub device_sn: &'a str,
    /// The wearer's name, if known.
    pub user_name: Option<&'a str>,
    /// Tenant.
    pub customer_id: i64,
    /// The vital in words.
    pub sign: &'static str,
    /// The value that decided.
    pub measured: Measurement,
    /// The threshold that the value lies beyond, if any.
    pub bound: Option<f64>,
    /// The rule's thresholds.
    pub thresholds: Bounds,
    /// Current severity.
    pub severity: Severity,
    /// Wall clock of the reading.
    pub wall: DateTime,
    /// Duration of the episode so far, in milliseconds.
    pub lasted_ms: i64,
}

impl Template {
    /// Parses `text`. The error names the unknown placeholder.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|length| open + length) else {
                return Err("a { without its }".to_owned());
            };
            let name = &rest[open + 1..close];
            let placeholder = serde_json::from_value(name.trim().into())
                .map_err(|_| format!("nothing fills the placeholder {{{name}}}"))?;
            parts.push((rest[..open].into(), Some(placeholder)));
            rest = &rest[close + 1..];
        }
        parts.push((rest.into(), None));
        Ok(Self(parts))
    }

    /// Returns the text with the placeholders filled from `facts`.
    pub fn render(&self, facts: &TemplateValues<'_>) -> String {
        let mut text = String::new();
        for (plain, placeholder) in &self.0 {
            text.push_str(plain);
            text.extend(placeholder.map(|placeholder| facts.fill(placeholder)));
        }
        text
    }
}

impl TemplateValues<'_> {
    fn fill(&self, placeholder: Placeholder) -> Cow<'_, str> {
        match placeholder {
            Placeholder::DeviceSn => self.device_sn.into(),
            Placeholder::UserName => self.user_name.unwrap_or(self.device_sn).into(),
            Placeholder::CustomerId => self.customer_id.to_string().into(),
            Placeholder::Sign => self.sign.into(),
            Placeholder::Value => quantity(self.measured.vital, self.measured.value).into(),
            Placeholder::Threshold => match self.bound {
                Some(bound) => quantity(self.measured.vital, bound).into(),
                None => threshold(self.thresholds).into(),
            },
            Placeholder::Severity => self.severity.label().into(),
            Placeholder::Timestamp => wall_text(self.wall).into(),
            Placeholder::Duration => duration(self.lasted_ms).into(),
        }
    }
}

/// Formats a value. The value of a `NO_DATA` rule is in seconds, and is shown as a duration.
pub(crate) fn quantity(vital: Vital, value: f64) -> String {
    match vital {
        Vital::NoData => duration((value * 1000.0) as i64),
        _ => value.to_string(),
    }
}

fn threshold(thresholds: Bounds) -> String {
    match (thresholds.min, thresholds.max) {
        (Some(min), Some(max)) => format!("{min}~{max}"),
        (Some(min), None) => format!("≥{min}"),
        (None, Some(max)) => format!("≤{max}"),
        (None, None) => String::new(),
    }
}

/// Formats a duration in days, hours, minutes and seconds.
pub(crate) fn duration(lasted_ms: i64) -> String {
    let mut seconds = lasted_ms / 1000;
    let mut text = String::new();
    for (unit, name) in [(86_400, "天"), (3_600, "小时"), (60, "分"), (1, "秒")] {
        let count = seconds / unit;
        seconds %= unit;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{count}{name}");
        }
    }
    if text.is_empty() { "0秒".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TemplateValues<'static> {
        TemplateValues {
            device_sn: "ABCDE25100000001",
            user_name: None,
            customer_id: 7,
            sign: Vital::HeartRate.label(),
            measured: Measurement { vital: Vital::HeartRate, value: 110.0 },
            bound: Some(100.0),
            thresholds: Bounds { min: None, max: Some(100.0) },
            severity: Severity::Critical,
            wall: "2025-09-02T12:00:00".parse().unwrap(),
            lasted_ms: 3_661_000,
        }
    }

    #[test]
    fn every_placeholder_is_filled() {
        let all = "{device_sn} {user_name} {customer_id} {sign} {value} {threshold} {severity} {timestamp} {duration}";
        assert_eq!(
            Template::parse(all).unwrap().render(&facts()),
            "ABCDE25100000001 ABCDE25100000001 7 心率 110 100 严重 2025-09-02 12:00:00 1小时1分1秒"
        );
        let template = Template::parse(DEFAULT_TEMPLATE).unwrap();
        assert_eq!(template.render(&facts()), "心率异常：110（阈值 100）");
        let unbroken = TemplateValues { bound: None, lasted_ms: 0, ..facts() };
        let template = Template::parse("{threshold}{duration}").unwrap();
        assert_eq!(template.render(&unbroken), "≤1000秒");
    }

    #[test]
    fn what_nothing_fills_is_refused_by_name() {
        assert!(Template::parse("{vlaue}").unwrap_err().contains("{vlaue}"));
        assert!(Template::parse("a { b").is_err());
        assert!(Template::parse("}").is_ok());
    }
}
