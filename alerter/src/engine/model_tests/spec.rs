//! Rules and readings in the words of the contract. The engine and the model both run on them.
//! Times are whole seconds.

use std::collections::BTreeMap;
use std::fmt;

use ljwx_reading::Reading;
use serde_json::{Map, Value, json};

use crate::rules::Rule;
use crate::test_support;

/// Second 0 of every stream, counted from Monday's midnight: two minutes before Tuesday.
pub(super) const START: i64 = 86_280;

/// The same time in milliseconds since 1970, in the zone of the test readings.
pub(super) const START_MS: i64 = 1_756_742_280_000;

/// A vital, by its name.
pub(super) type VitalName = &'static str;

/// Either of the two pressures.
pub(super) const BLOOD_PRESSURE: VitalName = "blood_pressure";

/// The vitals whose values readings carry.
pub(super) const SIGNS: [VitalName; 5] =
    ["heart_rate", "blood_oxygen", "stress", "pressure_high", "pressure_low"];

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) watch: TriggerSpec,
    pub(super) trend: usize,
    pub(super) window: i64,
    pub(super) clear_after: usize,
    pub(super) cooldown: i64,
    pub(super) repeat: Option<i64>,
    pub(super) flap_openings: usize,
    pub(super) flap_window: i64,
    /// Start and end as seconds of the day.
    pub(super) hours: Option<(i64, i64)>,
    /// ISO days; empty: every day.
    pub(super) days: Vec<i64>,
    pub(super) severity: &'static str,
    pub(super) escalation: Vec<(i64, &'static str)>,
}

/// The trigger of a rule.
#[derive(Debug, Clone)]
pub(super) enum TriggerSpec {
    Single {
        sign: VitalName,
        min: Option<i64>,
        max: Option<i64>,
        clear_min: Option<i64>,
        clear_max: Option<i64>,
        deviation: Option<i64>,
    },
    Composite {
        all: bool,
        conditions: Vec<ConditionSpec>,
    },
}

/// One condition of a composite rule.
#[derive(Debug, Clone)]
pub(super) struct ConditionSpec {
    pub(super) sign: VitalName,
    pub(super) operator: &'static str,
    pub(super) threshold: i64,
    pub(super) duration: i64,
}

/// The report of a device.
#[derive(Clone)]
pub(super) struct DeviceReport {
    pub(super) device: usize,
    pub(super) second: i64,
    pub(super) values: BTreeMap<VitalName, i64>,
    /// Whether the device's clock runs ahead.
    pub(super) ahead: bool,
    /// Whether a recipient can be notified.
    pub(super) reachable: bool,
    /// Age at which the report is evaluated at least, in seconds.
    pub(super) lag: i64,
    /// Second of the wall clock at which the report is evaluated.
    pub(super) wall: i64,
    /// Whether a transaction ends with this report. Reports after the last transaction are
    /// evaluated again after a crash.
    pub(super) committed: bool,
}

/// An event of an alerter.
#[derive(Debug, Clone)]
pub(super) enum ModelEvent {
    Reading(DeviceReport),
    /// The alerter crashes and starts again.
    Crash,
    /// The clock reaches this second, and what is owed is looked at. Whether a recipient can be
    /// notified.
    Look(i64, bool),
    /// The rule at this place, modulo the number of rules, gets another trigger.
    Edit(usize, TriggerSpec),
}

/// A transition, in the form in which model and engine are compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExpectedTransition {
    pub(super) event: usize,
    pub(super) device: usize,
    pub(super) rule: i64,
    pub(super) to: &'static str,
    pub(super) severity: &'static str,
    pub(super) notify: bool,
    pub(super) flapping: bool,
    pub(super) follow_up: bool,
    pub(super) on_watch: bool,
    pub(super) delayed: bool,
    pub(super) opened_at: i64,
    pub(super) seq: usize,
}

impl Spec {
    /// Returns the vitals that the rule watches.
    pub(super) fn signs(&self) -> Vec<VitalName> {
        match &self.watch {
            TriggerSpec::Single { sign, .. } => vec![sign],
            TriggerSpec::Composite { conditions, .. } => {
                conditions.iter().map(|condition| condition.sign).collect()
            }
        }
    }

    /// Returns the rule for the engine.
    pub(super) fn rule(&self) -> Rule {
        let mut fields = object(json!({
            "id": self.id, "version": self.version, "rule_type": format!("rule-{}", self.id),
            "trend_duration": self.trend, "time_window_seconds": self.window,
            "clear_after": self.clear_after, "cooldown_seconds": self.cooldown,
            "repeat_interval_seconds": self.repeat, "flap_openings": self.flap_openings,
            "flap_window_seconds": self.flap_window, "severity_level": self.severity,
        }));
        if let Some((start, end)) = self.hours {
            fields.insert("effective_time_start".into(), clock(start).into());
            fields.insert("effective_time_end".into(), clock(end).into());
        }
        if !self.days.is_empty() {
            fields.insert("effective_days".into(), self.days.clone().into());
        }
        let steps = self.escalation.iter();
        let steps: Vec<Value> =
            steps.map(|(after, to)| json!({"after_seconds": after, "to": to})).collect();
        fields.insert("escalation".into(), steps.into());
        fields.extend(self.watch.fields());
        test_support::rule(Value::Object(fields))
    }
}

impl TriggerSpec {
    fn fields(&self) -> Map<String, Value> {
        object(match self {
            Self::Single { sign, min, max, clear_min, clear_max, deviation } => json!({
                "physical_sign": sign, "threshold_min": min, "threshold_max": max,
                "clear_min": clear_min, "clear_max": clear_max, "deviation_percentage": deviation,
            }),
            Self::Composite { all, conditions } => {
                let conditions: Vec<Value> = conditions.iter().map(ConditionSpec::fields).collect();
                let operator = if *all { "AND" } else { "OR" };
                json!({
                    "rule_category": "COMPOSITE", "physical_sign": null, "threshold_max": null,
                    "condition_expression": {
                        "conditions": conditions, "logical_operator": operator,
                    },
                })
            }
        })
    }
}

impl ConditionSpec {
    fn fields(&self) -> Value {
        json!({
            "physical_sign": self.sign, "operator": self.operator, "threshold": self.threshold,
            "duration_seconds": self.duration,
        })
    }
}

/// On one line, because a failed case lists many reports.
impl fmt::Debug for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} at {}: {:?}", self.device, self.second, self.values)?;
        for (word, said) in [
            ("ahead", self.ahead),
            ("nobody reachable", !self.reachable),
            ("late", self.is_late()),
            ("committed", self.committed),
        ] {
            if said {
                write!(f, ", {word}")?;
            }
        }
        Ok(())
    }
}

/// Age above which a report is late, in seconds.
pub(super) const LATE_ABOVE: i64 = 1_800;

impl ModelEvent {
    /// Returns the second of an event that has one.
    pub(super) fn second(&self) -> Option<i64> {
        match self {
            Self::Reading(report) => Some(report.second),
            Self::Look(second, _) => Some(*second),
            Self::Crash | Self::Edit(..) => None,
        }
    }

    /// Returns the second of the wall clock of an event that has one.
    pub(super) fn wall(&self) -> Option<i64> {
        match self {
            Self::Reading(report) => Some(report.wall),
            other => other.second(),
        }
    }
}

impl DeviceReport {
    /// Whether the report is evaluated too late to be notified as if it were now.
    pub(super) fn is_late(&self) -> bool {
        self.wall - self.second > LATE_ABOVE
    }

    /// Returns the serial number of the device.
    pub(super) fn serial(&self) -> String {
        format!("MODEL{:011}", self.device)
    }

    /// Returns the reading for the engine.
    pub(super) fn reading(&self) -> Reading {
        let wall = START + self.second;
        let (day, second) = (1 + wall / 86_400, wall % 86_400);
        let received_at = START_MS + self.second * 1000 - if self.ahead { 86_400_000 } else { 0 };
        let mut fields = object(json!({
            "device_sn": self.serial(), "customer_id": 7, "received_at": received_at,
            "timestamp": format!("2025-09-{day:02} {}", clock(second)),
        }));
        fields.extend(self.values.iter().map(|(sign, value)| ((*sign).to_owned(), json!(value))));
        test_support::reading(Value::Object(fields))
    }
}

fn clock(second: i64) -> String {
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn object(value: Value) -> Map<String, Value> {
    test_support::object(value)
}
