//! Finds the recipients of a tenant's alerts, and the accounts that notify them. Recipients are the
//! device's user and the managers of its organisation.
//!
//! Reads the platform's tables and our addresses, through bounded caches with short lifetimes.
//! [`contacts`] looks people up together, [`router`] answers from what was looked up, and `choice`
//! chooses. Other modules decide when to notify, and with what.

mod accounts;
mod addresses;
pub mod choice;
pub mod contacts;
mod managers;
mod platform_tables;
pub mod router;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ljwx_ledger::mysql::MySqlPool;
use moka::future::Cache;
use tracing::warn;

use crate::notify::wechat::Accounts;
use accounts::AccountFault;
pub use accounts::TenantAccounts;
use addresses::AddressBook;
pub use addresses::disable;
use platform_tables::PlatformTables;

/// Lifetime of the cached accounts.
const ACCOUNTS_TTL: Duration = Duration::from_secs(10);

/// Lifetime of cached names and managers.
const PEOPLE_TTL: Duration = Duration::from_secs(60);

/// Most names of users and organisations that are cached.
const NAMES_MAX: u64 = 200_000;

/// Most organisations whose managers are cached.
const ORGS_MAX: u64 = 20_000;

/// The result of a lookup. Those who wait for the same one share its error.
pub type LookupResult<T> = Result<T, Arc<sqlx::Error>>;

/// Accounts, people and addresses.
pub struct Directory {
    tables: PlatformTables,
    /// The accounts of a single-tenant installation.
    single: Arc<Accounts>,
    accounts: Cache<(), Arc<TenantAccounts>>,
    /// Managers by tenant and organisation.
    managers: Cache<(i64, i64), Arc<[i64]>>,
    /// The organisation above an organisation.
    above: Cache<i64, Option<i64>>,
    /// The addresses of users.
    pub addresses: AddressBook,
    /// Names by table, tenant and id.
    names: Cache<(&'static str, i64, i64), Option<Arc<str>>>,
    /// The faults of accounts that were logged last.
    faults: Mutex<Vec<AccountFault>>,
}

/// Reads the accounts of all tenants.
pub async fn all_accounts(pool: MySqlPool) -> sqlx::Result<Arc<TenantAccounts>> {
    accounts::load(&PlatformTables(pool)).await
}

impl Directory {
    /// Reads from `pool`. `single` serves an installation whose table of accounts has no row.
    pub fn new(pool: MySqlPool, single: Accounts) -> Self {
        Self {
            tables: PlatformTables(pool.clone()),
            single: Arc::new(single),
            accounts: Cache::builder().max_capacity(1).time_to_live(ACCOUNTS_TTL).build(),
            managers: Cache::builder().max_capacity(ORGS_MAX).time_to_live(PEOPLE_TTL).build(),
            above: Cache::builder().max_capacity(ORGS_MAX).time_to_live(PEOPLE_TTL).build(),
            addresses: AddressBook::new(pool),
            names: Cache::builder().max_capacity(NAMES_MAX).time_to_live(PEOPLE_TTL).build(),
            faults: Mutex::default(),
        }
    }

    /// Returns the accounts that notify a tenant's recipients. Empty if the tenant has no account.
    pub async fn accounts(&self, customer_id: i64) -> LookupResult<Arc<Accounts>> {
        let load = async {
            let loaded = accounts::load(&self.tables).await?;
            self.log_faults(&loaded.faults);
            Ok::<_, sqlx::Error>(loaded)
        };
        let loaded = self.accounts.try_get_with((), load).await?;
        Ok(match loaded.tenants.get(&customer_id) {
            Some(accounts) => Arc::clone(accounts),
            // One tenant's people must never read about another's patients. If tenants have
            // accounts of their own, the installation's account serves no tenant.
            None if loaded.is_empty => Arc::clone(&self.single),
            None => Arc::default(),
        })
    }

    /// Logs the faults of the accounts, once until they change.
    fn log_faults(&self, faults: &[AccountFault]) {
        let mut logged = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != faults {
            for AccountFault { text, .. } in faults {
                warn!(reason = text, "cannot use account, skipping it");
            }
            *logged = faults.to_vec();
        }
    }
}
