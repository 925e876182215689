//! Names the tables with data of people, and which of their rows are meant. Pure.
//!
//! A test compares the tables with those of the migrations.

use ljwx_ledger::mysql::sql::literal;

use super::subject::{Scope, Subject};
use crate::mysql::main_table::MAIN_TABLE;

/// The states of rules. The journal goes along: its rows hold lines of many devices.
pub const STATES: &str = "t_alert_state";

/// The notifications.
pub const NOTIFICATIONS: &str = "t_alert_outbox";

/// The log of the alerts. It has no device.
pub const ALERT_LOG: &str = "t_alert_action_log";

/// The alerts.
pub const ALERTS: &str = "t_alert_info";

/// The messages on watches.
const MESSAGES: &str = "t_device_message";

/// The rows of a table that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePart {
    /// The table.
    pub table: &'static str,
    /// The condition of these rows, for a WHERE.
    pub condition: String,
}

impl Scope {
    /// Returns the parts of a device, in the order in which they are erased. The main table comes
    /// last: its rows name the devices of a user, also to the run that continues a stopped one.
    pub fn tables(&self) -> Vec<TablePart> {
        let (device, alerts) = (self.of_device(), self.named(&self.of_same_case()));
        let log = format!("alert_id IN (SELECT id FROM {ALERTS} WHERE {alerts})");
        let mut tables = vec![
            (STATES, self.states()),
            (NOTIFICATIONS, self.notifications(&alerts)),
            (ALERT_LOG, log),
            (ALERTS, alerts),
        ];
        if self.user_id.is_none() {
            tables.push((MESSAGES, self.of_same_case()));
            tables.push(("t_alert_silence", device.clone()));
        }
        for table in ["t_user_health_data_weekly", "t_user_health_data_daily", MAIN_TABLE] {
            tables.push((table, self.named(&device)));
        }
        tables.into_iter().map(|(table, condition)| TablePart { table, condition }).collect()
    }

    /// Returns the condition of the states of rules.
    pub fn states(&self) -> String {
        let device = self.of_device();
        match self.user_id {
            None => device,
            Some(user) => format!(
                "{device} AND (JSON_EXTRACT(state, '$.ids.user_id') = {user} \
                 OR JSON_EXTRACT(state, '$.worn_by') = {user})"
            ),
        }
    }

    /// Returns the condition of notifications. `user_id` is whose address a row has, not the wearer.
    fn notifications(&self, alerts: &str) -> String {
        let device = self.of_device();
        match self.user_id {
            None => device,
            Some(user) => format!(
                "{device} AND (JSON_EXTRACT(notice, '$.routing.user_id') = {user} \
                 OR episode_key IN (SELECT dedup_key FROM {ALERTS} WHERE {alerts}))"
            ),
        }
    }

    fn of_device(&self) -> String {
        format!("device_sn = {}", literal(self.device_sn.as_str()))
    }

    /// Returns the condition for the platform's tables, whose columns compare without regard to case.
    fn of_same_case(&self) -> String {
        format!("{} AND {}", self.of_device(), same_case("=", &literal(self.device_sn.as_str())))
    }

    fn named(&self, condition: &str) -> String {
        match self.user_id {
            None => condition.to_owned(),
            Some(user) => format!("{condition} AND user_id = {user}"),
        }
    }
}

impl Subject {
    /// Returns the parts that a user has beside the devices: addresses, and messages on watches that
    /// are for the user. Those of devices that are meant as a whole are no part of them.
    pub fn user_tables(&self) -> Vec<TablePart> {
        let Some(user) = self.user_id else { return Vec::new() };
        let mut messages = format!("user_id = {user}");
        for scope in self.scopes.iter().filter(|scope| scope.user_id.is_none()) {
            let device = literal(scope.device_sn.as_str());
            messages.push_str(&format!(" AND {}", same_case("<>", &device)));
        }
        vec![
            TablePart { table: MESSAGES, condition: messages },
            TablePart {
                table: "t_alert_recipient_address",
                condition: format!("user_id = {user}"),
            },
        ]
    }
}

fn same_case(comparison: &str, device: &str) -> String {
    format!("CAST(device_sn AS BINARY) {comparison} CAST({device} AS BINARY)")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use ljwx_reading::DeviceSn;

    use super::*;

    fn scope(user_id: Option<i64>) -> Scope {
        Scope { device_sn: DeviceSn::new("A'1").unwrap(), user_id }
    }

    fn condition(scope: &Scope, table: &str) -> Option<String> {
        scope.tables().into_iter().find(|part| part.table == table).map(|part| part.condition)
    }

    /// Returns the tables of the migrations with a column that names a device or a user.
    fn tables_of_people() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut tables = BTreeSet::new();
        for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "sql")) {
            let text = fs::read_to_string(file).unwrap();
            for table in text.split("CREATE TABLE IF NOT EXISTS ").skip(1) {
                let columns = table.split(") ENGINE").next().unwrap().lines().skip(1);
                let names: Vec<_> =
                    columns.filter_map(|line| line.split_whitespace().next()).collect();
                if names.contains(&"device_sn") || names.contains(&"user_id") {
                    tables.insert(table.split_whitespace().next().unwrap().to_owned());
                }
            }
        }
        tables
    }

    #[test]
    fn every_table_that_names_a_device_or_a_user_is_a_part() {
        let whole = Subject { scopes: vec![scope(None)], user_id: Some(5) };
        let parts = whole.scopes[0].tables().into_iter().chain(whole.user_tables());
        let parts: BTreeSet<_> = parts.map(|part| part.table.to_owned()).collect();
        let people = tables_of_people();
        assert!(people.len() > 8, "{people:?}");
        let forgotten: Vec<_> = people.difference(&parts).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
    }

    #[test]
    fn of_a_device_that_others_wore_only_what_names_the_user_is_meant() {
        let daily = "t_user_health_data_daily";
        assert_eq!(condition(&scope(None), daily).unwrap(), "device_sn = 'A''1'");
        let shared = scope(Some(5));
        assert_eq!(condition(&shared, daily).unwrap(), "device_sn = 'A''1' AND user_id = 5");
        for table in [STATES, NOTIFICATIONS, ALERT_LOG, ALERTS, MAIN_TABLE] {
            let condition = condition(&shared, table).unwrap();
            assert!(condition.contains("user_id = 5") || table == STATES, "{table}: {condition}");
            assert!(condition.contains(" = 5"), "{table}: {condition}");
        }
        for table in [MESSAGES, "t_alert_silence"] {
            assert_eq!(condition(&shared, table), None, "{table} names no wearer");
        }
    }

    #[test]
    fn the_main_table_is_the_last_part() {
        for user_id in [None, Some(5)] {
            assert_eq!(scope(user_id).tables().last().unwrap().table, MAIN_TABLE);
        }
    }

    #[test]
    fn a_message_belongs_to_its_device_or_to_its_reader() {
        let messages = |user_id, of_scope| {
            let subject = Subject { scopes: vec![scope(of_scope)], user_id };
            subject.user_tables().first().map(|part| part.condition.clone())
        };
        assert_eq!(messages(None, None), None);
        assert_eq!(messages(Some(5), Some(5)).unwrap(), "user_id = 5");
        assert_eq!(
            messages(Some(5), None).unwrap(),
            "user_id = 5 AND CAST(device_sn AS BINARY) <> CAST('A''1' AS BINARY)"
        );
    }
}
