//! How long a text of statements may be for the server at hand, and joining statements to such texts.
//!
//! Splitting a statement that is too long by itself belongs to whoever writes it (`sql::fill`).

use std::sync::atomic::{AtomicUsize, Ordering};

use ljwx_ledger::mysql::MySqlConnection;

/// A text of statements takes at most this part of the largest packet, so that neither escaping nor
/// a single large row comes near it.
const PART_OF_PACKET: usize = 4;

/// What a server takes at a time; asked once.
#[derive(Debug, Default)]
pub struct Packet {
    /// Most bytes of one text of statements; 0: the server is to be asked.
    text_max: AtomicUsize,
}

impl Packet {
    /// The most bytes that a text of statements should have.
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

    /// A connection that failed may be followed by one to a server that takes less.
    pub fn ask_again(&self) {
        self.text_max.store(0, Ordering::Relaxed);
    }
}

/// Statements joined to as few texts of at most `text_max` bytes as keep their order.
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
