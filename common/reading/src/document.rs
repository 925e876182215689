//! Parses nested fields: JSON, or a string that holds JSON, and repairs the known damage of devices
//! in the field.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json_object::string;
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
    /// A document and its parsed form.
    Value(Document, Value),
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
    if trimmed.is_empty() || trimmed == "null" {
        return ParsedDocument::Absent;
    }
    match parse(trimmed, QUOTE_LEVELS_MAX) {
        Some((_, value)) if has_no_entries(&value) => ParsedDocument::Absent,
        Some((text, value)) if is_usable(&value) => match RawValue::from_string(text) {
            Ok(raw) => ParsedDocument::Value(Document(raw.into()), value),
            Err(_) => ParsedDocument::Unusable(WarningCode::Invalid),
        },
        _ => ParsedDocument::Unusable(WarningCode::Invalid),
    }
}

/// Parses `text` unchanged, or else after the known repairs.
fn parse(text: &str, levels: usize) -> Option<(String, Value)> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return match value {
            Value::String(inner) if levels > 0 => parse(inner.trim(), levels - 1),
            value => Some((text.to_owned(), value)),
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

/// Accepts an object or a list. MariaDB and MySQL would also store a bare number or word as JSON,
/// but no reader can use it.
fn is_usable(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_)) && depth(value) <= NESTED_DEPTH_MAX
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn has_no_entries(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            let no_data = match fields.get("data") {
                None | Some(Value::Null) => true,
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(entries)) => entries.is_empty(),
                Some(Value::String(text)) => text.trim().is_empty(),
                Some(_) => false,
            };
            no_data || fields.get("code").is_some_and(is_minus_one)
        }
        _ => false,
    }
}

fn is_minus_one(code: &Value) -> bool {
    code.as_i64() == Some(-1) || code.as_str().is_some_and(|code| code.trim() == "-1")
}

/// Returns the hours of sleep with two decimals: the sum over entries that have both ends and end
/// after their start. `None` if the sum is zero.
pub fn sleep_hours(value: &Value) -> Option<f64> {
    let entries = value.get("data")?.as_array()?;
    let seconds: f64 = entries.iter().filter_map(entry_seconds).sum();
    let hours = (seconds / 3600.0 * 100.0).round() / 100.0;
    (hours > 0.0 && crate::number::SLEEP.accepts(hours)).then_some(hours)
}

fn entry_seconds(entry: &Value) -> Option<f64> {
    let start = epoch_seconds(entry.get("startTimeStamp")?)?;
    let end = epoch_seconds(entry.get("endTimeStamp")?)?;
    (end > start).then_some(end - start)
}

fn epoch_seconds(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
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
            let ParsedDocument::Value(document, _) = read_text(&json) else { panic!("{json}") };
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
            r#"{"data":[]}"#,
            r#"{"code":0}"#,
            r#"{"code":-1,"data":[1]}"#,
            r#"{"code":"-1","data":[1]}"#,
            r#""{\"data\":null}""#,
        ] {
            assert_eq!(read_text(json), ParsedDocument::Absent, "{json}");
        }
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
