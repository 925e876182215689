//! Reads the trace context from the headers of a record.
//!
//! Leaves the format of a context to `telemetry::trace`.

use opentelemetry::trace::SpanContext;
use rdkafka::message::Headers;

use crate::telemetry::trace::{self, TRACEPARENT};

/// Bytes of a `traceparent`. Later versions may be longer.
const TRACEPARENT_BYTES: usize = 55;

/// The trace context in a record's headers, kept unparsed: most records are not sampled.
#[derive(Debug, Clone, Default)]
pub struct RecordTrace {
    traceparent: Option<[u8; TRACEPARENT_BYTES]>,
}

impl RecordTrace {
    /// Copies the context from the headers of a record.
    pub fn of_headers<H: Headers>(headers: &H) -> Self {
        let traceparent = headers.iter().find(|header| header.key == TRACEPARENT);
        let value = traceparent.and_then(|header| header.value);
        Self { traceparent: value.and_then(|value| value.first_chunk().copied()) }
    }

    /// Parses the context. Returns `None` if the context is missing or invalid.
    pub fn context(&self) -> Option<SpanContext> {
        trace::read(self.traceparent.as_ref()?)
    }

    /// Parses the context if its span was sampled. Other spans cannot be linked to.
    pub fn sampled(&self) -> Option<SpanContext> {
        // The last two digits are the flags. Most records are not sampled, so nothing else is
        // parsed.
        if self.traceparent?.ends_with(b"00") {
            return None;
        }
        self.context().filter(SpanContext::is_sampled)
    }
}
