//! From a body to records in Kafka: parse every item, publish what is a reading and, for devices,
//! what is not, and wait for all delivery reports.
//!
//! Says what happened; which HTTP answer that is, `answer` knows.

use std::collections::HashMap;

use common::publisher::PublishError;
use common::reading::{DeviceSn, Ids, Intake, Reading, Rejection};
use common::shapes::{self, BodyError, Found};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use metrics::counter;

use crate::metrics::{READINGS, REJECTIONS, WARNINGS};
use crate::records::{Records, Reject, Sent};
use crate::span::RequestSpan;

/// Whom a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Watches and phones: they cannot be told what is wrong, so rejects are kept for them.
    Device,
    /// Clients that read the answer and still hold their data.
    Api,
}

/// What is said about one item that was not plainly accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Remark {
    /// The item's place in its body.
    pub index: usize,
    /// Its serial number, where it has a readable one.
    pub device_sn: Option<String>,
    /// Stable word of the rejection or warning.
    pub code: &'static str,
    /// Canonical name of the field.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

/// What became of a body whose records are all in Kafka.
#[derive(Debug, Default, PartialEq)]
pub struct Ingested {
    /// Readings published.
    pub success: usize,
    /// Readings equal to the one before them.
    pub duplicate: usize,
    /// Items rejected.
    pub error: usize,
    /// Rejections and warnings, in the order of the items.
    pub remarks: Vec<Remark>,
    /// Whether the body as a whole could not be read.
    pub malformed: bool,
}

/// Why a body is not acknowledged.
#[derive(Debug, PartialEq)]
pub enum NotIngested {
    /// It holds nothing.
    Empty,
    /// Kafka could not take it now.
    Unavailable(PublishError),
}

/// Code of a reject that keeps what was cut from an accepted reading.
const FIELD_DROPPED: &str = "field_dropped";

/// The gateway's way from bodies to Kafka.
#[derive(Clone)]
pub struct Ingest {
    pub records: Records,
    pub zone: TimeZone,
}

impl Ingest {
    /// Takes one body in; `request` is the span that the records belong to.
    pub async fn ingest(
        &self,
        body: &[u8],
        policy: Policy,
        received_at: Timestamp,
        request: &RequestSpan,
    ) -> Result<Ingested, NotIngested> {
        let mut intake = BodyIntake {
            ingest: self,
            policy,
            received_at,
            request,
            sent: Vec::new(),
            result: Ingested::default(),
        };
        match shapes::unwrap(body) {
            Err(BodyError::Empty) => return Err(NotIngested::Empty),
            Err(BodyError::Rejected(rejection)) => {
                intake.result.malformed = true;
                intake.reject(body, 0, Ids::default(), rejection)
            }
            Ok(items) => intake.items(&items),
        }
        .map_err(NotIngested::Unavailable)?;
        intake.confirmed().await.map_err(NotIngested::Unavailable)
    }
}

/// One body on its way.
struct BodyIntake<'a> {
    ingest: &'a Ingest,
    policy: Policy,
    received_at: Timestamp,
    request: &'a RequestSpan,
    sent: Vec<Sent>,
    result: Ingested,
}

impl BodyIntake<'_> {
    fn items(&mut self, items: &[Found<'_>]) -> Result<(), PublishError> {
        let mut latest: HashMap<(DeviceSn, DateTime), Reading> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let intake = Intake {
                zone: &self.ingest.zone,
                received_at: self.received_at,
                index,
                ids: item.ids,
            };
            let parsed = match &item.rejection {
                Some(rejection) => Err(rejection.clone()),
                None => Reading::parse(item.raw, &intake),
            };
            match parsed {
                Err(rejection) => {
                    self.reject(item.raw.get().as_bytes(), index, item.ids, rejection)?;
                }
                Ok(reading) => {
                    // A body of one has nothing to be a duplicate of.
                    let identity = (items.len() > 1)
                        .then(|| (reading.device_sn().clone(), reading.timestamp()));
                    let repeated = identity
                        .as_ref()
                        .and_then(|identity| latest.get(identity))
                        .is_some_and(|before| before.says_the_same_as(&reading));
                    if repeated {
                        self.result.duplicate += 1;
                        continue;
                    }
                    self.accept(&reading, item, index)?;
                    if let Some(identity) = identity {
                        latest.insert(identity, reading);
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(
        &mut self,
        reading: &Reading,
        item: &Found<'_>,
        index: usize,
    ) -> Result<(), PublishError> {
        self.sent.push(self.ingest.records.reading(reading, self.request.context())?);
        self.result.success += 1;
        let device_sn = reading.device_sn().as_str();
        for warning in reading.warnings() {
            counter!(WARNINGS, "field" => warning.field.to_string(), "code" => warning.code.as_str())
                .increment(1);
            self.result.remarks.push(Remark {
                index,
                device_sn: Some(device_sn.to_owned()),
                code: warning.code.as_str(),
                field: Some(warning.field.to_string()),
                message: format!(
                    "{} was not usable as sent; the rest of the reading was accepted",
                    warning.field
                ),
            });
        }
        if self.policy == Policy::Device && reading.warnings().iter().any(|warning| warning.cut) {
            let reject = Reject {
                value: item.raw.get().as_bytes(),
                code: FIELD_DROPPED,
                message: "a field was left out of the reading; the whole item is kept here",
                device_sn: Some(device_sn),
                index,
                ids: item.ids,
            };
            self.send_reject(&reject)?;
        }
        Ok(())
    }

    fn reject(
        &mut self,
        value: &[u8],
        index: usize,
        ids: Ids,
        rejection: Rejection,
    ) -> Result<(), PublishError> {
        let code = rejection.code.as_str();
        if self.policy == Policy::Device {
            self.send_reject(&Reject {
                value,
                code,
                message: &rejection.message,
                device_sn: rejection.device_sn.as_deref(),
                index,
                ids,
            })?;
        }
        counter!(REJECTIONS, "code" => code).increment(1);
        self.result.error += 1;
        self.result.remarks.push(Remark {
            index,
            device_sn: rejection.device_sn,
            code,
            field: rejection.field.map(str::to_owned),
            message: rejection.message,
        });
        Ok(())
    }

    fn send_reject(&mut self, reject: &Reject<'_>) -> Result<(), PublishError> {
        let received_at_ms = self.received_at.as_millisecond();
        let request = self.request.recorded();
        self.sent.push(self.ingest.records.reject(reject, received_at_ms, request)?);
        Ok(())
    }

    /// All records were handed over before the first is waited for, so they share a batch.
    async fn confirmed(self) -> Result<Ingested, PublishError> {
        for sent in self.sent {
            sent.confirmed().await?;
        }
        // Only now: a body without its answer is sent again and would count twice.
        for (outcome, count) in [
            ("accepted", self.result.success),
            ("duplicate", self.result.duplicate),
            ("rejected", self.result.error),
        ] {
            counter!(READINGS, "outcome" => outcome).increment(count as u64);
        }
        Ok(self.result)
    }
}
