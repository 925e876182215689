//! Building statement text value by value, so that nothing reaches it unescaped.
//!
//! Text rather than bound parameters: batches come in every size, each size would be a statement to
//! prepare, and both servers take multi-row text at least as fast.

use std::fmt::{Display, Write};

use jiff::civil::{Date, DateTime};

/// How the server names the row that an upsert wanted to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `VALUES(column)`.
    MariaDb,
    /// A row alias; there `VALUES()` is deprecated.
    MySql,
}

impl Dialect {
    /// Tells the server by what `SELECT VERSION()` says.
    pub fn of_version(version: &str) -> Self {
        if version.contains("MariaDB") { Self::MariaDb } else { Self::MySql }
    }

    /// What stands between the rows and `ON DUPLICATE KEY UPDATE`.
    pub fn alias(self) -> &'static str {
        match self {
            Self::MariaDb => "",
            Self::MySql => " AS new",
        }
    }

    /// The value that the insert had for `column`.
    pub fn incoming(self, column: &str) -> String {
        match self {
            Self::MariaDb => format!("VALUES(`{column}`)"),
            Self::MySql => format!("new.`{column}`"),
        }
    }
}

/// The rows of a multi-row INSERT.
#[derive(Debug)]
pub struct Rows {
    text: String,
    columns: usize,
}

impl Rows {
    /// Goes on after `text`, which ends with `VALUES`.
    pub fn after(text: String) -> Self {
        Self { text, columns: 0 }
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

    /// A whole number.
    pub fn whole(&mut self, value: i64) {
        self.separate();
        self.text.push_str(itoa::Buffer::new().format(value));
    }

    /// A number, or NULL.
    pub fn number(&mut self, value: Option<impl Display>) {
        self.separate();
        match value {
            Some(value) => self.write(format_args!("{value}")),
            None => self.text.push_str("NULL"),
        }
    }

    /// A string, escaped for a session without `NO_BACKSLASH_ESCAPES`.
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

    /// A string, or NULL.
    pub fn optional_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.number(None::<i64>),
        }
    }

    /// A wall clock, or NULL.
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

    /// A day.
    pub fn date(&mut self, value: Date) {
        self.separate();
        self.write(format_args!("'{value}'"));
    }

    /// The statement, with what follows its rows.
    pub fn finish(mut self, tail: &str) -> String {
        self.text.push_str(tail);
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_quotes() {
        let mut rows = Rows::after("VALUES".into());
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
