//! Template messages of an official account.
//!
//! Pure. Renders requests, and compares an account's template with its map.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::json;

use super::template::FieldMap;
use crate::notify::notice::Notice;

/// Path of the call that sends a message.
pub(super) const PATH: &str = "/cgi-bin/message/template/send";

/// Path of the call that reads an account's templates.
pub(super) const TEMPLATES_PATH: &str = "/cgi-bin/template/get_all_private_template";

/// Fields of older templates that the platform no longer shows.
const HIDDEN_FIELDS: [&str; 2] = ["first", "remark"];

/// The templates of an account.
#[derive(Deserialize)]
pub(super) struct Templates {
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
pub(super) fn request(
    template_id: &str,
    fields: &FieldMap,
    openid: &str,
    client_msg_id: &str,
    notice: &Notice,
) -> Vec<u8> {
    let message = json!({
        "touser": openid,
        "template_id": template_id,
        "client_msg_id": client_msg_id,
        "data": fields.data(notice),
    });
    message.to_string().into_bytes()
}

/// Compares the fields of the account's template with those of its map. Returns what is wrong, in
/// words.
pub(super) fn template_faults(id: &str, map: &FieldMap, all: &Templates) -> Vec<String> {
    let Some(template) = all.template_list.iter().find(|template| template.template_id == id)
    else {
        return vec![format!("the account has no template {id}: correct template_id")];
    };
    let (shown, mapped) = (template.fields(), map.names());
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
