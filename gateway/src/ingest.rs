//! Publishes the items of a body to Kafka and waits for all delivery reports. Publishes every
//! reading, and for devices every reject that finds room in the rate of rejects: all of a body, or none.
//!
//! A dry run parses a body alike and publishes nothing.
//!
//! Leaves parsing to `items` and the answer to `http::response`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_reading::{FIELD_DROPPED, Reading, Rejection, wire};
use ljwx_service::kafka::producer::publisher::PublishError;
use metrics::counter;
use tokio::sync::Semaphore;

use crate::admission::byte_budget::BodyReservation;
use crate::admission::shared_bucket::SharedBucket;
use crate::items::{
    BodyContent, BodyContext, ItemResult, ItemSource, Parsed, ParsedItem, is_cut, parse_body,
};
use crate::metrics::{DRY_RUNS, READINGS, REJECTIONS, REJECTS_BYTES, REJECTS_THROTTLED, WARNINGS};
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

/// The result of a body whose records are all in Kafka, or of a dry run.
#[derive(Debug, Default)]
pub struct IngestResult {
    /// Published readings, or those that a dry run would publish.
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
    /// For a dry run, what the answer shows of its readings.
    pub echo: Option<Echo>,
}

/// The readings in the answer to a dry run.
#[derive(Debug)]
pub struct Echo {
    /// The values that their records would have, at most [`ECHO_MAX`].
    pub values: Vec<Vec<u8>>,
    /// The body's part of the budget. The answer, which is about as large, keeps it until it is sent.
    pub held: BodyReservation,
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

/// Most values of records in the answer to a dry run.
const ECHO_MAX: usize = 100;

impl IngestResult {
    /// Counts a reading and notes its warnings.
    fn accept(&mut self, index: usize, reading: &Reading) {
        self.success += 1;
        let device_sn = reading.device_sn().as_str();
        for warning in reading.warnings() {
            self.add_item_result(|| ItemResult::of_warning(index, device_sn, warning));
        }
    }

    /// Counts and notes a rejected item.
    fn reject(&mut self, index: usize, rejection: Rejection) {
        self.error += 1;
        self.add_item_result(|| ItemResult::of_rejection(index, rejection));
    }

    /// Adds an item result if there is room. Otherwise the item result is not even created.
    fn add_item_result(&mut self, item_result: impl FnOnce() -> ItemResult) {
        if self.item_results.len() < ITEM_RESULTS_MAX {
            self.item_results.push(item_result());
        }
    }
}

/// Bodies above this size are large. Work on them runs outside the runtime's async threads, so that
/// other requests do not wait.
const OFF_THREAD_BYTES: usize = 64 * 1024;

/// Bytes of a reject beside its value: key, headers and Kafka's own.
const REJECT_OVERHEAD_BYTES: usize = 512;

/// Publishes bodies to Kafka.
pub struct Ingest {
    pub records: RecordPublisher,
    /// Bytes of rejects that may be published.
    pub rejects: SharedBucket,
    /// A permit for each large body that may be worked on.
    pub large_bodies: Semaphore,
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
        self.off_thread(content.bytes(), enqueue).await?.confirmed().await
    }

    /// Parses one body, which holds a part of the budget, and publishes nothing.
    pub async fn dry_run(
        &self,
        content: BodyContent<'_>,
        received_at: Timestamp,
        held: BodyReservation,
    ) -> Result<IngestResult, IngestError> {
        let context = BodyContext { zone: &self.zone, received_at };
        let body = self.off_thread(content.bytes(), || parse_body(content, &context)).await;
        let body = body.ok_or(IngestError::Empty)?;
        counter!(DRY_RUNS).increment(1);
        let mut result = IngestResult { malformed: body.malformed, ..IngestResult::default() };
        let mut values = Vec::new();
        for item in body.items {
            match item.parsed {
                Parsed::Accepted(reading) => {
                    result.accept(item.source.index, &reading);
                    if values.len() < ECHO_MAX {
                        values.push(wire::encode(&reading));
                    }
                }
                Parsed::Duplicate => result.duplicate += 1,
                Parsed::Rejected(rejection) => result.reject(item.source.index, rejection),
            }
        }
        Ok(IngestResult { echo: Some(Echo { values, held }), ..result })
    }

    /// Runs work on a body of this size, outside the runtime's async threads if the body is large.
    pub async fn off_thread<T>(&self, bytes: usize, work: impl FnOnce() -> T) -> T {
        if bytes <= OFF_THREAD_BYTES {
            return work();
        }
        // The semaphore is never closed.
        let _permit = self.large_bodies.acquire().await;
        tokio::task::block_in_place(work)
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
            canaries: 0,
            result: IngestResult { malformed: body.malformed, ..IngestResult::default() },
        };
        for item in body.items {
            intake.item(item);
        }
        let reject_bytes = reserved.unwrap_or(0);
        match self.records.publish(intake.records) {
            Ok(sent) => {
                counter!(REJECTS_BYTES).increment(reject_bytes);
                let BodyRecords { no_room, canaries, result, .. } = intake;
                Ok(SentBody { sent, no_room, canaries, result })
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
    /// Readings of the canary.
    canaries: usize,
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
        self.result.accept(item.index, reading);
        self.canaries += usize::from(reading.device_sn().is_canary());
        for warning in reading.warnings() {
            counter!(WARNINGS, "field" => warning.field.to_string(), "code" => warning.code.as_str())
                .increment(1);
        }
        if self.policy == RoutePolicy::Device && is_cut(reading) {
            self.add_reject(&RejectRecord {
                value: item.raw,
                code: FIELD_DROPPED,
                message: "该读数有字段未采用，此处保留完整的原文",
                device_sn: Some(reading.device_sn().as_str()),
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
        self.result.reject(item.index, rejection);
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
    /// Readings of the canary.
    canaries: usize,
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
        // Count after confirmation: a client that gets no answer sends the body again. The canary is no
        // device: with it alone, readings have stopped.
        for (outcome, count) in [
            ("accepted", self.result.success - self.canaries),
            ("duplicate", self.result.duplicate),
            ("rejected", self.result.error),
        ] {
            counter!(READINGS, "outcome" => outcome).increment(count as u64);
        }
        Ok(self.result)
    }
}
