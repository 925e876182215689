//! Makes a message plainer whose content the platform refused: a value that does not fit its field,
//! or words that the platform blocks.

use tracing::warn;

use super::Sender;
use super::attempt::{SendJob, rebuilt};
use crate::notify::outbox::RebuiltRequest;
use crate::notify::wechat::Account;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure};

impl Sender {
    /// Returns the request to send at once after `failure`. `sent` is the refused request, if it
    /// was rebuilt. `None`: the failure has another remedy, or no form is plainer.
    pub(super) fn plainer(
        &self,
        job: &SendJob<'_>,
        account: &Account,
        sent: Option<&RebuiltRequest>,
        failure: &Failure,
    ) -> Option<RebuiltRequest> {
        if failure.remedy != ErrcodeRemedy::Plainer {
            return None;
        }
        let mut notice = sent.map(|sent| &sent.notice).or(job.notice.as_ref())?.clone();
        // Under the same name: if an earlier attempt has arrived, the platform shows no second one.
        // This takes for granted that it remembers the names of accepted messages only.
        let resends = sent.map_or(job.notification.resends, |sent| sent.resends);
        if sent.is_none() {
            let today = rebuilt(job, account, notice.clone(), resends);
            if today.payload != job.notification.payload {
                // The stored bytes are older than the account's template.
                return Some(today);
            }
        }
        self.operators.template_refused(&account.name, failure);
        let refused = failure.refused_field();
        notice.plain_fields = account.template()?.plainer(&notice.plain_fields, refused)?;
        warn!(
            account = account.name,
            errcode = failure.errcode,
            error = %failure,
            "platform refused content, sending it in a plainer form"
        );
        Some(rebuilt(job, account, notice, resends))
    }
}
