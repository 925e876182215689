//! Decides which of a template's fields the platform shows, how much of each, and which values it
//! rejects. A field's type is its name without its number.

use serde_json::Value;

/// Fields of the old templates, as [`super::TEMPLATE_ID`] has them. The platform stopped showing
/// the first and the last in May 2023; sending them succeeds.
pub const OLD_FIELDS: [&str; 6] =
    ["first", "keyword1", "keyword2", "keyword3", "keyword4", "remark"];

/// Characters that a field shows, and that a name may have.
const CHARS_MAX: usize = 20;

/// Words that were approved together with every template here.
pub const CONSTS: [&str; 2] = ["异常", "已恢复"];

/// Returns the fields as a person sees them, or the name of the field whose value the platform
/// rejects.
pub(super) fn show(fields: &[String], data: &Value) -> Result<Vec<(String, String)>, String> {
    let mut shown = Vec::new();
    for name in fields {
        let field = &data[name];
        let value = match &field["value"] {
            Value::String(value) => value.as_str(),
            Value::Null if field.is_null() => "",
            _ => return Err(name.clone()),
        };
        match name.trim_end_matches(|one: char| one.is_ascii_digit()) {
            "first" | "remark" => {}
            "keyword" => shown.push((name.clone(), cut(value))),
            kind if takes(kind, value) => shown.push((name.clone(), value.to_owned())),
            _ => return Err(name.clone()),
        }
    }
    Ok(shown)
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
        "time" | "date" => value.contains(|one: char| one.is_ascii_digit()),
        "phrase" => count <= 5 && value.chars().all(is_han),
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
            ("time4", "2025年9月2日 12:00", true),
            ("phrase5", "心率过高", true),
            ("phrase5", "心率 151", false),
            ("number6", "151", true),
            ("number6", "many", false),
            ("unheard_of7", "x", false),
        ] {
            let expected = if taken { Ok(vec![pair(field, value)]) } else { Err(field.to_owned()) };
            assert_eq!(shown(&[field], &json!({ field: { "value": value } })), expected);
        }
        assert_eq!(
            shown(&["thing1"], &json!({})),
            Err("thing1".to_owned()),
            "a field without value"
        );
        assert_eq!(shown(&["keyword1"], &json!({"keyword1": "x"})), Err("keyword1".to_owned()));
    }
}
