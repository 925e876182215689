//! Alerts and their notifications.

pub mod alerts;
pub mod cases;
pub mod dead_letters;
pub mod faults;
pub mod no_data;
pub mod operators;
pub mod outbox;
pub mod people;
pub mod replicas;
pub mod routing;
pub mod rules;
pub mod sender;
pub mod silences;
pub mod templates;
pub mod waiting;

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::wait::eventually;

/// The longest that a message may take, with the lives of caches and the pauses of accounts.
const RECEIVED_WITHIN: Duration = Duration::from_secs(90);

/// Waits until a person has this many messages, and returns their texts.
async fn inbox(wechat: &FakeWechat, person: &str, count: usize) -> Result<Vec<String>> {
    eventually(RECEIVED_WITHIN, &format!("{count} messages for {person}"), || async {
        let inbox = wechat.inbox(person);
        ensure!(inbox.len() == count, "{inbox:#?}");
        Ok(Some(()))
    })
    .await?;
    Ok(wechat.inbox(person).iter().map(|message| message.text()).collect())
}
