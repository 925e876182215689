//! The methods of writing that a ceiling tries.

use std::fmt;

/// Rows per statement that are tried.
const ROWS: [usize; 3] = [200, 500, 1000];

/// Numbers of connections that are tried.
const CONNECTIONS: [usize; 3] = [1, 2, 4];

/// A method of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) prepared: bool,
    pub(super) rows: usize,
    pub(super) connections: usize,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.prepared { "prepared" } else { "text" };
        write!(f, "{kind}, {} rows, {} connection(s)", self.rows, self.connections)
    }
}

impl Form {
    /// Returns all methods that are tried.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|prepared| {
            ROWS.into_iter().flat_map(move |rows| {
                CONNECTIONS.map(|connections| Self { prepared, rows, connections })
            })
        })
    }
}
