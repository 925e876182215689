//! Parses nested fields: JSON, or a string that holds JSON, and repairs the known damage of devices
//! in the field.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_object::{JsonObject, Scalar, is_absent, string};
use crate::reading::Document;
use crate::rejection::WarningCode;
use crate::time::EPOCH_SECONDS_MAX;

/// Longest nested field, in bytes of its JSON.
pub const NESTED_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of a document. MariaDB, MySQL and all readers accept this depth.
const NESTED_DEPTH_MAX: usize = 30;

/// Most string wrappings and repairs that are undone for one document.
const QUOTE_LEVELS_MAX: usize = 3;

/// Result of reading a nested field.
#[derive(Debug, PartialEq)]
pub enum ParsedDocument {
    /// No value, or an envelope without entries.
    Absent,
    /// A document.
    Value(Document),
    /// An unusable value, and the reason.
    Unusable(WarningCode),
}

/// Reads one nested field.
pub fn read(raw: &RawValue) -> ParsedDocument {
    let json = raw.get();
    if json.len() > NESTED_BYTES_MAX {
        return ParsedDocument::Unusable(WarningCode::TooLarge);
    }
    let text = match json.as_bytes().first() {
        Some(b'n') => return ParsedDocument::Absent,
        Some(b'"') => match string(json) {
            Some(text) => text,
            None => return ParsedDocument::Unusable(WarningCode::Invalid),
        },
        _ => Cow::Borrowed(json),
    };
    let trimmed = text.trim();
    if is_absent(trimmed) {
        return ParsedDocument::Absent;
    }
    match parse(trimmed, QUOTE_LEVELS_MAX) {
        Some((text, _)) if has_no_entries(&text) => ParsedDocument::Absent,
        // MariaDB and MySQL would also store a bare number or word, but no reader can use it.
        Some((text, 1..=NESTED_DEPTH_MAX)) => match RawValue::from_string(text) {
            Ok(raw) => ParsedDocument::Value(Document(raw.into())),
            Err(_) => ParsedDocument::Unusable(WarningCode::Invalid),
        },
        _ => ParsedDocument::Unusable(WarningCode::Invalid),
    }
}

/// Parses `text` unchanged, or else after the known repairs. Returns the JSON and its depth.
fn parse(text: &str, levels: usize) -> Option<(String, usize)> {
    if let Ok(Depth(depth)) = serde_json::from_str(text) {
        return match string(text) {
            Some(inner) if levels > 0 => parse(inner.trim(), levels - 1),
            _ => Some((text.to_owned(), depth)),
        };
    }
    let repaired = repair(text)?;
    (levels > 0).then(|| parse(repaired.trim(), levels - 1)).flatten()
}

/// Undoes one known damage: a missing comma after the code, or doubled outer quotes.
fn repair(text: &str) -> Option<String> {
    if text.contains(r#""0"data""#) {
        return Some(text.replace(r#""0"data""#, r#""0","data""#));
    }
    let unquoted = text.strip_prefix('"')?.strip_suffix('"')?;
    (!unquoted.is_empty()).then(|| unquoted.to_owned())
}

/// How deep lists and objects are nested in a JSON value. A tree of the value would take a hundred
/// times its bytes. Every number and string is parsed, because the servers refuse what cannot be.
struct Depth(usize);

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Levels;
        impl<'de> Visitor<'de> for Levels {
            type Value = Depth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_str<E>(self, _: &str) -> Result<Depth, E> {
                Ok(Depth(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Depth, A::Error> {
                let mut deepest = 0;
                while let Some(Depth(depth)) = items.next_element()? {
                    deepest = deepest.max(depth);
                }
                Ok(Depth(1 + deepest))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Depth, A::Error> {
                let mut deepest = 0;
                while let Some((IgnoredAny, Depth(depth))) = fields.next_entry()? {
                    deepest = deepest.max(depth);
                }
                Ok(Depth(1 + deepest))
            }
        }
        deserializer.deserialize_any(Levels)
    }
}

/// Whether a JSON text is `null`, an empty list, or an envelope without entries.
fn has_no_entries(json: &str) -> bool {
    let Ok(object) = serde_json::from_str::<JsonObject<'_>>(json) else { return is_empty(json) };
    object.get("data").is_none_or(|data| is_empty(data.get()))
        || object.get("code").is_some_and(|code| Scalar::read(code).text() == Some("-1"))
}

/// Whether a JSON text is `null`, blank, or has no members.
fn is_empty(json: &str) -> bool {
    let is_blank = |text: &str| text.trim().is_empty();
    let within = |open: char, close: char| json.strip_prefix(open)?.strip_suffix(close);
    json == "null"
        || string(json).is_some_and(|text| is_blank(&text))
        || within('[', ']').or_else(|| within('{', '}')).is_some_and(is_blank)
}

/// Returns the hours of sleep with two decimals: the sum over entries that have both ends and end
/// after their start. `None` if the sum is zero.
pub fn sleep_hours(document: &Document) -> Option<f64> {
    let object: JsonObject<'_> = serde_json::from_str(document.as_str()).ok()?;
    let entries: Vec<&RawValue> = serde_json::from_str(object.get("data")?.get()).ok()?;
    let seconds: f64 = entries.into_iter().filter_map(entry_seconds).sum();
    let hours = (seconds / 3600.0 * 100.0).round() / 100.0;
    (hours > 0.0 && crate::number::SLEEP.accepts(hours)).then_some(hours)
}

fn entry_seconds(entry: &RawValue) -> Option<f64> {
    let entry = JsonObject::read(entry)?;
    let start = epoch_seconds(entry.get("startTimeStamp")?)?;
    let end = epoch_seconds(entry.get("endTimeStamp")?)?;
    (end > start).then_some(end - start)
}

fn epoch_seconds(raw: &RawValue) -> Option<f64> {
    let number: f64 = Scalar::read(raw).text()?.parse().ok()?;
    let milliseconds = number > EPOCH_SECONDS_MAX as f64;
    number.is_finite().then_some(if milliseconds { number / 1000.0 } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(json: &str) -> ParsedDocument {
        read(serde_json::from_str::<&RawValue>(json).unwrap())
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn known_damage_is_repaired() {
        let plain = r#"{"code":"0","data":[{"a":1}]}"#;
        let cases = [
            plain.to_owned(),
            quoted(plain),
            quoted(&quoted(plain)),
            quoted(r#"{"code":"0"data":[{"a":1}]}"#),
            quoted(&format!("\"{plain}\"")),
            quoted(&format!("\"\"{plain}\"\"")),
        ];
        for json in cases {
            let ParsedDocument::Value(document) = read_text(&json) else { panic!("{json}") };
            assert_eq!(document.as_str(), plain, "{json}");
        }
    }

    #[test]
    fn nothing_and_envelopes_without_entries_are_absent() {
        for json in [
            "null",
            r#""""#,
            r#"" ""#,
            r#""null""#,
            "{}",
            "{ }",
            r#"{"data":[]}"#,
            r#"{"data":[ ]}"#,
            r#"{"data":" "}"#,
            r#"{"code":0}"#,
            r#"{"code":-1,"data":[1]}"#,
            r#"{"code":"-1","data":[1]}"#,
            r#""{\"data\":null}""#,
        ] {
            assert_eq!(read_text(json), ParsedDocument::Absent, "{json}");
        }
    }

    #[test]
    fn a_document_is_as_deep_as_its_deepest_member() {
        let nested = |lists: usize| format!("{}1{}", "[".repeat(lists), "]".repeat(lists));
        for (lists, is_document) in [(NESTED_DEPTH_MAX - 1, true), (NESTED_DEPTH_MAX, false)] {
            let json = format!(r#"{{"data":[1],"deep":{},"code":"0"}}"#, nested(lists));
            assert_eq!(matches!(read_text(&json), ParsedDocument::Value(_)), is_document, "{json}");
        }
    }

    #[test]
    fn sleep_is_the_sum_of_the_entries_that_have_both_ends() {
        let entries = r#"{"startTimeStamp":1768403400000,"endTimeStamp":1768407000000},
            {"startTimeStamp":"1768403400","endTimeStamp":"1768405200"},
            {"startTimeStamp":1768403400},{"startTimeStamp":2,"endTimeStamp":1},7,null"#;
        let ParsedDocument::Value(document) = read_text(&format!(r#"{{"data":[{entries}]}}"#))
        else {
            panic!("no document")
        };
        assert_eq!(sleep_hours(&document), Some(1.5));
    }

    #[test]
    fn what_the_servers_would_refuse_is_left_out() {
        let deep = format!("{{\"data\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        for json in ["5", "true", r#""x""#, r#"{"data":[1e999]}"#, r#"{"data":["\ud800"]}"#, &deep]
        {
            assert_eq!(read_text(json), ParsedDocument::Unusable(WarningCode::Invalid), "{json}");
        }
        let long = format!("{{\"data\":[\"{}\"]}}", "x".repeat(NESTED_BYTES_MAX));
        assert_eq!(read_text(&long), ParsedDocument::Unusable(WarningCode::TooLarge));
    }
}
