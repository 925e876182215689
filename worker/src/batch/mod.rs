//! A batch: the segments that are written in one transaction, at most one of each partition.
//! `mysql` and `redis` write the batch, and `pipeline` decides what follows.

pub mod batch_metrics;
pub mod buffer;
pub mod redis_progress;
pub mod room;
pub mod row;
pub mod segment;
pub mod size;
pub mod spans;

#[cfg(test)]
pub mod test_support;

pub use segment::{DeadLetter, Segment};

/// The reason for which a batch was taken. The words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushReason {
    /// Enough rows.
    Rows,
    /// Enough bytes.
    Bytes,
    /// The oldest delivery waited long enough.
    Age,
    /// Partitions are revoked.
    Revoked,
    /// The process is stopping.
    Shutdown,
}

impl FlushReason {
    /// Returns the stable word.
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
    pub reason: FlushReason,
    /// At most one segment of each partition.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Returns the number of records of all segments.
    pub fn records(&self) -> usize {
        self.segments.iter().map(Segment::records).sum()
    }

    /// Returns the partitions of all segments.
    pub fn partitions(&self) -> Vec<i32> {
        self.segments.iter().map(|segment| segment.partition).collect()
    }

    /// Returns the number of dead letters of all segments.
    pub fn dead_letters(&self) -> usize {
        self.segments.iter().map(|segment| segment.dead_letters.len()).sum()
    }
}
