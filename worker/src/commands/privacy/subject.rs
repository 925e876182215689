//! Finds whose data is meant: one device, or the devices of a user. Both commands select by it, so
//! neither forgets what the other knows.

use std::collections::BTreeSet;

use anyhow::ensure;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_reading::DeviceSn;
use sqlx::AssertSqlSafe;

use super::args::SubjectArgs;
use crate::mysql::main_table::MAIN_TABLE;
use crate::mysql::row_count;

/// Tables beside the main one whose rows name the user who wore the device.
const NAMING: [&str; 3] = ["t_user_health_data_daily", "t_user_health_data_weekly", "t_alert_info"];

/// The data of one device that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The device.
    pub device_sn: DeviceSn,
    /// Only what names this user; `None`: everything of the device.
    pub user_id: Option<i64>,
}

/// Whose data is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The devices.
    pub scopes: Vec<Scope>,
    /// The user; `None`: a device is meant, whoever wore it.
    pub user_id: Option<i64>,
}

impl Subject {
    /// Finds the devices. Fails while rows of expired months wait in tables of their own, where the
    /// rows of a device cannot be told from those that are counted already.
    pub async fn find(pool: &MySqlPool, config: &SubjectArgs) -> anyhow::Result<Self> {
        let expired = row_count::expired_tables(pool).await?;
        ensure!(
            expired.is_empty(),
            "the rows of an expired month are being counted and deleted: run it again afterwards"
        );
        let scopes = match (config.user, config.device.as_deref().and_then(DeviceSn::new)) {
            (Some(user_id), _) => scopes_of(pool, user_id).await?,
            (None, device_sn) => {
                device_sn.map(|device_sn| Scope { device_sn, user_id: None }).into_iter().collect()
            }
        };
        Ok(Self { scopes, user_id: config.user })
    }
}

/// Returns the scopes of a user. As for alerts, a row that names nobody belongs to the wearer that
/// other rows of the device name, unless there are several.
async fn scopes_of(pool: &MySqlPool, user_id: i64) -> Result<Vec<Scope>, sqlx::Error> {
    let mut scopes = Vec::new();
    for device_sn in devices_of(pool, user_id).await? {
        let is_shared = has_other_user(pool, &device_sn, user_id).await?;
        scopes.push(Scope { device_sn, user_id: is_shared.then_some(user_id) });
    }
    Ok(scopes)
}

/// Returns the devices whose rows or alerts name the user.
async fn devices_of(pool: &MySqlPool, user_id: i64) -> Result<BTreeSet<DeviceSn>, sqlx::Error> {
    // The index of the main table begins with the organisation.
    let orgs: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT DISTINCT org_id FROM t_user_health_data")
            .fetch_all(pool)
            .await?;
    let mut found: Vec<String> = Vec::new();
    for org_id in orgs {
        let devices: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT device_sn FROM t_user_health_data WHERE org_id <=> ? AND user_id = ?",
        )
        .bind(org_id)
        .bind(user_id)
        .fetch_all(pool)
        .await?;
        found.extend(devices);
    }
    for table in NAMING {
        let query = format!("SELECT device_sn FROM {table} WHERE user_id = ?");
        let devices: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(query)).bind(user_id).fetch_all(pool).await?;
        found.extend(devices);
    }
    Ok(found.iter().filter_map(|device| DeviceSn::new(device)).collect())
}

/// Returns whether rows or alerts of the device name another user.
async fn has_other_user(
    pool: &MySqlPool,
    device_sn: &DeviceSn,
    user_id: i64,
) -> Result<bool, sqlx::Error> {
    for table in [MAIN_TABLE].into_iter().chain(NAMING) {
        let query = format!(
            "SELECT CAST(user_id AS SIGNED) FROM {table} \
             WHERE device_sn = ? AND user_id NOT IN (0, ?) LIMIT 1"
        );
        let other: Option<i64> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(device_sn.as_str())
            .bind(user_id)
            .fetch_optional(pool)
            .await?;
        if other.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
