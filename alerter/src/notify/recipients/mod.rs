//! Finds the recipients of a tenant's alerts, and the accounts that notify them. Recipients are the
//! device's user and the managers of its organisation.
//!
//! Reads the platform's tables and our addresses, through bounded caches with short lifetimes.
//! Other modules decide when to notify, and with what.

mod accounts;
mod addresses;
mod choice;
mod managers;
mod platform_rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use ljwx_reading::Ids;
use moka::future::Cache;
use tracing::{debug, warn};

use crate::notify::address::{Address, DEFAULT_USER, EVERYBODY, Recipient};
use crate::notify::notice::{Routing, cut};
use crate::notify::wechat::Accounts;
use crate::notify::wechat::escape::one_line;
use crate::rules::channel::{Channel, Channels};
use accounts::TenantAccounts;
use addresses::AddressBook;
pub use addresses::{disable, enable};
use choice::{Addresses, RECIPIENTS_MAX, account_channels, choose, recipient};
use managers::Managers;
use platform_rows::{PlatformRow, PlatformTables};

/// Lifetime of the cached accounts.
const ACCOUNTS_TTL: Duration = Duration::from_secs(10);

/// Lifetime of a cached name.
const NAMES_TTL: Duration = Duration::from_secs(60);

/// Most users whose names are cached, and most organisations.
const NAMES_MAX: u64 = 100_000;

/// Longest name in a notice, in bytes.
const NAME_BYTES_MAX: usize = 120;

/// The recipients of an alert.
#[derive(Debug, Clone)]
pub enum Recipients {
    /// These addresses, through these accounts.
    Reached(Arc<Accounts>, Arc<[Recipient]>),
    /// No recipient, for this reason: `no_channel` (the rule names no channel), `no_account` (the
    /// tenant has no account for the channel), `no_recipient` (no address is known).
    NotNotified(&'static str),
}

/// Names by tenant and id.
type NameCache = Cache<(i64, i64), Option<Arc<str>>>;

/// Accounts, people and addresses.
pub struct Directory {
    tables: Arc<PlatformTables>,
    /// The accounts of a single-tenant installation.
    single: Arc<Accounts>,
    accounts: Cache<(), Arc<TenantAccounts>>,
    managers: Managers,
    addresses: AddressBook,
    names: NameCache,
    wards: NameCache,
    /// The faults of accounts that were logged last.
    faults: Mutex<Vec<String>>,
}

impl Directory {
    /// Reads from `pool`. `single` serves an installation whose table of accounts has no row.
    pub fn new(pool: MySqlPool, single: Accounts) -> Self {
        let tables = Arc::new(PlatformTables::new(pool.clone()));
        let names = || Cache::builder().max_capacity(NAMES_MAX).time_to_live(NAMES_TTL).build();
        Self {
            managers: Managers::new(Arc::clone(&tables)),
            tables,
            single: Arc::new(single),
            accounts: Cache::builder().max_capacity(1).time_to_live(ACCOUNTS_TTL).build(),
            addresses: AddressBook::new(pool),
            names: names(),
            wards: names(),
            faults: Mutex::default(),
        }
    }

    /// Finds the recipients of an alert of `ids` by these channels.
    pub async fn recipients(
        &self,
        ids: Ids,
        channels: Channels,
    ) -> Result<Recipients, Arc<sqlx::Error>> {
        self.find(ids, channels, &[]).await
    }

    /// Finds the recipients of a tenant's notice again, without these addresses. The watch does not
    /// refuse, so it is not among them.
    pub async fn reroute(
        &self,
        customer_id: i64,
        routing: Routing,
        without: &[Address],
    ) -> Result<Vec<Recipient>, Arc<sqlx::Error>> {
        let Routing { user_id, org_id, channels } = routing;
        let ids = Ids { customer_id: Some(customer_id), org_id, user_id };
        let channels = Channels { message: false, ..channels };
        Ok(match self.find(ids, channels, without).await? {
            Recipients::Reached(_, recipients) => recipients.to_vec(),
            Recipients::NotNotified(_) => Vec::new(),
        })
    }

    async fn find(
        &self,
        ids: Ids,
        channels: Channels,
        without: &[Address],
    ) -> Result<Recipients, Arc<sqlx::Error>> {
        if !(channels.wechat || channels.wecom || channels.message) {
            return Ok(Recipients::NotNotified("no_channel"));
        }
        let customer_id = ids.customer_id.unwrap_or_default();
        let accounts = self.accounts(customer_id).await?;
        let account_channels = account_channels(&accounts, channels);
        if account_channels.is_empty() && !channels.message {
            return Ok(Recipients::NotNotified("no_account"));
        }
        let people = self.people(customer_id, ids).await?;
        let mut addresses = match account_channels.is_empty() {
            true => Addresses::new(),
            false => {
                let everybody = [&people[..], &[EVERYBODY, DEFAULT_USER]].concat();
                self.addresses.of(customer_id, &everybody).await?
            }
        };
        let disabled = addresses.remove(&DEFAULT_USER).unwrap_or_default();
        let without = [without, &disabled[..]].concat();
        let (chosen, omitted) =
            choose(&people, &addresses, &accounts, &account_channels, channels.message, &without);
        if omitted > 0 {
            warn!(
                customer.id = customer_id,
                org.id = ids.org_id,
                recipients.omitted = omitted,
                "too many recipients, notifying the first {RECIPIENTS_MAX}"
            );
        }
        let recipients = chosen.into_iter().map(|address| recipient(address, &people, &addresses));
        let recipients: Arc<[Recipient]> = recipients.collect();
        Ok(match recipients.is_empty() {
            true => Recipients::NotNotified("no_recipient"),
            false => Recipients::Reached(accounts, recipients),
        })
    }

    /// Returns the addresses of a tenant's users on a channel, by user. Empty if the tenant has no
    /// account for the channel.
    pub async fn addresses(
        &self,
        customer_id: i64,
        users: &[i64],
        channel: Channel,
    ) -> Result<HashMap<i64, Vec<Address>>, Arc<sqlx::Error>> {
        let accounts = self.accounts(customer_id).await?;
        if accounts.name(channel).is_none() {
            return Ok(HashMap::new());
        }
        let mut known = self.addresses.of(customer_id, users).await?;
        let disabled = known.remove(&DEFAULT_USER);
        let of_channel = |addresses: Arc<[Address]>| {
            addresses.iter().filter(|one| one.channel == channel).cloned().collect::<Vec<_>>()
        };
        let mut found: HashMap<i64, Vec<Address>> =
            known.into_iter().map(|(user, addresses)| (user, of_channel(addresses))).collect();
        if let Some(disabled) = disabled {
            let default = accounts.default_address(channel);
            let default = default.filter(|default| !disabled.contains(default));
            found.insert(DEFAULT_USER, default.into_iter().collect());
        }
        Ok(found)
    }

    /// Forgets the cached addresses, because some were disabled or enabled.
    pub fn forget_addresses(&self) {
        self.addresses.forget();
    }

    /// Returns the device's user and the managers of its organisation.
    async fn people(&self, customer_id: i64, ids: Ids) -> Result<Vec<i64>, Arc<sqlx::Error>> {
        let mut people: Vec<i64> = ids.user_id.into_iter().collect();
        if let Some(org_id) = ids.org_id {
            people.extend(self.managers.of(customer_id, org_id, ids.user_id).await?);
        }
        Ok(people)
    }

    /// Returns the accounts that notify a tenant's recipients. Empty if the tenant has no account.
    pub async fn accounts(&self, customer_id: i64) -> Result<Arc<Accounts>, Arc<sqlx::Error>> {
        let load = async {
            let loaded = accounts::load(&self.tables).await?;
            self.log_faults(&loaded.faults);
            Ok::<_, sqlx::Error>(loaded)
        };
        let loaded = self.accounts.try_get_with((), load).await?;
        Ok(match loaded.of(customer_id) {
            Some(accounts) => Arc::clone(accounts),
            // One tenant's people must never read about another's patients. If tenants have
            // accounts of their own, the installation's account serves no tenant.
            None if loaded.is_empty => Arc::clone(&self.single),
            None => Arc::default(),
        })
    }

    /// Logs the faults of the accounts, once until they change.
    fn log_faults(&self, faults: &[String]) {
        let mut logged = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != faults {
            faults
                .iter()
                .for_each(|fault| warn!(reason = fault, "cannot use account, skipping it"));
            *logged = faults.to_vec();
        }
    }

    /// Returns the real name or the login name of a tenant's user, in one line and of bounded
    /// length. `None` if the name is unknown or MySQL fails: a name never delays an alert.
    pub async fn name(&self, customer_id: i64, user_id: i64) -> Option<String> {
        let columns = ["real_name", "user_name"];
        self.cached_name(&self.names, "sys_user", &columns, (customer_id, user_id)).await
    }

    /// Returns the name of a tenant's organisation, like [`Self::name`].
    pub async fn ward(&self, customer_id: i64, org_id: i64) -> Option<String> {
        self.cached_name(&self.wards, "sys_org_units", &["name"], (customer_id, org_id)).await
    }

    async fn cached_name(
        &self,
        names: &NameCache,
        table: &'static str,
        columns: &[&str],
        (customer_id, id): (i64, i64),
    ) -> Option<String> {
        let load = async {
            let rows = self.tables.rows(table, &format!("WHERE id = {id}")).await?;
            Ok::<_, sqlx::Error>(rows.first().and_then(|row| name(row, columns, customer_id)))
        };
        let name = names.try_get_with((customer_id, id), load).await;
        let name = name
            .inspect_err(
                |error| debug!(%error, table, "cannot look up name, continuing without it"),
            )
            .ok()?;
        name.map(|name| name.as_ref().to_owned())
    }
}

/// Returns the name in a row: the first of these columns that has a text.
fn name(row: &PlatformRow, columns: &[&str], customer_id: i64) -> Option<Arc<str>> {
    if row.flag("is_deleted", false) || !row.is_of(customer_id) {
        return None;
    }
    let name = columns.iter().find_map(|column| row.text(column))?;
    Some(cut(one_line(name).trim(), NAME_BYTES_MAX).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_by_the_real_name_in_one_line_and_not_for_ever() {
        const COLUMNS: [&str; 2] = ["real_name", "user_name"];
        let long = "王".repeat(3_000);
        for (row, expected) in [
            (PlatformRow::from([("real_name", "王小明"), ("user_name", "u1")]), Some("王小明")),
            (PlatformRow::from([("real_name", ""), ("user_name", "u1")]), Some("u1")),
            (PlatformRow::from([("real_name", "a\nb"), ("customer_id", "7")]), Some("a b")),
            (PlatformRow::from([("real_name", "x"), ("customer_id", "8")]), None),
            (PlatformRow::from([("real_name", "x"), ("is_deleted", "1")]), None),
            (PlatformRow::from([("id", "1")]), None),
        ] {
            assert_eq!(name(&row, &COLUMNS, 7).as_deref(), expected, "{row:?}");
        }
        let name = name(&PlatformRow::from([("real_name", long.as_str())]), &COLUMNS, 7).unwrap();
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with('…'));
    }
}
