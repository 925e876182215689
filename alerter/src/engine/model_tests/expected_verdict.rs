//! The verdict that the contract demands on a device's latest reading, computed each time from all
//! reports of the device.

use std::collections::BTreeMap;

use super::spec::{
    BLOOD_PRESSURE, ConditionSpec, DeviceReport, SIGNS, START, Spec, TriggerSpec, VitalName,
};

/// The verdict of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ExpectedVerdict {
    Breach { may_open: bool },
    Between,
    Clear,
}

/// A second that a composite rule has evaluated, with the values of its vitals.
type Second = (i64, BTreeMap<VitalName, Vec<i64>>);

/// A reading that was not ahead of the clock, and the vitals that were newer than before.
#[derive(Debug, Clone)]
pub(super) struct SeenReport {
    pub(super) report: DeviceReport,
    pub(super) news: Vec<VitalName>,
}

/// Returns the values that a reading has for a vital.
fn values(report: &DeviceReport, sign: VitalName) -> Vec<(VitalName, i64)> {
    let parts: &[VitalName] =
        if sign == BLOOD_PRESSURE { &["pressure_high", "pressure_low"] } else { &[sign] };
    let found = parts.iter().filter_map(|part| Some((*part, *report.values.get(part)?)));
    found.collect()
}

/// Returns the vitals of a reading that no reading before it has carried at the same second or
/// later.
pub(super) fn news(heard: &[SeenReport], report: &DeviceReport) -> Vec<VitalName> {
    let of_device = |other: &&SeenReport| other.report.device == report.device;
    let is_news = |sign: &VitalName| {
        let mut carriers = heard.iter().filter(of_device);
        !values(report, sign).is_empty()
            && carriers.all(|other| {
                values(&other.report, sign).is_empty() || other.report.second < report.second
            })
    };
    SIGNS.into_iter().chain([BLOOD_PRESSURE]).filter(is_news).collect()
}

/// Whether a rule has seen a later second of the device than the second of the last reading.
fn is_older(spec: &Spec, heard: &[SeenReport], last: &DeviceReport) -> bool {
    let later = |other: &SeenReport| {
        other.report.device == last.device
            && other.report.second > last.second
            && spec.signs().iter().any(|sign| !values(&other.report, sign).is_empty())
    };
    heard.iter().any(later)
}

/// Returns the verdict on the last reading, by a rule that is active since reading number `since`.
pub(super) fn see(spec: &Spec, since: usize, heard: &[SeenReport]) -> Option<ExpectedVerdict> {
    let last = heard.last()?;
    let concerned = spec.signs().iter().any(|sign| last.news.contains(sign));
    if !concerned || is_older(spec, heard, &last.report) {
        return None;
    }
    let breach = match &spec.watch {
        TriggerSpec::Single { .. } => single(spec, &heard[since..])?,
        TriggerSpec::Composite { all, conditions } => {
            let seconds = seconds(spec, since, heard);
            let holds = |condition: &ConditionSpec| holds(condition, &seconds);
            let breached =
                if *all { conditions.iter().all(holds) } else { conditions.iter().any(holds) };
            if breached {
                ExpectedVerdict::Breach { may_open: true }
            } else {
                ExpectedVerdict::Clear
            }
        }
    };
    Some(match breach {
        ExpectedVerdict::Breach { .. } => {
            ExpectedVerdict::Breach { may_open: may_open(spec, last.report.second) }
        }
        other => other,
    })
}

fn single(spec: &Spec, heard: &[SeenReport]) -> Option<ExpectedVerdict> {
    let TriggerSpec::Single { sign, min, max, clear_min, clear_max, .. } = spec.watch else {
        return None;
    };
    let (last, before) = heard.split_last()?;
    let values = values(&last.report, sign);
    let outside = |value: i64, min: Option<i64>, max: Option<i64>| {
        min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max)
    };
    let breaches = |(part, value): &(VitalName, i64)| {
        outside(*value, min, max) || is_unusual(spec, before, &last.report, part, *value)
    };
    Some(if values.iter().any(breaches) {
        ExpectedVerdict::Breach { may_open: true }
    } else if values.iter().any(|(_, value)| outside(*value, clear_min, clear_max)) {
        ExpectedVerdict::Between
    } else {
        ExpectedVerdict::Clear
    })
}

/// Whether a value differs from the mean of the values in the window before it by more than
/// allowed. Computed in whole numbers, so that equal values compare as equal.
fn is_unusual(
    spec: &Spec,
    before: &[SeenReport],
    last: &DeviceReport,
    part: VitalName,
    value: i64,
) -> bool {
    let TriggerSpec::Single { sign, deviation: Some(percentage), .. } = spec.watch else {
        return false;
    };
    let in_window = before.iter().filter(|other| {
        other.report.device == last.device
            && other.news.contains(&sign)
            && last.second - other.report.second <= spec.window
    });
    let usual: Vec<i64> =
        in_window.filter_map(|other| other.report.values.get(part).copied()).collect();
    let (count, sum) = (usual.len() as i64, usual.iter().sum::<i64>());
    count >= 10 && (value * count - sum).abs() * 100 > percentage * sum.abs()
}

/// Returns the seconds that a composite rule has evaluated. Readings of one second count as one. If
/// a vital comes twice in a second, the first value counts.
fn seconds(spec: &Spec, since: usize, heard: &[SeenReport]) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    let device = heard.last().map(|last| last.report.device);
    for (number, one) in heard.iter().enumerate().skip(since) {
        let report = &one.report;
        let signs = spec.signs().into_iter().filter(|sign| one.news.contains(sign));
        let signs: Vec<VitalName> = signs.collect();
        if Some(report.device) != device
            || signs.is_empty()
            || is_older(spec, &heard[..number], report)
        {
            continue;
        }
        if seconds.last().is_none_or(|(second, _)| *second != report.second) {
            seconds.push((report.second, BTreeMap::new()));
        }
        let Some((_, told)) = seconds.last_mut() else { continue };
        for sign in signs {
            let values = values(report, sign).into_iter().map(|(_, value)| value);
            told.entry(sign).or_insert_with(|| values.collect());
        }
    }
    seconds
}

/// Whether a condition has been true in every second for its duration.
fn holds(condition: &ConditionSpec, seconds: &[Second]) -> bool {
    let is_true = |value: &i64| {
        let threshold = condition.threshold;
        match condition.operator {
            ">" => *value > threshold,
            "<" => *value < threshold,
            ">=" => *value >= threshold,
            "<=" => *value <= threshold,
            "==" | "=" => *value == threshold,
            "!=" => *value != threshold,
            other => panic!("{other} is no operator"),
        }
    };
    let true_in = |(_, told): &&Second| {
        told.get(condition.sign).is_some_and(|values| values.iter().any(is_true))
    };
    let first = seconds.iter().rev().take_while(true_in).last();
    let last = seconds.last();
    first.zip(last).is_some_and(|((first, _), (last, _))| last - first >= condition.duration)
}

/// Whether the wall clock of a second lies in the rule's hours and days.
fn may_open(spec: &Spec, second: i64) -> bool {
    let wall = START + second;
    let (day, time) = (1 + wall / 86_400, wall % 86_400);
    let in_hours = match spec.hours {
        None => true,
        Some((start, end)) if start < end => start <= time && time < end,
        Some((start, end)) => start <= time || time < end,
    };
    in_hours && (spec.days.is_empty() || spec.days.contains(&day))
}
