//! WeChat's two platforms. Official accounts send template messages to their followers. A WeCom
//! application writes to the members of its company.
//!
//! Renders requests and sends them. One call is one attempt. [`crate::notify::sender`] decides when
//! to retry, and [`crate::notify::recipients`] who is notified.

pub mod account;
pub mod client;
pub mod error;
pub mod escape;
mod official;
pub mod settings;
pub mod template;
mod wecom;

#[cfg(test)]
mod test_support;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::notify::notice::Notice;

pub use account::{Account, AccountKind, Accounts};
pub use client::Platforms;
use error::{ErrcodeRemedy, Failure};
pub use settings::WechatArgs;
pub use template::FieldMap;

/// Renders the request by which an account sends `notice` to the address `name`, byte for byte. `id`
/// names the notification on platforms that accept a name.
pub fn request(account: &Account, name: &str, id: &str, notice: &Notice) -> Vec<u8> {
    match &account.kind {
        AccountKind::Official { template_id, fields } => {
            official::request(template_id, fields, name, id, notice)
        }
        AccountKind::Wecom { agent_id, is_markdown } => {
            wecom::request(*agent_id, *is_markdown, name, notice)
        }
    }
}

/// The answer to a message. An answer without an errcode is not the platform's: a proxy can answer
/// in JSON too.
#[derive(Deserialize)]
struct SendReply {
    errcode: i64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Platforms {
    /// Sends stored bytes once, and once more if the account's token has expired. An answer without
    /// an error that lists the recipient as not reached is a failure too.
    pub async fn send(&self, account: &Account, request: &[u8]) -> Result<(), Failure> {
        let path = match account.kind {
            AccountKind::Official { .. } => official::PATH,
            AccountKind::Wecom { .. } => wecom::PATH,
        };
        let sent: SendReply = self.call(account, path, &[], Some(request)).await?;
        let Some(field) = wecom::missed(&sent.rest, request) else { return Ok(()) };
        let message = format!("{path}: {field} names the recipient");
        Err(Failure::new(ErrcodeRemedy::DropRecipient, Some(sent.errcode), message))
    }

    /// Checks an account without a message: the token, and the template or the application. Returns
    /// what is wrong, in words.
    pub async fn check(&self, account: &Account) -> Result<Vec<String>, Failure> {
        match &account.kind {
            AccountKind::Official { template_id, fields } => {
                let templates: official::Templates =
                    self.call(account, official::TEMPLATES_PATH, &[], None).await?;
                Ok(official::template_faults(template_id, fields, &templates))
            }
            AccountKind::Wecom { agent_id, .. } => {
                let agent_id = agent_id.to_string();
                let query = [("agentid", agent_id.as_str())];
                let application: wecom::Application =
                    self.call(account, wecom::APPLICATION_PATH, &query, None).await?;
                Ok(application.faults())
            }
        }
    }
}
