//! What is written together in one transaction: a batch of segments, one a partition. No MySQL and no
//! Redis here: `mysql` and `redis` write a batch, `pipeline` decides what follows.

pub mod batch_metrics;
pub mod buffer;
pub mod delivery;
pub mod redis_progress;
pub mod row;
pub mod segment;
pub mod size;
pub mod spans;

#[cfg(test)]
pub mod test_support;

pub use segment::{Letter, Segment};

/// Why a batch was taken; the words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushReason {
    /// Enough rows.
    Rows,
    /// Enough bytes.
    Bytes,
    /// The oldest delivery waited long enough.
    Age,
    /// Partitions go away.
    Revoked,
    /// The process is stopping.
    Shutdown,
}

impl FlushReason {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Segments of different partitions, written in one transaction.
#[derive(Debug)]
pub struct Batch {
    /// Names the batch in spans and logs.
    pub id: String,
    /// Why it was taken.
    pub reason: FlushReason,
    /// Its segments, at most one a partition.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Records of all segments.
    pub fn records(&self) -> usize {
        self.segments.iter().map(Segment::records).sum()
    }

    /// Dead letters of all segments.
    pub fn letters(&self) -> usize {
        self.segments.iter().map(|segment| segment.letters.len()).sum()
    }
}
