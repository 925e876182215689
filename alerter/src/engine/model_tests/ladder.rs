//! Ladders in the model: of the rules of one vital and one side, the highest one that people know of
//! holds back the lower ones.

use super::course::{RuleCourse, rank};
use super::expected_verdict::{Weighed, is_nearer_to_max};
use super::spec::{Spec, TriggerSpec, VitalName};

/// An open episode of another rule on the same device.
pub(super) struct Rung {
    spec: Spec,
    severity: &'static str,
    /// Whether people know of it, or only its cooldown or flapping keeps it from them.
    is_known: bool,
}

impl Rung {
    /// Returns the rung of a rule at a second, if its episode is open.
    pub(super) fn of(spec: &Spec, course: &RuleCourse, second: i64) -> Option<Self> {
        let severity = course.open_severity()?;
        let is_known = course.is_known_or_muted(spec, second);
        Some(Self { spec: spec.clone(), severity, is_known })
    }
}

/// Whether one of the rungs holds back a rule at a severity.
pub(super) fn is_inhibited(
    rungs: &[Rung],
    spec: &Spec,
    severity: &str,
    weighed: Option<Weighed>,
) -> bool {
    let Some(Weighed { value, is_over }) = weighed else { return false };
    let Some(own) = extremeness(spec, is_over) else { return false };
    rungs.iter().any(|rung| {
        let bound = extremeness(&rung.spec, is_over);
        let of_side = is_nearer_to_max(&rung.spec, value) == is_over;
        let height = |severity, bound, id: i64| (rank(severity), bound, -id);
        shares_vital(spec, &rung.spec)
            && of_side
            && rung.is_known
            && bound.is_some_and(|bound| {
                height(rung.severity, bound, rung.spec.id) > height(severity, own, spec.id)
            })
    })
}

/// How high a rung is: its severity, its bound, its number.
pub(super) type Height = (Option<usize>, i64, i64);

/// Returns how high a rule that has `severity` is, if it goes on below another one that ended at a
/// severity.
pub(super) fn height_below(
    spec: &Spec,
    severity: &str,
    (ended, at): (&Spec, &str),
) -> Option<Height> {
    let below = |is_over| {
        let (bound, own) = extremeness(spec, is_over).zip(extremeness(ended, is_over))?;
        let height = (rank(severity), bound, -spec.id);
        (height < (rank(at), own, -ended.id)).then_some(height)
    };
    let is_other = spec.id != ended.id && shares_vital(spec, ended);
    [true, false].into_iter().filter(|_| is_other).find_map(below)
}

fn shares_vital(spec: &Spec, other: &Spec) -> bool {
    vital(spec).is_some() && vital(spec) == vital(other)
}

fn vital(spec: &Spec) -> Option<VitalName> {
    match spec.watch {
        TriggerSpec::Single { sign, .. } => Some(sign),
        TriggerSpec::Composite { .. } => None,
    }
}

fn extremeness(spec: &Spec, is_over: bool) -> Option<i64> {
    match spec.watch {
        TriggerSpec::Single { max, .. } if is_over => max,
        TriggerSpec::Single { min, .. } => min.map(|min| -min),
        TriggerSpec::Composite { .. } => None,
    }
}
