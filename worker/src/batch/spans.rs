//! Creates the spans of a batch, and links the traces of readings and batches in both directions.
//!
//! A span has one parent, so a batch can only link to its readings, and links are one-way in most
//! tools. So each sampled reading also gets a short `process` span in its own trace, with a link to
//! the batch.

use std::time::SystemTime;

use ljwx_ledger::ledger::Counts;
use ljwx_service::telemetry::trace::{LINKS_MAX, NewSpan};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::batch::{Batch, DeadLetter};

/// Names that the spans carry.
#[derive(Debug, Clone)]
pub struct SpanNames {
    pub topic: String,
    pub group: String,
}

impl SpanNames {
    fn messaging(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", self.topic.clone()),
            KeyValue::new("messaging.consumer.group.name", self.group.clone()),
        ]
    }
}

/// The span `batch_processing`, the parent of the other spans of the batch.
pub struct BatchSpans {
    batch: Context,
}

impl BatchSpans {
    /// Starts the batch's span and links it to every sampled reading. Above `LINKS_MAX` readings,
    /// child spans carry the links, because SDKs drop links above a limit silently.
    pub fn start(names: &SpanNames, batch: &Batch) -> Self {
        let origins: Vec<(i32, SpanContext, i64)> = batch
            .segments
            .iter()
            .flat_map(|segment| {
                let partition = segment.partition;
                segment.origins.iter().map(move |o| (partition, o.context.clone(), o.offset))
            })
            .collect();
        let contexts: Vec<SpanContext> =
            origins.iter().map(|(_, context, _)| context.clone()).collect();
        let fits = contexts.len() <= LINKS_MAX;
        let mut attributes = names.messaging();
        attributes.extend([
            KeyValue::new("messaging.batch.message_count", batch.records() as i64),
            KeyValue::new("batch.id", batch.id.clone()),
            KeyValue::new("batch.size", batch.records() as i64),
            KeyValue::new("batch.reason", batch.reason.as_str()),
            KeyValue::new("batch.links", contexts.len() as i64),
        ]);
        let mut span = NewSpan::new("batch_processing", SpanKind::Consumer).with(attributes);
        // Record the batch if a reading of it is sampled: a trace that ends at the queue answers
        // nothing.
        if !contexts.is_empty() {
            span = span.recorded();
        }
        if fits {
            span = span.linked(contexts.clone());
        }
        let context = span.start();
        if !fits {
            link_in_chunks(&context, &batch.id, &contexts);
        }
        for (partition, origin, offset) in origins {
            process(names, &context, &batch.id, partition, origin, offset);
        }
        Self { batch: context }
    }

    /// Returns the batch's span, as a parent of others.
    pub fn context(&self) -> &Context {
        &self.batch
    }

    /// Ends the batch's span with the counts of its outcome.
    pub fn end(self, counts: &Counts) {
        let span = self.batch.span();
        span.set_attribute(KeyValue::new("batch.stored", counts.stored));
        span.set_attribute(KeyValue::new("batch.merged", counts.merged));
        span.set_attribute(KeyValue::new("batch.dead_lettered", counts.dead_lettered));
        span.end();
    }
}

fn link_in_chunks(batch: &Context, batch_id: &str, contexts: &[SpanContext]) {
    let chunks = contexts.len().div_ceil(LINKS_MAX);
    for (index, chunk) in contexts.chunks(LINKS_MAX).enumerate() {
        NewSpan::new(format!("links {}/{chunks}", index + 1), SpanKind::Internal)
            .under(batch)
            .with(vec![KeyValue::new("batch.id", batch_id.to_owned())])
            .linked(chunk.to_vec())
            .start()
            .span()
            .end();
    }
}

/// Creates a short span in the reading's trace, under the span that sent it, linked to the batch.
fn process(
    names: &SpanNames,
    batch: &Context,
    batch_id: &str,
    partition: i32,
    origin: SpanContext,
    offset: i64,
) {
    let mut attributes = names.messaging();
    attributes.extend([
        KeyValue::new("messaging.destination.partition.id", partition.to_string()),
        KeyValue::new("messaging.kafka.offset", offset),
        KeyValue::new("batch.id", batch_id.to_owned()),
    ]);
    NewSpan::new(format!("process {}", names.topic), SpanKind::Consumer)
        .under_remote(origin)
        .with(attributes)
        .linked(vec![batch.span().span_context().clone()])
        .start()
        .span()
        .end();
}

/// Creates the span of a dead letter, under the span that sent the delivery. The span is always
/// recorded, so that a dead letter leads to its trace.
pub fn dead_letter(
    topic: &str,
    origin: Option<SpanContext>,
    letter: &DeadLetter,
    partition: i32,
    batch_id: &str,
) {
    let mut span = NewSpan::send(topic);
    if let Some(origin) = origin {
        span = span.under_remote(origin);
    }
    let class = letter.class.as_str();
    let context = span
        .with(vec![
            KeyValue::new("dlq.source.partition", i64::from(partition)),
            KeyValue::new("dlq.source.offset", letter.offset),
            KeyValue::new("batch.id", batch_id.to_owned()),
        ])
        .recorded()
        .start();
    end(&context, Some(class));
}

/// Creates the span of a failed attempt to write a batch, if the attempt's own span was not
/// recorded.
pub fn failed_insert(parent: &Context, batch: &Batch, since: SystemTime, kind: &'static str) {
    if parent.span().span_context().is_sampled() {
        return;
    }
    let batch_id = vec![KeyValue::new("batch.id", batch.id.clone())];
    let span = insert(parent, batch).since(since).with(batch_id).recorded();
    end(&span.start(), Some(kind));
}

/// Starts the span of one transaction.
pub fn database_insert(parent: &Context, batch: &Batch) -> Context {
    insert(parent, batch).start()
}

fn insert(parent: &Context, batch: &Batch) -> NewSpan {
    NewSpan::new("database_insert", SpanKind::Client).under(parent).with(vec![
        KeyValue::new("db.system.name", "mysql"),
        KeyValue::new("db.operation.name", "UPSERT"),
        KeyValue::new("db.operation.batch.size", batch.records() as i64),
        KeyValue::new("db.collection.name", "t_user_health_data"),
    ])
}

/// Starts the span of one batch's Redis update.
pub fn redis_update(parent: &Context, batch: &Batch) -> Context {
    NewSpan::new("redis_update", SpanKind::Client)
        .under(parent)
        .with(vec![
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", "EVALSHA"),
            KeyValue::new("db.operation.batch.size", batch.records() as i64),
        ])
        .start()
}

/// Ends a span, with the kind of its failure if it failed.
pub fn end(context: &Context, failure: Option<&'static str>) {
    let span = context.span();
    if let Some(kind) = failure {
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(kind));
    }
    span.end();
}
