//! Limits texts of statements to the packet of the server, and joins statements to texts.
//!
//! `sql::fill` splits a statement that is too long by itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use ljwx_ledger::mysql::MySqlConnection;

/// A text takes at most the largest packet divided by this number. So neither escaping nor one
/// large row exceeds the packet.
const PART_OF_PACKET: usize = 4;

/// The limit of texts, queried from the server once.
#[derive(Debug, Default)]
pub struct PacketLimit {
    /// Most bytes of one text of statements; 0: not queried yet.
    text_max: AtomicUsize,
}

impl PacketLimit {
    /// Returns the most bytes that a text of statements should have.
    pub async fn text_max(&self, connection: &mut MySqlConnection) -> Result<usize, sqlx::Error> {
        let known = self.text_max.load(Ordering::Relaxed);
        if known > 0 {
            return Ok(known);
        }
        let packet: i64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS SIGNED)")
            .fetch_one(connection)
            .await?;
        let text_max = (usize::try_from(packet).unwrap_or(0) / PART_OF_PACKET).max(1);
        self.text_max.store(text_max, Ordering::Relaxed);
        Ok(text_max)
    }

    /// Forgets the limit after a failure: the next connection may reach a server with a smaller
    /// packet.
    pub fn reset(&self) {
        self.text_max.store(0, Ordering::Relaxed);
    }
}

/// Joins statements in their order to as few texts of at most `text_max` bytes as possible.
pub fn joined(statements: impl IntoIterator<Item = String>, text_max: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for statement in statements {
        match texts.last_mut() {
            Some(text) if text.len() + 1 + statement.len() <= text_max => {
                text.push(';');
                text.push_str(&statement);
            }
            _ => texts.push(statement),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_share_a_text_while_they_fit() {
        let statements = || ["aa", "bb", "cccccc", "d"].map(str::to_owned);
        assert_eq!(joined(statements(), 14), ["aa;bb;cccccc;d"]);
        assert_eq!(joined(statements(), 13), ["aa;bb;cccccc", "d"]);
        assert_eq!(joined(statements(), 5), ["aa;bb", "cccccc", "d"]);
        assert_eq!(joined([], 5), Vec::<String>::new());
    }
}
