//! Rows of the platform's tables as named texts, whichever variant of a table exists.
//!
//! The callers read and interpret the rows.

use std::collections::HashMap;
use std::fmt;

use sqlx::mysql::MySqlRow;
use sqlx::{Column, Row};

/// One row: its columns by name, without those that are NULL or blank.
#[derive(Clone, Default)]
pub struct PlatformRow(HashMap<String, String>);

// Debug prints only the names of the columns: some values are secrets.
impl fmt::Debug for PlatformRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PlatformRow {
    /// Returns a row that was read as text, so that every column of every variant has one form.
    pub fn of(row: &MySqlRow) -> Self {
        let columns = row.columns().iter().filter_map(|column| {
            let text: Option<String> = row.try_get_unchecked(column.ordinal()).ok()?;
            Some((column.name(), text?))
        });
        columns.collect()
    }

    /// Returns a column's text. `None` also if the column does not exist.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    /// Returns a column's id. 0 is never an id.
    pub fn id(&self, column: &str) -> Option<i64> {
        self.text(column)?.parse().ok().filter(|id| *id != 0)
    }

    /// Returns a column that is yes or no: a number, a character or a bit.
    pub fn flag(&self, column: &str, default: bool) -> bool {
        self.text(column).map_or(default, |flag| !matches!(flag, "0" | "\0"))
    }

    /// Whether a row may be used for a tenant: it is the tenant's, or names no tenant.
    pub fn is_of(&self, customer_id: i64) -> bool {
        self.id("customer_id").or_else(|| self.id("tenant_id")).is_none_or(|id| id == customer_id)
    }
}

impl<N: Into<String>, T: AsRef<str>> Extend<(N, T)> for PlatformRow {
    fn extend<I: IntoIterator<Item = (N, T)>>(&mut self, columns: I) {
        for (name, text) in columns {
            let text = text.as_ref().trim();
            if !text.is_empty() {
                self.0.insert(name.into(), text.to_owned());
            }
        }
    }
}

impl<N: Into<String>, T: AsRef<str>> FromIterator<(N, T)> for PlatformRow {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(columns: I) -> Self {
        let mut row = Self::default();
        row.extend(columns);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_numbers_of_every_variant_are_read() {
        for (text, flag) in [("1", true), ("0", false), ("\0", false), ("\u{1}", true), (" ", true)]
        {
            let row = PlatformRow::from_iter([("is_active", text)]);
            assert_eq!(row.flag("is_active", true), flag, "{text:?}");
        }
        for (text, id) in [("7", Some(7)), (" 7", Some(7)), ("0", None), ("", None), ("x", None)] {
            assert_eq!(PlatformRow::from_iter([("id", text)]).id("id"), id, "{text:?}");
        }
    }

    #[test]
    fn a_row_of_another_tenant_is_not_used() {
        for (column, text, own) in [
            ("customer_id", "7", true),
            ("customer_id", "8", false),
            ("tenant_id", "8", false),
            ("customer_id", "0", true),
            ("id", "8", true),
        ] {
            let row = PlatformRow::from_iter([(column, text)]);
            assert_eq!(row.is_of(7), own, "{column} {text}");
        }
    }

    #[test]
    fn what_a_row_holds_is_not_printed() {
        let row = PlatformRow::from_iter([("appsecret", "hush")]);
        assert_eq!(format!("{row:?}"), r#"{"appsecret"}"#);
    }
}
