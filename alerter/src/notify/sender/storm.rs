//! Sends digests during a storm: a tenant has more alerts in a minute than are sent one by one.
//!
//! Runs before every claim. [`super::digest`] chooses the rows. If a statement fails, the rows stay
//! pending or are sent one by one.

use std::collections::HashSet;

use metrics::counter;
use tracing::{debug, info};

use super::Sender;
use super::decide::AGE_MAX;
use super::digest::{choose, notice, unpaired_ends};
use crate::metrics::{DIGESTS, IN_DIGESTS, POSTPONED};
use crate::notify::outbox::digest_rows;

/// Fewest rows that become a digest once a storm is over.
const DIGEST_ROWS_MIN: usize = 2;

impl Sender {
    /// Groups pending rows into digests at tenants that have a storm.
    pub(super) async fn digest_storms(&self) {
        let storms = self.outbox.storms(self.limits.storm_per_minute).await;
        let storms = storms.unwrap_or_else(|error| {
            debug!(%error, "cannot query storms, sending notifications one by one");
            Vec::new()
        });
        for (customer_id, lasts) in storms {
            if let Err(error) = self.digest_tenant(customer_id, lasts).await {
                debug!(%error, customer.id = customer_id, "cannot write digests, retrying");
            }
        }
    }

    async fn digest_tenant(&self, customer_id: i64, lasts: bool) -> Result<(), sqlx::Error> {
        for recipient in self.outbox.waiting_recipients(customer_id).await? {
            self.digest((customer_id, &recipient), lasts).await?;
        }
        Ok(())
    }

    /// Groups a recipient's pending rows into a digest, or postpones them until the recipient may
    /// get another. After the storm, only gathered rows become a digest. Later rows are sent
    /// singly.
    async fn digest(&self, whom: (i64, &str), lasts: bool) -> Result<(), sqlx::Error> {
        let mut transaction = self.outbox.transaction().await?;
        let mut until = digest_rows::digest_until(&mut transaction, whom).await?;
        let mut waiting = Vec::new();
        if until.is_none() {
            waiting = digest_rows::lock(&mut transaction, whom, AGE_MAX).await?;
            // Check again: another replica may have written a digest while the rows were being
            // locked.
            until = digest_rows::digest_until(&mut transaction, whom).await?;
        }
        if let Some(until) = until {
            transaction.rollback().await?;
            if !lasts {
                return Ok(());
            }
            let postpone = self.outbox.postpone(whom, &until.to_string()).await?;
            counter!(POSTPONED, "reason" => "storm").increment(postpone);
            return Ok(());
        }
        let notified =
            digest_rows::notified_episodes(&mut transaction, whom.1, &unpaired_ends(&waiting))
                .await?;
        let members = choose(&waiting, &HashSet::from_iter(notified));
        if !lasts && members.len() < DIGEST_ROWS_MIN {
            return transaction.rollback().await;
        }
        let Some(notice) = notice(&members) else { return transaction.rollback().await };
        let ids: Vec<i64> = members.iter().map(|member| member.id).collect();
        if !digest_rows::write_digest(&mut transaction, whom, &notice, &ids).await? {
            return transaction.rollback().await;
        }
        transaction.commit().await?;
        counter!(DIGESTS).increment(1);
        counter!(IN_DIGESTS).increment(ids.len() as u64);
        info!(
            customer.id = whom.0,
            notifications = ids.len(),
            "notifications grouped into a digest"
        );
        Ok(())
    }
}
