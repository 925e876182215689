//! The tenants' accounts, from the platform's table of them.
//!
//! Pure, except for the query itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use super::choice::AccountKinds;
use super::platform_rows::{PlatformRow, PlatformTables};
use crate::notify::address;
use crate::notify::wechat::{Accounts, FieldMap, OfficialAccount, WecomAccount, WecomForm};
use crate::rules::channel::Channel;

/// The accounts of all tenants.
#[derive(Debug, Default)]
pub struct TenantAccounts {
    /// Also holds tenants whose rows are all switched off. They have no account.
    tenants: BTreeMap<i64, TenantAccount>,
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

/// The accounts of one tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct TenantAccount {
    /// The accounts that can be used.
    pub(super) accounts: Arc<Accounts>,
    /// The kinds of which there is a row.
    pub(super) kinds: AccountKinds,
}

impl TenantAccounts {
    /// Returns a tenant's own accounts.
    pub(super) fn of(&self, customer_id: i64) -> Option<&TenantAccount> {
        self.tenants.get(&customer_id)
    }

    /// Returns the accounts of each tenant, by tenant.
    pub fn by_tenant(&self) -> impl Iterator<Item = (i64, &Arc<Accounts>)> {
        self.tenants.iter().map(|(customer_id, tenant)| (*customer_id, &tenant.accounts))
    }
}

/// Reads the table.
pub(super) async fn load(tables: &PlatformTables) -> Result<Arc<TenantAccounts>, sqlx::Error> {
    let rows = tables.rows("t_wechat_alarm_config", "ORDER BY id").await?;
    Ok(Arc::new(loaded(&rows)))
}

/// Uses a tenant's first row of each kind that is switched on and complete.
fn loaded(rows: &[PlatformRow]) -> TenantAccounts {
    let mut loaded = TenantAccounts { is_empty: rows.is_empty(), ..TenantAccounts::default() };
    let mut tenants: BTreeMap<i64, (Accounts, AccountKinds)> = BTreeMap::new();
    for row in rows {
        let name = format!("t_wechat_alarm_config row {}", row.text("id").unwrap_or("?"));
        let Some(customer_id) = tenant(row) else {
            let text = format!("{name}: customer_id is no number");
            loaded.faults.push(AccountFault { customer_id: None, text });
            continue;
        };
        let (accounts, kinds) = tenants.entry(customer_id).or_default();
        kinds.extend(match row.text("type") {
            Some("official") => Some(Channel::Official),
            Some("enterprise") => Some(Channel::Wecom),
            _ => None,
        });
        if !row.flag("enabled", true) {
            continue;
        }
        let mut fault = |text: String| {
            let text = format!("{name}: {text}");
            loaded.faults.push(AccountFault { customer_id: Some(customer_id), text });
        };
        match row.text("type").unwrap_or_default() {
            "official" if accounts.official.is_none() => {
                accounts.official = official(row).map_err(&mut fault).ok().map(Arc::new);
            }
            "enterprise" if accounts.wecom.is_none() => {
                accounts.wecom = wecom(row).map_err(&mut fault).ok().map(Arc::new);
            }
            "official" | "enterprise" => {}
            _ => fault("type must be official or enterprise".into()),
        }
        if let Some(Err(problem)) = default_address(row) {
            fault(format!("default_address {problem}"));
        }
    }
    let tenant =
        |(id, (accounts, kinds))| (id, TenantAccount { accounts: Arc::new(accounts), kinds });
    loaded.tenants = tenants.into_iter().map(tenant).collect();
    loaded
}

fn tenant(row: &PlatformRow) -> Option<i64> {
    row.text("customer_id").or_else(|| row.text("tenant_id"))?.parse().ok()
}

fn official(row: &PlatformRow) -> Result<OfficialAccount, String> {
    Ok(OfficialAccount {
        app_id: needed(row, "appid")?,
        app_secret: SecretString::from(needed(row, "appsecret")?),
        template_id: needed(row, "template_id")?,
        fields: fields(row)?,
        default_address: default_address(row).and_then(Result::ok),
    })
}

fn wecom(row: &PlatformRow) -> Result<WecomAccount, String> {
    Ok(WecomAccount {
        corp_id: needed(row, "corp_id")?,
        agent_id: needed(row, "agent_id")?
            .parse()
            .map_err(|_| "agent_id must be a whole number, such as 1000002".to_owned())?,
        secret: SecretString::from(needed(row, "secret")?),
        form: form(row)?,
        default_address: default_address(row).and_then(Result::ok),
    })
}

/// Returns the fields of the row's template. A row without a map has an older template.
fn fields(row: &PlatformRow) -> Result<FieldMap, String> {
    match row.text("template_fields").filter(|text| *text != "null") {
        None => Ok(FieldMap::default()),
        Some(map) => FieldMap::parse(map).map_err(|reason| format!("template_fields: {reason}")),
    }
}

fn form(row: &PlatformRow) -> Result<WecomForm, String> {
    match row.text("wecom_form") {
        None | Some("text") => Ok(WecomForm::Text),
        Some("markdown") => Ok(WecomForm::Markdown),
        Some(_) => Err("wecom_form must be text or markdown".to_owned()),
    }
}

fn needed(row: &PlatformRow, column: &str) -> Result<String, String> {
    row.text(column).map(str::to_owned).ok_or_else(|| format!("{column} is empty"))
}

/// Returns the row's default address, or the fault in it.
fn default_address(row: &PlatformRow) -> Option<Result<String, &'static str>> {
    let channel =
        if row.text("type") == Some("enterprise") { Channel::Wecom } else { Channel::Official };
    let name = row.text("default_address")?;
    Some(address::check(channel, name).map(|()| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn official_row(customer_id: &str, app_id: &str, enabled: &str) -> PlatformRow {
        PlatformRow::from([
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
        PlatformRow::from([
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
        let accounts = &loaded.of(customer_id)?.accounts;
        Some([Channel::Official, Channel::Wecom].map(|channel| accounts.name(channel)))
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
        let kinds = |customer_id| loaded.of(customer_id).map(|tenant| tenant.kinds.clone());
        let expected = AccountKinds::from([Channel::Official]);
        assert_eq!(kinds(8), Some(expected), "switched off, and still there");
        let nurse = loaded.of(9).and_then(|tenant| tenant.accounts.default_address(Channel::Wecom));
        assert_eq!(nurse.map(|nurse| nurse.to_string()), name("wecom:nurse"));
    }

    #[test]
    fn what_makes_a_row_unusable_is_named_and_costs_only_that_row() {
        let mut everybody = wecom_row("9", "5", "1");
        everybody = PlatformRow::from([("default_address", "@all")]).or(everybody);
        let rows = [
            official_row("7", "", "1"),
            official_row("7", "wx7", "1"),
            wecom_row("7", "many", "1"),
            official_row("x", "wx8", "1"),
            PlatformRow::from([("id", "4"), ("customer_id", "8"), ("type", "robot")]),
            everybody,
            PlatformRow::from([("template_fields", r#"{"thing1":"name"}"#)])
                .or(official_row("10", "wx10", "1")),
            PlatformRow::from([("wecom_form", "html")]).or(wecom_row("11", "5", "1")),
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
        let nobody =
            loaded.of(9).and_then(|tenant| tenant.accounts.default_address(Channel::Wecom));
        assert_eq!(nobody, None);
    }

    #[test]
    fn a_row_without_a_map_or_a_form_has_those_of_before() {
        let of_map = |map: &str| {
            let row = PlatformRow::from([("template_fields", map)]);
            official(&row.or(official_row("7", "wx7", "1"))).unwrap().fields
        };
        assert_eq!(of_map(""), FieldMap::default());
        assert_eq!(of_map("null"), FieldMap::default());
        assert_ne!(of_map(r#"{"thing1": "patient"}"#), FieldMap::default());
        for (word, form) in
            [("", WecomForm::Text), ("text", WecomForm::Text), ("markdown", WecomForm::Markdown)]
        {
            let row = PlatformRow::from([("wecom_form", word)]).or(wecom_row("7", "5", "1"));
            assert_eq!(wecom(&row).unwrap().form, form, "{word}");
        }
    }
}
