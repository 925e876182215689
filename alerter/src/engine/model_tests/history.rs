//! What the course of a rule tells of its past.

use super::course::{MadeTransition, RuleCourse};
use super::expected_verdict::Weighed;
use super::spec::{ExpectedTransition, Spec};

impl RuleCourse {
    /// Returns the value that decided last.
    pub(super) fn weighed(&self) -> Option<Weighed> {
        self.looks.last()?.weighed
    }

    /// Returns the severity of the open episode.
    pub(super) fn open_severity(&self) -> Option<&'static str> {
        (!self.episode().is_empty()).then(|| self.severity())
    }

    /// Whether a notification is owed.
    pub(super) fn owes(&self) -> bool {
        self.owed.is_some()
    }

    /// Whether people know of the open episode, or only its cooldown or flapping keeps it from them.
    pub(super) fn is_known_or_muted(&self, spec: &Spec, second: i64) -> bool {
        let notified = self.episode().iter().any(|made| made.notify);
        self.owed.is_none()
            && (notified || !self.is_cool(spec, second) || self.is_silent(spec, second))
    }

    /// Returns the transitions of the open episode; none if no episode is open.
    pub(super) fn episode(&self) -> &[MadeTransition] {
        let over = |made: &MadeTransition| matches!(made.to, "resolved" | "superseded");
        match self.made.last() {
            Some(last) if !over(last) => self.latest(),
            _ => &[],
        }
    }

    /// Returns the transitions of the latest episode.
    fn latest(&self) -> &[MadeTransition] {
        let opening = self.made.iter().rposition(|made| made.to == "opened");
        opening.map_or(&[], |opening| &self.made[opening..])
    }

    pub(super) fn severity(&self) -> &'static str {
        self.made.last().expect("an episode is open").severity
    }

    /// Returns the time of the last notification, ends excluded. A reading of an earlier time that
    /// came after it takes its place.
    pub(super) fn notified_at(&self) -> Option<i64> {
        let notified = self.made.iter().rfind(|made| made.notify && made.to != "resolved")?;
        let later = self.looks[notified.looks..].iter().map(|look| look.second);
        later.chain([notified.second]).min()
    }

    pub(super) fn is_cool(&self, spec: &Spec, second: i64) -> bool {
        self.notified_at().is_none_or(|notified_at| second - notified_at >= spec.cooldown)
    }

    /// Returns the opening with which flapping began, unless flapping has ended.
    pub(super) fn flapping_since(&self, spec: &Spec, second: i64) -> Option<usize> {
        let openings = self.made.iter().enumerate().filter(|(_, made)| made.to == "opened");
        let openings: Vec<(usize, i64)> = openings.map(|(n, made)| (n, made.second)).collect();
        let mut since = None;
        for (count, (number, opening)) in openings.iter().enumerate() {
            if count > 0 && opening - openings[count - 1].1 >= spec.flap_window {
                since = None;
            }
            let first = (count + 1).checked_sub(spec.flap_openings);
            if first.is_some_and(|first| opening - openings[first].1 < spec.flap_window) {
                since = since.or(Some(*number));
            }
        }
        let last = openings.last()?.1;
        since.filter(|_| second - last < spec.flap_window)
    }

    /// Whether the rule is flapping, and a notification has reported the flapping.
    pub(super) fn is_silent(&self, spec: &Spec, second: i64) -> bool {
        let since = self.flapping_since(spec, second);
        since.is_some_and(|since| {
            self.made[since..].iter().any(|made| made.notify && made.to != "resolved")
        })
    }

    /// Returns the last transition, for the comparison.
    pub(super) fn line(&self, event: usize, device: usize, rule: i64) -> ExpectedTransition {
        let episode = self.latest();
        let last = episode.last().expect("something was made");
        ExpectedTransition {
            event,
            device,
            rule,
            to: last.to,
            severity: last.severity,
            notify: last.notify,
            flapping: last.flapping,
            follow_up: last.follow_up,
            on_watch: last.on_watch,
            delayed: last.delayed,
            opened_at: episode[0].second,
            seq: episode.len() - 1,
        }
    }
}
