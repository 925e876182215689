//! Decides which of a template's fields the platform shows, how much of each, and which values it
//! rejects. A field's type is its name without its number.

use serde_json::Value;

/// Fields of the old templates, as [`super::TEMPLATE_ID`] has them. The platform stopped showing
/// the first and the last in May 2023; sending them succeeds.
pub const OLD_FIELDS: [&str; 6] =
    ["first", "keyword1", "keyword2", "keyword3", "keyword4", "remark"];

/// Characters that a field shows, and that a value of type `thing` may have.
const CHARS_MAX: usize = 20;

/// Words that were approved together with every template here.
pub const CONSTS: [&str; 2] = ["异常", "已恢复"];

/// Returns the fields as a person sees them, or the platform's words about the field whose value it
/// rejects. Pictures are not shown, whatever the type.
pub(super) fn show(fields: &[String], data: &Value) -> Result<Vec<(String, String)>, String> {
    let mut shown = Vec::new();
    for name in fields {
        let field = &data[name];
        let value = match &field["value"] {
            Value::String(value) => value.as_str(),
            Value::Null if field.is_null() => "",
            _ => return Err(rejected(name, "invalid")),
        };
        match name.trim_end_matches(|one: char| one.is_ascii_digit()) {
            "first" | "remark" => {}
            "keyword" => shown.push((name.clone(), cut(value))),
            kind if takes(kind, value) => {
                let visible = value.chars().filter(|one| !is_emoji(*one)).collect();
                shown.push((name.clone(), visible));
            }
            _ if value.is_empty() => return Err(rejected(name, "is empty")),
            _ => return Err(rejected(name, "invalid")),
        }
    }
    Ok(shown)
}

fn rejected(field: &str, reason: &str) -> String {
    format!("data.{field}.value {reason}")
}

/// Cuts an old template's field to one line without pictures and to the greatest length.
fn cut(value: &str) -> String {
    let visible = value.chars().filter(|one| !one.is_control() && !is_emoji(*one));
    let visible: Vec<char> = visible.collect();
    if visible.len() <= CHARS_MAX {
        return visible.into_iter().collect();
    }
    visible.into_iter().take(CHARS_MAX - 1).chain(['…']).collect()
}

fn is_emoji(one: char) -> bool {
    matches!(one, '\u{200d}' | '\u{fe0f}' | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

/// Whether a field of the present templates takes a value.
fn takes(kind: &str, value: &str) -> bool {
    let count = value.chars().count();
    let is_han = |one: char| ('\u{4e00}'..='\u{9fff}').contains(&one);
    match kind {
        "const" => value.is_empty() || CONSTS.contains(&value),
        _ if value.is_empty() => false,
        "thing" => count <= CHARS_MAX && !value.contains(char::is_control),
        "character_string" => count <= 32 && value.chars().all(|one| one.is_ascii_graphic()),
        "number" => value.parse::<f64>().is_ok(),
        "time" => is_time(value),
        "date" => is_date(value) || is_time(value),
        "phrase" => count <= 5 && value.chars().all(is_han),
        "name" => count <= if value.is_ascii() { 20 } else { 10 },
        "phone_number" => count <= 17 && value.is_ascii(),
        "car_number" => count <= 8,
        _ => false,
    }
}

/// Whether a text is a time of day, or a date and a time of day.
fn is_time(value: &str) -> bool {
    let (date, clock) = match value.rsplit_once(' ') {
        Some((date, clock)) => (Some(date), clock),
        None => (None, value),
    };
    let parts: Vec<_> = clock.split(':').map(str::parse::<u32>).collect();
    let is_clock = match parts[..] {
        [Ok(hour), Ok(minute)] => hour < 24 && minute < 60,
        [Ok(hour), Ok(minute), Ok(second)] => hour < 24 && minute < 60 && second < 60,
        _ => false,
    };
    is_clock && date.is_none_or(is_date)
}

fn is_date(value: &str) -> bool {
    let value = value.trim_end_matches('日');
    let parts: Vec<_> = value.split(['年', '月', '-', '/', '.']).map(str::parse::<u32>).collect();
    match parts[..] {
        [Ok(year), Ok(month), Ok(day)] => {
            year > 1_000 && (1..=12).contains(&month) && (1..=31).contains(&day)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(fields: &[&str], data: &Value) -> Result<Vec<(String, String)>, String> {
        let fields: Vec<_> = fields.iter().map(|field| (*field).to_owned()).collect();
        show(&fields, data)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn an_old_template_shows_neither_first_nor_remark_and_twenty_characters_of_the_others() {
        let data = json!({
            "first": {"value": "严重"}, "remark": {"value": "心率 133"},
            "keyword1": {"value": "王\n小明😀"}, "keyword2": {"value": "字".repeat(21)},
            "keyword9": {"value": "in no template"},
        });
        let long = format!("{}…", "字".repeat(19));
        assert_eq!(
            shown(&["first", "keyword1", "keyword2", "keyword3", "remark"], &data),
            Ok(vec![pair("keyword1", "王小明"), pair("keyword2", &long), pair("keyword3", "")])
        );
    }

    #[test]
    fn a_value_outside_of_its_type_is_refused_by_its_field_s_name() {
        for (field, value, taken) in [
            ("thing1", "王小明", true),
            ("thing1", "", false),
            ("thing1", &"字".repeat(21), false),
            ("thing1", "一\n二", false),
            ("character_string2", "151>140", true),
            ("character_string2", "心率", false),
            ("const3", "异常", true),
            ("const3", "", true),
            ("const3", "升级", false),
            ("thing1", "王😀", true),
            ("time4", "2025年9月2日 12:00", true),
            ("time4", "2025-09-02 12:00:05", true),
            ("time4", "12:00", true),
            ("time4", "2025-09-02 11:50起", false),
            ("time4", "2025年13月2日 12:00", false),
            ("date4", "2025年9月2日", true),
            ("date4", "24:00", false),
            ("name5", "王小明", true),
            ("name5", "一二三四五六七八九十一", false),
            ("phone_number6", "+86-0766-66888866", true),
            ("car_number6", "粤A8Z888挂", true),
            ("phrase5", "心率过高", true),
            ("phrase5", "心率 151", false),
            ("number6", "151", true),
            ("number6", "many", false),
            ("unheard_of7", "x", false),
        ] {
            let reason = if value.is_empty() { "is empty" } else { "invalid" };
            let expected = match taken {
                true => Ok(vec![pair(field, &value.replace('😀', ""))]),
                false => Err(format!("data.{field}.value {reason}")),
            };
            assert_eq!(shown(&[field], &json!({ field: { "value": value } })), expected);
        }
        for (field, data, rejected) in [
            ("thing1", json!({}), "data.thing1.value is empty"),
            ("keyword1", json!({"keyword1": "x"}), "data.keyword1.value invalid"),
        ] {
            assert_eq!(shown(&[field], &data), Err(rejected.to_owned()));
        }
    }
}
