//! What became of a body, whatever the answer makes of it.

use ljwx_service::kafka::publisher::PublishError;

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
    /// Rejections and warnings, in the order of the items, at most [`REMARKS_MAX`]: the rest is only
    /// counted.
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

/// Most remarks about one body, and so most entries of `results` in an answer.
const REMARKS_MAX: usize = 100;

impl Ingested {
    /// Notes a remark where there is still room for it; it is not even made otherwise.
    pub fn remark(&mut self, remark: impl FnOnce() -> Remark) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark());
        }
    }
}
