//! The running stand-in as a test holds it: serves both platforms, sets what they know, injects faults,
//! and returns the messages that people received. Answering a call belongs to [`super::official`] and
//! [`super::wecom`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};

use super::fault::{Effect, Endpoint, Fault, Injected};
use super::message::{Message, sameness};
use super::platform::{Shared, lock};
use super::settings::Settings;
use super::{official, wecom};
use crate::fakes::http_server::Server;

/// The running stand-in; dropped, it stops.
#[derive(Debug)]
pub struct FakeWechat {
    server: Server,
    platform: Shared,
}

impl FakeWechat {
    /// Serves on `address`; port 0 takes a free one.
    pub async fn serve(address: SocketAddr) -> anyhow::Result<Self> {
        let platform = Shared::default();
        let router = Router::new()
            .route("/cgi-bin/stable_token", post(official::stable_token))
            .route("/cgi-bin/token", get(official::token))
            .route("/cgi-bin/message/template/send", post(official::send))
            .route("/cgi-bin/gettoken", get(wecom::token))
            .route("/cgi-bin/message/send", post(wecom::send))
            .with_state(Arc::clone(&platform));
        let server = Server::start(address, router).await?;
        Ok(Self { server, platform })
    }

    /// Serves on a free local port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Its base address, the same for both platforms.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes what it knows and allows.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.platform).settings);
    }

    /// Puts its clock ahead: tokens age, limits and windows pass.
    pub fn advance(&self, by: Duration) {
        lock(&self.platform).advance(by);
    }

    /// Answers the next sends with these error codes instead of taking them.
    pub fn refuse_next(&self, codes: &[i64]) {
        for code in codes {
            self.inject(Fault::on(Endpoint::Send, Effect::Errcode(*code)).times(1));
        }
    }

    /// Lets calls fail.
    pub fn inject(&self, fault: Fault) -> Injected {
        lock(&self.platform).faults.inject(fault)
    }

    /// Ends all faults; what hangs goes on.
    pub fn end_faults(&self) {
        lock(&self.platform).faults.end();
    }

    /// Is away from now on: ends every connection, and every new one at once.
    pub fn down(&self) {
        self.server.down();
    }

    /// Is back, under the same address and with all it knew.
    pub fn up(&self) {
        self.server.up();
    }

    /// Lets all tokens that are out expire.
    pub fn expire_token(&self) {
        let mut platform = lock(&self.platform);
        let now = platform.now();
        platform.tokens.expire(now);
    }

    /// Takes back all tokens of the account with this appid or corp id, as if someone else had asked
    /// for new ones.
    pub fn revoke_tokens(&self, account: &str) {
        let mut platform = lock(&self.platform);
        let now = platform.now();
        platform.tokens.revoke(account, now);
    }

    /// The messages people have received, oldest first; the last 10,000.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.platform).inbox.since(0)
    }

    /// The messages received since the first `seen`, and how many there are now.
    pub fn messages_since(&self, seen: u64) -> (Vec<Message>, u64) {
        let platform = lock(&self.platform);
        (platform.inbox.since(seen), platform.inbox.delivered)
    }

    /// What one person has received, by whichever platform, oldest first: a person of
    /// [`Settings::people`], or who has this very address.
    pub fn inbox(&self, person: &str) -> Vec<Message> {
        let platform = lock(&self.platform);
        let people = &platform.settings.people;
        let theirs = |message: &&Message| {
            people.get(&message.touser).unwrap_or(&message.touser).as_str() == person
        };
        platform.inbox.messages.iter().filter(theirs).cloned().collect()
    }

    /// The messages that repeat one for the same address: with the same `client_msg_id` or the same
    /// text, within the time for which the platform knows a message again.
    pub fn received_twice(&self) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(sameness)
    }

    /// As [`Self::received_twice`], where `key` alone says what makes two messages the same; for
    /// instance [`Message::title`].
    pub fn received_twice_by(&self, key: impl Fn(&Message) -> String) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(|message| [key(message)])
    }

    /// How many messages people have received.
    pub fn delivered(&self) -> u64 {
        lock(&self.platform).inbox.delivered
    }

    /// How many messages WeCom has dropped while it said that all was well.
    pub fn dropped(&self) -> u64 {
        lock(&self.platform).inbox.dropped
    }

    /// How many sends were asked for, refused and repeated ones included.
    pub fn sends(&self) -> usize {
        lock(&self.platform).sends.all
    }

    /// How many sends were asked for with a token of this account that worked.
    pub fn sends_of(&self, account: &str) -> usize {
        lock(&self.platform).sends.of(account)
    }

    /// How many tokens were asked for.
    pub fn token_requests(&self) -> usize {
        lock(&self.platform).token_requests.all
    }

    /// How many tokens were asked for by this appid or corp id.
    pub fn token_requests_of(&self, account: &str) -> usize {
        lock(&self.platform).token_requests.of(account)
    }
}
