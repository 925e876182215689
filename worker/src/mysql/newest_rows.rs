//! Reads the newest rows of devices from MySQL. The repair of Redis writes them.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::DateTime;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_reading::{DeviceSn, Document, Documents, Ids, UploadMethod, Vitals};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::batch::row::{DocumentSources, Identity, ReadingRow};
use crate::mysql::packet_limit::{PacketLimit, joined};
use ljwx_ledger::mysql::sql::ValueList;

/// Time limit of a page. A page takes long if the server reads every row of its devices.
const PAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Devices of one page of [`NewestRows::devices_after`].
pub const PAGE_DEVICES: usize = 100;

/// Most queries of one text: the server answers them one after the other, with nothing between.
const QUERIES_MAX: usize = 100;

/// Selects the newest row of one device and the documents that came with it. A reading ahead of the
/// clock at its arrival (`update_time`) moved no guard, so the query skips its row.
const NEWEST: [&str; 2] = [
    "SELECT h.*, \
     IF(d.sleep_data_at = h.timestamp, d.sleep_data, NULL) AS sleep_data, \
     IF(d.exercise_daily_data_at = h.timestamp, d.exercise_daily_data, NULL) AS exercise_daily_data, \
     IF(d.workout_data_at = h.timestamp, d.workout_data, NULL) AS workout_data, \
     IF(d.scientific_sleep_data_at = h.timestamp, d.scientific_sleep_data, NULL) \
     AS scientific_sleep_data, \
     IF(w.exercise_week_data_at = h.timestamp, w.exercise_week_data, NULL) AS exercise_week_data \
     FROM (SELECT device_sn, timestamp, id, last_source, deliveries, user_id, org_id, customer_id, \
     upload_method, heart_rate, blood_oxygen, temperature, pressure_high, pressure_low, stress, \
     step, distance, calorie, latitude, longitude, altitude, sleep \
     FROM t_user_health_data WHERE device_sn = ",
    " AND timestamp <= NOW() + INTERVAL 10 MINUTE \
     AND timestamp <= update_time + INTERVAL 10 MINUTE ORDER BY timestamp DESC LIMIT 1) AS h \
     LEFT JOIN t_user_health_data_daily AS d \
     ON d.device_sn = h.device_sn AND d.date = DATE(h.timestamp) \
     LEFT JOIN t_user_health_data_weekly AS w ON w.device_sn = h.device_sn \
     AND w.week_start = DATE(h.timestamp) - INTERVAL WEEKDAY(h.timestamp) DAY",
];

/// Reads the newest rows from MySQL.
#[derive(Debug, Clone)]
pub struct NewestRows {
    pool: MySqlPool,
    packet: Arc<PacketLimit>,
}

impl NewestRows {
    /// Creates a reader on `pool`.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool, packet: Arc::default() }
    }

    /// Returns the newest row of each of these devices, if it has one. The round trips are as few
    /// as the server's packet allows.
    pub async fn rows(
        &self,
        devices: impl IntoIterator<Item = &DeviceSn>,
    ) -> Result<HashMap<DeviceSn, (Identity, ReadingRow)>, sqlx::Error> {
        let queries: Vec<String> = devices.into_iter().map(query).collect();
        if queries.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.fetch(queries).await.inspect_err(|_| self.packet.reset())?;
        let mut newest = HashMap::with_capacity(rows.len());
        for row in &rows {
            if let Some((identity, row)) = decode(row)? {
                newest.insert(identity.0.clone(), (identity, row));
            }
        }
        Ok(newest)
    }

    async fn fetch(&self, queries: Vec<String>) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let text_max = self.packet.text_max(&mut connection).await?;
        let mut rows = Vec::with_capacity(queries.len());
        for text in texts(queries, text_max) {
            // Safe: `sql::ValueList` has escaped the serial numbers.
            rows.extend(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await?);
        }
        Ok(rows)
    }

    /// Returns a page of the devices with rows, beginning after the serial number `last`.
    pub async fn devices_after(&self, last: &str) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT DISTINCT device_sn FROM t_user_health_data WHERE device_sn > ? \
             ORDER BY device_sn LIMIT ?",
        )
        .bind(last)
        .bind(PAGE_DEVICES as i64)
        .fetch_all(&self.pool.with_limit(PAGE_TIMEOUT))
        .await?;
        rows.iter().map(|row| row.try_get_unchecked(0)).collect()
    }
}

/// Returns the query of one device. A UNION would open the table, with all its months, for each
/// device.
fn query(device_sn: &DeviceSn) -> String {
    let mut value = ValueList::after(NEWEST[0].to_owned());
    value.string(device_sn.as_str());
    value.finish(NEWEST[1])
}

/// Joins queries to texts of at most `QUERIES_MAX` queries and `text_max` bytes. A longer query has
/// a text of its own.
fn texts(queries: Vec<String>, text_max: usize) -> Vec<String> {
    let mut queries = queries.into_iter().peekable();
    let mut texts = Vec::new();
    while queries.peek().is_some() {
        texts.extend(joined(queries.by_ref().take(QUERIES_MAX), text_max));
    }
    texts
}

/// Decodes a row as if its reading came from Kafka. Returns `None` for a row of another program
/// that no reading can have.
fn decode(row: &MySqlRow) -> Result<Option<(Identity, ReadingRow)>, sqlx::Error> {
    let (Some(device_sn), Some(timestamp)) = (
        text(row, "device_sn")?.and_then(|sn| DeviceSn::new(&sn)),
        parsed::<DateTime>(row, "timestamp")?,
    ) else {
        return Ok(None);
    };
    let last_source = parsed(row, "last_source")?.unwrap_or_default();
    let some = |id: &i64| *id != 0;
    let method = text(row, "upload_method")?;
    let found = ReadingRow {
        id: parsed(row, "id")?.unwrap_or_default(),
        last_source,
        deliveries: parsed(row, "deliveries")?.unwrap_or(1),
        ahead: false,
        ids: Ids {
            customer_id: parsed(row, "customer_id")?.filter(some),
            org_id: parsed(row, "org_id")?.filter(some),
            user_id: parsed(row, "user_id")?.filter(some),
        },
        bound: Ids::default(),
        upload_method: method.as_deref().and_then(UploadMethod::from_word).unwrap_or_default(),
        vitals: vitals(row)?,
        documents: Documents {
            sleep_data: document(row, "sleep_data")?,
            exercise_daily_data: document(row, "exercise_daily_data")?,
            exercise_week_data: document(row, "exercise_week_data")?,
            scientific_sleep_data: document(row, "scientific_sleep_data")?,
            workout_data: document(row, "workout_data")?,
        },
        // Only rows that are about to be written have sources.
        document_sources: DocumentSources::default(),
    };
    Ok(Some(((device_sn, timestamp), found)))
}

fn vitals(row: &MySqlRow) -> Result<Vitals, sqlx::Error> {
    Ok(Vitals {
        heart_rate: parsed(row, "heart_rate")?,
        blood_oxygen: parsed(row, "blood_oxygen")?,
        temperature: parsed(row, "temperature")?,
        pressure_high: parsed(row, "pressure_high")?,
        pressure_low: parsed(row, "pressure_low")?,
        stress: parsed(row, "stress")?,
        step: parsed(row, "step")?,
        distance: parsed(row, "distance")?,
        calorie: parsed(row, "calorie")?,
        latitude: parsed(row, "latitude")?,
        longitude: parsed(row, "longitude")?,
        altitude: parsed(row, "altitude")?,
        sleep: parsed(row, "sleep")?,
    })
}

/// Reads a column as text: unprepared statements return text for every type.
fn text(row: &MySqlRow, column: &str) -> Result<Option<String>, sqlx::Error> {
    row.try_get_unchecked(column)
}

fn parsed<T: FromStr>(row: &MySqlRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    Ok(text(row, column)?.and_then(|text| text.parse().ok()))
}

fn document(row: &MySqlRow, column: &str) -> Result<Option<Document>, sqlx::Error> {
    Ok(text(row, column)?.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_spread_over_texts_that_the_server_takes() {
        let devices = 0..2 * QUERIES_MAX + 50;
        let queries: Vec<String> = devices
            .filter_map(|n| DeviceSn::new(&format!("A{n:09}")))
            .map(|sn| query(&sn))
            .collect();
        let one = queries[0].len();
        // A query that is too long has a text of its own: the server may still accept it.
        for (text_max, count) in
            [(usize::MAX, QUERIES_MAX), (3 * one + 2, 3), (3 * one + 1, 2), (1, 1)]
        {
            let texts = texts(queries.clone(), text_max);
            assert_eq!(texts.join(";"), queries.join(";"), "nothing is lost or moved");
            assert!(texts.iter().all(|text| text.len() <= text_max.max(one)), "{text_max}");
            let most = texts.iter().map(|text| text.matches("SELECT h.*").count()).max();
            assert_eq!(most, Some(count), "{text_max}");
        }
    }
}
