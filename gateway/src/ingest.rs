//! Publishes the items of a body to Kafka and waits for all delivery reports. Publishes every
//! reading, and for devices every reject that finds room in the rate of rejects: all of a body, or none.
//!
//! Leaves parsing to `items` and the answer to `http::response`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_reading::{FIELD_DROPPED, Reading, Rejection};
use ljwx_service::kafka::producer::publisher::PublishError;
use metrics::counter;

use crate::admission::shared_bucket::SharedBucket;
use crate::items::{
    BodyContent, BodyContext, ItemResult, ItemSource, Parsed, ParsedItem, is_cut, parse_body,
};
use crate::metrics::{READINGS, REJECTIONS, REJECTS_BYTES, REJECTS_THROTTLED, WARNINGS};
use crate::records::{NewRecord, RecordPublisher, RejectRecord, SentRecord};
use crate::request_span::RequestSpan;

/// The clients of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutePolicy {
    /// Watches and phones. They cannot act on a rejection, so their rejects are kept in Kafka.
    Device,
    /// Clients that read the answer and still hold their data.
    Api,
}

/// The result of a body whose records are all in Kafka.
#[derive(Debug, Default, PartialEq)]
pub struct IngestResult {
    /// Published readings.
    pub success: usize,
    /// Readings equal to the last one with their identity.
    pub duplicate: usize,
    /// Rejected items.
    pub error: usize,
    /// Rejections and warnings in the order of the items, at most [`ITEM_RESULTS_MAX`]. Further ones are
    /// only counted.
    pub item_results: Vec<ItemResult>,
    /// Whether the whole body could not be parsed.
    pub malformed: bool,
}

/// The reason why a body is not acknowledged.
#[derive(Debug, PartialEq)]
pub enum IngestError {
    /// The body is empty.
    Empty,
    /// Kafka could not take a record now.
    Unavailable(PublishError),
    /// The rejects were not kept: they come faster than allowed. There is room after this time.
    NoRoomForRejects(Duration),
}

/// Most item results of one body, and so most entries of `results` in an answer.
const ITEM_RESULTS_MAX: usize = 100;

impl IngestResult {
    /// Adds an item result if there is room. Otherwise the item result is not even created.
    pub fn add_item_result(&mut self, item_result: impl FnOnce() -> ItemResult) {
        if self.item_results.len() < ITEM_RESULTS_MAX {
            self.item_results.push(item_result());
        }
    }
}

/// Bodies above this size are parsed outside the runtime's async threads, so that other requests do
/// not wait.
pub const OFF_THREAD_BYTES: usize = 64 * 1024;

/// Bytes of a reject beside its value: key, headers and Kafka's own.
const REJECT_OVERHEAD_BYTES: usize = 512;

/// Publishes bodies to Kafka.
#[derive(Clone)]
pub struct Ingest {
    pub records: RecordPublisher,
    /// Bytes of rejects that may be published.
    pub rejects: SharedBucket,
    pub zone: TimeZone,
}

impl Ingest {
    /// Publishes one body. `request` is the span of its records.
    pub async fn ingest(
        &self,
        content: BodyContent<'_>,
        policy: RoutePolicy,
        received_at: Timestamp,
        request: &RequestSpan,
    ) -> Result<IngestResult, IngestError> {
        let enqueue = || self.enqueue(content, policy, received_at, request);
        let sent = match content {
            BodyContent::Open(body) if body.len() > OFF_THREAD_BYTES => {
                tokio::task::block_in_place(enqueue)?
            }
            _ => enqueue()?,
        };
        sent.confirmed().await
    }

    /// Parses the body and passes its records to the producer.
    fn enqueue(
        &self,
        content: BodyContent<'_>,
        policy: RoutePolicy,
        received_at: Timestamp,
        request: &RequestSpan,
    ) -> Result<SentBody, IngestError> {
        let context = BodyContext { zone: &self.zone, received_at };
        let body = parse_body(content, &context).ok_or(IngestError::Empty)?;
        let reserved = match policy {
            RoutePolicy::Device => self.reserve_rejects(&body.items),
            RoutePolicy::Api => Ok(0),
        };
        let mut intake = BodyRecords {
            ingest: self,
            policy,
            received_at,
            request,
            no_room: reserved.err(),
            records: Vec::new(),
            result: IngestResult { malformed: body.malformed, ..IngestResult::default() },
        };
        for item in body.items {
            intake.item(item);
        }
        let reject_bytes = reserved.unwrap_or(0);
        match self.records.publish(intake.records) {
            Ok(sent) => {
                counter!(REJECTS_BYTES).increment(reject_bytes);
                Ok(SentBody { sent, no_room: intake.no_room, result: intake.result })
            }
            Err(error) => {
                self.rejects.give_back(reject_bytes);
                Err(IngestError::Unavailable(error))
            }
        }
    }

    /// Takes the room of all rejects of a body, or of none: of a body that is sent again, a part
    /// would be in the topic once more each time. Returns the bytes of that room. The error is the
    /// wait until there is room.
    fn reserve_rejects(&self, items: &[ParsedItem<'_>]) -> Result<u64, Duration> {
        let kept = items.iter().filter(|item| item.is_kept());
        let sizes = kept.map(|item| item.source.raw.len() + REJECT_OVERHEAD_BYTES);
        let (count, bytes) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        if count == 0 {
            return Ok(0);
        }
        let bytes = bytes as u64;
        let reserved = self.rejects.take(bytes);
        if reserved.is_err() {
            counter!(REJECTS_THROTTLED).increment(count);
        }
        reserved.map(|()| bytes)
    }
}

/// The records that a body needs.
struct BodyRecords<'a> {
    ingest: &'a Ingest,
    policy: RoutePolicy,
    received_at: Timestamp,
    request: &'a RequestSpan,
    /// If the rejects are not kept: the wait until there is room for them.
    no_room: Option<Duration>,
    records: Vec<NewRecord<'a>>,
    result: IngestResult,
}

impl<'a> BodyRecords<'a> {
    /// Adds the records of one item, or counts an item that needs no record.
    fn item(&mut self, item: ParsedItem<'a>) {
        match item.parsed {
            Parsed::Accepted(reading) => self.accept(&reading, &item.source),
            Parsed::Duplicate => self.result.duplicate += 1,
            Parsed::Rejected(rejection) => self.reject(&item.source, rejection),
        }
    }

    fn accept(&mut self, reading: &Reading, item: &ItemSource<'a>) {
        self.records.push(self.ingest.records.reading(reading, self.request.context()));
        self.result.success += 1;
        let device_sn = reading.device_sn().as_str();
        for warning in reading.warnings() {
            counter!(WARNINGS, "field" => warning.field.to_string(), "code" => warning.code.as_str())
                .increment(1);
            self.result.add_item_result(|| ItemResult::of_warning(item.index, device_sn, warning));
        }
        if self.policy == RoutePolicy::Device && is_cut(reading) {
            self.add_reject(&RejectRecord {
                value: item.raw,
                code: FIELD_DROPPED,
                message: "a field was left out of the reading; the whole item is kept here",
                device_sn: Some(device_sn),
                index: item.index,
                ids: item.ids,
                encoding: None,
            });
        }
    }

    fn reject(&mut self, item: &ItemSource<'a>, rejection: Rejection) {
        let code = rejection.code.as_str();
        if self.policy == RoutePolicy::Device {
            self.add_reject(&RejectRecord {
                value: item.raw,
                code,
                message: &rejection.message,
                device_sn: rejection.device_sn.as_deref(),
                index: item.index,
                ids: item.ids,
                encoding: item.encoding,
            });
        }
        counter!(REJECTIONS, "code" => code).increment(1);
        self.result.error += 1;
        self.result.add_item_result(|| ItemResult::of_rejection(item.index, rejection));
    }

    fn add_reject(&mut self, reject: &RejectRecord<'a, '_>) {
        if self.no_room.is_some() {
            return;
        }
        let received_at_ms = self.received_at.as_millisecond();
        let request = (self.request.context(), self.request.recorded());
        self.records.push(self.ingest.records.reject(reject, received_at_ms, request));
    }
}

/// A body whose records are all enqueued.
struct SentBody {
    sent: Vec<SentRecord>,
    /// If the rejects are not kept: the wait until there is room for them.
    no_room: Option<Duration>,
    result: IngestResult,
}

impl SentBody {
    /// Waits for the delivery reports. All records are enqueued before the first wait, so they
    /// share a batch.
    async fn confirmed(self) -> Result<IngestResult, IngestError> {
        for sent in self.sent {
            sent.confirmed().await.map_err(IngestError::Unavailable)?;
        }
        if let Some(wait) = self.no_room {
            return Err(IngestError::NoRoomForRejects(wait));
        }
        // Count after confirmation: a client that gets no answer sends the body again.
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
