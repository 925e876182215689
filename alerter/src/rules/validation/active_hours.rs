//! Reads when a rule may open an episode: times of day, and days of the week.
//!
//! Pure. [`ActiveHours`] decides whether the rule may open an episode at a given time.

use jiff::civil::Time;
use serde_json::Value;

use super::fields::RuleFields;
use crate::rules::rule::{ALL_DAYS, ActiveHours};

/// Reads when the rule may open an episode, and records the problems.
pub(super) fn effective(form: &mut RuleFields<'_>) -> ActiveHours {
    ActiveHours {
        start: time(form, "effective_time_start"),
        end: time(form, "effective_time_end"),
        days: days(form),
    }
}

fn time(form: &mut RuleFields<'_>, field: &'static str) -> Option<Time> {
    let text = form.text(field)?;
    let time = text.parse().ok();
    if time.is_none() {
        form.add_error(field, "must be a time of day such as 22:00:00");
    }
    time
}

fn days(form: &mut RuleFields<'_>) -> u8 {
    // The platform stores a blank text for every day. A list without a day is a mistake.
    let words: Vec<String> = match form.value("effective_days") {
        None => return ALL_DAYS,
        Some(Value::Array(days)) => days.iter().map(Value::to_string).collect(),
        Some(Value::String(text)) => {
            text.trim_matches(['[', ']']).split(',').map(str::to_owned).collect()
        }
        Some(other) => vec![other.to_string()],
    };
    let day = |word: &String| {
        let day = word.trim().trim_matches('"').parse::<u8>().ok();
        day.filter(|day| (1..=7).contains(day))
    };
    match words.iter().map(day).collect::<Option<Vec<u8>>>() {
        Some(listed) if !listed.is_empty() => {
            listed.into_iter().fold(0, |days, day| days | (1_u8 << day))
        }
        _ => {
            form.add_error(
                "effective_days",
                "must list ISO days, 1 (Monday) to 7, as in 1,2,3; leave it out for every day",
            );
            ALL_DAYS
        }
    }
}
