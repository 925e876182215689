//! The statements of `alerter recipients`.

use ljwx_ledger::mysql::MySqlPool;
use serde::Serialize;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::args::{AddressArgs, AddressListArgs};
use crate::rules::channel::Channel;

/// Most addresses that are listed.
pub(super) const LISTED_MAX: usize = 10_000;

/// An address in the list.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
pub(super) struct AddressRow {
    pub(super) customer_id: i64,
    pub(super) user_id: i64,
    pub(super) kind: String,
    pub(super) address: String,
    pub(super) added_at: Option<String>,
    /// Time since which the address is disabled.
    pub(super) disabled_at: Option<String>,
    /// The platform's reason.
    pub(super) disabled_errcode: Option<i64>,
}

fn selection(customer_id: Option<i64>, user_id: Option<i64>) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(
        "SELECT customer_id, user_id, kind, address, CAST(create_time AS CHAR) AS added_at, \
         CAST(disabled_at AS CHAR) AS disabled_at, \
         CAST(disabled_errcode AS SIGNED) AS disabled_errcode \
         FROM t_alert_recipient_address WHERE 1 = 1",
    );
    for (column, id) in [("customer_id", customer_id), ("user_id", user_id)] {
        if let Some(id) = id {
            query.push(format!(" AND {column} = ")).push_bind(id);
        }
    }
    query
}

fn of_kind(query: &mut QueryBuilder<MySql>, kind: Channel) {
    query.push(" AND kind = ").push_bind(kind.kind());
}

/// Adds an address, or enables it again. Returns the result in words.
pub(super) async fn add(pool: &MySqlPool, entry: &AddressArgs) -> Result<String, sqlx::Error> {
    let mut query = selection(Some(entry.customer_id), Some(entry.user_id));
    of_kind(&mut query, entry.kind);
    query.push(" AND address = ").push_bind(&entry.address);
    let there: Vec<AddressRow> = query.build_query_as().fetch_all(pool).await?;
    sqlx::query(
        "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
         VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE disabled_at = NULL, disabled_errcode = NULL",
    )
    .bind(entry.customer_id)
    .bind(entry.user_id)
    .bind(entry.kind.kind())
    .bind(&entry.address)
    .execute(pool)
    .await?;
    Ok(match there.first() {
        None => format!("added {}", entry.name()),
        Some(AddressRow { disabled_at: None, .. }) => format!("there was already {}", entry.name()),
        Some(AddressRow { disabled_at: Some(since), disabled_errcode, .. }) => {
            let code = disabled_errcode.map_or_else(|| "?".into(), |code| code.to_string());
            format!("trying again {}, refused since {since} (errcode {code})", entry.name())
        }
    })
}

/// Removes an address. Returns false if the address did not exist.
pub(super) async fn remove(pool: &MySqlPool, entry: &AddressArgs) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM t_alert_recipient_address \
         WHERE customer_id = ? AND user_id = ? AND kind = ? AND address = ?",
    )
    .bind(entry.customer_id)
    .bind(entry.user_id)
    .bind(entry.kind.kind())
    .bind(&entry.address)
    .execute(pool)
    .await?;
    Ok(removed.rows_affected() > 0)
}

/// Returns the selected addresses, at most one more than [`LISTED_MAX`].
pub(super) async fn find(
    pool: &MySqlPool,
    list: &AddressListArgs,
) -> Result<Vec<AddressRow>, sqlx::Error> {
    let mut query = selection(list.customer_id, list.user_id);
    if let Some(kind) = list.kind {
        of_kind(&mut query, kind);
    }
    query.push(format!(" ORDER BY customer_id, user_id, kind, address LIMIT {}", LISTED_MAX + 1));
    query.build_query_as().fetch_all(pool).await
}
