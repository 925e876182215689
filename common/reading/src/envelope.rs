//! Finds the items of a body: bare or inside `data`, alone or in lists.
//!
//! Leaves the validation of an item to [`Reading::parse`].
//!
//! [`Reading::parse`]: crate::Reading::parse

use std::fmt;

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::device::Ids;
use crate::json_object::JsonObject;
use crate::parse::{ids_of, names_a_device};
use crate::rejection::{Rejection, RejectionCode, Warning};

/// Most levels of `data` inside `data`.
pub const LEVELS_MAX: usize = 4;

/// Most readings of one body.
pub const READINGS_MAX: usize = 1000;

/// One item of a body: the value in the place of a reading.
#[derive(Debug)]
pub struct BodyItem<'a> {
    /// The bytes of the item.
    pub raw: &'a RawValue,
    /// Ids beside the `data` that holds the item.
    pub ids: Ids,
    /// Warnings about such ids. Each is for every reading without that id of its own.
    pub id_warnings: Vec<Warning>,
    /// Set if the item is nested too deep to be unwrapped.
    pub rejection: Option<Rejection>,
}

/// The reason why a body has no items.
#[derive(Debug, PartialEq)]
pub enum BodyError {
    /// The body is empty: no bytes, `{}` or `null`.
    Empty,
    /// The body is not JSON, or holds too many items.
    Rejected(Rejection),
}

/// Splits a body into its items, in order.
pub fn unwrap(body: &[u8]) -> Result<Vec<BodyItem<'_>>, BodyError> {
    let malformed =
        |what: String| BodyError::Rejected(Rejection::new(RejectionCode::MalformedBody, what));
    let text = std::str::from_utf8(body).map_err(|error| {
        let hint = if is_gbk(body) { "：看起来是 GBK，请改用 UTF-8" } else { "" };
        malformed(format!("请求体从字节偏移 {} 起不是 UTF-8{hint}", error.valid_up_to()))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(BodyError::Empty);
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        malformed(format!(
            "请求体在第 {} 行第 {} 列不是有效的 JSON：一个请求体是一个 JSON 文档",
            error.line(),
            error.column()
        ))
    })?;
    if raw.get() == "null" || JsonObject::read(raw).is_some_and(|item| item.is_empty()) {
        return Err(BodyError::Empty);
    }
    let mut found = Vec::new();
    Unwrapper { found: &mut found }.value(raw, &Beside::default(), 0)?;
    Ok(found)
}

/// Whether the bytes could be GBK: ASCII, and pairs of GBK's lead and trail bytes.
fn is_gbk(mut bytes: &[u8]) -> bool {
    while let Some((first, rest)) = bytes.split_first() {
        bytes = match (first, rest) {
            (0..=0x7f, rest) => rest,
            (0x81..=0xfe, [0x40..=0x7e | 0x80..=0xfe, rest @ ..]) => rest,
            _ => return false,
        };
    }
    true
}

/// What the envelopes around a place say about its ids.
#[derive(Default)]
struct Beside {
    ids: Ids,
    warnings: Vec<Warning>,
}

struct Unwrapper<'a, 'f> {
    found: &'f mut Vec<BodyItem<'a>>,
}

impl<'a> Unwrapper<'a, '_> {
    /// Unwraps a place that may hold a list or a single item.
    fn value(&mut self, raw: &'a RawValue, beside: &Beside, level: usize) -> Result<(), BodyError> {
        if !raw.get().starts_with('[') {
            return self.item(raw, beside, level);
        }
        let mut outcome = Ok(());
        let list = Items(|item| {
            outcome = self.item(item, beside, level);
            outcome.is_ok()
        });
        // The list parsed as part of the body, so it parses again. Leaving the list early returns
        // an error, which is ignored: `outcome` has the reason.
        let _ = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(list);
        outcome
    }

    /// Unwraps a place that may hold only an item: an envelope, or an item to be parsed.
    fn item(&mut self, raw: &'a RawValue, beside: &Beside, level: usize) -> Result<(), BodyError> {
        let Some(item) = JsonObject::read(raw) else { return self.push(raw, beside, None) };
        let Some(data) = item.get("data") else { return self.push(raw, beside, None) };
        let holds_more = data.get().starts_with(['{', '[']);
        if !holds_more && names_a_device(&item) {
            return self.push(raw, beside, None);
        }
        if level == LEVELS_MAX {
            let message = format!("data 最多嵌套 {LEVELS_MAX} 层");
            return self.push(raw, beside, Some(Rejection::new(RejectionCode::TooDeep, message)));
        }
        let (ids, mut warnings) = ids_of(&item);
        // The id or the warning that is nearest to the item counts.
        let is_nearest = |outer: &&Warning| {
            ids.named(&outer.field).is_none()
                && warnings.iter().all(|inner: &Warning| inner.field != outer.field)
        };
        let outer: Vec<Warning> = beside.warnings.iter().filter(is_nearest).cloned().collect();
        warnings.extend(outer);
        self.value(data, &Beside { ids: ids.or(beside.ids), warnings }, level + 1)
    }

    fn push(
        &mut self,
        raw: &'a RawValue,
        beside: &Beside,
        rejection: Option<Rejection>,
    ) -> Result<(), BodyError> {
        if self.found.len() == READINGS_MAX {
            return Err(BodyError::Rejected(Rejection::new(
                RejectionCode::TooManyReadings,
                format!("一个请求体最多 {READINGS_MAX} 条读数：请分批上传"),
            )));
        }
        let id_warnings = beside.warnings.clone();
        self.found.push(BodyItem { raw, ids: beside.ids, id_warnings, rejection });
        Ok(())
    }
}

/// Passes the items of a list on one by one until the function returns `false`. A collected list of
/// a body full of numbers would take eight times the body's memory.
struct Items<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> bool> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            if !(self.0)(item) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(body: &str) -> Vec<String> {
        unwrap(body.as_bytes()).unwrap().iter().map(|found| found.raw.get().to_owned()).collect()
    }

    #[test]
    fn every_shape_yields_its_items() {
        let a = r#"{"id":"a"}"#;
        for body in [
            a.to_owned(),
            format!("[{a}]"),
            format!(r#"{{"data":{a}}}"#),
            format!(r#"{{"data":[{a}]}}"#),
            format!(r#"{{"type":"health","data":{{"data":{a}}}}}"#),
            format!(r#"{{"data":{{"data":[{a}]}}}}"#),
            format!(r#"{{"data":[{{"data":{a}}}]}}"#),
            format!(r#"{{"data":{{"data":{{"data":{{"data":{a}}}}}}}}}"#),
            format!(r#"{{"\ud800":1,"data":{a}}}"#),
        ] {
            assert_eq!(items(&body), [a], "{body}");
        }
        assert_eq!(items(r#"{"id":"a","data":null}"#), [r#"{"id":"a","data":null}"#]);
        assert_eq!(items(r#"{"data":null}"#), ["null"]);
        assert_eq!(items(r#"{"\udc00":1}"#), [r#"{"\udc00":1}"#]);
        assert!(items(r#"{"data":[]}"#).is_empty());
    }

    #[test]
    fn a_body_in_gbk_is_told_so() {
        let told = |bytes: &[u8]| match unwrap(bytes) {
            Err(BodyError::Rejected(rejection)) => rejection.message.contains("GBK"),
            _ => panic!("{bytes:?} was taken"),
        };
        assert!(told(b"{\"name\":\"\xd5\xc5\xc8\xfd\"}"));
        assert!(!told(b"\x1f\x8b\x08\x00\xff\xff"));
    }

    #[test]
    fn too_deep_costs_the_item_and_too_many_the_body() {
        let deep = format!("{}1{}", r#"{"data":"#.repeat(6), "}".repeat(6));
        let found = unwrap(deep.as_bytes()).unwrap();
        assert_eq!(found[0].rejection.as_ref().unwrap().code, RejectionCode::TooDeep);

        let many = format!("[{}]", vec!["{}"; READINGS_MAX + 1].join(","));
        let Err(BodyError::Rejected(rejection)) = unwrap(many.as_bytes()) else { panic!() };
        assert_eq!(rejection.code, RejectionCode::TooManyReadings);
    }

    #[test]
    fn nothing_sent_is_told_from_something_unreadable() {
        for body in ["", "  ", "{}", "null", "\u{feff}"] {
            assert_eq!(unwrap(body.as_bytes()).unwrap_err(), BodyError::Empty, "{body:?}");
        }
        for body in [&b"nope"[..], b"{\"data\":", b"\xff\xfe", b"{} x"] {
            assert!(matches!(unwrap(body).unwrap_err(), BodyError::Rejected(_)), "{body:?}");
        }
    }
}
