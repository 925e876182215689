//! Publishes readings and rejects as Kafka records.

use ljwx_reading::content_encoding::{CONTENT_ENCODING, Encoding};
use ljwx_reading::wire;
use ljwx_reading::{Ids, Reading};
use ljwx_service::kafka::publisher::{OutgoingRecord, PendingRecord, PublishError, Publisher};
use ljwx_service::telemetry::trace::{self, NewSpan, TRACEPARENT};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use rdkafka::message::{Header, OwnedHeaders};

/// The producer and its topics.
#[derive(Clone)]
pub struct RecordPublisher {
    pub publisher: Publisher,
    pub readings_topic: String,
    pub rejects_topic: String,
}

/// A record that waits for its delivery report, with the span of the wait.
pub struct SentRecord {
    pending: PendingRecord,
    span: Context,
}

impl SentRecord {
    /// Waits for the delivery report.
    pub async fn confirmed(self) -> Result<(), PublishError> {
        let result = self.pending.confirmed().await;
        let span = self.span.span();
        match &result {
            Ok((partition, offset)) => {
                span.set_attribute(KeyValue::new(
                    "messaging.destination.partition.id",
                    partition.to_string(),
                ));
                span.set_attribute(KeyValue::new("messaging.kafka.offset", *offset));
            }
            Err(error) => {
                span.set_attribute(KeyValue::new("error.type", "publish"));
                span.set_status(Status::error(error.to_string()));
            }
        }
        span.end();
        result.map(drop)
    }
}

/// A rejected item, or an accepted item that the reading does not hold in full.
#[derive(Debug)]
pub struct RejectRecord<'a> {
    pub value: &'a [u8],
    pub code: &'static str,
    pub message: &'a str,
    pub device_sn: Option<&'a str>,
    /// The item's index in its body. A missing time is derived from the index.
    pub index: usize,
    /// Ids beside `data`, which the item's own bytes do not hold.
    pub ids: Ids,
    /// The compression of the value, if the value is kept as received.
    pub encoding: Option<Encoding>,
}

impl RecordPublisher {
    /// Publishes a reading under the request's span.
    pub fn reading(
        &self,
        reading: &Reading,
        request: &Context,
    ) -> Result<SentRecord, PublishError> {
        let span =
            self.send_span(&self.readings_topic, request, Some(reading.device_sn().as_str()));
        let context = span.span().span_context().clone();
        let headers = with_context(OwnedHeaders::new(), &context)
            .insert(Header { key: "schema", value: Some(wire::SCHEMA) });
        let pending = self.publisher.enqueue(OutgoingRecord {
            topic: &self.readings_topic,
            key: Some(reading.device_sn().as_str().as_bytes()),
            partition: None,
            value: Some(&wire::encode(reading)),
            headers,
            timestamp_ms: Some(reading.received_at_ms()),
        })?;
        Ok(SentRecord { pending, span })
    }

    /// Publishes a reject, unchanged.
    pub fn reject(
        &self,
        reject: &RejectRecord<'_>,
        received_at_ms: i64,
        request: &Context,
    ) -> Result<SentRecord, PublishError> {
        let span = self.send_span(&self.rejects_topic, request, None);
        let context = span.span().span_context().clone();
        let received_at = received_at_ms.to_string();
        let index = reject.index.to_string();
        let mut headers = with_context(OwnedHeaders::new(), &context)
            .insert(Header { key: "code", value: Some(reject.code) })
            .insert(Header { key: "message", value: Some(reject.message) })
            .insert(Header { key: "received_at", value: Some(&received_at) })
            .insert(Header { key: "index", value: Some(&index) });
        if let Some(encoding) = reject.encoding {
            let value = Some(encoding.as_str());
            headers = headers.insert(Header { key: CONTENT_ENCODING, value });
        }
        let ids = [
            ("customer_id", reject.ids.customer_id),
            ("org_id", reject.ids.org_id),
            ("user_id", reject.ids.user_id),
        ];
        for (key, id) in ids {
            if let Some(id) = id {
                headers = headers.insert(Header { key, value: Some(&id.to_string()) });
            }
        }
        let pending = self.publisher.enqueue(OutgoingRecord {
            topic: &self.rejects_topic,
            key: reject.device_sn.map(str::as_bytes),
            partition: None,
            value: Some(reject.value),
            headers,
            timestamp_ms: Some(received_at_ms),
        })?;
        Ok(SentRecord { pending, span })
    }

    /// Starts a span for a sampled request. Other records carry the request's context.
    fn send_span(&self, topic: &str, request: &Context, device_sn: Option<&str>) -> Context {
        if !request.span().span_context().is_sampled() {
            return request.clone();
        }
        let device = device_sn.map(|sn| KeyValue::new("device.id", sn.to_owned()));
        NewSpan::send(topic).under(request).with(device.into_iter().collect()).start()
    }
}

fn with_context(headers: OwnedHeaders, context: &SpanContext) -> OwnedHeaders {
    match trace::traceparent(context) {
        Some(context) => headers.insert(Header { key: TRACEPARENT, value: Some(&context) }),
        None => headers,
    }
}
