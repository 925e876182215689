//! Reads the trace context in the headers of a record.
//!
//! Leaves the form of a context to `telemetry::trace`.

use opentelemetry::trace::SpanContext;
use rdkafka::message::Headers;

use crate::telemetry::trace::{self, TRACEPARENT};

/// Bytes of such a context; later versions may add to them.
const TRACEPARENT_BYTES: usize = 55;

/// The trace context in a record's headers, not parsed yet: most records are not sampled.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    traceparent: Option<[u8; TRACEPARENT_BYTES]>,
}

impl Origin {
    /// Takes it from the headers of a record.
    pub fn of_headers<H: Headers>(headers: &H) -> Self {
        let traceparent = headers.iter().find(|header| header.key == TRACEPARENT);
        let value = traceparent.and_then(|header| header.value);
        Self { traceparent: value.and_then(|value| value.first_chunk().copied()) }
    }

    /// The context of that span; `None` where it is not said, or nonsense.
    pub fn context(&self) -> Option<SpanContext> {
        trace::read(self.traceparent.as_ref()?)
    }

    /// The same where it is sampled; others have nothing to link to.
    pub fn sampled(&self) -> Option<SpanContext> {
        // The last two digits are the flags; most records are not sampled, and are read no further.
        if self.traceparent?.ends_with(b"00") {
            return None;
        }
        self.context().filter(SpanContext::is_sampled)
    }
}
