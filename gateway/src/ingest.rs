//! From a body to records in Kafka: parse every item, publish what is a reading and, for devices,
//! what is not, and wait for all delivery reports.
//!
//! Says what happened; which HTTP answer that is, `answer` knows.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::content_encoding::Encoding;
use ljwx_reading::envelope::{self, BodyError, Found};
use ljwx_reading::{DeviceSn, Ids, Intake, Reading, Rejection, RejectionCode};
use ljwx_service::kafka::publisher::PublishError;
use metrics::counter;

use crate::metrics::{READINGS, REJECTIONS, WARNINGS};
use crate::outcome::{Ingested, NotIngested, Policy, Remark};
use crate::records::{Records, Reject, Sent};
use crate::request_span::RequestSpan;

/// A body as far as it could be opened.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// What the sender means.
    Open(&'a [u8]),
    /// Compressed, and broken.
    Broken { received: &'a [u8], encoding: Encoding },
}

/// Bodies above this are taken apart off the runtime's threads, where others wait.
pub const OFF_THREAD_BYTES: usize = 64 * 1024;

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
        content: Content<'_>,
        policy: Policy,
        received_at: Timestamp,
        request: &RequestSpan,
    ) -> Result<Ingested, NotIngested> {
        let enqueue = || self.enqueue(content, policy, received_at, request);
        let intake = match content {
            Content::Open(body) if body.len() > OFF_THREAD_BYTES => {
                tokio::task::block_in_place(enqueue)?
            }
            _ => enqueue()?,
        };
        intake.confirmed().await.map_err(NotIngested::Unavailable)
    }

    /// Takes the body apart and hands its records over.
    fn enqueue<'a>(
        &'a self,
        content: Content<'_>,
        policy: Policy,
        received_at: Timestamp,
        request: &'a RequestSpan,
    ) -> Result<BodyIntake<'a>, NotIngested> {
        let mut intake = BodyIntake {
            ingest: self,
            policy,
            received_at,
            request,
            sent: Vec::new(),
            result: Ingested::default(),
        };
        let body = match content {
            Content::Open(body) => body,
            Content::Broken { received, encoding } => {
                intake.broken(received, encoding).map_err(NotIngested::Unavailable)?;
                return Ok(intake);
            }
        };
        match envelope::unwrap(body) {
            Err(BodyError::Empty) => return Err(NotIngested::Empty),
            Err(BodyError::Rejected(rejection)) => {
                intake.result.malformed = true;
                intake.reject(body, 0, Ids::default(), None, rejection)
            }
            Ok(items) => intake.items(&items),
        }
        .map_err(NotIngested::Unavailable)?;
        Ok(intake)
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
    /// Keeps a body that does not open as it was sent.
    fn broken(&mut self, received: &[u8], encoding: Encoding) -> Result<(), PublishError> {
        self.result.malformed = true;
        let message = format!(
            "the body is not {}, though its header says so: it is cut short or damaged",
            encoding.as_str()
        );
        let rejection = Rejection::new(RejectionCode::MalformedBody, message);
        self.reject(received, 0, Ids::default(), Some(encoding), rejection)
    }

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
                    let value = item.raw.get().as_bytes();
                    self.reject(value, index, item.ids, None, rejection)?;
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
            self.result.remark(|| Remark {
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
                encoding: None,
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
        encoding: Option<Encoding>,
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
                encoding,
            })?;
        }
        counter!(REJECTIONS, "code" => code).increment(1);
        self.result.error += 1;
        self.result.remark(|| Remark {
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
