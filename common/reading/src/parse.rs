//! Parses a device's JSON object into a [`Reading`].

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use crate::device::{DEVICE_SN_BYTES_MAX, DeviceSn, Ids, UploadMethod};
use crate::document::{self, ParsedDocument};
use crate::json_object::{JsonObject, Scalar};
use crate::number::{self, NumberField, ParsedNumber};
use crate::reading::{Document, Documents, Reading, Vitals};
use crate::rejection::{Rejection, RejectionCode, Warning, WarningCode};
use crate::time::{self, ReadingTime};

const DEVICE_SN: &[&str] = &["deviceSn", "device_sn", "id", "device_id"];
const TIMESTAMP: &[&str] = &["timestamp", "cjsj", "create_time"];
const CUSTOMER_ID: &[&str] = &["customer_id", "customerId"];
const ORG_ID: &[&str] = &["org_id", "orgId"];
const USER_ID: &[&str] = &["user_id", "userId"];
const UPLOAD_METHOD: &[&str] = &["upload_method", "uploadMethod"];
const SLEEP_DATA: &[&str] = &["sleepData", "smData", "sleep_data"];
const EXERCISE_DAILY_DATA: &[&str] = &["exerciseDailyData", "ydData", "exercise_daily_data"];
const EXERCISE_WEEK_DATA: &[&str] =
    &["exerciseWeekData", "exerciseDailyWeekData", "ydWeekData", "exercise_week_data"];
const SCIENTIFIC_SLEEP_DATA: &[&str] =
    &["scientificSleepData", "kxsmData", "scientific_sleep_data"];
const WORKOUT_DATA: &[&str] = &["workoutData", "workout_data"];

/// The facts that the parser needs beside the item itself.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext<'a> {
    /// Zone of wall clocks without an offset.
    pub zone: &'a TimeZone,
    /// Receipt of the body.
    pub received_at: Timestamp,
    /// The item's index in its body, from 0.
    pub index: usize,
    /// Ids beside the `data` that holds the item.
    pub ids: Ids,
    /// Warnings about such ids.
    pub id_warnings: &'a [Warning],
}

impl Reading {
    /// Parses one item of a body.
    ///
    /// An unusable field costs only itself and leaves a warning. An item without a usable serial
    /// number or with an unusable time is rejected whole.
    pub fn parse(raw: &RawValue, intake: &ParseContext<'_>) -> Result<Self, Rejection> {
        let item = JsonObject::read(raw).ok_or_else(|| {
            Rejection::new(RejectionCode::InvalidItem, "每条读数必须是一个 JSON 对象")
        })?;
        let device_sn = device_sn(&item)?;
        let mut fields = ItemFields { item: &item, warnings: Vec::new() };
        let moment = fields.moment(intake).map_err(|rejection| Rejection {
            device_sn: Some(device_sn.as_str().to_owned()),
            ..rejection
        })?;
        let own = fields.ids();
        let applies = |warning: &&Warning| own.named(&warning.field).is_none();
        fields.warnings.extend(intake.id_warnings.iter().filter(applies).cloned());
        let upload_method = fields.upload_method();
        let mut vitals = fields.vitals();
        let documents = fields.documents(&mut vitals);
        Ok(Self {
            device_sn,
            timestamp: moment.wall,
            epoch_ms: moment.epoch_ms,
            received_at_ms: intake.received_at.as_millisecond(),
            ids: own.or(intake.ids),
            upload_method,
            vitals,
            documents,
            warnings: fields.warnings,
        })
    }
}

/// Most bytes of the original text of an unusable id beside `data`. Each reading of a body may carry the
/// text.
const ID_RAW_BYTES_MAX: usize = 64;

/// Returns tenant, organisation and user given beside `data`, and warnings about unusable ones.
pub fn ids_of(item: &JsonObject<'_>) -> (Ids, Vec<Warning>) {
    let mut fields = ItemFields { item, warnings: Vec::new() };
    let ids = fields.ids();
    let short = |Warning { field, code, raw, .. }: &Warning| {
        Warning::new(field, *code, &raw[..raw.floor_char_boundary(ID_RAW_BYTES_MAX)])
    };
    (ids, fields.warnings.iter().map(short).collect())
}

/// Whether the object names a device. A `data` key with a plain value does not make such an object
/// an envelope.
pub fn names_a_device(item: &JsonObject<'_>) -> bool {
    item.first_scalar(DEVICE_SN).is_some()
}

fn device_sn(item: &JsonObject<'_>) -> Result<DeviceSn, Rejection> {
    let (scalar, _) = item.first_scalar(DEVICE_SN).ok_or_else(|| {
        Rejection::of_field(
            RejectionCode::MissingDeviceSn,
            "device_sn",
            "缺少 device_sn：请用 deviceSn、device_sn、id 或 device_id 发送序列号",
        )
    })?;
    scalar.text().and_then(DeviceSn::new).ok_or_else(|| {
        Rejection::of_field(
            RejectionCode::InvalidDeviceSn,
            "device_sn",
            format!("device_sn 必须是 1 到 {DEVICE_SN_BYTES_MAX} 个可见的 ASCII 字符"),
        )
    })
}

/// An item that is being parsed, with the warnings so far.
struct ItemFields<'a> {
    item: &'a JsonObject<'a>,
    warnings: Vec<Warning>,
}

impl ItemFields<'_> {
    fn warn(&mut self, field: &'static str, code: WarningCode, raw: &str) {
        self.warnings.push(Warning::new(field, code, raw));
    }

    fn moment(&mut self, intake: &ParseContext<'_>) -> Result<ReadingTime, Rejection> {
        let received_at_ms = intake.received_at.as_millisecond();
        let (moment, raw) = match self.item.first_scalar(TIMESTAMP) {
            None => {
                self.warn("timestamp", WarningCode::Missing, "");
                // The index keeps the readings of one body apart: they are different measurements.
                let seconds = intake.received_at.as_second() + intake.index as i64;
                (Some(ReadingTime::of_epoch(seconds, intake.zone)), "")
            }
            Some((scalar, raw)) => {
                (scalar.text().and_then(|text| time::read(text, intake.zone)), raw)
            }
        };
        let moment = moment.ok_or_else(|| {
            Rejection::of_field(
                RejectionCode::InvalidTimestamp,
                "timestamp",
                "timestamp 必须是 yyyy-MM-dd HH:mm:ss、RFC 3339，或以秒或毫秒计的 Unix 时间",
            )
        })?;
        if !moment.is_in_range(received_at_ms) {
            return Err(out_of_range());
        }
        if moment.epoch_ms - received_at_ms > time::AHEAD_OF_CLOCK_MS {
            self.warn("timestamp", WarningCode::AheadOfClock, raw);
        }
        Ok(moment)
    }

    fn ids(&mut self) -> Ids {
        Ids {
            customer_id: self.id("customer_id", CUSTOMER_ID),
            org_id: self.id("org_id", ORG_ID),
            user_id: self.id("user_id", USER_ID),
        }
    }

    /// Reads an id as an integer, never as a float: a float cannot hold 19 digits.
    fn id(&mut self, field: &'static str, spellings: &[&str]) -> Option<i64> {
        for spelling in spellings {
            let Some((scalar, raw)) = self.item.first_scalar(&[spelling]) else { continue };
            match scalar.text().and_then(|text| text.parse::<i64>().ok()) {
                Some(0) => {}
                Some(id) if id > 0 => return Some(id),
                Some(_) => {
                    self.warn(field, WarningCode::OutOfRange, raw);
                    return None;
                }
                None => {
                    self.warn(field, WarningCode::Invalid, raw);
                    return None;
                }
            }
        }
        None
    }

    fn upload_method(&mut self) -> UploadMethod {
        let Some((scalar, raw)) = self.item.first_scalar(UPLOAD_METHOD) else {
            return UploadMethod::default();
        };
        let word = match &scalar {
            Scalar::Text(text) => UploadMethod::from_word(text),
            _ => None,
        };
        word.unwrap_or_else(|| {
            self.warn("upload_method", WarningCode::Invalid, raw);
            UploadMethod::default()
        })
    }

    fn number(&mut self, field: &'static NumberField) -> Option<f64> {
        for spelling in field.spellings {
            let Some((scalar, raw)) = self.item.first_scalar(&[spelling]) else { continue };
            match scalar.text().map_or(ParsedNumber::Invalid, |text| field.read(text)) {
                ParsedNumber::Absent => {}
                ParsedNumber::Value(value) => return Some(value),
                ParsedNumber::OutOfRange => {
                    self.warn(field.name, WarningCode::OutOfRange, raw);
                    return None;
                }
                ParsedNumber::Invalid => {
                    self.warn(field.name, WarningCode::Invalid, raw);
                    return None;
                }
            }
        }
        None
    }

    fn whole(&mut self, field: &'static NumberField) -> Option<i32> {
        // The range of every whole field lies within i32.
        self.number(field).map(|value| value as i32)
    }

    fn vitals(&mut self) -> Vitals {
        let mut vitals = Vitals {
            heart_rate: self.whole(&number::HEART_RATE),
            blood_oxygen: self.whole(&number::BLOOD_OXYGEN),
            temperature: self.number(&number::TEMPERATURE),
            pressure_high: self.whole(&number::PRESSURE_HIGH),
            pressure_low: self.whole(&number::PRESSURE_LOW),
            stress: self.whole(&number::STRESS),
            step: self.whole(&number::STEP),
            distance: self.number(&number::DISTANCE),
            calorie: self.number(&number::CALORIE),
            latitude: self.number(&number::LATITUDE),
            longitude: self.number(&number::LONGITUDE),
            altitude: self.number(&number::ALTITUDE),
            sleep: None,
        };
        if vitals.latitude == Some(0.0) && vitals.longitude == Some(0.0) {
            (vitals.latitude, vitals.longitude) = (None, None);
        }
        vitals
    }

    fn documents(&mut self, vitals: &mut Vitals) -> Documents {
        Documents {
            sleep_data: self.document("sleep_data", SLEEP_DATA).inspect(|document| {
                vitals.sleep = document::sleep_hours(document);
            }),
            exercise_daily_data: self.document("exercise_daily_data", EXERCISE_DAILY_DATA),
            exercise_week_data: self.document("exercise_week_data", EXERCISE_WEEK_DATA),
            scientific_sleep_data: self.document("scientific_sleep_data", SCIENTIFIC_SLEEP_DATA),
            workout_data: self.document("workout_data", WORKOUT_DATA),
        }
    }

    fn document(&mut self, field: &'static str, spellings: &[&str]) -> Option<Document> {
        for spelling in spellings {
            let Some(raw) = self.item.get(spelling) else { continue };
            match document::read(raw) {
                ParsedDocument::Absent => {}
                ParsedDocument::Value(document) => return Some(document),
                ParsedDocument::Unusable(code) => {
                    self.warn(field, code, raw.get());
                    return None;
                }
            }
        }
        None
    }
}

fn out_of_range() -> Rejection {
    Rejection::of_field(
        RejectionCode::TimestampOutOfRange,
        "timestamp",
        "timestamp 早于 2000-01-01，或比服务器时间快 24 小时以上：请校准设备的时钟",
    )
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
