//! What an error of the database calls for, in one table.
//!
//! Named by the remedy; what is then done belongs to `flush`.

use sqlx::mysql::MySqlDatabaseError;

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The server cannot take anything now: hold the batch and try again.
    Infrastructure,
    /// There is no room for one more: wait, and never make it worse.
    Saturated,
    /// Something that the statement names is missing: hold, and say what.
    Schema,
    /// A value is refused: find it, dead-letter it, write the rest.
    Data,
}

impl Remedy {
    /// The stable word: metric label and log field.
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

/// Errors by number, of MySQL 8 and 9 and of MariaDB; numbers above 1900 differ between them and
/// are marked. What is not here is held: only what is known to be a value's fault may leave the
/// table's way.
///
/// Of a full disk both servers say 1114 to an INSERT; 3 and 1021 are MariaDB's to statements that need
/// a temporary file. A server in `read_only` says 1290. Where InnoDB is so, in `innodb_read_only` or
/// `innodb_force_recovery`, an INSERT is told 1036, by MySQL in the former 1015; 1836 is MySQL's to
/// changes of tables, and to INSERTs only in its relatives after a failover, as Aurora.
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
    (1364, Schema, "a column without default"),
    (1366, Data, "incorrect value for the column"),
    (1406, Data, "too long"),
    (1411, Data, "incorrect value for a function"),
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

/// What to do about an error.
pub fn remedy(error: &sqlx::Error) -> Remedy {
    match error {
        sqlx::Error::PoolTimedOut => Saturated,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => by_number(error.number(), error.code()),
            None => Infrastructure,
        },
        _ => Infrastructure,
    }
}

fn by_number(number: u16, state: Option<&str>) -> Remedy {
    let known = BY_NUMBER.iter().find(|(known, ..)| *known == number);
    match (known, state) {
        (Some((_, remedy, _)), _) => *remedy,
        // Class 22 is "data exception" by the standard; numbers come and go, classes stay.
        (None, Some(state)) if state.starts_with("22") => Data,
        (None, _) => Infrastructure,
    }
}

/// Number of an error that the server has answered.
pub fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// Number and SQLSTATE of an error as `1264/22003`, for headers and logs.
pub fn code(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(format!("{}/{}", error.number(), error.code().unwrap_or("HY000")))
}

/// The server's message without the values it quotes: they are a patient's.
pub fn message(error: &sqlx::Error) -> String {
    let text = match error.as_database_error() {
        Some(error) => error.message(),
        None => return error.to_string(),
    };
    let Some(at) = text.find("value: '") else { return text.to_owned() };
    let (before, quoted) = text.split_at(at + "value: ".len());
    // Messages go on with the column: `… for column 'x' at row 1`.
    let after = quoted.find("' for ").map_or("", |end| &quoted[end + 1..]);
    format!("{before}(not shown){after}")
}

/// Which row of its statement, from 1, the server says is at fault; most refusals name one.
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
    fn the_table_is_sorted_and_names_each_number_once() {
        assert!(BY_NUMBER.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_is_not_known_to_be_a_value_s_fault_is_held() {
        assert_eq!(by_number(9999, Some("HY000")), Infrastructure);
        assert_eq!(by_number(9999, Some("22999")), Data);
        assert_eq!(by_number(1146, Some("42S02")), Schema);
        assert_eq!(remedy(&sqlx::Error::PoolTimedOut), Saturated);
        assert_eq!(remedy(&sqlx::Error::WorkerCrashed), Infrastructure);
    }
}
