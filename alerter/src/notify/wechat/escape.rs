//! Escapes foreign text inside messages: it is displayed literally and within a bounded length.
//!
//! Pure. The callers decide what a message contains.

use ljwx_service::text::one_line;

/// Characters of a template's field that the platform displays.
pub const FIELD_CHARS_MAX: usize = 20;

/// Marks the place at which a text was cut.
const ELLIPSIS: char = '…';

/// Stands in an empty field, because the platform accepts no empty field.
const NOTHING: &str = "无";

/// Returns `text` for a template's field: one line, without emoji, of bounded length, never empty.
pub fn field(text: &str) -> String {
    let line: String = one_line(text).chars().filter(|one| !is_emoji(*one)).collect();
    let line = line.trim();
    if line.is_empty() {
        return NOTHING.to_owned();
    }
    shortened(line, FIELD_CHARS_MAX)
}

/// Returns `text` in at most `chars_max` characters, of which the last one marks a cut.
pub fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain([ELLIPSIS]).collect()
}

/// Whether the character is a picture, or joins, colours or selects pictures, which the platform
/// drops, or is invisible.
fn is_emoji(one: char) -> bool {
    matches!(
        one,
        '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{20e3}' | '\u{2300}'..='\u{23ff}'
            | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{1f000}'..='\u{1faff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns `text` for WeCom's text messages in one line, displayed literally.
///
/// The platform has no escape character. Characters that would form a link become their full-width
/// forms.
pub fn plain(text: &str) -> String {
    let text = one_line(text);
    let plain = |(one, next): (char, char)| match one {
        '<' | '>' | '&' => full_width(one),
        // WeCom turns a bare address into a link. A number keeps its point.
        ':' if next == '/' => full_width(one),
        '.' if next.is_ascii_alphabetic() => full_width(one),
        one => one,
    };
    text.chars().zip(text.chars().skip(1).chain([' '])).map(plain).collect()
}

/// Returns `text` for WeCom's markdown in one line, displayed literally: like [`plain`], and with
/// the marks of markdown in their full-width forms.
pub fn plain_markdown(text: &str) -> String {
    let marks = |one: char| matches!(one, '*' | '_' | '`' | '#' | '[' | ']' | '\\');
    plain(text).chars().map(|one| if marks(one) { full_width(one) } else { one }).collect()
}

/// Returns the full-width form of a visible ASCII character.
fn full_width(one: char) -> char {
    const DISTANCE: u32 = '！' as u32 - '!' as u32;
    char::from_u32(u32::from(one) + DISTANCE).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_be_a_link_is_shown_word_for_word() {
        for (text, shown) in [
            ("王小明", "王小明"),
            ("**粗** [x] #1 @all", "**粗** [x] #1 @all"),
            ("<a href=\"https://x.cn\">查看</a>", "＜a href=\"https：//x．cn\"＞查看＜/a＞"),
            ("www.x.cn", "www．x．cn"),
            ("&lt;b&gt;", "＆lt;b＆gt;"),
            ("一\n二\r\n三", "一 二  三"),
            ("a\u{2028}b\u{202e}c\0d", "a b c d"),
            ("36.5 ℃（阈值 35~37.5）12:00", "36.5 ℃（阈值 35~37.5）12:00"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn what_would_be_markdown_is_shown_word_for_word() {
        for (text, shown) in [
            ("王小明", "王小明"),
            ("**粗** [x](http://x) #1 `a_b`", "＊＊粗＊＊ ［x］(http：//x) ＃1 ｀a＿b｀"),
            ("> 引用\n# 题", "＞ 引用 ＃ 题"),
            ("36.5 ℃ (35~37.5)", "36.5 ℃ (35~37.5)"),
        ] {
            assert_eq!(plain_markdown(text), shown);
        }
    }

    #[test]
    fn a_field_is_one_line_of_twenty_characters_without_pictures() {
        for (text, shown) in [
            ("王小明", "王小明"),
            ("", "无"),
            (" \n", "无"),
            ("👩‍⚕️❤️", "无"),
            ("\u{200b}\u{feff}", "无"),
            ("王 😀 小\n明", "王  小 明"),
            ("1️⃣ 号床", "1 号床"),
            ("𠮷田", "𠮷田"),
            (
                "一二三四五六七八九十一二三四五六七八九十",
                "一二三四五六七八九十一二三四五六七八九十",
            ),
            (
                "一二三四五六七八九十一二三四五六七八九十一",
                "一二三四五六七八九十一二三四五六七八九…",
            ),
        ] {
            assert_eq!(field(text), shown);
        }
    }

    proptest! {
        #[test]
        fn a_field_fits_and_begins_as_the_text_did(text in "(\\PC|\\PC\\PC|\n|[😀-😎]){0,30}") {
            let field = field(&text);
            prop_assert!((1..=FIELD_CHARS_MAX).contains(&field.chars().count()));
            prop_assert!(one_line(&field) == field && !field.chars().any(is_emoji));
            prop_assert_eq!(field.trim(), &field);
            let kept: String = one_line(&text).chars().filter(|one| !is_emoji(*one)).collect();
            let kept = kept.trim();
            if kept.is_empty() {
                prop_assert_eq!(field, NOTHING);
            } else if kept.chars().count() <= FIELD_CHARS_MAX {
                prop_assert_eq!(field, kept);
            } else {
                prop_assert_eq!(field.chars().count(), FIELD_CHARS_MAX);
                prop_assert!(kept.starts_with(field.strip_suffix(ELLIPSIS).unwrap_or("?")));
            }
        }

        #[test]
        fn nothing_of_a_link_is_left(text in "\\PC{0,80}") {
            let plain = plain(&text);
            prop_assert!(!plain.contains(['<', '>', '&', '\n']));
            prop_assert!(!plain.contains("://"));
            prop_assert_eq!(plain.chars().count(), text.chars().count());
        }
    }
}
