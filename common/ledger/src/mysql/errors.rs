//! Classifies the errors of MySQL and MariaDB by their remedy, in one table.
//!
//! Leaves the remedy itself to the caller.

use sqlx::mysql::MySqlDatabaseError;

/// The remedy for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The server cannot accept anything now: hold the batch and retry.
    Infrastructure,
    /// The server has no room for another connection or statement: wait, and add no load.
    Saturated,
    /// The statement names something that is missing: hold the batch, and log what is missing.
    Schema,
    /// MySQL rejects a value: find the value, dead-letter its delivery, write the rest.
    Data,
}

impl Remedy {
    /// Returns the stable word for metric labels and log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Saturated => "saturated",
            Self::Schema => "schema",
            Self::Data => "data",
        }
    }
}

use Remedy::{Data, Infrastructure, Saturated, Schema};

/// Errors by number, of MySQL 8 and 9 and of MariaDB. Numbers above 1900 differ between the servers
/// and are marked. Unlisted errors are retried, unless their SQLSTATE is of class 22: a delivery is
/// dead-lettered only for an error that its own values cause.
///
/// If a disk is full, both servers answer 1114 to an INSERT. MariaDB answers 3 and 1021 to
/// statements that need a temporary file. A server in `read_only` answers 1290. With InnoDB in
/// `innodb_read_only` or `innodb_force_recovery`, an INSERT gets 1036, or 1015 from MySQL in
/// `innodb_read_only`. MySQL answers 1836 to changes of tables; relatives such as Aurora also
/// answer 1836 to INSERTs after a failover.
const BY_NUMBER: &[(u16, Remedy, &str)] = &[
    (3, Infrastructure, "a file cannot be written (MariaDB)"),
    (1015, Infrastructure, "InnoDB is read-only (MySQL)"),
    (1021, Infrastructure, "disk full"),
    (1036, Infrastructure, "the table is read-only"),
    (1040, Saturated, "too many connections"),
    (1041, Saturated, "out of memory"),
    (1048, Data, "NULL in a column that takes none"),
    (1049, Schema, "unknown database"),
    (1053, Infrastructure, "server shutdown"),
    (1054, Schema, "unknown column"),
    (1064, Schema, "SQL that the server does not know"),
    (1114, Infrastructure, "table full"),
    (1136, Schema, "column count"),
    (1142, Schema, "no privilege on the table"),
    (1143, Schema, "no privilege on the column"),
    (1146, Schema, "no such table"),
    (1153, Infrastructure, "packet too large"),
    (1158, Infrastructure, "network read"),
    (1159, Infrastructure, "network read timeout"),
    (1160, Infrastructure, "network write"),
    (1161, Infrastructure, "network write timeout"),
    (1203, Saturated, "too many connections of this user"),
    (1205, Infrastructure, "lock wait timeout"),
    (1213, Infrastructure, "deadlock"),
    (1226, Saturated, "resource limit of this user"),
    (1264, Data, "out of range"),
    (1265, Data, "truncated"),
    (1290, Infrastructure, "read-only server"),
    (1292, Data, "incorrect value"),
    (1317, Infrastructure, "query interrupted"),
    (1356, Schema, "a view whose table, column or right is gone"),
    (1364, Schema, "a column without default"),
    (1366, Data, "incorrect value for the column"),
    (1406, Data, "too long"),
    (1411, Data, "incorrect value for a function"),
    (1449, Schema, "the definer of a view is gone"),
    (1452, Data, "foreign key"),
    (1526, Schema, "no partition for the value"),
    (1690, Data, "out of range in an expression"),
    (1792, Infrastructure, "read-only transaction"),
    (1836, Infrastructure, "read-only mode"),
    (1927, Infrastructure, "connection killed (MariaDB)"),
    (1969, Infrastructure, "statement timeout (MariaDB)"),
    (3024, Infrastructure, "statement timeout (MySQL)"),
    (3140, Data, "invalid JSON (MySQL)"),
    (3141, Data, "invalid JSON argument (MySQL)"),
    (3819, Data, "check constraint (MySQL)"),
    (4025, Data, "constraint, invalid JSON included (MariaDB)"),
];

/// The error of a statement that names a table that does not exist.
pub const NO_SUCH_TABLE: u16 = 1146;

/// The error of a statement that did not get a row or a table in time.
pub const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// The error of a transaction that waited for another one, which waited for it.
pub const DEADLOCK: u16 = 1213;

/// Errors of a server that answers and accepts no write: it is read-only, as a former primary is, or
/// it has no room. Another server may be the primary by now.
const WRITES_REFUSED: [u16; 8] = [3, 1015, 1021, 1036, 1114, 1290, 1792, 1836];

/// Errors of a server that ends the connection, as one that shuts down does.
const CONNECTION_ENDED: [u16; 6] = [1053, 1158, 1159, 1160, 1161, 1927];

/// Errors of a server that takes no statement of this account or host: a password has changed, the
/// host is blocked, or a node of a cluster is not ready (1047).
const CONNECTION_REFUSED: [u16; 6] = [1044, 1045, 1047, 1129, 1130, 1698];

/// Errors of an account that lacks a right: on the database, a table, a column, the server.
const RIGHT_LACKING: [u16; 4] = [1044, 1142, 1143, 1227];

/// Returns the remedy for an error.
pub fn remedy(error: &sqlx::Error) -> Remedy {
    answered(error).map_or(Infrastructure, |error| by_number(error.number(), error.code()))
}

fn by_number(number: u16, state: Option<&str>) -> Remedy {
    let known = BY_NUMBER.iter().find(|(known, ..)| *known == number);
    match (known, state) {
        (Some((_, remedy, _)), _) => *remedy,
        // Class 22 is "data exception" by the standard. Numbers come and go, classes stay.
        (None, Some(state)) if state.starts_with("22") => Data,
        (None, _) => Infrastructure,
    }
}

/// Returns the error that the server has answered, if it has.
fn answered(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Returns the number of an error that the server has answered.
pub fn number(error: &sqlx::Error) -> Option<u16> {
    answered(error).map(MySqlDatabaseError::number)
}

/// Returns whether the server accepts no writes at all.
pub fn refuses_writes(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| WRITES_REFUSED.contains(&number))
}

/// Returns whether the server takes no write of these rows now, and may take others: a row is locked,
/// or the write is too large or too slow.
pub fn may_take_others(error: &sqlx::Error) -> bool {
    remedy(error) == Infrastructure && number(error).is_some_and(concerns_some_rows)
}

fn concerns_some_rows(number: u16) -> bool {
    !WRITES_REFUSED.contains(&number)
        && !CONNECTION_ENDED.contains(&number)
        && !CONNECTION_REFUSED.contains(&number)
}

/// Returns whether the account lacks a right that the statement needs.
pub fn lacks_right(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| RIGHT_LACKING.contains(&number))
}

/// Returns number and SQLSTATE of an error, such as `1264/22003`, for headers and logs.
pub fn code(error: &sqlx::Error) -> Option<String> {
    let error = answered(error)?;
    Some(format!("{}/{}", error.number(), error.code().unwrap_or("HY000")))
}

/// The words before a quoted part of a statement, and those that may follow: a value, a key, an
/// expression (1690), the statement itself (1064).
const QUOTING: &[(&str, &str)] = &[
    ("value: '", "' for "),
    ("Duplicate entry '", "' for key "),
    ("out of range in '", "' at row "),
    ("near '", "' at line "),
];

/// Returns the server's message without the values that it quotes: they are a patient's.
pub fn message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => without_values(error.message()),
        None => error.to_string(),
    }
}

fn without_values(text: &str) -> String {
    let quoting = QUOTING.iter().filter_map(|(before, behind)| {
        let start = text.find(before)? + before.len() - 1;
        Some((start, *behind))
    });
    let Some((start, behind)) = quoting.min() else { return text.to_owned() };
    let (before, quoted) = text.split_at(start);
    // Behind the value, messages name the column: `… for column 'x' at row 1`. The value may hold
    // the words, too. The last are the server's.
    let behind = quoted.rfind(behind).map_or("", |end| &quoted[end + 1..]);
    format!("{before}(not shown){behind}")
}

/// Returns the row that the server names as faulty, counted from 1 within its statement. Most data
/// errors name a row.
pub fn row(error: &sqlx::Error) -> Option<usize> {
    row_of(error.as_database_error()?.message())
}

fn row_of(message: &str) -> Option<usize> {
    message.rsplit_once(" at row ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_at_fault_is_read_from_the_message() {
        let named = "Out of range value for column 'heart_rate' at row 17";
        assert_eq!(row_of(named), Some(17));
        assert_eq!(row_of("CONSTRAINT `x` failed for `y`.`z`"), None);
        assert_eq!(row_of("Incorrect value: 'at row x' for column 'y'"), None);
    }

    #[test]
    fn a_message_keeps_the_column_and_shows_no_value() {
        for (text, shown) in [
            ("Out of range value for column 'heart_rate' at row 1", None),
            ("Table 'ljwx.t_alert_info' doesn't exist", None),
            (
                "Incorrect integer value: '84 SECRET' for column 'step' at row 1",
                Some("Incorrect integer value: (not shown) for column 'step' at row 1"),
            ),
            (
                "Incorrect integer value: 'x' for SECRET' for column 'step' at row 1",
                Some("Incorrect integer value: (not shown) for column 'step' at row 1"),
            ),
            (
                "Truncated incorrect DOUBLE value: 'SECRET'",
                Some("Truncated incorrect DOUBLE value: (not shown)"),
            ),
            (
                "Duplicate entry 'SECRET-1' for key 'PRIMARY'",
                Some("Duplicate entry (not shown) for key 'PRIMARY'"),
            ),
            (
                "BIGINT value is out of range in '(84 + 9223372036854775807)'",
                Some("BIGINT value is out of range in (not shown)"),
            ),
            (
                "You have an error in your SQL syntax; check the manual that corresponds to your \
                 server version for the right syntax to use near '84,'SECRET' at line 7' at line 1",
                Some(
                    "You have an error in your SQL syntax; check the manual that corresponds to \
                     your server version for the right syntax to use near (not shown) at line 1",
                ),
            ),
        ] {
            assert_eq!(without_values(text), shown.unwrap_or(text));
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_each_number_once() {
        assert!(BY_NUMBER.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_server_that_refuses_writes_is_waited_for() {
        for number in WRITES_REFUSED {
            assert!(BY_NUMBER.iter().any(|(known, ..)| *known == number), "{number}");
            assert_eq!(by_number(number, None), Infrastructure, "{number}");
        }
    }

    #[test]
    fn a_lock_concerns_some_rows_and_an_outage_all() {
        for number in [1153, 1205, 1213, 3024] {
            assert!(concerns_some_rows(number), "{number}");
        }
        let all = WRITES_REFUSED.into_iter().chain(CONNECTION_ENDED).chain(CONNECTION_REFUSED);
        for number in all {
            assert!(!concerns_some_rows(number), "{number}");
            assert_eq!(by_number(number, None), Infrastructure, "{number}");
        }
        assert!(!may_take_others(&sqlx::Error::WorkerCrashed), "no answer concerns all");
    }

    #[test]
    fn what_is_not_known_to_be_a_value_s_fault_is_held() {
        assert_eq!(by_number(9999, Some("HY000")), Infrastructure);
        assert_eq!(by_number(9999, Some("22999")), Data);
        assert_eq!(by_number(1146, Some("42S02")), Schema);
        assert_eq!(remedy(&sqlx::Error::WorkerCrashed), Infrastructure);
    }
}
