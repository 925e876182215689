//! Builds statement text value by value, so that every value is escaped.
//!
//! Text replaces bound parameters because batches have many sizes, and each size would be a
//! statement to prepare. Both servers process multi-row text at least as fast. Lists that are short
//! bind their values, by [`push_in`].

use std::fmt::{Display, Write};

use jiff::civil::{Date, DateTime};
use sqlx::{Encode, MySql, QueryBuilder, Type};

/// The server's syntax for the row that an upsert wanted to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `VALUES(column)`.
    MariaDb,
    /// A row alias, because MySQL deprecates `VALUES()`.
    MySql,
}

impl Dialect {
    /// Recognises the server by its `SELECT VERSION()`.
    pub fn of_version(version: &str) -> Self {
        if version.contains("MariaDB") { Self::MariaDb } else { Self::MySql }
    }

    /// Returns the text between the rows and `ON DUPLICATE KEY UPDATE`.
    pub fn alias(self) -> &'static str {
        match self {
            Self::MariaDb => "",
            Self::MySql => " AS new",
        }
    }

    /// Returns the expression for the inserted value of `column`.
    pub fn incoming(self, column: &str) -> String {
        match self {
            Self::MariaDb => format!("VALUES(`{column}`)"),
            Self::MySql => format!("new.`{column}`"),
        }
    }
}

/// Returns a string as a literal, escaped for a session without `NO_BACKSLASH_ESCAPES`.
pub fn literal(value: &str) -> String {
    let mut list = ValueList::after(String::new());
    list.string(value);
    list.text
}

/// The rows of a multi-row INSERT.
#[derive(Debug)]
pub struct ValueList {
    text: String,
    columns: usize,
}

impl ValueList {
    /// Starts with `text`, which ends with `VALUES`.
    pub fn after(text: String) -> Self {
        Self { text, columns: 0 }
    }

    /// Returns the bytes of the text so far.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Moves the last row, which began at byte `bytes`, to a statement of its own that opens with
    /// `head`.
    pub fn carry_over(&mut self, bytes: usize, head: &str) -> Self {
        let row = self.text.split_off(bytes);
        // Drop the row's leading comma: the row is now the first.
        Self::after(format!("{head} {}", &row[1..]))
    }

    /// Begins a row.
    pub fn begin(&mut self, first: bool) {
        self.text.push_str(if first { " (" } else { ",(" });
        self.columns = 0;
    }

    /// Ends a row.
    pub fn end(&mut self) {
        self.text.push(')');
    }

    fn write(&mut self, value: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(value);
    }

    fn separate(&mut self) {
        if self.columns > 0 {
            self.text.push(',');
        }
        self.columns += 1;
    }

    /// Appends a whole number.
    pub fn whole(&mut self, value: i64) {
        self.separate();
        self.text.push_str(itoa::Buffer::new().format(value));
    }

    /// Appends a number, or NULL.
    pub fn number(&mut self, value: Option<impl Display>) {
        self.separate();
        match value {
            Some(value) => self.write(format_args!("{value}")),
            None => self.text.push_str("NULL"),
        }
    }

    /// Appends a string, escaped for a session without `NO_BACKSLASH_ESCAPES`.
    pub fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('\'');
        let mut rest = value;
        while let Some(at) = rest.find(['\'', '\\', '\0']) {
            self.text.push_str(&rest[..at]);
            self.text.push_str(match rest.as_bytes()[at] {
                b'\'' => "''",
                b'\\' => "\\\\",
                _ => "\\0",
            });
            rest = &rest[at + 1..];
        }
        self.text.push_str(rest);
        self.text.push('\'');
    }

    /// Appends a string, or NULL.
    pub fn optional_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.number(None::<i64>),
        }
    }

    /// Appends a wall clock, or NULL.
    pub fn datetime(&mut self, value: Option<DateTime>) {
        self.separate();
        match value {
            Some(at) => self.write(format_args!(
                "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}'",
                at.year(),
                at.month(),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            )),
            None => self.text.push_str("NULL"),
        }
    }

    /// Appends a day.
    pub fn date(&mut self, value: Date) {
        self.separate();
        self.write(format_args!("'{value}'"));
    }

    /// Returns the statement, with `tail` behind the rows.
    pub fn finish(mut self, tail: &str) -> String {
        self.text.push_str(tail);
        self.text
    }
}

/// Capacity for a typical row of the main table, in bytes of text.
const ROW_BYTES_EXPECTED: usize = 256;

/// Spreads the rows over as few statements as possible, each of at most `bytes_max` bytes. Returns
/// each statement with its number of rows. A row that is longer by itself has a statement of its
/// own.
pub fn fill<T>(
    head: &str,
    tail: &str,
    bytes_max: usize,
    items: impl ExactSizeIterator<Item = T>,
    mut write: impl FnMut(&mut ValueList, T),
) -> Vec<(String, i64)> {
    let mut filled = Vec::new();
    let expected = head.len() + tail.len() + items.len() * ROW_BYTES_EXPECTED;
    let mut text = String::with_capacity(expected.min(bytes_max));
    text.push_str(head);
    let mut rows = ValueList::after(text);
    let mut count = 0;
    for item in items {
        let before = rows.bytes();
        rows.begin(count == 0);
        write(&mut rows, item);
        rows.end();
        if count > 0 && rows.bytes() + tail.len() > bytes_max {
            let next = rows.carry_over(before, head);
            filled.push((std::mem::replace(&mut rows, next).finish(tail), count));
            count = 0;
        }
        count += 1;
    }
    if count > 0 {
        filled.push((rows.finish(tail), count));
    }
    filled
}

/// Adds `IN (…)` with these values, each of them bound. There must be one at least.
pub fn push_in<'t, T>(query: &mut QueryBuilder<MySql>, values: impl IntoIterator<Item = T>)
where
    T: Encode<'t, MySql> + Type<MySql>,
{
    query.push(" IN ").push_tuples(values, |mut row, value| {
        row.push_bind(value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_over_statements_of_the_largest_size_allowed() {
        let filled = |bytes_max: usize, items: &[i64]| {
            fill("HEAD", "TAIL", bytes_max, items.iter(), |rows, item| rows.whole(*item))
        };
        let whole = "HEAD (1),(2),(3)TAIL";
        assert_eq!(filled(whole.len(), &[1, 2, 3]), [(whole.to_owned(), 3)]);
        let parts = [("HEAD (1),(2)TAIL".to_owned(), 2), ("HEAD (3)TAIL".to_owned(), 1)];
        assert_eq!(filled(whole.len() - 1, &[1, 2, 3]), parts);
        // A row that is too long goes alone: the server may accept it nevertheless.
        let alone = [("HEAD (1)TAIL".to_owned(), 1), ("HEAD (22222)TAIL".to_owned(), 1)];
        assert_eq!(filled(1, &[1, 22222]), alone);
        assert_eq!(filled(100, &[]), []);
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        let mut rows = ValueList::after("VALUES".into());
        rows.begin(true);
        rows.string(r"a'); DROP TABLE t; -- \");
        rows.string("\0'");
        rows.optional_string(None);
        rows.whole(-5);
        rows.number(Some(36.5));
        rows.end();
        let expected = r"VALUES ('a''); DROP TABLE t; -- \\','\0''',NULL,-5,36.5)";
        assert_eq!(rows.finish(""), expected);
    }
}
