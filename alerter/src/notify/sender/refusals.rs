//! Judges refusals: if many addresses of an account refuse and none accepts, the account is the
//! cause, and the addresses are enabled again.
//!
//! The tables hold the refusals, so those of all replicas count together.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tracing::warn;

use super::Sender;
use super::retry_policy::FIX_WAIT;
use crate::notify::limits::breaker::AccountHealth;
use crate::notify::outbox::reroute_rows::REFUSALS_WINDOW;
use crate::notify::recipients::LookupResult;
use crate::notify::wechat::Account;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure};
use crate::rules::Channel;

/// Interval at which the refusals of all replicas are judged.
pub(super) const JUDGE_INTERVAL: Duration = Duration::from_secs(30);

/// Different addresses whose refusals show that their account is the cause.
const REFUSALS_MAX: i64 = 5;

impl Sender {
    /// Judges every account of which addresses were disabled lately: by a replica that does not know
    /// the cause, or by a process that ended before it judged. `causes` are the accounts that were the
    /// cause at the last call. They may work by now, and still have disabled addresses.
    pub(super) async fn judge_all(&self, causes: &mut HashSet<String>) -> LookupResult<()> {
        let refusing = self.outbox.refusing().await?;
        let before = std::mem::replace(causes, self.accounts.causes());
        for (customer_id, kind, errcode) in refusing {
            let Some(channel) = Channel::from_kind(&kind) else { continue };
            let scope = (customer_id, channel);
            let Some(account) = self.account(scope).await? else { continue };
            // No one else notices a change of the account any more.
            if self.accounts.observe(&account.name, account.settings(), scope, Instant::now()) {
                self.outbox.make_due(scope).await?;
            }
            self.judge(&account, errcode, before.contains(&account.name)).await?;
        }
        Ok(())
    }

    /// Judges an account after refusals. `is_cause`: it is known to be the cause. An operator has to
    /// fix such an account. Whoever refused has the notification elsewhere by now.
    pub(super) async fn judge(
        &self,
        account: &Account,
        errcode: Option<i64>,
        is_cause: bool,
    ) -> sqlx::Result<()> {
        let (name, channel) = (account.name.as_str(), account.channel());
        let customers = self.accounts.customers(name);
        if !is_cause && !self.accounts.refuses_all(name) {
            if self.outbox.refusals(&customers, channel).await? < REFUSALS_MAX {
                return Ok(());
            }
            warn!(account = name, "account refuses for all addresses, enabling them again");
            let message = format!("{REFUSALS_MAX} addresses refused and none accepted");
            let failure = Failure::new(ErrcodeRemedy::ConfigError, errcode, message);
            self.note(account, AccountHealth::Broken(FIX_WAIT), Some(&failure));
            self.accounts.refuse_all(name);
        }
        self.directory.addresses.enable(&customers, channel, REFUSALS_WINDOW).await
    }
}
