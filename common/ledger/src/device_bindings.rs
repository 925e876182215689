//! Finds user, organisation and tenant of devices whose readings carry no ids, in the platform's
//! tables.
//!
//! Queries all unknown devices of a batch at once, and mostly answers from a bounded cache. A
//! reading of an unbound device is stored nevertheless, without a tenant.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::future::Cache;
use tracing::warn;

use crate::metrics;
use crate::mysql::MySqlPool;
use crate::mysql::errors::{self, Remedy};
use ljwx_reading::{DeviceSn, Ids};

/// Most cached devices, with and without a complete binding each.
const DEVICES_MAX: u64 = 200_000;

/// How long a complete binding is cached.
const BOUND_TTL: Duration = Duration::from_secs(600);

/// How long a missing binding is cached, and one without tenant or organisation. What comes is
/// noticed within this time.
const UNBOUND_TTL: Duration = Duration::from_secs(30);

/// Most devices of one query.
const DEVICES_PER_QUERY: usize = 500;

/// Users, organisations and tenants by device. Clones share one cache.
#[derive(Clone)]
pub struct DeviceBindings {
    pool: MySqlPool,
    bound: Cache<DeviceSn, Ids>,
    unbound: Cache<DeviceSn, Option<Ids>>,
    /// Whether the missing tables have been logged.
    logged: Arc<AtomicBool>,
}

impl DeviceBindings {
    /// Creates an empty cache in front of the platform's tables in the database of `pool`.
    pub fn new(pool: MySqlPool) -> Self {
        let bound = Cache::builder().max_capacity(DEVICES_MAX).time_to_live(BOUND_TTL).build();
        let unbound = Cache::builder().max_capacity(DEVICES_MAX).time_to_live(UNBOUND_TTL).build();
        Self { pool, bound, unbound, logged: Arc::default() }
    }

    /// Exports how full the cache is.
    pub fn export(&self) {
        metrics::export_cache("bindings_known", self.bound.entry_count(), DEVICES_MAX);
        metrics::export_cache("bindings_unknown", self.unbound.entry_count(), DEVICES_MAX);
    }

    /// Forgets all bindings. After the group has moved partitions, another member may know newer ones.
    pub fn forget(&self) {
        self.bound.invalidate_all();
        self.unbound.invalidate_all();
    }

    /// Returns the bindings of the wanted devices. Unbound devices are left out. Errors only if
    /// MySQL is unreachable; the batch could not be written then either.
    pub async fn known(
        &self,
        wanted: BTreeSet<DeviceSn>,
    ) -> Result<HashMap<DeviceSn, Ids>, sqlx::Error> {
        let mut known = HashMap::with_capacity(wanted.len());
        let mut unknown = Vec::new();
        for device_sn in wanted {
            if let Some(ids) = self.bound.get(&device_sn).await {
                known.insert(device_sn, ids);
            } else if let Some(ids) = self.unbound.get(&device_sn).await {
                known.extend(ids.map(|ids| (device_sn, ids)));
            } else {
                unknown.push(device_sn);
            }
        }
        for devices in unknown.chunks(DEVICES_PER_QUERY) {
            let found = self.query(devices).await?;
            for device_sn in devices {
                let ids = found.get(device_sn).copied();
                match ids.filter(Ids::is_complete) {
                    Some(ids) => self.bound.insert(device_sn.clone(), ids).await,
                    None => self.unbound.insert(device_sn.clone(), ids).await,
                }
                known.extend(ids.map(|ids| (device_sn.clone(), ids)));
            }
        }
        Ok(known)
    }

    /// Returns those of the devices that a user wears now, by the tables and not by the cache. `None`
    /// if the tables are missing, or name no device at all.
    pub async fn worn(
        &self,
        devices: &[DeviceSn],
    ) -> Result<Option<BTreeSet<DeviceSn>>, sqlx::Error> {
        let mut worn = BTreeSet::new();
        for devices in devices.chunks(DEVICES_PER_QUERY) {
            let found = match super::platform_tables::worn(&self.pool, devices).await {
                Err(error) if errors::remedy(&error) == Remedy::Schema => None,
                found => found?,
            };
            let Some(found) = found else { return Ok(None) };
            worn.extend(found);
        }
        Ok(Some(worn))
    }

    /// Queries the tables. If they are missing or are not the platform's, no device is bound, and
    /// no reading is lost.
    async fn query(&self, devices: &[DeviceSn]) -> Result<HashMap<DeviceSn, Ids>, sqlx::Error> {
        match super::platform_tables::bindings(&self.pool, devices).await {
            Err(error) if errors::remedy(&error) == Remedy::Schema => {
                if !self.logged.swap(true, Ordering::Relaxed) {
                    let error = errors::message(&error);
                    warn!(error, "platform tables are missing, readings without ids get no tenant");
                }
                Ok(HashMap::new())
            }
            found => found,
        }
    }
}
