//! Whose device it is, where its readings do not say: the platform's tables know the user it is bound
//! to, that user's organisation and the tenant above it.
//!
//! One question for all unknown devices of a batch, answered from a bounded memory most of the time.
//! A reading whose device nobody knows is kept all the same; it has no tenant then.

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

/// Devices that are remembered, known ones and unknown ones each.
const DEVICES_MAX: u64 = 200_000;

/// How long a binding is believed.
const BOUND_FOR: Duration = Duration::from_secs(600);

/// How long a device stays unknown: within this time a new binding is noticed.
const UNBOUND_FOR: Duration = Duration::from_secs(30);

/// Devices of one question.
const DEVICES_ASKED_MAX: usize = 500;

/// Users, organisations and tenants by device; clones share one memory.
#[derive(Clone)]
pub struct Bindings {
    pool: MySqlPool,
    bound: Cache<DeviceSn, Ids>,
    unbound: Cache<DeviceSn, ()>,
    /// Whether it was said that the platform's tables are not there.
    said: Arc<AtomicBool>,
}

impl Bindings {
    /// Asks the platform's tables in the database of `pool`.
    pub fn new(pool: MySqlPool) -> Self {
        let bound = Cache::builder().max_capacity(DEVICES_MAX).time_to_live(BOUND_FOR).build();
        let unbound = Cache::builder().max_capacity(DEVICES_MAX).time_to_live(UNBOUND_FOR).build();
        Self { pool, bound, unbound, said: Arc::default() }
    }

    /// Shows how full the memory is.
    pub fn show(&self) {
        metrics::cache("bindings_bound", self.bound.entry_count(), DEVICES_MAX);
        metrics::cache("bindings_unbound", self.unbound.entry_count(), DEVICES_MAX);
    }

    /// What the wanted devices are bound to; those nobody knows are not in it. Fails only where the
    /// database cannot be asked, and then nothing can be written either.
    pub async fn known(
        &self,
        wanted: BTreeSet<DeviceSn>,
    ) -> Result<HashMap<DeviceSn, Ids>, sqlx::Error> {
        let mut known = HashMap::with_capacity(wanted.len());
        let mut asked = Vec::new();
        for device_sn in wanted {
            if let Some(ids) = self.bound.get(&device_sn).await {
                known.insert(device_sn, ids);
            } else if !self.unbound.contains_key(&device_sn) {
                asked.push(device_sn);
            }
        }
        for devices in asked.chunks(DEVICES_ASKED_MAX) {
            let found = self.ask(devices).await?;
            for device_sn in devices {
                match found.get(device_sn) {
                    Some(ids) => {
                        self.bound.insert(device_sn.clone(), *ids).await;
                        known.insert(device_sn.clone(), *ids);
                    }
                    None => self.unbound.insert(device_sn.clone(), ()).await,
                }
            }
        }
        Ok(known)
    }

    /// Tables that are missing, or are not the platform's, cost no reading.
    async fn ask(&self, devices: &[DeviceSn]) -> Result<HashMap<DeviceSn, Ids>, sqlx::Error> {
        match super::platform_tables::bindings(&self.pool, devices).await {
            Err(error) if errors::remedy(&error) == Remedy::Schema => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    let error = errors::message(&error);
                    warn!(
                        error,
                        "the platform's tables are not there: readings without ids have no tenant"
                    );
                }
                Ok(HashMap::new())
            }
            found => found,
        }
    }
}
