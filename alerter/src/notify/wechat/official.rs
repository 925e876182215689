//! Template messages of an official account.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::OfficialAccount;
use super::api::json as bytes;
use super::client::PlatformSender;
use crate::notify::notice::Notice;
use crate::notify::wechat::error::Failure;

const PATH: &str = "/cgi-bin/message/template/send";

const TEMPLATES_PATH: &str = "/cgi-bin/template/get_all_private_template";

/// Fields of older templates that the platform no longer shows.
const HIDDEN_FIELDS: [&str; 2] = ["first", "remark"];

/// Sends template messages.
#[derive(Clone)]
pub struct Official(PlatformSender);

#[derive(Serialize)]
struct TemplateMessage<'a> {
    touser: &'a str,
    template_id: &'a str,
    client_msg_id: &'a str,
    data: Value,
}

/// The templates of an account.
#[derive(Deserialize)]
struct Templates {
    template_list: Vec<Template>,
}

#[derive(Deserialize)]
struct Template {
    template_id: String,
    /// Text with a place for each field, such as `{{thing1.DATA}}`.
    content: String,
}

/// Renders the request that sends `notice` to `openid`, in the fields of the account's template.
///
/// The request has no `first`, no `remark` and no colour, because the platform no longer displays
/// them. A retry sends the same bytes with the same `client_msg_id`, by which the platform
/// recognises a delivered message.
pub fn request(
    account: &OfficialAccount,
    openid: &str,
    client_msg_id: &str,
    notice: &Notice,
) -> Vec<u8> {
    bytes(&TemplateMessage {
        touser: openid,
        template_id: &account.template_id,
        client_msg_id,
        data: account.fields.data(notice),
    })
}

impl Official {
    /// Sends through `client`.
    pub fn new(client: PlatformSender) -> Self {
        Self(client)
    }

    /// Sends stored bytes once, and once more if the token has expired.
    pub async fn send(&self, account: &OfficialAccount, request: &[u8]) -> Result<(), Failure> {
        self.0.send(account, PATH, request).await.map(|_| ())
    }

    /// Reads the account's templates. Returns what is wrong with the account's own, in words.
    pub async fn check(&self, account: &OfficialAccount) -> Result<Vec<String>, Failure> {
        let templates: Templates = self.0.read(account, TEMPLATES_PATH, &[]).await?;
        Ok(template_faults(account, &templates.template_list))
    }
}

/// Compares the fields of the account's template with those of its map.
fn template_faults(account: &OfficialAccount, templates: &[Template]) -> Vec<String> {
    let id = &account.template_id;
    let Some(template) = templates.iter().find(|template| template.template_id == *id) else {
        return vec![format!("the account has no template {id}: correct template_id")];
    };
    let (shown, mapped) = (template.fields(), account.fields.names());
    let lacking = shown.difference(&mapped);
    let lacking = lacking.map(|name| format!("template_fields lacks the template's field {name}"));
    let unknown = mapped.difference(&shown);
    let unknown =
        unknown.map(|name| format!("the template lacks the field {name} of template_fields"));
    lacking.chain(unknown).collect()
}

impl Template {
    /// Returns the names of the fields that the platform shows.
    fn fields(&self) -> BTreeSet<String> {
        let parts = self.content.split("{{").skip(1);
        let names = parts.filter_map(|part| Some(part.split_once(".DATA}}")?.0.trim()));
        names.filter(|name| !HIDDEN_FIELDS.contains(name)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
#[path = "official_tests.rs"]
mod tests;
