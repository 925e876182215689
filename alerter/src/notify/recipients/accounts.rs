//! The tenants' accounts, from the platform's table of them.
//!
//! Pure, except for the query itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use ljwx_ledger::platform_rows::PlatformRow;

use super::platform_tables::PlatformTables;
use crate::notify::address;
use crate::notify::wechat::{Account, AccountKind, Accounts, FieldMap};
use crate::rules::Channel;

/// The accounts of all tenants.
#[derive(Debug)]
pub struct TenantAccounts {
    /// Also holds tenants whose rows are all switched off. They have no account.
    pub tenants: BTreeMap<i64, Arc<Accounts>>,
    /// Whether the table has no row at all.
    pub is_empty: bool,
    /// Faults that make rows unusable, for operators.
    pub faults: Vec<AccountFault>,
}

/// A fault that makes a row unusable, or its default address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFault {
    /// The row's tenant, if the row names one.
    pub customer_id: Option<i64>,
    /// The row and the fault in words.
    pub text: String,
}

/// Reads the table.
pub(super) async fn load(tables: &PlatformTables) -> sqlx::Result<Arc<TenantAccounts>> {
    let rows = tables.rows("t_wechat_alarm_config", "ORDER BY id").await?;
    Ok(Arc::new(loaded(&rows)))
}

/// Uses a tenant's first row of each kind that is switched on and complete.
fn loaded(rows: &[PlatformRow]) -> TenantAccounts {
    let (mut tenants, mut faults) = (BTreeMap::<i64, Accounts>::new(), Vec::new());
    for row in rows {
        let customer_id = tenant(row);
        let mut fault = |what: String| {
            let id = row.text("id").unwrap_or("?");
            let text = format!("t_wechat_alarm_config row {id}: {what}");
            faults.push(AccountFault { customer_id, text });
        };
        let Some(customer_id) = customer_id else {
            fault("customer_id is no number".into());
            continue;
        };
        let accounts = tenants.entry(customer_id).or_default();
        let place = channel(row).map(|channel| (channel, accounts.row(channel)));
        if !row.flag("enabled", true) {
            continue;
        }
        let Some((channel, place)) = place else {
            fault("type must be official or enterprise".into());
            continue;
        };
        if place.is_none() {
            *place = account(row, channel).map_err(&mut fault).ok().map(Arc::new);
        }
        if let Some(Err(problem)) = default_address(row, channel) {
            fault(format!("default_address {problem}"));
        }
    }
    let tenants = tenants.into_iter().map(|(id, accounts)| (id, Arc::new(accounts))).collect();
    TenantAccounts { tenants, is_empty: rows.is_empty(), faults }
}

fn tenant(row: &PlatformRow) -> Option<i64> {
    row.text("customer_id").or_else(|| row.text("tenant_id"))?.parse().ok()
}

fn channel(row: &PlatformRow) -> Option<Channel> {
    match row.text("type")? {
        "official" => Some(Channel::Official),
        "enterprise" => Some(Channel::Wecom),
        _ => None,
    }
}

fn account(row: &PlatformRow, channel: Channel) -> Result<Account, String> {
    let needed = |column: &str| {
        row.text(column).map(str::to_owned).ok_or_else(|| format!("{column} is empty"))
    };
    let default_address = default_address(row, channel).and_then(Result::ok);
    let (app_id, secret, kind) = if channel == Channel::Official {
        let template_id = needed("template_id")?;
        ("appid", "appsecret", AccountKind::Official { template_id, fields: fields(row)? })
    } else {
        let agent_id = needed("agent_id")?
            .parse()
            .map_err(|_| "agent_id must be a whole number, such as 1000002".to_owned())?;
        ("corp_id", "secret", AccountKind::Wecom { agent_id, is_markdown: is_markdown(row)? })
    };
    Ok(Account::new(needed(app_id)?, needed(secret)?.into(), kind, default_address))
}

/// Returns the fields of the row's template. A row without a map has an older template.
fn fields(row: &PlatformRow) -> Result<FieldMap, String> {
    match row.text("template_fields").filter(|text| *text != "null") {
        None => Ok(FieldMap::default()),
        Some(map) => FieldMap::parse(map).map_err(|reason| format!("template_fields: {reason}")),
    }
}

fn is_markdown(row: &PlatformRow) -> Result<bool, String> {
    match row.text("wecom_form") {
        None | Some("text") => Ok(false),
        Some("markdown") => Ok(true),
        Some(_) => Err("wecom_form must be text or markdown".to_owned()),
    }
}

/// Returns the row's default address, or the fault in it.
fn default_address(row: &PlatformRow, channel: Channel) -> Option<Result<String, &'static str>> {
    let name = row.text("default_address")?;
    Some(address::check(channel, name).map(|()| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn official_row(customer_id: &str, app_id: &str, enabled: &str) -> PlatformRow {
        PlatformRow::from_iter([
            ("id", "1"),
            ("customer_id", customer_id),
            ("type", "official"),
            ("appid", app_id),
            ("appsecret", "hush"),
            ("template_id", "t1"),
            ("enabled", enabled),
        ])
    }

    fn wecom_row(customer_id: &str, agent_id: &str, enabled: &str) -> PlatformRow {
        PlatformRow::from_iter([
            ("id", "2"),
            ("tenant_id", customer_id),
            ("type", "enterprise"),
            ("corp_id", "ww7"),
            ("agent_id", agent_id),
            ("secret", "hush"),
            ("default_address", "nurse"),
            ("enabled", enabled),
        ])
    }

    /// The names of a tenant's two accounts.
    fn names(loaded: &TenantAccounts, customer_id: i64) -> Option<[Option<String>; 2]> {
        let accounts = loaded.tenants.get(&customer_id)?;
        let name = |channel| accounts.of(channel).map(|account| account.name.clone());
        Some([Channel::Official, Channel::Wecom].map(name))
    }

    #[test]
    fn each_tenant_has_its_first_usable_row_of_each_kind_and_nobody_else_s() {
        let rows = [
            official_row("7", "off", "0"),
            official_row("7", "wx7", "1"),
            official_row("7", "later", "1"),
            wecom_row("7", "1000002", ""),
            official_row("8", "wx8", "0"),
            wecom_row("9", "5", "1"),
        ];
        let loaded = loaded(&rows);
        assert!(loaded.faults.is_empty() && !loaded.is_empty, "{:?}", loaded.faults);
        let name = |text: &str| Some(text.to_owned());
        let expected = [name("official:wx7"), name("wecom:ww7:1000002")];
        assert_eq!(names(&loaded, 7), Some(expected));
        assert_eq!(names(&loaded, 8), Some([None, None]), "switched off is off");
        assert_eq!(names(&loaded, 9), Some([None, name("wecom:ww7:5")]));
        assert_eq!(names(&loaded, 0), None);
        let rows =
            [Channel::Official, Channel::Wecom].map(|channel| loaded.tenants[&8].has_row(channel));
        assert_eq!(rows, [true, false], "switched off, and still there");
        let nurse = loaded.tenants[&9].of(Channel::Wecom).and_then(|one| one.default_address());
        assert_eq!(nurse.map(|nurse| nurse.to_string()), name("wecom:nurse"));
    }

    /// Returns a row with this text in a column, unless the text is blank.
    fn with(column: &str, text: &str, mut row: PlatformRow) -> PlatformRow {
        row.extend([(column, text)]);
        row
    }

    #[test]
    fn what_makes_a_row_unusable_is_named_and_costs_only_that_row() {
        let rows = [
            official_row("7", "", "1"),
            official_row("7", "wx7", "1"),
            wecom_row("7", "many", "1"),
            official_row("x", "wx8", "1"),
            PlatformRow::from_iter([("id", "4"), ("customer_id", "8"), ("type", "robot")]),
            with("default_address", "@all", wecom_row("9", "5", "1")),
            with("template_fields", r#"{"thing1":"name"}"#, official_row("10", "wx10", "1")),
            with("wecom_form", "html", wecom_row("11", "5", "1")),
        ];
        let loaded = loaded(&rows);
        let expected = [
            "row 1: appid is empty",
            "row 2: agent_id must be",
            "row 1: customer_id is no number",
            "row 4: type must be official or enterprise",
            "row 2: default_address @all would",
            "row 1: template_fields: thing1: unknown variant `name`",
            "row 2: wecom_form must be text or markdown",
        ];
        assert_eq!(loaded.faults.len(), expected.len(), "{:#?}", loaded.faults);
        for (fault, expected) in loaded.faults.iter().zip(expected) {
            assert!(fault.text.contains(expected), "{fault:?}");
        }
        let tenants: Vec<_> = loaded.faults.iter().map(|fault| fault.customer_id).collect();
        let expected = [Some(7), Some(7), None, Some(8), Some(9), Some(10), Some(11)];
        assert_eq!(tenants, expected);
        assert!(!format!("{:?}", loaded.faults).contains("hush"));
        assert_eq!(names(&loaded, 7), Some([Some("official:wx7".to_owned()), None]));
        assert_eq!(names(&loaded, 10), Some([None, None]));
        assert_eq!(loaded.tenants[&9].of(Channel::Wecom).unwrap().default_address(), None);
    }

    #[test]
    fn a_row_without_a_map_or_a_form_has_those_of_before() {
        let kind = |row: PlatformRow, channel| account(&row, channel).unwrap().kind;
        let of_map = |map: &str| {
            let row = with("template_fields", map, official_row("7", "wx7", "1"));
            kind(row, Channel::Official)
        };
        let of_fields = |fields| AccountKind::Official { template_id: "t1".to_owned(), fields };
        assert_eq!(of_map(""), of_fields(FieldMap::default()));
        assert_eq!(of_map("null"), of_fields(FieldMap::default()));
        assert_ne!(of_map(r#"{"thing1": "patient"}"#), of_fields(FieldMap::default()));
        for (word, is_markdown) in [("", false), ("text", false), ("markdown", true)] {
            let row = with("wecom_form", word, wecom_row("7", "5", "1"));
            let expected = AccountKind::Wecom { agent_id: 5, is_markdown };
            assert_eq!(kind(row, Channel::Wecom), expected, "{word}");
        }
    }
}
