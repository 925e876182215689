//! The people of an example: who can be notified of whom, and at which addresses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ljwx_reading::Ids;
use serde_json::{Map, Value, json};

use super::result::list;
use crate::notify::address::Address;
use crate::notify::recipients::choice::{KnownAddress, TenantContacts};
use crate::notify::recipients::contacts::Contacts;
use crate::notify::wechat::{Accounts, FieldMap};
use crate::test_support::{official_account, wecom_account};

/// The user who is concerned by every alert of an example without people.
const ANYBODY: i64 = 1;

/// The people, addresses and accounts of an example.
#[derive(Debug)]
pub(crate) struct People {
    fixture: Value,
    /// Whether every alert concerns [`ANYBODY`].
    anybody: bool,
}

impl People {
    /// The people of an example. In an example without any, every channel reaches somebody.
    pub(crate) fn new(fixture: &Value) -> Self {
        match fixture {
            Value::Null => Self {
                fixture: json!({"addresses": {"0": ["openid:o0", "wecom:w0"]}}),
                anybody: true,
            },
            known => Self { fixture: known.clone(), anybody: false },
        }
    }

    /// Replaces parts of the fixture.
    pub(super) fn set(&mut self, parts: &Value) {
        for (name, value) in parts.as_object().into_iter().flatten() {
            self.fixture[name] = value.clone();
        }
    }

    /// Adds wearer and organisation to a reading that names neither.
    pub(super) fn fill(&self, reading: &mut Map<String, Value>) {
        for (id, part) in [("user_id", "wearer"), ("org_id", "org")] {
            if let Some(known) = self.fixture[part].as_i64() {
                reading.entry(id).or_insert(known.into());
            }
        }
    }

    /// Returns the contacts of alerts of these ids.
    pub(crate) fn contacts(&self, wanted: &BTreeSet<Ids>) -> HashMap<Ids, Contacts> {
        let contacts = |ids: &Ids| {
            let tenant = TenantContacts::new(Arc::new(self.accounts()), self.addresses());
            (*ids, Contacts::new(tenant, &self.concerned(*ids)))
        };
        wanted.iter().map(contacts).collect()
    }

    /// Returns the wearer and the managers, of the organisation or else of the one above.
    fn concerned(&self, ids: Ids) -> Vec<i64> {
        if self.anybody {
            return vec![ANYBODY];
        }
        let managers = |org: i64| -> Vec<i64> {
            let managers = list(&self.fixture["managers"][org.to_string()]).iter();
            managers.filter_map(Value::as_i64).filter(|user| Some(*user) != ids.user_id).collect()
        };
        let above = |org: i64| self.fixture["orgs"][org.to_string()].as_i64();
        let own = ids.org_id.map(managers).unwrap_or_default();
        let of_org = match own.is_empty() {
            true => ids.org_id.and_then(above).map(managers).unwrap_or_default(),
            false => own,
        };
        ids.user_id.into_iter().chain(of_org).collect()
    }

    fn addresses(&self) -> HashMap<i64, Arc<[KnownAddress]>> {
        let known = |address: &Value| KnownAddress {
            address: Address::parse(address.as_str().unwrap()).unwrap(),
            is_disabled: false,
        };
        let users = self.fixture["addresses"].as_object().into_iter().flatten();
        let users = users.map(|(user, known_of)| {
            (user.parse().unwrap(), list(known_of).iter().map(known).collect())
        });
        users.collect()
    }

    fn accounts(&self) -> Accounts {
        let kinds = self.fixture["accounts"].as_array();
        let has = |kind: &str| kinds.is_none_or(|kinds| kinds.iter().any(|one| one == kind));
        let official = has("openid").then(|| official_account(FieldMap::default()));
        official.into_iter().chain(has("wecom").then(|| wecom_account(5))).collect()
    }
}
