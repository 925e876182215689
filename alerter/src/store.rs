//! One transaction for all that follows from a batch of readings: state, alerts, outbox, counts, and
//! the ledger's moves over them.
//!
//! Makes one attempt; trying again belongs to [`crate::pipeline`].

use common::ledger::{Ledger, Standing};
use sqlx::{Connection, MySqlPool};

use crate::stretch::Stretch;
use crate::suppressed::{self, Suppressed};
use crate::{alerts, outbox, state};

/// How an attempt to write a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is written.
    Done,
    /// Nothing is written, because the ledger does not stand where this stretch begins.
    Refused(usize, Standing),
}

/// Where batches go.
#[derive(Debug, Clone)]
pub struct Store {
    pool: MySqlPool,
    ledger: Ledger,
}

impl Store {
    /// Writes to `pool`, accounted for in `ledger`.
    pub fn new(pool: MySqlPool, ledger: Ledger) -> Self {
        Self { pool, ledger }
    }

    /// The database.
    pub fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// Writes stretches of several partitions, all of them or none. After an error they may have
    /// been written all the same; the next attempt finds out by the ledger.
    pub async fn commit(&self, batch: &[Stretch]) -> Result<Committed, sqlx::Error> {
        let mut connection = common::mysql::acquire(&self.pool).await?;
        let mut transaction = connection.begin().await?;
        for (at, stretch) in batch.iter().enumerate() {
            let advance = &stretch.advance;
            // The ledger first: who does not own the partition finds out before writing anything.
            if !self.ledger.advance(&mut transaction, advance).await? {
                transaction.rollback().await?;
                return Ok(Committed::Refused(at, self.ledger.standing(advance).await?));
            }
        }
        let states: Vec<_> =
            batch.iter().map(|stretch| (stretch.advance.partition, &stretch.state)).collect();
        state::save(&mut transaction, &states).await?;
        let opened: Vec<_> = batch.iter().flat_map(|stretch| &stretch.opened).collect();
        alerts::open(&mut transaction, &opened).await?;
        let mut suppressed = Suppressed::default();
        for stretch in batch {
            for change in &stretch.changed {
                alerts::change(&mut transaction, change).await?;
            }
            for notification in &stretch.notifications {
                outbox::add(&mut transaction, notification).await?;
            }
            suppressed.add(&stretch.suppressed);
        }
        // Last, because these rows are shared with other replicas: they stay locked until the end.
        suppressed::save(&mut transaction, &suppressed).await?;
        transaction.commit().await?;
        Ok(Committed::Done)
    }
}
