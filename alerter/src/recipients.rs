//! Who is told about a tenant's alerts, and through which account.
//!
//! Reads the platform's accounts and our addresses, through bounded caches that forget quickly;
//! decides nothing about when or what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::reading::Ids;
use moka::future::Cache;
use secrecy::SecretString;
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlPool, Row};

use crate::wechat::Account;

/// How long an answer of MySQL is believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// Users whose addresses are kept in memory.
const USERS_MAX: u64 = 100_000;

/// The code of a table that is not there.
const NO_SUCH_TABLE: u16 = 1146;

/// Who can be told.
#[derive(Debug, Clone)]
pub enum Reach {
    /// These openids, through this account.
    Through(Arc<Account>, Arc<[String]>),
    /// Nobody, for this reason.
    Nobody(&'static str),
}

/// The accounts of all tenants.
#[derive(Debug, Default)]
struct Accounts {
    /// `None`: the tenant has switched its account off.
    tenants: HashMap<i64, Option<Arc<Account>>>,
}

/// Accounts and addresses.
pub struct Directory {
    pool: MySqlPool,
    /// The account of a single-tenant installation.
    single: Option<Arc<Account>>,
    accounts: Cache<(), Arc<Accounts>>,
    addresses: Cache<(i64, i64), Arc<[String]>>,
}

impl Directory {
    /// Asks `pool`; `single` serves an installation whose table names no account.
    pub fn new(pool: MySqlPool, single: Option<Account>) -> Self {
        Self {
            pool,
            single: single.map(Arc::new),
            accounts: Cache::builder().max_capacity(1).time_to_live(BELIEVED).build(),
            addresses: Cache::builder().max_capacity(USERS_MAX).time_to_live(BELIEVED).build(),
        }
    }

    /// Who is told about an alert of `ids`.
    pub async fn reach(&self, ids: Ids) -> Result<Reach, Arc<sqlx::Error>> {
        let customer_id = ids.customer_id.unwrap_or_default();
        let Some(account) = self.account(customer_id).await? else {
            return Ok(Reach::Nobody("no_account"));
        };
        // User 0 stands for everybody of the tenant who has no address of their own.
        for user_id in [ids.user_id.unwrap_or_default(), 0] {
            let addresses = self.addresses(customer_id, user_id).await?;
            if !addresses.is_empty() {
                return Ok(Reach::Through(account, addresses));
            }
        }
        Ok(match &account.default_address {
            Some(address) => {
                let addresses = Arc::from([address.clone()]);
                Reach::Through(account, addresses)
            }
            None => Reach::Nobody("no_recipient"),
        })
    }

    /// The account that tells about a tenant's alerts.
    pub async fn account(
        &self,
        customer_id: i64,
    ) -> Result<Option<Arc<Account>>, Arc<sqlx::Error>> {
        let accounts = self.accounts.try_get_with((), load_accounts(&self.pool)).await?;
        Ok(match accounts.tenants.get(&customer_id) {
            Some(account) => account.clone(),
            // One tenant's people must never read of another's patients: where tenants have
            // accounts of their own, the installation's serves nobody.
            None if accounts.tenants.is_empty() => self.single.clone(),
            None => None,
        })
    }

    async fn addresses(
        &self,
        customer_id: i64,
        user_id: i64,
    ) -> Result<Arc<[String]>, Arc<sqlx::Error>> {
        let load = async {
            let found: Result<Vec<String>, _> = sqlx::query_scalar(
                "SELECT address FROM t_alert_recipient_address WHERE customer_id = ? \
                 AND user_id = ? AND kind IN ('openid', 'official') AND refused_at IS NULL \
                 ORDER BY address",
            )
            .bind(customer_id)
            .bind(user_id)
            .fetch_all(&self.pool)
            .await;
            found.map(Arc::from)
        };
        self.addresses.try_get_with((customer_id, user_id), load).await
    }

    /// Notes that the platform will not deliver to this address any more.
    pub async fn refuse(
        &self,
        customer_id: i64,
        openid: &str,
        errcode: Option<i64>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE t_alert_recipient_address SET refused_at = NOW(), refused_errcode = ? \
             WHERE customer_id = ? AND kind IN ('openid', 'official') AND address = ?",
        )
        .bind(errcode)
        .bind(customer_id)
        .bind(openid)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

async fn load_accounts(pool: &MySqlPool) -> Result<Arc<Accounts>, sqlx::Error> {
    // As text, so that every variant of the platform's table reads alike.
    let rows =
        sqlx::raw_sql("SELECT * FROM t_wechat_alarm_config ORDER BY id").fetch_all(pool).await;
    let rows = match rows {
        Err(sqlx::Error::Database(error))
            if error
                .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                .is_some_and(|error| error.number() == NO_SUCH_TABLE) =>
        {
            Vec::new()
        }
        rows => rows?,
    };
    let mut accounts = Accounts::default();
    for row in &rows {
        let text = |column: &str| text(row, column);
        if text("type").as_deref() != Some("official") {
            continue;
        }
        let customer_id = text("customer_id").or_else(|| text("tenant_id"));
        let Some(customer_id) = customer_id.and_then(|id| id.parse().ok()) else { continue };
        let enabled = text("enabled").is_none_or(|enabled| enabled != "0");
        let account = || {
            Some(Arc::new(Account {
                customer_id: Some(customer_id),
                app_id: text("appid")?,
                app_secret: SecretString::from(text("appsecret")?),
                template_id: text("template_id")?,
                default_address: text("default_address"),
            }))
        };
        let account = enabled.then(account).flatten();
        let entry = accounts.tenants.entry(customer_id).or_insert(None);
        *entry = entry.take().or(account);
    }
    Ok(Arc::new(accounts))
}

fn text(row: &MySqlRow, column: &str) -> Option<String> {
    let text: Option<String> = row.try_get_unchecked(column).ok()?;
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
