//! Looks up the contacts of many alerts together: accounts, people, addresses and names.
//!
//! The caller looks contacts up before a notification counts, and the rest is pure: see
//! [`super::router`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ljwx_ledger::platform_rows::PlatformRow;
use ljwx_reading::Ids;
use ljwx_service::text::one_line;
use tracing::debug;

use super::choice::{Addresses, Choice, TenantContacts, choose};
use super::{Directory, LookupResult};
use crate::notify::address::{Address, DEFAULT_USER, EVERYBODY, Recipient};
use crate::notify::notice::{Routing, cut};
use crate::notify::wechat::Accounts;
use crate::rules::Channels;

/// Longest name in a notice, in bytes.
const NAME_BYTES_MAX: usize = 120;

/// Most names of one query.
const QUERY_NAMES_MAX: usize = 1_000;

/// The contacts of an alert.
#[derive(Debug, Clone, Default)]
pub struct Contacts {
    tenant: Arc<TenantContacts>,
    /// The device's user and the managers of the user's organisation.
    people: Arc<[i64]>,
    /// The name of the device's user.
    pub wearer: Option<Arc<str>>,
    /// The name of the user's organisation.
    pub ward: Option<Arc<str>>,
}

impl Contacts {
    /// The tenant's accounts.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.tenant.accounts
    }

    /// Chooses the recipients by these channels. `rests` tells whether the account of this name is
    /// passed over.
    pub fn choose(&self, channels: Channels, rests: &dyn Fn(&str) -> bool) -> Choice {
        choose(&self.tenant, &self.people, channels, rests)
    }
}

impl Directory {
    /// Returns the contacts of each of these ids.
    pub async fn contacts(&self, wanted: &BTreeSet<Ids>) -> LookupResult<HashMap<Ids, Contacts>> {
        let mut tenants: BTreeMap<i64, Vec<Ids>> = BTreeMap::new();
        for ids in wanted {
            tenants.entry(ids.customer_id.unwrap_or_default()).or_default().push(*ids);
        }
        let mut found = HashMap::with_capacity(wanted.len());
        for (customer_id, all) in tenants {
            let (tenant, people) = self.tenant_contacts(customer_id, &all).await?;
            let users = all.iter().filter_map(|ids| ids.user_id).collect();
            let columns = ["real_name", "user_name"];
            let wearers = self.known_names("sys_user", &columns, customer_id, users).await;
            let orgs = all.iter().filter_map(|ids| ids.org_id).collect();
            let wards = self.known_names("sys_org_units", &["name"], customer_id, orgs).await;
            let tenant = Arc::new(tenant);
            found.extend(all.into_iter().zip(people).map(|(ids, people)| {
                let contacts = Contacts {
                    tenant: Arc::clone(&tenant),
                    people: people.into(),
                    wearer: ids.user_id.and_then(|id| wearers.get(&id).cloned()),
                    ward: ids.org_id.and_then(|id| wards.get(&id).cloned()),
                };
                (ids, contacts)
            }));
        }
        Ok(found)
    }

    /// Finds the recipients of a tenant's notice again, without an address and without accounts of
    /// which `rests` is true. The watch does not refuse, so it is not among the recipients.
    pub async fn reroute(
        &self,
        customer_id: i64,
        routing: Routing,
        without: Option<&Address>,
        rests: &(dyn Fn(&str) -> bool + Sync),
    ) -> LookupResult<Vec<Recipient>> {
        let Routing { user_id, org_id, channels, .. } = routing;
        let ids = Ids { customer_id: Some(customer_id), org_id, user_id };
        let (mut tenant, people) = self.tenant_contacts(customer_id, &[ids]).await?;
        if let Some(address) = without {
            tenant.leave_out(address);
        }
        let channels = Channels { message: false, ..channels };
        Ok(choose(&tenant, &people.concat(), channels, rests).recipients)
    }

    /// Returns a user's own addresses as an alert by `wechat` would find them. If all are disabled,
    /// returns the disabled ones.
    pub async fn own_addresses(
        &self,
        customer_id: i64,
        user_id: i64,
    ) -> LookupResult<Vec<Address>> {
        let ids = Ids { user_id: Some(user_id), ..Ids::default() };
        let (tenant, _) = self.tenant_contacts(customer_id, &[ids]).await?;
        Ok(tenant.own(user_id))
    }

    /// Returns the contacts of a tenant that serve alerts of these ids, and the people of each.
    async fn tenant_contacts(
        &self,
        customer_id: i64,
        all: &[Ids],
    ) -> LookupResult<(TenantContacts, Vec<Vec<i64>>)> {
        let accounts = self.accounts(customer_id).await?;
        let mut people = Vec::with_capacity(all.len());
        for ids in all {
            people.push(self.people(customer_id, *ids).await?);
        }
        let mut addresses = Addresses::new();
        if !accounts.is_empty() {
            let users = people.iter().flatten().copied().chain([EVERYBODY, DEFAULT_USER]);
            let users: BTreeSet<i64> = users.collect();
            addresses = self.addresses.of(customer_id, users).await?;
        }
        Ok((TenantContacts::new(accounts, addresses), people))
    }

    /// Returns the names of a tenant's users, or organisations, as far as they are known. Without
    /// them if MySQL fails: a name never delays an alert.
    async fn known_names(
        &self,
        table: &'static str,
        columns: &[&str],
        customer_id: i64,
        wanted: BTreeSet<i64>,
    ) -> HashMap<i64, Arc<str>> {
        let mut found = HashMap::new();
        let mut asked = Vec::new();
        for id in wanted {
            match self.names.get(&(table, customer_id, id)).await {
                Some(name) => found.extend(name.map(|name| (id, name))),
                None => asked.push(id),
            }
        }
        for asked in asked.chunks(QUERY_NAMES_MAX) {
            let rows = match self.tables.by_id(table, asked).await {
                Ok(rows) => rows,
                Err(error) => {
                    debug!(%error, table, "cannot look up names, continuing without them");
                    continue;
                }
            };
            for id in asked {
                let name = rows.get(id).and_then(|row| name(row, columns, customer_id));
                self.names.insert((table, customer_id, *id), name.clone()).await;
                found.extend(name.map(|name| (*id, name)));
            }
        }
        found
    }
}

/// Returns the name in a row, in one line and of bounded length: the first of these columns that has
/// a text.
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

    impl Contacts {
        /// The contacts of an alert that concerns `people`.
        pub(crate) fn new(tenant: TenantContacts, people: &[i64]) -> Self {
            Self { tenant: Arc::new(tenant), people: people.into(), wearer: None, ward: None }
        }
    }

    #[test]
    fn a_user_is_called_by_the_real_name_in_one_line_and_not_for_ever() {
        const COLUMNS: [&str; 2] = ["real_name", "user_name"];
        let long = "王".repeat(3_000);
        for (row, expected) in [
            (
                PlatformRow::from_iter([("real_name", "王小明"), ("user_name", "u1")]),
                Some("王小明"),
            ),
            (PlatformRow::from_iter([("real_name", ""), ("user_name", "u1")]), Some("u1")),
            (PlatformRow::from_iter([("real_name", "a\nb"), ("customer_id", "7")]), Some("a b")),
            (PlatformRow::from_iter([("real_name", "x"), ("customer_id", "8")]), None),
            (PlatformRow::from_iter([("real_name", "x"), ("is_deleted", "1")]), None),
            (PlatformRow::from_iter([("id", "1")]), None),
        ] {
            assert_eq!(name(&row, &COLUMNS, 7).as_deref(), expected, "{row:?}");
        }
        let row = PlatformRow::from_iter([("real_name", long)]);
        let name = name(&row, &COLUMNS, 7).unwrap();
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with('…'));
    }
}
