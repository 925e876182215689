//! Reads bindings from the platform's tables: `sys_user` has a user's device, `sys_user_org` a
//! user's organisation, `sys_org_units` the ancestors of an organisation.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::AssertSqlSafe;

use crate::mysql::MySqlPool;
use crate::mysql::sql::ValueList;
use crate::platform_rows::PlatformRow;
use ljwx_reading::{DeviceSn, Ids};

/// Matches a row of `t_alert_info` whose alert is over, whatever the platform's word for its
/// status. NULL without a status.
pub const ALERT_OVER: &str = "LOWER(alert_status) IN ('resolved', 'superseded', 'stale', 'closed')";

/// A user who wears a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DeviceUser {
    id: i64,
    device_sn: DeviceSn,
    /// Time of the row's last change, as sortable text.
    at: String,
}

/// A user's membership in an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UserOrg {
    user_id: i64,
    org_id: i64,
    at: String,
    id: i64,
}

/// Returns the bindings of the devices. Unbound devices are left out.
pub async fn bindings(
    pool: &MySqlPool,
    devices: &[DeviceSn],
) -> Result<HashMap<DeviceSn, Ids>, sqlx::Error> {
    let users = users(pool, devices).await?;
    if users.is_empty() {
        return Ok(HashMap::new());
    }
    let user_ids: Vec<String> = users.iter().map(|user| user.id.to_string()).collect();
    let places = rows(pool, "sys_user_org", "user_id", user_ids.iter().map(String::as_str)).await?;
    let places = newest_places(places.iter().filter_map(place));
    let orgs: HashSet<i64> = places.values().copied().collect();
    let org_ids: Vec<String> = orgs.iter().map(i64::to_string).collect();
    let units = rows(pool, "sys_org_units", "id", org_ids.iter().map(String::as_str)).await?;
    let tenants = units.iter().filter_map(|row| {
        let id = row.id("id")?;
        Some((id, tenant(id, row.text("ancestors").unwrap_or_default())))
    });
    Ok(combine(&users, &places, &tenants.collect()))
}

/// Returns those of the devices that a user wears. `None` if the table names no device at all: then
/// the platform keeps its bindings elsewhere, or writes the table anew.
pub async fn worn(
    pool: &MySqlPool,
    devices: &[DeviceSn],
) -> Result<Option<BTreeSet<DeviceSn>>, sqlx::Error> {
    let users = users(pool, devices).await?;
    let worn: BTreeSet<DeviceSn> = users.into_iter().map(|user| user.device_sn).collect();
    if !worn.is_empty() {
        return Ok(Some(worn));
    }
    let any = sqlx::query("SELECT id FROM sys_user WHERE device_sn <> '' LIMIT 1");
    Ok(any.fetch_optional(pool).await?.map(|_| worn))
}

/// Returns the newest user of each device that has one.
async fn users(pool: &MySqlPool, devices: &[DeviceSn]) -> Result<Vec<DeviceUser>, sqlx::Error> {
    let wanted: HashSet<&DeviceSn> = devices.iter().collect();
    let found = rows(pool, "sys_user", "device_sn", devices.iter().map(DeviceSn::as_str)).await?;
    // The column's collation may find other serials too: two serials that differ only in case are
    // two devices.
    Ok(newest_users(found.iter().filter_map(user), &wanted))
}

fn combine(
    users: &[DeviceUser],
    places: &HashMap<i64, i64>,
    tenants: &HashMap<i64, i64>,
) -> HashMap<DeviceSn, Ids> {
    let ids = |user: &DeviceUser| {
        let org_id = places.get(&user.id).copied();
        let customer_id = org_id.and_then(|org_id| tenants.get(&org_id).copied());
        Ids { customer_id, org_id, user_id: Some(user.id) }
    };
    users.iter().map(|user| (user.device_sn.clone(), ids(user))).collect()
}

/// Keeps the newest binding if several users have one device.
fn newest_users(
    users: impl Iterator<Item = DeviceUser>,
    wanted: &HashSet<&DeviceSn>,
) -> Vec<DeviceUser> {
    let mut newest: HashMap<DeviceSn, DeviceUser> = HashMap::new();
    for user in users.filter(|user| wanted.contains(&user.device_sn)) {
        let slot = newest.entry(user.device_sn.clone()).or_insert_with(|| user.clone());
        if (&user.at, user.id) > (&slot.at, slot.id) {
            *slot = user;
        }
    }
    newest.into_values().collect()
}

/// Returns the organisation of each user, from the newest of several memberships.
fn newest_places(places: impl Iterator<Item = UserOrg>) -> HashMap<i64, i64> {
    let mut newest: HashMap<i64, UserOrg> = HashMap::new();
    for place in places {
        let slot = newest.entry(place.user_id).or_insert_with(|| place.clone());
        if (&place.at, place.id) > (&slot.at, slot.id) {
            *slot = place;
        }
    }
    newest.into_iter().map(|(user_id, place)| (user_id, place.org_id)).collect()
}

/// Returns the tenant of an organisation: its first ancestor that is not 0, else the organisation
/// itself.
fn tenant(org_id: i64, ancestors: &str) -> i64 {
    let ids = ancestors.split(',').filter_map(|id| id.trim().parse().ok());
    ids.into_iter().find(|id| *id != 0).unwrap_or(org_id)
}

/// Reads whole rows as text, so that every variant of the platform's tables reads alike.
async fn rows<'a>(
    pool: &MySqlPool,
    table: &str,
    column: &str,
    values: impl Iterator<Item = &'a str>,
) -> Result<Vec<PlatformRow>, sqlx::Error> {
    let mut list = ValueList::after(format!("SELECT * FROM {table} WHERE {column} IN"));
    list.begin(true);
    let mut asked = false;
    for value in values {
        list.string(value);
        asked = true;
    }
    list.end();
    if !asked {
        return Ok(Vec::new());
    }
    // `sql::ValueList` has escaped every value.
    let rows = sqlx::raw_sql(AssertSqlSafe(list.finish(""))).fetch_all(pool).await?;
    Ok(rows.iter().map(PlatformRow::of).collect())
}

fn user(row: &PlatformRow) -> Option<DeviceUser> {
    if row.flag("is_deleted", false) {
        return None;
    }
    let device_sn = DeviceSn::new(row.text("device_sn")?)?;
    Some(DeviceUser { id: row.id("id")?, device_sn, at: changed_at(row) })
}

fn place(row: &PlatformRow) -> Option<UserOrg> {
    if row.flag("is_deleted", false) {
        return None;
    }
    let (user_id, org_id) = (row.id("user_id")?, row.id("org_id")?);
    Some(UserOrg { user_id, org_id, at: changed_at(row), id: row.id("id").unwrap_or_default() })
}

fn changed_at(row: &PlatformRow) -> String {
    let time = row.text("update_time").or_else(|| row.text("create_time"));
    time.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sn(text: &str) -> DeviceSn {
        DeviceSn::new(text).unwrap()
    }

    #[test]
    fn the_tenant_is_the_first_ancestor_or_the_organisation_itself() {
        for (ancestors, expected) in
            [("0,11,12", 11), ("0", 7), ("", 7), ("0, 11", 11), ("11,12", 11), ("0,0,5", 5)]
        {
            assert_eq!(tenant(7, ancestors), expected, "{ancestors:?}");
        }
    }

    #[test]
    fn of_several_users_and_places_the_newest_counts() {
        let user = |id, at: &str| DeviceUser { id, device_sn: sn("A"), at: at.into() };
        let (device, other) = (sn("A"), sn("a"));
        let wanted = HashSet::from([&device]);
        let stranger = DeviceUser { id: 9, device_sn: other, at: "2027".into() };
        let users = [user(1, "2025-01-02"), user(2, "2025-01-03"), user(3, "2025-01-01"), stranger];
        let newest = newest_users(users.into_iter(), &wanted);
        assert_eq!(newest, [user(2, "2025-01-03")]);
        let newest = newest_users([user(1, ""), user(4, ""), user(3, "")].into_iter(), &wanted);
        assert_eq!(newest[0].id, 4, "without a time the latest id");
        let place = |id, org_id, at: &str| UserOrg { user_id: 1, org_id, at: at.into(), id };
        let places = newest_places([place(1, 5, "2"), place(2, 6, "1")].into_iter());
        assert_eq!(places, HashMap::from([(1, 5)]));
    }

    #[test]
    fn what_is_missing_on_the_way_leaves_the_rest() {
        let user = DeviceUser { id: 1, device_sn: sn("A"), at: String::new() };
        let ids = |places: &[(i64, i64)], tenants: &[(i64, i64)]| {
            let (places, tenants) = (places.iter().copied(), tenants.iter().copied());
            combine(std::slice::from_ref(&user), &places.collect(), &tenants.collect())[&sn("A")]
        };
        let some = |customer_id, org_id| Ids { customer_id, org_id, user_id: Some(1) };
        assert_eq!(ids(&[(1, 5)], &[(5, 3)]), some(Some(3), Some(5)));
        assert_eq!(ids(&[(1, 5)], &[]), some(None, Some(5)));
        assert_eq!(ids(&[], &[]), some(None, None));
    }
}
