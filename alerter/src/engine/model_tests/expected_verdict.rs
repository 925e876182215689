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

impl ExpectedVerdict {
    /// Returns how much the verdict weighs among those of its second.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Clear => 0,
            Self::Between => 1,
            Self::Breach { .. } => 2,
        }
    }
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
/// later. The two pressures of a second may come in two readings.
pub(super) fn news(seen: &[SeenReport], report: &DeviceReport) -> Vec<VitalName> {
    let of_device = |other: &&SeenReport| other.report.device == report.device;
    let is_newer = |sign: VitalName, same: bool| {
        let mut carriers = seen.iter().filter(of_device);
        let before = |second: i64| second < report.second || same && second == report.second;
        !values(report, sign).is_empty()
            && carriers
                .all(|other| values(&other.report, sign).is_empty() || before(other.report.second))
    };
    let mut news: Vec<VitalName> = SIGNS.into_iter().filter(|sign| is_newer(sign, false)).collect();
    let other_part = news.contains(&"pressure_high") || news.contains(&"pressure_low");
    if is_newer(BLOOD_PRESSURE, other_part) {
        news.push(BLOOD_PRESSURE);
    }
    news
}

/// Whether a rule has seen a later second of the device than the second of the last reading.
fn is_older(spec: &Spec, seen: &[SeenReport], last: &DeviceReport) -> bool {
    let later = |other: &SeenReport| {
        other.report.device == last.device
            && other.report.second > last.second
            && spec.signs().iter().any(|sign| !values(&other.report, sign).is_empty())
    };
    seen.iter().any(later)
}

/// A value that decided, and whether it lies on the upper side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weighed {
    pub(super) value: i64,
    pub(super) is_over: bool,
}

/// Returns the verdict on the last reading, by a rule that is active since reading number `since`.
/// A rule of one vital also has a value that decided.
pub(super) fn see(
    spec: &Spec,
    since: usize,
    seen: &[SeenReport],
) -> Option<(ExpectedVerdict, Option<Weighed>)> {
    let last = seen.last()?;
    let concerned = spec.signs().iter().any(|sign| last.news.contains(sign));
    if !concerned || is_older(spec, seen, &last.report) {
        return None;
    }
    let (verdict, weighed) = match &spec.watch {
        TriggerSpec::Single { .. } => single(spec, &seen[since..])?,
        TriggerSpec::Composite { all, conditions } => {
            let seconds = seconds(spec, since, seen);
            let holds = |condition: &ConditionSpec| holds(condition, &seconds);
            let breached =
                if *all { conditions.iter().all(holds) } else { conditions.iter().any(holds) };
            let verdict = ExpectedVerdict::Breach { may_open: true };
            (if breached { verdict } else { ExpectedVerdict::Clear }, None)
        }
    };
    let verdict = match verdict {
        ExpectedVerdict::Breach { .. } => {
            ExpectedVerdict::Breach { may_open: may_open(spec, last.report.second) }
        }
        other => other,
    };
    Some((verdict, weighed))
}

fn single(spec: &Spec, seen: &[SeenReport]) -> Option<(ExpectedVerdict, Option<Weighed>)> {
    let TriggerSpec::Single { sign, min, max, clear_min, clear_max, .. } = spec.watch else {
        return None;
    };
    let (last, before) = seen.split_last()?;
    let values = values(&last.report, sign);
    let outside = |value: i64, min: Option<i64>, max: Option<i64>| {
        let under = min.is_some_and(|min| value < min);
        (under || max.is_some_and(|max| value > max)).then_some(!under)
    };
    let breach = values.iter().find_map(|(part, value)| {
        let unusual = || is_unusual(spec, before, &last.report, part, *value);
        outside(*value, min, max).or_else(unusual).map(|over| (*value, over))
    });
    if let Some((value, is_over)) = breach {
        let verdict = ExpectedVerdict::Breach { may_open: true };
        return Some((verdict, Some(Weighed { value, is_over })));
    }
    let between = values.iter().find(|(_, value)| outside(*value, clear_min, clear_max).is_some());
    let verdict = if between.is_some() { ExpectedVerdict::Between } else { ExpectedVerdict::Clear };
    let (_, value) = *between.or(values.first())?;
    Some((verdict, Some(Weighed { value, is_over: is_nearer_to_max(spec, value) })))
}

/// Returns the value of a report that holds an episode open: the first that is not clear, else the
/// first.
pub(super) fn held_value(spec: &Spec, report: &DeviceReport) -> Option<i64> {
    let TriggerSpec::Single { sign, clear_min, clear_max, .. } = spec.watch else { return None };
    let values = values(report, sign);
    let is_clear = |value: i64| {
        clear_min.is_none_or(|min| value >= min) && clear_max.is_none_or(|max| value <= max)
    };
    let held = values.iter().find(|(_, value)| !is_clear(*value)).or(values.first());
    held.map(|(_, value)| *value)
}

/// Whether a value is nearer to the upper bound of a rule than to the lower one.
pub(super) fn is_nearer_to_max(spec: &Spec, value: i64) -> bool {
    match spec.watch {
        TriggerSpec::Single { min: Some(min), max: Some(max), .. } => value * 2 > min + max,
        TriggerSpec::Single { min, .. } => min.is_none(),
        TriggerSpec::Composite { .. } => false,
    }
}

/// Returns on which side a value lies that differs from the mean of the values in the window before
/// it by more than allowed. Computed in whole numbers, so that equal values compare as equal.
fn is_unusual(
    spec: &Spec,
    before: &[SeenReport],
    last: &DeviceReport,
    part: VitalName,
    value: i64,
) -> Option<bool> {
    let TriggerSpec::Single { sign, deviation: Some(percentage), .. } = spec.watch else {
        return None;
    };
    let in_window = before.iter().filter(|other| {
        other.report.device == last.device
            && other.news.contains(&sign)
            && last.second - other.report.second <= spec.window
    });
    let usual: Vec<i64> =
        in_window.filter_map(|other| other.report.values.get(part).copied()).collect();
    let (count, sum) = (usual.len() as i64, usual.iter().sum::<i64>());
    let beyond = (value * count - sum).abs() * 100 > percentage * sum.abs();
    (count >= 10 && beyond).then_some(value * count > sum)
}

/// Returns the seconds that a composite rule has evaluated. Readings of one second count as one. If
/// a vital comes twice in a second, the first value counts.
fn seconds(spec: &Spec, since: usize, seen: &[SeenReport]) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    let device = seen.last().map(|last| last.report.device);
    for (number, one) in seen.iter().enumerate().skip(since) {
        let report = &one.report;
        let signs = spec.signs().into_iter().filter(|sign| one.news.contains(sign));
        let signs: Vec<VitalName> = signs.collect();
        if Some(report.device) != device
            || signs.is_empty()
            || is_older(spec, &seen[..number], report)
        {
            continue;
        }
        if seconds.last().is_none_or(|(second, _)| *second != report.second) {
            seconds.push((report.second, BTreeMap::new()));
        }
        let Some((_, vitals)) = seconds.last_mut() else { continue };
        for sign in signs {
            let values = values(report, sign).into_iter().map(|(_, value)| value);
            let known: &mut Vec<i64> = vitals.entry(sign).or_default();
            if known.is_empty() || sign == BLOOD_PRESSURE {
                known.extend(values);
            }
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
    let true_in = |(_, vitals): &&Second| {
        vitals.get(condition.sign).is_some_and(|values| values.iter().any(is_true))
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
