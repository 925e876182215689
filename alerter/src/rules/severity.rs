//! The severity of alerts, in the words of the platform and its users.

use serde::{Deserialize, Serialize};

/// Severity of a rule and of an alert, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// 三级.
    Minor,
    /// Medium.
    Moderate,
    /// 二级.
    Major,
    /// 一级.
    Critical,
}

impl Severity {
    /// All severities, in rising order.
    pub const ALL: [Self; 5] =
        [Self::Info, Self::Minor, Self::Moderate, Self::Major, Self::Critical];

    /// Parses any word in use for a severity, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.trim().to_lowercase().as_str() {
            "info" => Self::Info,
            "minor" | "low" | "三级" => Self::Minor,
            "moderate" | "medium" => Self::Moderate,
            "major" | "high" | "二级" => Self::Major,
            "critical" | "severe" | "一级" => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the number in the outbox, from 1 (info) to 5 (critical).
    pub fn number(self) -> i8 {
        self as i8 + 1
    }

    /// Returns the word for tables and metric labels, and the word shown to people.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Info => ("info", "提示"),
            Self::Minor => ("minor", "低级"),
            Self::Moderate => ("moderate", "中级"),
            Self::Major => ("major", "高级"),
            Self::Critical => ("critical", "严重"),
        }
    }

    /// Returns the word for tables and metric labels.
    pub fn as_str(self) -> &'static str {
        self.words().0
    }

    /// Returns the word shown to the people who are notified.
    pub fn label(self) -> &'static str {
        self.words().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_in_use_is_read_and_the_order_holds() {
        for (word, severity) in [
            ("INFO", Severity::Info),
            ("low", Severity::Minor),
            ("三级", Severity::Minor),
            ("Medium", Severity::Moderate),
            ("HIGH", Severity::Major),
            ("二级", Severity::Major),
            ("severe", Severity::Critical),
            (" 一级 ", Severity::Critical),
        ] {
            assert_eq!(Severity::from_word(word), Some(severity), "{word}");
        }
        assert_eq!(Severity::from_word("四级"), None);
        assert!(Severity::ALL.is_sorted());
        assert_eq!(Severity::ALL.map(Severity::number), [1, 2, 3, 4, 5]);
        assert!(Severity::ALL.iter().all(|one| Severity::from_word(one.as_str()) == Some(*one)));
    }
}
