//! Plays the examples of what a template's fields show.

use serde_json::{Value, json};

use super::result::list;
use crate::engine::episode::TransitionKind;
use crate::notify::notice::Notice;
use crate::notify::wechat::FieldMap;
use crate::rules::{Severity, Vital};
use crate::test_support;

/// Renders the notice of an example, and compares the fields.
pub(super) fn play(case: &Value) -> Result<(), String> {
    let map = match &case["map"] {
        Value::Null => FieldMap::default(),
        map => FieldMap::parse(&map.to_string())?,
    };
    let refused = list(&case["refused_fields"]).iter();
    let plain_fields = refused.map(|field| field.as_str().unwrap().to_owned()).collect();
    let found = shown(&map, &Notice { plain_fields, ..notice(&case["notice"]) });
    match found == case["shown"] {
        true => Ok(()),
        false => Err(format!("shown is {found}, not {}", case["shown"])),
    }
}

/// Returns the values of the fields, by their names.
pub(crate) fn shown(map: &FieldMap, notice: &Notice) -> Value {
    let data = map.data(notice);
    let fields = data.as_object().into_iter().flatten();
    Value::Object(fields.map(|(name, field)| (name.clone(), field["value"].clone())).collect())
}

/// Returns the notice of an example.
fn notice(written: &Value) -> Notice {
    let text = |name: &str| written[name].as_str();
    let what = text("what").unwrap();
    let patients = list(&written["patients"]).len();
    let patient = text("patient").unwrap_or_else(|| text("device_sn").unwrap()).to_owned();
    let transition = match what {
        "eased" => "escalated",
        "digest" => "opened",
        transition => transition,
    };
    Notice {
        transition: serde_json::from_value::<TransitionKind>(json!(transition)).unwrap(),
        eased: what == "eased",
        severity: Severity::from_word(text("severity").unwrap()).unwrap(),
        vital: Vital::from_word(text("sign").unwrap()).unwrap_or(Vital::NoData),
        value: written["value"].as_f64(),
        bound: written["bound"].as_f64(),
        device_sn: text("device_sn").unwrap().to_owned(),
        user: match patients {
            0 => patient,
            several => format!("{patient}等{several}人"),
        },
        wall: text("time").unwrap().parse().unwrap(),
        delayed: written["delayed"] == true,
        repeat: written["repeat"] == true,
        digest_of: written["count"].as_u64().map(|count| count as usize),
        ..test_support::notice()
    }
}
