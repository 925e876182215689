//! The accounts of a world on its database server: those of `deploy/grants.sql` under names of
//! their own. So every test also shows that the rights of production suffice.

use ljwx_ledger::mysql::errors;
use uuid::Uuid;

use crate::clients::mysql::Database;

/// The accounts and their rights, as operators run them.
const GRANTS: &str = include_str!("../../../deploy/grants.sql");

/// The error of a GRANT on a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// An account of `deploy/grants.sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The account of `worker migrate`.
    Migrate,
    /// The account of the months, in `worker run`.
    Maintenance,
    /// The account of everything else in `worker run`.
    Worker,
    /// The account of `alerter run`.
    Alerter,
    /// The account of `worker adopt`.
    Adopt,
    /// The account of all other commands.
    Operator,
    /// The account of `worker erase`.
    Erase,
}

impl Account {
    const ALL: [Self; 7] = [
        Self::Migrate,
        Self::Maintenance,
        Self::Worker,
        Self::Alerter,
        Self::Adopt,
        Self::Operator,
        Self::Erase,
    ];

    /// Returns the account of a program with these arguments.
    pub(super) fn of(program: &str, arguments: &[&str]) -> Self {
        match (program, arguments.first().copied()) {
            ("alerter", Some("run")) => Self::Alerter,
            (_, Some("run")) => Self::Worker,
            (_, Some("migrate")) => Self::Migrate,
            (_, Some("erase")) => Self::Erase,
            (_, Some("adopt")) => Self::Adopt,
            _ => Self::Operator,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Maintenance => "maintenance",
            Self::Worker => "worker",
            Self::Alerter => "alerter",
            Self::Adopt => "adopt",
            Self::Operator => "operator",
            Self::Erase => "erase",
        }
    }
}

/// The accounts of one world.
#[derive(Debug)]
pub struct Accounts {
    /// The start of their names, in the place of `ljwx`.
    prefix: String,
    password: String,
    /// Server, database and parameters of the URLs.
    address: String,
}

impl Accounts {
    /// Creates the accounts. They have their rights on the whole database, and get those on tables
    /// by [`Accounts::grant`].
    pub(super) async fn create(database: &Database, prefix: &str) -> anyhow::Result<Self> {
        let accounts = Self {
            prefix: prefix.to_owned(),
            password: Uuid::new_v4().simple().to_string(),
            address: database.address()?.to_owned(),
        };
        accounts.grant(database).await?;
        Ok(accounts)
    }

    /// Runs `deploy/grants.sql` as operators do: tables that do not exist are skipped.
    pub async fn grant(&self, database: &Database) -> anyhow::Result<()> {
        for statement in self.statements(database.name()) {
            match database.execute(&statement).await {
                Err(error) if is_missing_table(&error) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Drops the accounts.
    pub(super) async fn remove(&self, database: &Database) -> anyhow::Result<()> {
        let users = Account::ALL.map(|account| format!("'{}'@'%'", self.user(account)));
        database.execute(&format!("DROP USER IF EXISTS {}", users.join(", "))).await
    }

    /// Returns the URL to connect as an account.
    pub fn url(&self, account: Account) -> String {
        format!("mysql://{}:{}@{}", self.user(account), self.password, self.address)
    }

    fn user(&self, account: Account) -> String {
        format!("{}_{}", self.prefix, account.name())
    }

    /// Returns the statements of `deploy/grants.sql` for this world.
    fn statements(&self, database: &str) -> Vec<String> {
        let lines: Vec<&str> = GRANTS.lines().filter(|line| !line.starts_with("--")).collect();
        let sql = lines
            .join("\n")
            .replace("'ljwx_", &format!("'{}_", self.prefix))
            .replace(" ON ljwx.", &format!(" ON `{database}`."))
            .replace(" ON ljwx_platform.", &format!(" ON `{}`.", platform(database)))
            .replace("'change-me'", &format!("'{}'", self.password));
        let statements = sql.split(';').map(str::trim).filter(|statement| !statement.is_empty());
        statements.map(str::to_owned).collect()
    }
}

/// Returns the name of the database of an earlier server, beside a world's own.
pub fn platform(database: &str) -> String {
    format!("{database}_platform")
}

fn is_missing_table(error: &anyhow::Error) -> bool {
    error.downcast_ref::<sqlx::Error>().and_then(errors::number) == Some(NO_SUCH_TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements() -> Vec<String> {
        let (prefix, password, address) = ("0a".into(), "secret".into(), "h:1/d".into());
        Accounts { prefix, password, address }.statements("d")
    }

    #[test]
    fn a_running_service_changes_rows_of_single_tables_and_nothing_else() {
        let mut grants = 0;
        for statement in statements() {
            let Some((rights, rest)) = statement
                .strip_prefix("GRANT ")
                .and_then(|grant| grant.split_once(" ON `d`."))
                .filter(|(_, rest)| rest.contains("_worker'") || rest.contains("_alerter'"))
            else {
                continue;
            };
            grants += 1;
            assert!(!rest.starts_with('*'), "{statement}");
            let on_rows = ["SELECT", "INSERT", "UPDATE", "DELETE"];
            assert!(rights.split(", ").all(|right| on_rows.contains(&right)), "{statement}");
        }
        assert!(grants > 20, "{grants} grants");
    }

    #[test]
    fn every_name_and_password_is_the_world_s_own() {
        for statement in statements() {
            for shared in ["ljwx", "change-me"] {
                assert!(!statement.contains(shared), "{statement}");
            }
        }
    }
}
