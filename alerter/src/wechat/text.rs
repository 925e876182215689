//! Other people's words inside of messages: shown word for word, and never longer than there is room.
//!
//! Pure. What a message says is not decided here.

use std::borrow::Cow;

/// What stands where a text was cut.
const ELLIPSIS: &str = "…";

/// `text` without line breaks and other characters that move what stands around it: a name cannot
/// write a line of its own.
pub fn one_line(text: &str) -> String {
    text.chars().map(|one| if moves(one) { ' ' } else { one }).collect()
}

/// Controls, line and paragraph separators, and what turns the direction of writing.
fn moves(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as WeCom's markdown shows it word for word, in one line.
///
/// The platform knows no escape character, so whatever would be markup, a link or a mention becomes
/// the full-width form of the same character.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(one) = rest.next() {
        let next = rest.peek().copied().unwrap_or_default();
        plain.push(match one {
            '*' | '_' | '`' | '~' | '#' | '|' | '\\' => full_width(one),
            '[' | ']' | '<' | '>' | '@' | '&' => full_width(one),
            // A bare address would be made a link; a number keeps its point.
            ':' if next == '/' => full_width(one),
            '.' if next.is_ascii_alphabetic() => full_width(one),
            one if moves(one) => ' ',
            one => one,
        });
    }
    plain
}

/// The full-width form of a visible ASCII character.
fn full_width(one: char) -> char {
    const DISTANCE: u32 = '！' as u32 - '!' as u32;
    char::from_u32(u32::from(one) + DISTANCE).unwrap_or(one)
}

/// `text` so short that it takes at most `bytes_max` bytes inside of a JSON string, cut at a character
/// and marked with `…`.
pub fn cut_json(text: &str, bytes_max: usize) -> Cow<'_, str> {
    let (mut used, mut kept) = (0, 0);
    for (at, one) in text.char_indices() {
        if used + ELLIPSIS.len() <= bytes_max {
            kept = at;
        }
        used += json_bytes(one);
        if used > bytes_max {
            return format!("{}{ELLIPSIS}", &text[..kept]).into();
        }
    }
    text.into()
}

/// What a character takes inside of a JSON string.
fn json_bytes(one: char) -> usize {
    match one {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..'\u{20}' => 6,
        _ => one.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_be_markup_a_link_or_a_mention_is_shown_word_for_word() {
        for (text, shown) in [
            ("王小明", "王小明"),
            ("**粗**", "＊＊粗＊＊"),
            ("_a_ ~b~ `c`", "＿a＿ ～b～ ｀c｀"),
            ("[点这里](https://x.cn)", "［点这里］(https：//x．cn)"),
            ("www.x.cn", "www．x．cn"),
            ("<font color=\"warning\">急</font>", "＜font color=\"warning\"＞急＜/font＞"),
            ("<@all> @zhang", "＜＠all＞ ＠zhang"),
            ("&lt;b&gt;", "＆lt;b＆gt;"),
            ("# 题\n> 引\r\n- 一", "＃ 题 ＞ 引  - 一"),
            ("a\u{2028}b\u{202e}c\0d", "a b c d"),
            ("\\*", "＼＊"),
            ("36.5 ℃（阈值 35~37.5）12:00", "36.5 ℃（阈值 35～37.5）12:00"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn a_text_is_cut_by_what_it_takes_in_json() {
        for (text, bytes_max, cut) in [
            ("心率", 6, "心率"),
            ("心率", 5, "…"),
            ("a\"b\"c", 7, "a\"b\"c"),
            ("a\"b\"c", 6, "a\"…"),
            ("\u{1}\u{1}", 11, "\u{1}…"),
            ("", 0, ""),
        ] {
            assert_eq!(cut_json(text, bytes_max), cut, "{text:?} {bytes_max}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_text_fits_and_begins_as_it_did(text in ".{0,80}", bytes_max in 3usize..100) {
            let cut = cut_json(&text, bytes_max);
            let json = serde_json::to_string(&cut).unwrap();
            prop_assert!(json.len() - 2 <= bytes_max);
            prop_assert!(text.starts_with(cut.strip_suffix('…').unwrap_or(&cut)));
            prop_assert!(serde_json::to_string(&text).unwrap().len() - 2 > bytes_max || cut == text);
        }

        #[test]
        fn nothing_of_markup_is_left(text in "\\PC{0,80}") {
            let plain = plain(&text);
            prop_assert!(!plain.contains(['*', '_', '`', '[', ']', '<', '>', '#', '@', '&', '\n']));
            prop_assert!(!plain.contains("://"));
            prop_assert_eq!(plain.chars().count(), text.chars().count());
        }
    }
}
