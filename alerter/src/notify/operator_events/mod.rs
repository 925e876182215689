//! Sends operator events to the log, and to a webhook if a webhook is set. Metrics show these
//! events too late or not at all.
//!
//! The callers decide when an event occurs, or measure a state that lasts. Nothing here waits for
//! the receiver.

pub mod event;
pub mod lasting;
mod repeat_limit;
pub mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use ljwx_service::config::Problems;
use ljwx_service::lifecycle::EssentialTasks;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use self::event::OperatorEvent;
pub use self::lasting::LastingEvent;
use self::lasting::LastingEvents;
use self::repeat_limit::RepeatLimit;
use self::webhook::{Webhook, lost, web_address};
use crate::notify::wechat::error::Failure;

/// Events that wait for the receiver. Further events go to the log only.
const QUEUE_MAX: usize = 64;

/// Time for which operators get one event about a field of a template that the platform refuses.
const TEMPLATE_INTERVAL: Duration = Duration::from_secs(3600);

/// Settings of the operators' webhook.
#[derive(Debug, Clone, Args)]
pub struct OperatorsArgs {
    /// Address of the webhook for operator events, such as an account that does not send: http://
    /// or https://; none: events go to the log only.
    #[arg(long, env = "OPERATORS_WEBHOOK_URL", hide_env_values = true)]
    pub operators_webhook_url: Option<SecretString>,
    /// Secret that signs the webhook's requests, so that the receiver can verify the sender.
    #[arg(long, env = "OPERATORS_WEBHOOK_SECRET", hide_env_values = true)]
    pub operators_webhook_secret: Option<SecretString>,
}

impl OperatorsArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(
            self.operators_webhook_url.is_some() == self.operators_webhook_secret.is_some(),
            || {
                "--operators-webhook-url and --operators-webhook-secret belong together: set both \
                 of them or none"
                    .into()
            },
        );
        let url = self.operators_webhook_url.as_ref();
        problems.require(url.is_none_or(|url| web_address(url).is_some()), || {
            "--operators-webhook-url must be an address such as https://host/path".into()
        });
    }

    /// Starts the channel to the operators. Requests are sent in the background.
    pub fn build(
        &self,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> anyhow::Result<OperatorEvents> {
        let url = self.operators_webhook_url.as_ref().and_then(web_address);
        let (Some(url), Some(secret)) = (url, &self.operators_webhook_secret) else {
            return Ok(OperatorEvents::new(None));
        };
        let webhook = Webhook::new(url, secret.clone())?;
        let (queue, operator_event) = mpsc::channel(QUEUE_MAX);
        let (delivery, stopping) = (webhook.run(operator_event), stop.clone());
        essential.spawn("the operator webhook", stop, async move {
            delivery.await;
            // All senders of events are gone: the process ends.
            stopping.cancelled().await;
        });
        Ok(OperatorEvents::new(Some(queue)))
    }
}

/// The events that operators got.
#[derive(Debug, Default)]
struct SentEvents {
    lasting: LastingEvents,
    repeats: RepeatLimit,
}

/// The channel to the operators.
#[derive(Debug, Clone)]
pub struct OperatorEvents {
    queue: Option<mpsc::Sender<OperatorEvent>>,
    sent: Arc<Mutex<SentEvents>>,
}

impl OperatorEvents {
    fn new(queue: Option<mpsc::Sender<OperatorEvent>>) -> Self {
        Self { queue, sent: Arc::default() }
    }

    /// Logs an event and queues it for the webhook. Returns at once.
    pub fn notify(&self, operator_event: OperatorEvent) {
        let OperatorEvent { event, account, errcode, customer_id, count, text, .. } =
            &operator_event;
        if *count == 0 {
            warn!(target: "operators", event, account, customer_id, count, "{text}");
        } else {
            error!(target: "operators", event, account, errcode, customer_id, count, "{text}");
        }
        let Some(queue) = &self.queue else { return };
        if queue.try_send(operator_event).is_err() {
            lost("queue of the operator webhook is full");
        }
    }

    /// As [`Self::notify`], unless operators got the same event of `key` within `interval`.
    pub fn notify_once(&self, key: String, interval: Duration, operator_event: OperatorEvent) {
        let key = (operator_event.event, key);
        let is_admitted = self.sent().repeats.admit(key, interval, Instant::now());
        if is_admitted {
            self.notify(operator_event);
        }
    }

    /// Takes the number of severe alerts of each tenant that reach nobody, of all tenants that have
    /// any. This replica `speaks` of some tenants, as in [`Self::lasting`].
    pub fn unreached(&self, counts: &BTreeMap<i64, u64>, speaks: impl Fn(i64) -> bool) {
        let mut tenants: BTreeSet<i64> = self.sent().lasting.unreached().into_iter().collect();
        tenants.extend(counts.keys());
        for customer_id in tenants {
            let count = counts.get(&customer_id).copied().unwrap_or_default();
            let event = LastingEvent::NoRecipientReached(customer_id);
            self.lasting(event, count, Timestamp::now(), speaks(customer_id));
        }
    }

    /// Takes a measurement of a state that lasts, and began at `since`. `count` 0: the state is
    /// over. Operators get an event when it begins, when it ends, and once a day while it lasts, if
    /// this replica `speaks` of it. Otherwise it is only remembered, as [`lasting`] says.
    pub fn lasting(&self, event: LastingEvent, count: u64, since: Timestamp, speaks: bool) {
        let due = self.sent().lasting.update(event, count, since, Timestamp::now(), speaks);
        if let Some(operator_event) = due {
            self.notify(operator_event);
        }
    }

    /// Takes whether an account is broken, and how its last message failed.
    pub fn account(&self, name: &str, is_broken: bool, failure: Option<&Failure>) {
        let (event, now) = (LastingEvent::WechatBroken(name.to_owned()), Timestamp::now());
        let due = self.sent().lasting.update(event, is_broken.into(), now, now, true);
        let Some(mut operator_event) = due else { return };
        if let Some(failure) = failure.filter(|_| is_broken) {
            operator_event.errcode = failure.errcode;
            operator_event.text = format!("{}: {}", operator_event.text, failure.message);
        }
        self.notify(operator_event);
    }

    /// Reports content of an account's message that the platform refuses. Operators get one event
    /// an hour about each field.
    pub fn template_refused(&self, account: &str, failure: &Failure) {
        let refused = match failure.refused_field() {
            _ if !failure.is_of_template() => "blocks words of a message".to_owned(),
            Some(field) => format!("refuses field {field} of the template"),
            None => "refuses a field of the template".to_owned(),
        };
        let text =
            format!("WeChat {refused} of account {account}, which is sent in a plainer form");
        let about = OperatorEvent::about("template_refused", text.clone(), Timestamp::now());
        let (account, errcode) = (Some(account.to_owned()), failure.errcode);
        self.notify_once(text, TEMPLATE_INTERVAL, OperatorEvent { account, errcode, ..about });
    }

    fn sent(&self) -> MutexGuard<'_, SentEvents> {
        // A panic while the lock was held leaves the memory usable.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::wechat::error::ErrcodeRemedy;

    const SECRET: &str = "key-of-the-operators";

    #[test]
    fn a_webhook_without_its_secret_is_refused_and_so_is_an_address_that_is_none() {
        let problems = |url: Option<&str>, secret: Option<&str>| {
            let secret_string = |text: &str| SecretString::from(text.to_owned());
            let args = OperatorsArgs {
                operators_webhook_url: url.map(secret_string),
                operators_webhook_secret: secret.map(secret_string),
            };
            let mut problems = Problems::default();
            args.validate(&mut problems);
            problems.list().len()
        };
        assert_eq!(problems(None, None), 0);
        assert_eq!(problems(Some("https://ops.example/hook"), Some(SECRET)), 0);
        assert_eq!(problems(Some("https://ops.example/hook"), None), 1);
        assert_eq!(problems(None, Some(SECRET)), 1);
        assert_eq!(problems(Some("ops.example"), None), 2);
    }

    /// Returns the events that reach the webhook.
    fn sent(notify: impl FnOnce(&OperatorEvents)) -> Vec<OperatorEvent> {
        let (queue, mut sent) = mpsc::channel(QUEUE_MAX);
        notify(&OperatorEvents::new(Some(queue)));
        std::iter::from_fn(|| sent.try_recv().ok()).collect()
    }

    fn failure(errcode: i64, errmsg: &str) -> Failure {
        Failure {
            uncertain: false,
            remedy: ErrcodeRemedy::Plainer,
            errcode: Some(errcode),
            message: format!("/cgi-bin/message/template/send: {errmsg}"),
        }
    }

    #[test]
    fn a_refused_template_is_an_event_once_an_hour_by_account_and_field() {
        let events = sent(|operators| {
            for (account, errcode, errmsg) in [
                ("wx7", 47003, "data.thing1.value invalid rid: 1"),
                ("wx7", 47003, "data.thing1.value invalid rid: 2"),
                ("wx7", 47003, "data.time2.value invalid"),
                ("wx7", 40249, "content risky"),
                ("wx8", 47003, "data.thing1.value invalid"),
            ] {
                operators.template_refused(account, &failure(errcode, errmsg));
            }
        });
        let source = |event: &OperatorEvent| (event.account.clone(), event.errcode);
        let of = |account: &str, errcode| (Some(account.to_owned()), Some(errcode));
        let expected = [of("wx7", 47003), of("wx7", 47003), of("wx7", 40249), of("wx8", 47003)];
        assert_eq!(events.iter().map(source).collect::<Vec<_>>(), expected);
        for (event, words) in events.iter().zip(["thing1 of", "time2 of", "blocks words"]) {
            assert!(event.text.contains(words), "{event:?}");
        }
    }

    #[test]
    fn a_broken_account_is_an_event_with_the_platform_s_words_and_so_is_one_that_works() {
        let events = sent(|operators| {
            for (is_broken, failure) in [
                (false, None),
                (true, Some(failure(40164, "invalid ip"))),
                (true, Some(failure(40164, "invalid ip"))),
                (false, Some(failure(47001, "data format error"))),
            ] {
                operators.account("wx7", is_broken, failure.as_ref());
            }
        });
        let [broken, works] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((broken.event, broken.errcode, broken.count), ("wechat_broken", Some(40164), 1));
        assert!(broken.text.ends_with("send: invalid ip"), "{broken:?}");
        assert_eq!((works.event, works.errcode, works.count), ("wechat_works", None, 0));
        let json = serde_json::to_value(works).unwrap();
        assert_eq!((&json["account"], json.get("customer_id")), (&"wx7".into(), None));
    }

    #[test]
    fn a_new_speaker_says_what_lasts_once_and_the_end_of_what_it_saw_begin() {
        let says = |spoken: &[(u64, bool)]| {
            let events = sent(|operators| {
                for (count, speaks) in spoken {
                    let since = Timestamp::now();
                    operators.lasting(LastingEvent::SenderLate, *count, since, *speaks);
                }
            });
            events.iter().map(|event| event.event).collect::<Vec<_>>()
        };
        let both = ["sender_late", "on_time"];
        assert_eq!(says(&[(0, true), (3, true), (2, true), (0, true)]), both);
        assert_eq!(says(&[(3, false), (3, true), (2, true), (0, true)]), both);
        assert_eq!(says(&[(3, false), (0, true), (0, true)]), ["on_time"]);
        assert_eq!(says(&[(3, true), (3, false), (2, true), (0, true)]), both, "it speaks again");
        assert_eq!(says(&[(3, true), (3, false), (0, false), (0, true)]), ["sender_late"]);
        assert_eq!(says(&[(3, false), (0, false), (0, true)]), [""; 0], "another has said it");
    }

    #[test]
    fn tenants_are_reached_again_once_they_are_counted_no_more() {
        let events = sent(|operators| {
            for counts in [&[(7, 1), (8, 2), (9, 1)][..], &[(8, 5)], &[]] {
                let counts = counts.iter().copied().collect();
                operators.unreached(&counts, |customer_id| customer_id != 9);
            }
        });
        let events =
            events.iter().map(|event| (event.customer_id.unwrap_or_default(), event.count));
        assert_eq!(events.collect::<Vec<_>>(), [(7, 1), (8, 2), (7, 0), (8, 0)]);
    }
}
