//! The addresses of users: the alerter's own table, through a bounded cache with a short lifetime.
//!
//! An address that its platform rejects for good is disabled for [`DISABLED_HOURS`], or until it is
//! added again. A default address, which is no row of the table, then becomes a row of
//! [`DEFAULT_USER`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ljwx_ledger::mysql::sql::push_in;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use moka::future::Cache;
use sqlx::{MySql, QueryBuilder};
use tracing::warn;

use super::choice::{Addresses, KnownAddress};
use crate::notify::address::{self, Address, DEFAULT_USER};
use crate::rules::Channel;

/// Lifetime of a cached answer.
const ADDRESSES_TTL: Duration = Duration::from_secs(10);

/// Most users whose addresses are cached.
const USERS_MAX: u64 = 100_000;

/// Most users of one query.
const QUERY_USERS_MAX: usize = 1_000;

/// Time for which an address that the platform refused gets nothing, in hours.
const DISABLED_HOURS: u32 = 24;

/// The addresses of all tenants' users.
pub struct AddressBook {
    pool: MySqlPool,
    known: Cache<(i64, i64), Arc<[KnownAddress]>>,
}

impl AddressBook {
    pub(super) fn new(pool: MySqlPool) -> Self {
        let known = Cache::builder().max_capacity(USERS_MAX).time_to_live(ADDRESSES_TTL).build();
        Self { pool, known }
    }

    /// Returns the addresses of a tenant's users, and whether they are disabled. Users that are not
    /// cached are read together.
    pub(super) async fn of(
        &self,
        customer_id: i64,
        users: impl IntoIterator<Item = i64>,
    ) -> sqlx::Result<Addresses> {
        let mut found = Addresses::new();
        let mut asked = Vec::new();
        for user_id in users {
            match self.known.get(&(customer_id, user_id)).await {
                Some(addresses) => found.extend([(user_id, addresses)]),
                None => asked.push(user_id),
            }
        }
        for asked in asked.chunks(QUERY_USERS_MAX) {
            let mut loaded = self.load(customer_id, asked).await?;
            for user_id in asked {
                let addresses: Arc<[_]> = loaded.remove(user_id).unwrap_or_default().into();
                self.known.insert((customer_id, *user_id), Arc::clone(&addresses)).await;
                found.insert(*user_id, addresses);
            }
        }
        Ok(found)
    }

    async fn load(
        &self,
        customer_id: i64,
        users: &[i64],
    ) -> sqlx::Result<HashMap<i64, Vec<KnownAddress>>> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "SELECT user_id, kind, address, \
             CAST(COALESCE(disabled_at > NOW() - INTERVAL {DISABLED_HOURS} HOUR, 0) AS SIGNED) \
             FROM t_alert_recipient_address WHERE customer_id = "
        ));
        query.push_bind(customer_id).push(" AND user_id");
        push_in(&mut query, users);
        query.push(" ORDER BY user_id, kind, address");
        let rows: Vec<(i64, String, String, bool)> =
            query.build_query_as().fetch_all(&self.pool).await?;
        let mut loaded: HashMap<i64, Vec<KnownAddress>> = HashMap::new();
        for (user_id, kind, name, is_disabled) in rows {
            match usable(&kind, name) {
                Ok(address) => {
                    let known = KnownAddress { address, is_disabled };
                    loaded.entry(user_id).or_default().push(known);
                }
                // Skip: the address was written by hand and may name many people.
                Err(problem) => {
                    warn!(
                        customer.id = customer_id,
                        user.id = user_id,
                        kind,
                        reason = problem,
                        "recipient address skipped"
                    );
                }
            }
        }
        Ok(loaded)
    }

    /// Returns the time at which a disabled address of a tenant is in use again. `None`: the address
    /// is not disabled.
    pub async fn disabled_until(
        &self,
        customer_id: i64,
        address: &Address,
    ) -> sqlx::Result<Option<String>> {
        let query = format!(
            "SELECT CAST(MAX(disabled_at) + INTERVAL {DISABLED_HOURS} HOUR AS CHAR) \
             FROM t_alert_recipient_address WHERE customer_id = ? AND kind = ? AND address = ? \
             AND disabled_at > NOW() - INTERVAL {DISABLED_HOURS} HOUR"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(customer_id)
            .bind(address.channel.kind())
            .bind(&address.name)
            .fetch_one(&self.pool)
            .await
    }

    /// Enables the addresses of these tenants on a channel that were disabled within the last
    /// `within`.
    pub async fn enable(
        &self,
        customers: &BTreeSet<i64>,
        channel: Channel,
        within: Duration,
    ) -> sqlx::Result<()> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "UPDATE t_alert_recipient_address SET disabled_at = NULL, disabled_errcode = NULL \
             WHERE kind = ",
        );
        query.push_bind(channel.kind());
        query.push(format!(" AND disabled_at >= NOW() - INTERVAL {} SECOND", within.as_secs()));
        query.push(" AND customer_id");
        push_in(&mut query, customers);
        query.build().execute(&self.pool).await?;
        self.forget();
        Ok(())
    }

    /// Forgets what is cached, because addresses were disabled or enabled.
    pub fn forget(&self) {
        self.known.invalidate_all();
    }
}

/// Disables an address of a tenant, whoever has it. `is_default`: it is the default address of the
/// tenant's account.
pub async fn disable(
    connection: &mut MySqlConnection,
    customer_id: i64,
    address: &Address,
    is_default: bool,
    errcode: Option<i64>,
) -> sqlx::Result<()> {
    if is_default {
        sqlx::query(
            "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
             VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE kind = kind",
        )
        .bind(customer_id)
        .bind(DEFAULT_USER)
        .bind(address.channel.kind())
        .bind(&address.name)
        .execute(&mut *connection)
        .await?;
    }
    // A day counts from the first refusal: later ones are of messages that waited.
    let query = format!(
        "UPDATE t_alert_recipient_address SET disabled_at = NOW(), disabled_errcode = ? \
         WHERE customer_id = ? AND kind = ? AND address = ? \
         AND (disabled_at IS NULL OR disabled_at <= NOW() - INTERVAL {DISABLED_HOURS} HOUR)"
    );
    sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(errcode)
        .bind(customer_id)
        .bind(address.channel.kind())
        .bind(&address.name)
        .execute(connection)
        .await
        .map(drop)
}

fn usable(kind: &str, name: String) -> Result<Address, &'static str> {
    let channel = Channel::from_kind(kind).filter(|channel| *channel != Channel::Message);
    let channel = channel.ok_or("kind must be openid or wecom")?;
    address::check(channel, &name)?;
    Ok(Address { channel, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_one_person_becomes_an_address() {
        for (kind, name, address) in [
            ("openid", "o1", Some("openid:o1")),
            ("official", "o1", None),
            ("wecom", "nurse", Some("wecom:nurse")),
            ("wecom", "@all", None),
            ("wecom", "a|b", None),
            ("message", "7", None),
            ("fax", "1", None),
        ] {
            let usable = usable(kind, name.to_owned()).ok().map(|address| address.to_string());
            assert_eq!(usable.as_deref(), address, "{kind} {name}");
        }
    }
}
