//! The type of a template's field, and the form that the type demands of a value.
//!
//! Pure. A field's type is the field's name without its number.

use ljwx_service::text::one_line;

use super::content::Content;
use crate::notify::wechat::escape::{FIELD_CHARS_MAX, field, shortened};

/// Longest value of a field of type `character_string`, in characters.
const STRING_CHARS_MAX: usize = 32;

/// Longest word of a field of type `const`, in characters.
const CONST_CHARS_MAX: usize = 20;

/// Longest value of a field of type `phrase`, in characters.
const PHRASE_CHARS_MAX: usize = 5;

/// Longest value of a field of type `name`, in characters.
const NAME_CHARS_MAX: usize = 10;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// `keyword`, `thing`, and every type without rules here: one short line.
    Line,
    /// `character_string`: digits, letters and symbols of ASCII.
    CharacterString,
    /// `time` and `date`.
    Time,
    /// `const`: one of the words that were approved with the template, or nothing.
    Const,
    /// `number`.
    Number,
    /// `phrase`: a few Chinese characters.
    Phrase,
    /// `name`.
    Name,
}

impl FieldType {
    /// Returns the type of the field with this name.
    pub fn of(name: &str) -> Self {
        match name.trim_end_matches(|one: char| one.is_ascii_digit()) {
            "character_string" => Self::CharacterString,
            "time" | "date" => Self::Time,
            "const" => Self::Const,
            "number" => Self::Number,
            "phrase" => Self::Phrase,
            "name" => Self::Name,
            _ => Self::Line,
        }
    }

    /// Whether a field of this type can show the content of at least some notice, without words.
    pub fn can_hold(self, content: Content) -> bool {
        use Content::{Count, Device, Event, Level, Reading, Sign, State, Text, Time, Value};
        match self {
            Self::Line => true,
            Self::CharacterString => !matches!(content, Event | Level | State | Sign),
            Self::Time => content == Time,
            Self::Const => false,
            Self::Number => matches!(content, Value | Count),
            Self::Phrase => !matches!(content, Time | Value | Reading | Device | Count),
            Self::Name => {
                !matches!(content, Event | Time | Value | Reading | Device | Count | Text)
            }
        }
    }

    /// Whether a field of this type can show `text` unchanged.
    pub fn takes(self, text: &str) -> bool {
        let is_short = text.chars().count() <= CONST_CHARS_MAX && one_line(text) == text;
        match self {
            Self::Time => false,
            Self::Const => is_short,
            _ => self.fit(text) == text,
        }
    }

    /// Returns `text` in the form of this type. The text of a time or a constant has its form.
    pub fn fit(self, text: &str) -> String {
        match self {
            Self::Line => field(text),
            Self::CharacterString => string(text),
            Self::Time | Self::Const => text.to_owned(),
            Self::Number if text.parse::<f64>().is_ok_and(f64::is_finite) => text.to_owned(),
            Self::Number => "0".to_owned(),
            Self::Phrase => chinese(text, PHRASE_CHARS_MAX),
            Self::Name => field(&first(&field(text), NAME_CHARS_MAX)),
        }
    }

    /// Returns `text` in the form of this type, and behind it the number of `alerts` that the
    /// message reports. The text is cut to make room for the number.
    pub fn fit_counted(self, text: &str, alerts: usize) -> String {
        let (count, chars_max) = match self {
            Self::Line => (format!(" 等{alerts}条"), FIELD_CHARS_MAX),
            // The plain form of a name keeps no digits.
            Self::Name => ("等多条".to_owned(), NAME_CHARS_MAX),
            Self::CharacterString => (format!("+{}", alerts.saturating_sub(1)), STRING_CHARS_MAX),
            Self::Time | Self::Const | Self::Number | Self::Phrase => return self.fit(text),
        };
        let room = chars_max.saturating_sub(count.chars().count());
        let fitted = self.fit(text);
        let cut = match self {
            // The mark of a cut is no ASCII.
            Self::CharacterString => first(&fitted, room),
            _ => shortened(&fitted, room),
        };
        cut + &count
    }

    /// Returns the plain form of a fitted value, for a platform that refused the value.
    ///
    /// A line keeps letters, digits and Chinese characters, a name Chinese characters, and a string
    /// stays if it has letters and digits only. Other types have their empty form. A time has no
    /// plainer form.
    pub fn plain(self, fitted: &str) -> String {
        match self {
            Self::Line => field(&first(&letters(fitted), FIELD_CHARS_MAX)),
            Self::Time => fitted.to_owned(),
            Self::Const => String::new(),
            Self::Name => chinese(fitted, NAME_CHARS_MAX),
            Self::CharacterString if fitted.bytes().all(|one| one.is_ascii_alphanumeric()) => {
                fitted.to_owned()
            }
            Self::CharacterString | Self::Number | Self::Phrase => self.fit(""),
        }
    }
}

/// Returns the visible ASCII of a text. `_` stands for what was between two parts, so that no two
/// numbers join.
fn string(text: &str) -> String {
    let parts = text.split(|one: char| !one.is_ascii_graphic()).filter(|part| !part.is_empty());
    let string = parts.collect::<Vec<_>>().join("_");
    if string.is_empty() { "-".to_owned() } else { first(&string, STRING_CHARS_MAX) }
}

/// Returns the first Chinese characters of a text.
fn chinese(text: &str, chars: usize) -> String {
    field(&text.chars().filter(|one| is_han(*one)).take(chars).collect::<String>())
}

/// Returns the first characters of a text.
fn first(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// Stands between two numbers for other characters.
const AND: &str = "与";

/// Returns the letters, digits and Chinese characters of a text. A word stands between two digits
/// for the signs that are left out, so that `36.5` does not become 365.
fn letters(text: &str) -> String {
    let mut letters = String::with_capacity(text.len());
    let mut gap: Option<&'static str> = None;
    for one in text.chars() {
        if !one.is_ascii_alphanumeric() && !is_han(one) {
            gap = gap.filter(|word| *word != AND).or(Some(word(one)));
            continue;
        }
        if let Some(word) = gap.take()
            && one.is_ascii_digit()
            && letters.ends_with(|last: char| last.is_ascii_digit())
        {
            letters.push_str(word);
        }
        letters.push(one);
    }
    letters
}

/// Returns the word for a sign between two numbers.
fn word(sign: char) -> &'static str {
    match sign {
        '.' | ':' => "点",
        '>' => "高于",
        '<' => "低于",
        _ => AND,
    }
}

fn is_han(one: char) -> bool {
    matches!(one, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_type_makes_a_value_fit_and_has_a_plainer_form() {
        let long = "一二三四五六七八九十".repeat(3);
        let nineteen = format!("{}…", &long[..19 * 3]);
        let plain_nineteen = &long[..19 * 3];
        for (name, text, fitted, plain) in [
            ("thing1", "王😀小明", "王小明", "王小明"),
            ("thing1", "a\nb (c)", "a b (c)", "abc"),
            ("thing1", "", "无", "无"),
            ("thing12", long.as_str(), nineteen.as_str(), plain_nineteen),
            (
                "keyword2",
                "延迟 重复? 心率过高 151",
                "延迟 重复? 心率过高 151",
                "延迟重复心率过高151",
            ),
            ("keyword3", "体温过高 38.5", "体温过高 38.5", "体温过高38点5"),
            ("unheard_of1", "151 (>140)", "151 (>140)", "151高于140"),
            ("thing1", "2025-09-02 11:50起", "2025-09-02 11:50起", "2025与09与02与11点50起"),
            ("thing1", "+-*", "+-*", "无"),
            ("character_string3", "151>140", "151>140", "-"),
            ("character_string3", "1小时2分", "1_2", "-"),
            ("character_string3", "三病区", "-", "-"),
            ("character_string3", "ABCDE251", "ABCDE251", "ABCDE251"),
            ("time4", "2025年9月2日 12:00", "2025年9月2日 12:00", "2025年9月2日 12:00"),
            ("const2", "异常", "异常", ""),
            ("number6", "36.5", "36.5", "0"),
            ("number6", "12分", "0", "0"),
            ("phrase5", "已恢复 心率 88", "已恢复心率", "无"),
            ("phrase5", "88", "无", "无"),
            ("name7", long.as_str(), "一二三四五六七八九十", "一二三四五六七八九十"),
            ("name7", "王·A1明", "王·A1明", "王明"),
            ("name7", "A1", "A1", "无"),
        ] {
            let kind = FieldType::of(name);
            let value = kind.fit(text);
            assert_eq!((value.as_str(), kind.plain(&value).as_str()), (fitted, plain), "{name}");
        }
    }

    #[test]
    fn a_constant_or_a_word_has_to_fit_its_type_unchanged() {
        let (twenty, longer) = ("字".repeat(20), "字".repeat(21));
        for (name, text, takes) in [
            ("const1", "异常", true),
            ("const1", "", true),
            ("const1", twenty.as_str(), true),
            ("const1", longer.as_str(), false),
            ("const1", "一\n二", false),
            ("thing1", twenty.as_str(), true),
            ("thing1", longer.as_str(), false),
            ("thing1", "", false),
            ("character_string1", "ICU-3", true),
            ("character_string1", "三", false),
            ("number1", "5", true),
            ("number1", "five", false),
            ("phrase1", "心率过高", true),
            ("phrase1", "心率过高了吗", false),
            ("time1", "12:00", false),
        ] {
            assert_eq!(FieldType::of(name).takes(text), takes, "{name} {text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_it_fits_twice_and_no_two_numbers_join(
            text in "(\\PC|[0-9.>]|[😀-😎]){0,40}",
        ) {
            let names = ["thing1", "character_string1", "number1", "phrase1", "name1"];
            for kind in names.map(FieldType::of) {
                let fitted = kind.fit(&text);
                prop_assert_eq!(&kind.fit(&fitted), &fitted);
                let plain = kind.plain(&fitted);
                prop_assert!(!plain.is_empty() && plain.chars().count() <= STRING_CHARS_MAX);
                let harmless = plain.chars().all(|one| one.is_ascii_alphanumeric() || is_han(one));
                prop_assert!(kind != FieldType::Line || harmless);
            }
            let numbers = |text: &str| {
                let parts = text.split(|one: char| !one.is_ascii_digit());
                parts.filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
            };
            prop_assert_eq!(numbers(&letters(&text)), numbers(&text));
        }
    }
}
