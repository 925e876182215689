//! Sends operator events to the log, and to a webhook if a webhook is set. Metrics show these
//! events too late or not at all.
//!
//! The callers decide when an event occurs, or measure a state that lasts. Nothing here waits for
//! the receiver.

pub mod event;
pub mod lasting;
pub mod repeat_limit;
pub mod webhook;

use std::collections::BTreeMap;
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

/// Events that wait for the receiver. Further events go to the log only.
const QUEUE_MAX: usize = 64;

/// Time for which operators hear once of a field of a template that the platform refuses.
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

/// The events that operators heard of.
#[derive(Debug)]
struct Heard {
    lasting: LastingEvents,
    /// Refused templates, by account and field.
    templates: RepeatLimit<(String, String)>,
}

/// The channel to the operators.
#[derive(Debug, Clone)]
pub struct OperatorEvents {
    queue: Option<mpsc::Sender<OperatorEvent>>,
    heard: Arc<Mutex<Heard>>,
}

impl OperatorEvents {
    fn new(queue: Option<mpsc::Sender<OperatorEvent>>) -> Self {
        let heard = Heard {
            lasting: LastingEvents::default(),
            templates: RepeatLimit::new(TEMPLATE_INTERVAL),
        };
        Self { queue, heard: Arc::new(Mutex::new(heard)) }
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

    /// Takes a measurement of a state that lasts: the number of cases of each tenant that has any.
    /// Of a tenant without any, the state is over.
    pub fn lasting_of_tenants(&self, event: LastingEvent, counts: &BTreeMap<i64, u64>) {
        let mut tenants = self.heard().lasting.tenants(event);
        tenants.extend(counts.keys());
        for customer_id in tenants {
            let count = counts.get(&customer_id).copied().unwrap_or_default();
            self.lasting(event, Some(customer_id), count, Timestamp::now());
        }
    }

    /// Takes a measurement of a state that lasts, of a tenant or of all, and began at `since`.
    /// `count` 0: the state is over. Operators hear when it begins, when it ends, and once a day
    /// while it lasts.
    pub fn lasting(
        &self,
        event: LastingEvent,
        customer_id: Option<i64>,
        count: u64,
        since: Timestamp,
    ) {
        let now = Timestamp::now();
        let due = self.heard().lasting.update(event, customer_id, count, since, now);
        if let Some(operator_event) = due {
            self.notify(operator_event);
        }
    }

    /// Reports a field of an account's template that the platform refuses. Operators hear once an
    /// hour of each field.
    pub fn template_refused(&self, account: &str, field: &str) {
        let key = (account.to_owned(), field.to_owned());
        if !self.heard().templates.admit(key, Instant::now()) {
            return;
        }
        let text = format!(
            "WeChat refuses field {field} of the template of account {account}; its messages are \
             sent in a plainer form"
        );
        let about = OperatorEvent::about("template_refused", text, Timestamp::now());
        self.notify(OperatorEvent { account: Some(account.to_owned()), ..about });
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // A panic while the lock was held leaves the memory usable.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn a_refused_template_is_told_of_once_an_hour_by_account_and_field() {
        let (queue, mut sent) = mpsc::channel(QUEUE_MAX);
        let operators = OperatorEvents::new(Some(queue));
        for (account, field) in [("wx7", "thing1"), ("wx7", "thing1"), ("wx7", "time2")] {
            operators.template_refused(account, field);
        }
        operators.template_refused("wx8", "thing1");
        drop(operators);
        let mut events = Vec::new();
        while let Some(event) = sent.recv().await {
            events.push((event.account.unwrap_or_default(), event.text.contains("thing1")));
        }
        let expected = [("wx7", true), ("wx7", false), ("wx8", true)];
        assert_eq!(events, expected.map(|(account, thing)| (account.to_owned(), thing)));
    }

    #[tokio::test]
    async fn a_lasting_state_reaches_the_webhook_once() {
        let (queue, mut sent) = mpsc::channel(QUEUE_MAX);
        let operators = OperatorEvents::new(Some(queue));
        for count in [0, 3, 2, 0, 0] {
            operators.lasting(LastingEvent::SenderLate, None, count, Timestamp::now());
        }
        drop(operators);
        let mut events = Vec::new();
        while let Some(event) = sent.recv().await {
            events.push((event.event, event.count));
        }
        assert_eq!(events, [("sender_late", 3), ("on_time", 0)]);
    }

    #[tokio::test]
    async fn a_state_of_tenants_is_over_for_those_that_are_counted_no_more() {
        let (queue, mut sent) = mpsc::channel(QUEUE_MAX);
        let operators = OperatorEvents::new(Some(queue));
        for counts in [&[(7, 1), (8, 2)][..], &[(8, 5)], &[]] {
            let counts = counts.iter().copied().collect();
            operators.lasting_of_tenants(LastingEvent::NoRecipientReached, &counts);
        }
        drop(operators);
        let mut events = Vec::new();
        while let Some(event) = sent.recv().await {
            events.push((event.customer_id.unwrap_or_default(), event.count));
        }
        assert_eq!(events, [(7, 1), (8, 2), (7, 0), (8, 0)]);
    }
}
