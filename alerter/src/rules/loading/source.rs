//! The source of rules: the platform's table `t_alert_rules` in any of its variants, or a YAML file for
//! installations without this table.
//!
//! Reads and never writes. [`crate::rules::validation`] validates the rules. The file is a list of
//! rules, or a mapping with this list under `rules`. Fields have the names of the table's columns. A
//! file of another form is invalid as a whole. An invalid rule does not affect the other rules.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ljwx_ledger::mysql::MySqlPool;
use serde_json::{Map, Value};
use sqlx::mysql::MySqlRow;
use sqlx::{Column, Row};

use super::last_good::LastGoodStore;
use crate::rules::validation::fields::FIELDS;
use crate::rules::validation::together::check_together;
use crate::rules::validation::{self, CheckedRule};

/// Rules of one installation, at most. With more rules the load fails as a whole, and the active
/// rules stay.
const RULES_MAX: usize = 50_000;

/// The problem of a file that is YAML of another form.
const OTHER_FORM: &str = "the rules file must be a list of rules, or have that list under `rules`";

/// The source of rules.
#[derive(Debug, Clone)]
pub enum RuleSource {
    /// The platform's table.
    Table(MySqlPool),
    /// A file.
    File(PathBuf),
}

impl RuleSource {
    /// Reads and validates all rules.
    pub async fn load(&self) -> anyhow::Result<Vec<CheckedRule>> {
        match self {
            Self::Table(pool) => load(pool).await.context("cannot read t_alert_rules"),
            Self::File(path) => load_file(path),
        }
    }

    /// Returns the store for the last good versions of the rules from this source.
    pub fn store(&self, pool: MySqlPool) -> LastGoodStore {
        LastGoodStore::new(pool, if matches!(self, Self::Table(_)) { "table" } else { "file" })
    }
}

/// Reads and validates every row.
async fn load(pool: &MySqlPool) -> anyhow::Result<Vec<CheckedRule>> {
    // As text, every column of every variant (numbers, times, JSON) has one form.
    let query = format!("SELECT * FROM t_alert_rules LIMIT {}", RULES_MAX + 1);
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_all(pool).await?;
    ensure!(rows.len() <= RULES_MAX, "t_alert_rules has more than {RULES_MAX} rows");
    let mut checks = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        checks.push(validation::check(&fields(row)?, at + 1));
    }
    check_together(&mut checks);
    Ok(checks)
}

/// Returns a row as fields. A column that the variant does not have is absent.
fn fields(row: &MySqlRow) -> sqlx::Result<Map<String, Value>> {
    let mut fields = Map::new();
    for column in row.columns() {
        let text: Option<String> = row.try_get_unchecked(column.ordinal())?;
        fields.insert(column.name().to_owned(), text.map_or(Value::Null, Value::String));
    }
    Ok(fields)
}

/// Reads and validates the rules of a file.
pub fn load_file(path: &Path) -> anyhow::Result<Vec<CheckedRule>> {
    parse_file(&std::fs::read_to_string(path).context("cannot read the rules file")?)
}

/// Validates the rules of a file's text.
pub fn parse_file(text: &str) -> anyhow::Result<Vec<CheckedRule>> {
    let document: Value = serde_norway::from_str(text).context("the rules file is not YAML")?;
    let list = match document {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        Value::Object(mut fields) if fields.len() == 1 => match fields.remove("rules") {
            Some(Value::Array(list)) => list,
            _ => bail!(OTHER_FORM),
        },
        _ => bail!(OTHER_FORM),
    };
    let (mut checks, mut taken) = (Vec::with_capacity(list.len()), HashSet::new());
    for (at, entry) in list.iter().enumerate() {
        let fields = entry.as_object().context(OTHER_FORM)?;
        let mut check = validation::check(fields, at + 1);
        // A misspelt field would silently be missing. A table may have other columns; a file has no
        // reason to.
        let unknown = fields.keys().map(String::as_str).filter(|name| !FIELDS.contains(name));
        let unknown: Vec<&str> = unknown.collect();
        if !unknown.is_empty() {
            check.add_error("fields", format!("no such field: {}", unknown.join(", ")));
        }
        if check.id.is_some_and(|id| !taken.insert(id)) {
            check.add_error("id", "another rule above has this number".to_owned());
        }
        checks.push(check);
    }
    check_together(&mut checks);
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::validation::RuleStatus;

    const RULE: &str = "id: 1\n  physical_sign: heart_rate\n  threshold_max: 100\n";

    fn problems(text: &str) -> Vec<String> {
        let problems = |CheckedRule { name, checked, .. }: CheckedRule| match checked {
            RuleStatus::Invalid(problems) => {
                problems.iter().map(|one| format!("{name}: {one}")).collect()
            }
            _ => Vec::new(),
        };
        parse_file(text).unwrap().into_iter().flat_map(problems).collect()
    }

    #[test]
    fn a_list_of_rules_is_read_bare_or_named() {
        for text in [format!("- {RULE}"), format!("rules:\n- {RULE}")] {
            let checks = parse_file(&text).unwrap();
            assert!(
                matches!(&checks[..], [CheckedRule { checked: RuleStatus::Valid(_), .. }]),
                "{text}"
            );
        }
        assert!(parse_file("").unwrap().is_empty());
    }

    #[test]
    fn the_documented_example_is_accepted_as_it_stands() {
        let checks = parse_file(include_str!("../../../../deploy/rules.example.yaml")).unwrap();
        assert_eq!(checks.len(), 5);
        for check in checks {
            assert!(matches!(check.checked, RuleStatus::Valid(_)), "{:?}", check.checked);
            assert!(check.warnings.is_empty(), "rule {:?}: {:?}", check.id, check.warnings);
        }
    }

    #[test]
    fn another_form_is_refused_whole() {
        for text in ["rules: 3", "- 1", "a: []", "just text", "- [", "rules: []\nmore: 1"] {
            assert!(parse_file(text).is_err(), "{text}");
        }
    }

    #[test]
    fn misspelt_fields_and_shared_numbers_cost_the_rule_alone() {
        assert_eq!(
            problems(&format!("- {RULE}  treshold_min: 3\n")),
            ["rule 1: fields: no such field: treshold_min"]
        );
        let found = problems(&format!("- {RULE}- {RULE}"));
        assert_eq!(found, ["rule 1: id: another rule above has this number"]);
    }
}
