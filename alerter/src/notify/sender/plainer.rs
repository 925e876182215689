//! Makes a message plainer whose content the platform refused: a value that does not fit its field,
//! or words that the platform blocks.

use tracing::warn;

use super::Sender;
use super::attempt::{SendJob, rebuilt};
use super::routes::Route;
use crate::notify::outbox::RebuiltRequest;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure};

/// The word for every field of a template, if the platform names none.
const ALL_FIELDS: &str = "all";

impl Sender {
    /// Returns the request to send at once after `failure`. `sent` is the refused request, if it
    /// was rebuilt. `None`: the failure has another remedy, or no form is plainer.
    pub(super) fn plainer(
        &self,
        job: &SendJob<'_>,
        route: &Route,
        sent: Option<&RebuiltRequest>,
        failure: &Failure,
    ) -> Option<RebuiltRequest> {
        if failure.remedy != ErrcodeRemedy::Plainer {
            return None;
        }
        let refused = failure.refused_field();
        self.operators.template_refused(route.name(), refused.unwrap_or(ALL_FIELDS));
        let mut notice = sent.map(|sent| &sent.notice).or(job.notice.as_ref())?.clone();
        notice.plain_fields = route.template()?.plainer(&notice.plain_fields, refused)?;
        warn!(
            account = route.name(),
            errcode = failure.errcode,
            error = %failure,
            "platform refused content, sending it in a plainer form"
        );
        // Under the same name: if an earlier attempt has arrived, the platform shows no second one.
        let resends = sent.map_or(job.notification.resends, |sent| sent.resends);
        rebuilt(job, route, notice, resends)
    }
}
