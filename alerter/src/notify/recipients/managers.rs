//! The managers of an organisation, from the platform's tables.
//!
//! `sys_org_manager_cache` lists the managers. If it lists none, `sys_user_org` does.
//! `sys_org_units` holds the organisation above. Answers are cached for a minute.

use std::collections::HashMap;
use std::sync::Arc;

use ljwx_ledger::platform_rows::PlatformRow;
use ljwx_reading::Ids;

use super::{Directory, LookupResult};

impl Directory {
    /// Returns the device's user and the managers of its organisation. If there are no managers other
    /// than the user, returns those of the organisation above, one step up and no further.
    pub(super) async fn people(&self, customer_id: i64, ids: Ids) -> LookupResult<Vec<i64>> {
        let mut people: Vec<i64> = ids.user_id.into_iter().collect();
        let Some(org_id) = ids.org_id else { return Ok(people) };
        let mut managers = others(&self.managers_of(customer_id, org_id).await?, ids.user_id);
        if managers.is_empty()
            && let Some(above) = self.above(org_id).await?
        {
            managers = others(&self.managers_of(customer_id, above).await?, ids.user_id);
        }
        people.extend(managers);
        Ok(people)
    }

    async fn managers_of(&self, customer_id: i64, org_id: i64) -> LookupResult<Arc<[i64]>> {
        let load = async {
            let cached =
                format!("WHERE org_id = {org_id} AND role_type = 'manager' ORDER BY user_id");
            let mut found =
                appointed(&self.tables.rows("sys_org_manager_cache", &cached).await?, customer_id);
            if found.is_empty() {
                // The flag is a number, a character or a bit. Adding 0 makes a number of each.
                let principals =
                    format!("WHERE org_id = {org_id} AND principal + 0 = 1 ORDER BY user_id");
                let rows = self.tables.rows("sys_user_org", &principals).await?;
                found = appointed(&rows, customer_id);
            }
            if !found.is_empty() {
                let users = self.tables.by_id("sys_user", &found).await?;
                found = in_service(found, &users);
            }
            Ok::<_, sqlx::Error>(Arc::from(found))
        };
        self.managers.try_get_with((customer_id, org_id), load).await
    }

    async fn above(&self, org_id: i64) -> LookupResult<Option<i64>> {
        let load = async {
            let rows = self.tables.rows("sys_org_units", &format!("WHERE id = {org_id}")).await?;
            Ok::<_, sqlx::Error>(rows.first().and_then(parent))
        };
        self.above.try_get_with(org_id, load).await
    }
}

/// Leaves out the user, who is notified as the device's user.
fn others(managers: &[i64], user_id: Option<i64>) -> Vec<i64> {
    managers.iter().copied().filter(|manager| Some(*manager) != user_id).collect()
}

/// Returns the users of valid rows of the tenant, in rising order, each once.
fn appointed(rows: &[PlatformRow], customer_id: i64) -> Vec<i64> {
    let holds = |row: &&PlatformRow| {
        row.flag("is_active", true) && !row.flag("is_deleted", false) && row.is_of(customer_id)
    };
    let mut users: Vec<i64> =
        rows.iter().filter(holds).filter_map(|row| row.id("user_id")).collect();
    users.sort_unstable();
    users.dedup();
    users
}

/// Leaves out managers who have left. Their remaining rows in other tables must not send them a
/// patient's alerts.
fn in_service(mut managers: Vec<i64>, users: &HashMap<i64, PlatformRow>) -> Vec<i64> {
    let is_gone = |user: &PlatformRow| user.flag("is_deleted", false) || !user.flag("status", true);
    managers.retain(|manager| !users.get(manager).is_some_and(is_gone));
    managers
}

/// Returns the organisation above: the one in `parent_id`, or the last of the ancestors.
fn parent(unit: &PlatformRow) -> Option<i64> {
    unit.id("parent_id").or_else(|| {
        let last = unit.text("ancestors")?.rsplit(',').next()?;
        last.trim().parse().ok().filter(|id| *id != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_hold_and_are_the_tenant_s_appoint_a_manager() {
        let rows = [
            PlatformRow::from_iter([("user_id", "12"), ("is_active", "1"), ("customer_id", "7")]),
            PlatformRow::from_iter([
                ("user_id", "11"),
                ("is_active", "\u{1}"),
                ("customer_id", "0"),
            ]),
            PlatformRow::from_iter([("user_id", "12")]),
            PlatformRow::from_iter([("user_id", "13"), ("is_active", "0"), ("customer_id", "7")]),
            PlatformRow::from_iter([("user_id", "14"), ("is_deleted", "1"), ("customer_id", "7")]),
            PlatformRow::from_iter([("user_id", "15"), ("customer_id", "8")]),
            PlatformRow::from_iter([("user_id", "0"), ("customer_id", "7")]),
        ];
        assert_eq!(appointed(&rows, 7), [11, 12]);
    }

    #[test]
    fn who_has_left_is_notified_of_nobody() {
        let users = HashMap::from([
            (1, PlatformRow::from_iter([("is_deleted", "1")])),
            (2, PlatformRow::from_iter([("status", "0")])),
            (3, PlatformRow::from_iter([("status", "1"), ("is_deleted", "0")])),
        ]);
        assert_eq!(in_service(vec![1, 2, 3, 4], &users), [3, 4], "who is not known is not gone");
    }

    #[test]
    fn the_user_is_not_notified_twice() {
        assert_eq!(others(&[1, 2], Some(2)), [1]);
        assert_eq!(others(&[1, 2], None), [1, 2]);
    }

    #[test]
    fn above_an_organisation_stands_its_parent_or_its_last_ancestor() {
        for (unit, above) in [
            (PlatformRow::from_iter([("parent_id", "5"), ("ancestors", "0,3,4")]), Some(5)),
            (PlatformRow::from_iter([("ancestors", "0,3,4")]), Some(4)),
            (PlatformRow::from_iter([("parent_id", "0"), ("ancestors", "0, 3 ")]), Some(3)),
            (PlatformRow::from_iter([("parent_id", "0"), ("ancestors", "0")]), None),
            (PlatformRow::default(), None),
        ] {
            assert_eq!(parent(&unit), above, "{unit:?}");
        }
    }
}
