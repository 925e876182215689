//! Makes Kafka records of readings and rejects, and publishes those of a body together.

use std::borrow::Cow;

use ljwx_reading::content_encoding::{CONTENT_ENCODING, Encoding};
use ljwx_reading::wire;
use ljwx_reading::{Ids, Reading};
use ljwx_service::kafka::producer::publisher::{
    OutgoingRecord, PendingRecord, PublishError, Publisher,
};
use ljwx_service::telemetry::trace::{self, NewSpan, TRACEPARENT};
use metrics::counter;
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use rdkafka::message::{Header, OwnedHeaders};

use crate::metrics::QUEUE_FULL_MIDWAY;

/// The producer and its topics.
#[derive(Clone)]
pub struct RecordPublisher {
    pub publisher: Publisher,
    pub readings_topic: String,
    pub rejects_topic: String,
}

/// A record to publish, with the span of its wait for the delivery report.
pub struct NewRecord<'a> {
    outgoing: OutgoingRecord<'a>,
    span: Context,
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
            Err(error) => fail(&self.span, error),
        }
        span.end();
        result.map(drop)
    }
}

fn fail(span: &Context, error: &PublishError) {
    span.span().set_attribute(KeyValue::new("error.type", "publish"));
    span.span().set_status(Status::error(error.to_string()));
}

/// A rejected item, or an accepted item that the reading does not hold in full. Its record borrows
/// only the value.
#[derive(Debug)]
pub struct RejectRecord<'a, 'b> {
    pub value: &'a [u8],
    pub code: &'static str,
    pub message: &'b str,
    pub device_sn: Option<&'b str>,
    /// The item's index in its body. A missing time is derived from the index.
    pub index: usize,
    /// Ids beside `data`, which the item's own bytes do not hold.
    pub ids: Ids,
    /// The compression of the value, if the value is kept as received.
    pub encoding: Option<Encoding>,
}

impl RecordPublisher {
    /// Publishes the records of a body, in their order: all, or none if the queue has no places for
    /// all.
    pub fn publish(&self, records: Vec<NewRecord<'_>>) -> Result<Vec<SentRecord>, PublishError> {
        let records = records.into_iter().map(|record| (record.outgoing, record.span));
        let (outgoing, spans): (Vec<_>, Vec<_>) = records.unzip();
        match self.publisher.enqueue_all(outgoing) {
            Ok(pending) => {
                let sent = pending.into_iter().zip(spans);
                Ok(sent.map(|(pending, span)| SentRecord { pending, span }).collect())
            }
            Err(error) => {
                if error == PublishError::QueueFull {
                    counter!(QUEUE_FULL_MIDWAY).increment(1);
                }
                spans.iter().for_each(|span| fail(span, &error));
                Err(error)
            }
        }
    }

    /// Makes the record of a reading, under the request's span.
    pub fn reading(&self, reading: &Reading, request: &Context) -> NewRecord<'_> {
        let span =
            self.send_span(&self.readings_topic, request, Some(reading.device_sn().as_str()));
        let context = span.span().span_context().clone();
        let headers = with_context(OwnedHeaders::new(), &context)
            .insert(Header { key: "schema", value: Some(wire::SCHEMA) });
        let outgoing = OutgoingRecord {
            topic: &self.readings_topic,
            key: Some(Cow::Owned(reading.device_sn().as_str().into())),
            partition: None,
            value: Some(Cow::Owned(wire::encode(reading))),
            headers,
            timestamp_ms: Some(reading.received_at_ms()),
        };
        NewRecord { outgoing, span }
    }

    /// Makes the record of a reject, which is unchanged.
    ///
    /// If the sampler did not choose the request, the record names the span `recorded`. A span for
    /// each of a thousand rejects would be far more than the bound of such spans.
    pub fn reject<'a>(
        &'a self,
        reject: &RejectRecord<'a, '_>,
        received_at_ms: i64,
        (request, recorded): (&Context, &Context),
    ) -> NewRecord<'a> {
        let span = self.send_span(&self.rejects_topic, request, None);
        let is_sampled = request.span().span_context().is_sampled();
        let named = if is_sampled { &span } else { recorded };
        let context = named.span().span_context().clone();
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
        let outgoing = OutgoingRecord {
            topic: &self.rejects_topic,
            key: reject.device_sn.map(|device_sn| Cow::Owned(device_sn.into())),
            partition: None,
            value: Some(Cow::Borrowed(reject.value)),
            headers,
            timestamp_ms: Some(received_at_ms),
        };
        NewRecord { outgoing, span }
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
