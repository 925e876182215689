//! Reads and deletes the hash of a device in Redis.

use std::collections::BTreeMap;

use anyhow::Context;
use fred::clients::Client;
use fred::interfaces::{HashesInterface, KeysInterface};

use super::args::SubjectArgs;
use super::subject::Scope;
use crate::redis::hash_key;

/// The field of a hash that names the user.
const USER_FIELD: &str = "userId";

/// The hashes of the devices, if the workers use Redis.
pub struct DeviceHashes(Option<Client>);

impl DeviceHashes {
    /// Connects to Redis.
    pub async fn connect(config: &SubjectArgs) -> anyhow::Result<Self> {
        let Some(args) = config.used_redis() else { return Ok(Self(None)) };
        Ok(Self(Some(args.connected().await?)))
    }

    /// Returns the fields of the device's hash, if it is meant. Empty: there is no such hash.
    pub async fn read(&self, scope: &Scope) -> anyhow::Result<BTreeMap<String, String>> {
        let Some(client) = &self.0 else { return Ok(BTreeMap::new()) };
        let fields: BTreeMap<String, String> = client
            .hgetall(hash_key(&scope.device_sn))
            .await
            .context("cannot read the hash of a device")?;
        let is_meant = scope.user_id.is_none_or(|user_id| {
            fields.get(USER_FIELD).is_some_and(|field| field.parse() == Ok(user_id))
        });
        Ok(if is_meant { fields } else { BTreeMap::new() })
    }

    /// Deletes the device's hash, if it is meant. The next reading of the device fills it from MySQL.
    pub async fn delete(&self, scope: &Scope) -> anyhow::Result<()> {
        let Some(client) = &self.0 else { return Ok(()) };
        if !self.read(scope).await?.is_empty() {
            let deleted: Result<i64, _> = client.del(hash_key(&scope.device_sn)).await;
            deleted.context("cannot delete the hash of a device")?;
        }
        Ok(())
    }
}
