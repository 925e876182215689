//! Random rules and streams. Numbers are small and lie close together, so that bounds, windows and
//! cooldowns are often met exactly.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::spec::{
    BLOOD_PRESSURE, ConditionSpec, DeviceReport, LATE_ABOVE, ModelEvent, SIGNS, START, Spec,
    TriggerSpec, VitalName,
};

/// Devices of a stream.
const DEVICES: usize = 2;

/// Values of every vital; thresholds lie in the middle of them.
const VALUES: RangeInclusive<i64> = 67..=75;

/// Returns triggers of one vital.
pub(super) fn single() -> impl Strategy<Value = TriggerSpec> {
    let sign = select(vec!["heart_rate", "blood_oxygen", "pressure_high", BLOOD_PRESSURE]);
    let bounds = (option::of(67_i64..=69), option::of(71_i64..=73), 0_i64..=1, 0_i64..=1);
    (sign, bounds).prop_map(|(sign, (min, max, min_clear, max_clear))| {
        // A rule needs at least one bound.
        let max = if min.is_none() { max.or(Some(72)) } else { max };
        TriggerSpec::Single {
            sign,
            min,
            max,
            clear_min: min.map(|min| min + min_clear),
            clear_max: max.map(|max| max - max_clear),
            deviation: None,
        }
    })
}

/// Percentages that rules allow. In floating point, not all of them give whole numbers of 100.
const PERCENTAGES: [i64; 5] = [7, 20, 28, 29, 58];

/// Returns triggers that compare the heart rate with its mean.
pub(super) fn deviation() -> impl Strategy<Value = TriggerSpec> {
    (select(&PERCENTAGES[..]), option::of(101_i64..=140)).prop_map(|(percentage, max)| {
        TriggerSpec::Single {
            sign: "heart_rate",
            min: None,
            max,
            clear_min: None,
            clear_max: max,
            deviation: Some(percentage),
        }
    })
}

/// Returns triggers of several conditions.
pub(super) fn composite() -> impl Strategy<Value = TriggerSpec> {
    let signs: Vec<VitalName> = SIGNS.into_iter().chain([BLOOD_PRESSURE]).collect();
    let operator = select(vec![">", "<", ">=", "<=", "==", "!="]);
    let duration = prop_oneof![3 => Just(0_i64), 2 => 1_i64..=8];
    let condition = (select(signs), operator, 69_i64..=73, duration).prop_map(
        |(sign, operator, threshold, duration)| ConditionSpec {
            sign,
            operator,
            threshold,
            duration,
        },
    );
    (any::<bool>(), vec(condition, 1..=3))
        .prop_map(|(all, conditions)| TriggerSpec::Composite { all, conditions })
}

/// Returns one to five rules with these triggers.
pub(super) fn rules(watch: impl Strategy<Value = TriggerSpec>) -> impl Strategy<Value = Vec<Spec>> {
    let run = (1_usize..=3, 2_i64..=10, 1_usize..=3);
    let notifying = (0_i64..=20, option::of(1_i64..=20), 2_usize..=3, 2_i64..=40);
    let severity = || select(vec!["info", "minor", "moderate", "major", "critical"]);
    let escalation = vec((1_i64..=15, severity()), 0..=3);
    let one = (watch, run, notifying, hours(), days(), severity(), escalation).prop_map(
        |(watch, run, notifying, hours, days, severity, escalation)| {
            let ((trend, window, clear_after), (cooldown, repeat, flap_openings, flap_window)) =
                (run, notifying);
            let mut after = 0;
            let escalation = escalation.into_iter().map(|(gap, to)| {
                after += gap;
                (after, to)
            });
            Spec {
                id: 0,
                version: 1,
                watch,
                trend,
                window,
                clear_after,
                cooldown,
                repeat,
                flap_openings,
                flap_window,
                hours,
                days,
                severity,
                escalation: escalation.collect(),
            }
        },
    );
    vec(one, 1..=5).prop_map(|mut rules| {
        rules.iter_mut().zip(1..).for_each(|(rule, id)| rule.id = id);
        rules
    })
}

/// Returns windows that begin and end during a stream, over midnight too.
fn hours() -> impl Strategy<Value = Option<(i64, i64)>> {
    let time = || (0_i64..=150).prop_map(|second| (START + second) % 86_400);
    prop_oneof![3 => Just(None), 1 => (time(), time()).prop_map(Some)]
}

fn days() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![4 => Just(Vec::new()), 1 => Just(vec![1]), 1 => Just(vec![2, 7])]
}

/// Returns readings, among them late and repeated readings, parts of seconds and fast clocks.
pub(super) fn readings() -> impl Strategy<Value = Vec<ModelEvent>> {
    vec(report(), 1..60).prop_map(|reports| in_time(reports.into_iter().map(ModelEvent::Reading)))
}

/// Returns readings with crashes, with looks of the clock, and with rules that are edited to another
/// trigger. A crash begins the waits of what is owed anew, so each look comes after a whole wait.
pub(super) fn events() -> impl Strategy<Value = Vec<ModelEvent>> {
    let edit = (0_usize..5, prop_oneof![single(), composite()]);
    let event = prop_oneof![
        16 => report().prop_map(ModelEvent::Reading),
        2 => look(60..=65),
        2 => Just(ModelEvent::Crash),
        1 => edit.prop_map(|(place, watch)| ModelEvent::Edit(place, watch)),
    ];
    vec(event, 1..80).prop_map(|events| in_time(events.into_iter()))
}

/// Returns readings that are often late or reach no one, with looks of the clock at any distance.
pub(super) fn owing_events() -> impl Strategy<Value = Vec<ModelEvent>> {
    // Some are just late, and some are just not.
    let lag = prop_oneof![2 => Just(0_i64), 1 => Just(LATE_ABOVE - 5), 2 => Just(LATE_ABOVE + 5)];
    let flags = (lag, prop::bool::weighted(0.5));
    let report = (report(), flags).prop_map(|(report, (lag, reachable))| {
        ModelEvent::Reading(DeviceReport { lag, reachable, ..report })
    });
    let event = prop_oneof![6 => report, 1 => look(0..=10), 2 => look(55..=70)];
    vec(event, 1..60).prop_map(|events| in_time(events.into_iter()))
}

/// Returns looks of the clock, this long after the event before.
fn look(after: RangeInclusive<i64>) -> impl Strategy<Value = ModelEvent> {
    (after, prop::bool::weighted(0.7))
        .prop_map(|(after, reachable)| ModelEvent::Look(after, reachable))
}

/// Returns heart rates that are usual for long, and then differ by about a percentage.
pub(super) fn usual_readings() -> impl Strategy<Value = Vec<ModelEvent>> {
    let away = (select(&PERCENTAGES[..]), any::<bool>(), -1_i64..=1);
    let away = away.prop_map(|(percentage, above, beside)| {
        100 + beside + if above { percentage } else { -percentage }
    });
    let value = prop_oneof![12 => Just(100_i64), 2 => away, 1 => 95_i64..=105];
    let report = (report(), value).prop_map(|(mut report, value)| {
        report.values.insert("heart_rate", value);
        report
    });
    vec(report, 20..60).prop_map(|reports| in_time(reports.into_iter().map(ModelEvent::Reading)))
}

/// Returns a report whose second is the distance from the report before. A negative distance is a
/// late report.
fn report() -> impl Strategy<Value = DeviceReport> {
    let step = prop_oneof![4 => 1_i64..=3, 3 => Just(0_i64), 1 => -4_i64..=-1, 1 => 4_i64..=30];
    let values = SIGNS.map(|_| option::weighted(0.6, VALUES));
    let flags = (prop::bool::weighted(0.05), prop::bool::weighted(0.1), any::<bool>());
    (0..DEVICES, step, values, flags).prop_map(
        |(device, second, values, (ahead, nobody, committed))| {
            let values = SIGNS.into_iter().zip(values);
            let values: BTreeMap<VitalName, i64> =
                values.filter_map(|(sign, value)| Some((sign, value?))).collect();
            let (reachable, lag, wall) = (!nobody, 0, 0);
            DeviceReport { device, second, values, ahead, reachable, lag, wall, committed }
        },
    )
}

/// Gives reports and looks their seconds. The wall clock never goes back. The clock of the devices
/// lags behind it by as much as the report at least.
fn in_time(events: impl Iterator<Item = ModelEvent>) -> Vec<ModelEvent> {
    let (mut clock, mut wall) = (5, 5);
    let placed = events.map(|event| match event {
        ModelEvent::Reading(mut report) => {
            let step = report.second;
            clock = (wall - report.lag).max(clock) + step.max(0);
            wall = wall.max(clock + report.lag);
            (report.second, report.wall) = (clock + step.min(0), wall);
            ModelEvent::Reading(report)
        }
        ModelEvent::Look(step, reachable) => {
            wall += step;
            ModelEvent::Look(wall, reachable)
        }
        other => other,
    });
    placed.collect()
}

/// Splits the values of a second into parts, each in a reading of its own, in any order. The two
/// pressures are measured together and stay together.
pub(super) fn parted(report: &DeviceReport, order: &[usize; SIGNS.len()]) -> Vec<DeviceReport> {
    let mut signs: Vec<(usize, VitalName)> = order.iter().copied().zip(SIGNS).collect();
    signs.retain(|(_, sign)| *sign != "pressure_low");
    signs.sort_unstable();
    let parts = signs.into_iter().filter_map(|(_, sign)| {
        let with = if sign == "pressure_high" { "pressure_low" } else { sign };
        let mut values = report.values.clone();
        values.retain(|one, _| *one == sign || *one == with);
        (!values.is_empty()).then(|| DeviceReport { values, ..report.clone() })
    });
    parts.collect()
}
