//! The latest value of each device in Redis: one hash a device, changed only by what is newer, and
//! one message for each that changed.
//!
//! MySQL is the truth; this is written after its commit and may fail without holding anything up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::reading::{DeviceSn, wall_text};
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::Value;
use fred::types::scripts::Script;
use metrics::counter;

use crate::batch::Batch;
use crate::metrics::REDIS_STALE;
use crate::row::{Identity, Row};

/// Decides for each device in one call: newer replaces, equal merges, older changes nothing.
/// KEYS: hash and channel of each device. ARGV: per device its serial number and, in the order of
/// [`FIELDS`], every field ("" = absent), the timestamp first. Returns 1 per changed hash, else 0.
const SCRIPT: &str = r"
local fields = {}
local n = tonumber(ARGV[1])
for i = 1, n do fields[i] = ARGV[1 + i] end
local changed = {}
local at = 1 + n
for device = 1, #KEYS / 2 do
  local key, channel = KEYS[2 * device - 1], KEYS[2 * device]
  local sn = ARGV[at + 1]
  local first = at + 2
  at = at + 1 + n
  local new, old = ARGV[first], redis.call('HGET', key, 'timestamp')
  local change = 0
  if not old or old == '' or new > old then
    local pairs = {}
    for i = 1, n do
      pairs[2 * i - 1] = fields[i]
      pairs[2 * i] = ARGV[first + i - 1]
    end
    redis.call('DEL', key)
    redis.call('HSET', key, unpack(pairs))
    change = 1
  elseif new == old then
    for i = 1, n do
      local value = ARGV[first + i - 1]
      if value ~= '' and redis.call('HGET', key, fields[i]) ~= value then
        redis.call('HSET', key, fields[i], value)
        change = 1
      end
    end
  end
  if change == 1 then redis.call('PUBLISH', channel, sn) end
  changed[device] = change
end
return changed
";

/// Fields of the hash, the timestamp first; both spellings of each, so that all readers work.
const FIELDS: [&str; 38] = [
    "timestamp",
    "deviceSn",
    "device_sn",
    "heartRate",
    "heart_rate",
    "bloodOxygen",
    "blood_oxygen",
    "temperature",
    "body_temperature",
    "pressureHigh",
    "blood_pressure_systolic",
    "pressureLow",
    "blood_pressure_diastolic",
    "stress",
    "step",
    "distance",
    "calorie",
    "latitude",
    "longitude",
    "altitude",
    "sleep",
    "uploadMethod",
    "upload_method",
    "userId",
    "user_id",
    "orgId",
    "org_id",
    "customerId",
    "customer_id",
    "sleepData",
    "exerciseDailyData",
    "exerciseWeekData",
    "exerciseDailyWeekData",
    "scientificSleepData",
    "workoutData",
    "pressure_high",
    "pressure_low",
    "bodyTemperature",
];

/// How long Redis is left alone after a failure, so that its absence does not slow every batch.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The hashes and channels in Redis.
pub struct Latest {
    client: Client,
    script: Script,
    devices_max: usize,
    rests_until: Mutex<Option<Instant>>,
}

/// Why Redis does not have a batch.
#[derive(Debug, thiserror::Error)]
pub enum RedisFailure {
    /// It did not take it.
    #[error("{0}")]
    Failed(#[from] fred::error::Error),
    /// It is away; nothing was tried.
    #[error("Redis is away")]
    Away,
}

impl Latest {
    /// Updates at most `devices_max` devices a call.
    pub fn new(client: Client, devices_max: usize) -> Self {
        Self {
            client,
            script: Script::from_lua(SCRIPT),
            devices_max,
            rests_until: Mutex::new(None),
        }
    }

    /// Shows the newest reading of every device of a batch; returns how many hashes changed.
    pub async fn update(&self, batch: &Batch) -> Result<usize, RedisFailure> {
        if self.rests() || !self.client.is_connected() {
            return Err(RedisFailure::Away);
        }
        let newest = newest(batch);
        let devices: Vec<_> = newest.into_iter().collect();
        let mut changed = 0;
        for chunk in devices.chunks(self.devices_max) {
            match self.update_chunk(chunk).await {
                Ok(count) => changed += count,
                Err(error) => {
                    self.rest();
                    return Err(error.into());
                }
            }
        }
        counter!(REDIS_STALE).increment((devices.len() - changed) as u64);
        Ok(changed)
    }

    async fn update_chunk(
        &self,
        chunk: &[(&DeviceSn, (&Identity, &Row))],
    ) -> Result<usize, fred::error::Error> {
        let mut keys = Vec::with_capacity(chunk.len() * 2);
        let mut arguments: Vec<String> = Vec::with_capacity(chunk.len() * (FIELDS.len() + 1));
        arguments.push(FIELDS.len().to_string());
        arguments.extend(FIELDS.iter().map(|field| (*field).to_owned()));
        for (device_sn, (identity, row)) in chunk {
            keys.push(format!("health_data:{device_sn}"));
            keys.push(format!("health_data_channel:{device_sn}"));
            arguments.push(device_sn.as_str().to_owned());
            arguments.extend(values(identity, row));
        }
        let changed: Vec<Value> =
            self.script.evalsha_with_reload(&self.client, keys, arguments).await?;
        Ok(changed.iter().filter(|value| value.as_i64() == Some(1)).count())
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        let mut until = self.rests_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *until = Some(Instant::now() + REST_AFTER_FAILURE);
    }
}

/// The newest row of each device that is not ahead of the clock.
fn newest(batch: &Batch) -> BTreeMap<&DeviceSn, (&Identity, &Row)> {
    let mut newest: BTreeMap<&DeviceSn, (&Identity, &Row)> = BTreeMap::new();
    let rows = batch.segments.iter().flat_map(|segment| &segment.rows);
    for (identity, row) in rows.filter(|(_, row)| !row.ahead) {
        let slot = newest.entry(&identity.0).or_insert((identity, row));
        if identity.1 > slot.0.1 {
            *slot = (identity, row);
        }
    }
    newest
}

/// The values of [`FIELDS`], absent ones empty.
fn values((device_sn, timestamp): &Identity, row: &Row) -> [String; FIELDS.len()] {
    fn text(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let vitals = &row.vitals;
    let documents = &row.documents;
    let json = |document: &Option<common::reading::Document>| {
        text(document.as_ref().map(|document| document.as_str()))
    };
    let sn = device_sn.as_str().to_owned();
    let (heart_rate, blood_oxygen) = (text(vitals.heart_rate), text(vitals.blood_oxygen));
    let temperature = text(vitals.temperature);
    let (high, low) = (text(vitals.pressure_high), text(vitals.pressure_low));
    let method = row.upload_method.as_str().to_owned();
    let (user, org) = (text(row.ids.user_id), text(row.ids.org_id));
    let customer = text(row.ids.customer_id);
    let week = json(&documents.exercise_week_data);
    [
        wall_text(*timestamp),
        sn.clone(),
        sn,
        heart_rate.clone(),
        heart_rate,
        blood_oxygen.clone(),
        blood_oxygen,
        temperature.clone(),
        temperature.clone(),
        high.clone(),
        high.clone(),
        low.clone(),
        low.clone(),
        text(vitals.stress),
        text(vitals.step),
        text(vitals.distance),
        text(vitals.calorie),
        text(vitals.latitude),
        text(vitals.longitude),
        text(vitals.altitude),
        text(vitals.sleep),
        method.clone(),
        method,
        user.clone(),
        user,
        org.clone(),
        org,
        customer.clone(),
        customer,
        json(&documents.sleep_data),
        json(&documents.exercise_daily_data),
        week.clone(),
        week,
        json(&documents.scientific_sleep_data),
        json(&documents.workout_data),
        high,
        low,
        temperature,
    ]
}
