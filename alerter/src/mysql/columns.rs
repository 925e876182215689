//! The capacity of a table's text columns, as the server reports it. The platform's variants
//! differ, and so do their character sets. MySQL has no reason to reject a row for a text that
//! fits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ljwx_ledger::mysql::MySqlPool;
use tokio::sync::Mutex;

/// The mark of a cut text.
const ELLIPSIS: char = '…';

/// The replacements for a character that a column cannot hold: in general, and in ASCII columns.
const MISSING: char = '□';
const MISSING_ASCII: char = '?';

/// Returns the bytes that the widest character of a character set has in UTF-8.
///
/// Only the server knows the characters of a set for another language. This set has no characters of
/// four bytes. A row that is rejected for another character is written in ASCII.
fn char_bytes_max(charset: &str, plain: bool) -> usize {
    match charset {
        "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030" => 4,
        "utf8" | "utf8mb3" | "ucs2" => 3,
        "ascii" => 1,
        _ if plain => 1,
        _ => 3,
    }
}

/// The capacity of a text column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ColumnSize {
    chars: usize,
    bytes: usize,
    charset: String,
}

impl ColumnSize {
    fn fit<'a>(&self, text: &'a str, plain: bool) -> Cow<'a, str> {
        let widest = char_bytes_max(&self.charset, plain);
        let has = |one: char| one.len_utf8() <= widest;
        let fits = text.chars().count() <= self.chars && text.len() <= self.bytes;
        if fits && text.chars().all(has) {
            return text.into();
        }
        let missing = if widest == 1 { MISSING_ASCII } else { MISSING };
        let fit = |one| if has(one) { one } else { missing };
        let mut fitted: String = text.chars().map(fit).collect();
        if fitted.chars().count() > self.chars || fitted.len() > self.bytes {
            let marked = self.chars > 1 && self.bytes > ELLIPSIS.len_utf8();
            let ellipsis = Some(ELLIPSIS).filter(|one| marked && has(*one));
            let bytes = self.bytes.saturating_sub(ellipsis.map_or(0, char::len_utf8));
            let chars = self.chars - usize::from(ellipsis.is_some());
            let end = fitted.char_indices().nth(chars).map_or(fitted.len(), |(at, _)| at);
            fitted.truncate(fitted.floor_char_boundary(end.min(bytes)));
            fitted.extend(ellipsis);
        }
        fitted.into()
    }
}

/// The columns of a table, by their names in small letters; `None`: the column is not text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(HashMap<String, Option<ColumnSize>>);

impl Columns {
    /// Whether the table has a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns `text` as the column can hold it: cut, and with □ for characters outside its
    /// character set. `plain`: the form that every character set can hold, for a row that was
    /// rejected.
    pub fn fit<'a>(&self, name: &str, text: &'a str, plain: bool) -> Cow<'a, str> {
        match self.0.get(name) {
            Some(Some(room)) => room.fit(text, plain),
            _ => text.into(),
        }
    }
}

/// A table, as far as this process knows it.
#[derive(Debug)]
pub struct ColumnCache {
    /// The database.
    pub pool: MySqlPool,
    name: &'static str,
    columns: Mutex<Option<Arc<Columns>>>,
}

impl ColumnCache {
    /// Returns a table of this database. Its columns are queried when they are first needed.
    pub fn new(pool: MySqlPool, name: &'static str) -> Self {
        Self { pool, name, columns: Mutex::default() }
    }

    /// Returns the columns; `None`: the table does not exist, and the next call queries again.
    pub async fn columns(&self) -> sqlx::Result<Option<Arc<Columns>>> {
        let mut known = self.columns.lock().await;
        if known.is_none() {
            type Row = (String, Option<i64>, Option<i64>, Option<String>);
            let rows: Vec<Row> = sqlx::query_as(
                "SELECT CAST(LOWER(COLUMN_NAME) AS CHAR), CAST(CHARACTER_MAXIMUM_LENGTH AS SIGNED), \
                 CAST(CHARACTER_OCTET_LENGTH AS SIGNED), CAST(CHARACTER_SET_NAME AS CHAR) \
                 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
            )
            .bind(self.name)
            .fetch_all(&self.pool)
            .await?;
            let columns: HashMap<_, _> = rows
                .into_iter()
                .map(|(name, chars, bytes, charset)| (name, room(chars, bytes, charset)))
                .collect();
            *known = (!columns.is_empty()).then(|| Arc::new(Columns(columns)));
        }
        Ok(known.clone())
    }

    /// Drops the cached columns, because the table is another one now.
    pub async fn forget(&self) {
        *self.columns.lock().await = None;
    }
}

fn room(chars: Option<i64>, bytes: Option<i64>, charset: Option<String>) -> Option<ColumnSize> {
    let length = |length: i64| usize::try_from(length).unwrap_or(usize::MAX);
    let (chars, charset) = (length(chars?), charset?);
    // Texts are measured in UTF-8. Their size in other character sets is not known.
    let bytes = if charset.starts_with("utf8") { length(bytes?) } else { usize::MAX };
    Some(ColumnSize { chars, bytes, charset })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl<const N: usize> From<[&str; N]> for Columns {
        fn from(names: [&str; N]) -> Self {
            Self(names.into_iter().map(|name| (name.to_owned(), None)).collect())
        }
    }

    fn room(chars: usize, bytes: usize, charset: &str) -> ColumnSize {
        ColumnSize { chars, bytes, charset: charset.into() }
    }

    #[test]
    fn a_text_is_cut_to_its_column_and_shows_what_its_character_set_has_not() {
        for (chars, bytes, charset, plain, text, fitted) in [
            (4, 16, "utf8mb4", false, "𠮷心率", "𠮷心率"),
            (4, 12, "utf8mb3", false, "𠮷心率", "□心率"),
            (4, 12, "utf8mb3", false, "𠮷心率过高", "□心率…"),
            (9, 9, "ascii", false, "心率 133", "?? 133"),
            (4, 4, "ascii", false, "metrics", "metr"),
            (4, 8, "gbk", false, "心率", "心率"),
            (4, 8, "gbk", true, "心率a", "??a"),
            (100, 7, "utf8mb4", false, "心率过高", "心…"),
            (1, 4, "utf8mb4", false, "心率", "心"),
            (0, 0, "utf8mb4", false, "心率", ""),
        ] {
            assert_eq!(room(chars, bytes, charset).fit(text, plain), fitted, "{text} {charset}");
        }
    }

    #[test]
    fn a_column_that_is_not_known_takes_the_text_as_it_is() {
        let columns = Columns::from(["id"]);
        assert_eq!(columns.fit("id", "心", true), "心");
        assert_eq!(columns.fit("other", "心", true), "心");
        assert!(columns.has("id") && !columns.has("other"));
    }

    proptest! {
        #[test]
        fn whatever_the_text_it_fits(
            text in ".{0,40}", chars in 0usize..30, bytes in 0usize..60, set in 0usize..4,
            plain: bool,
        ) {
            let charset = ["utf8mb4", "utf8mb3", "ascii", "gbk"][set];
            let fitted = room(chars, bytes, charset).fit(&text, plain);
            prop_assert!(fitted.chars().count() <= chars && fitted.len() <= bytes);
            let widest = char_bytes_max(charset, plain);
            prop_assert!(fitted.chars().all(|one| one.len_utf8() <= widest));
            let whole = text.chars().count() <= chars && text.len() <= bytes;
            prop_assert!(!whole || fitted.chars().count() == text.chars().count());
        }
    }
}
