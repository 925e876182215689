//! The running fake as a test holds it: serves both platforms, changes their settings, injects
//! faults, and returns the messages that people received. Answering a call belongs to
//! [`super::official`] and [`super::wecom`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};

use super::fault::{Effect, Endpoint, Fault, Injected};
use super::message::{Message, sameness};
use super::platform::Shared;
use super::settings::Settings;
use super::{official, wecom};
use crate::fakes::http_server::Server;
use crate::fakes::lock;

/// The running fake. It stops when dropped.
#[derive(Debug)]
pub struct FakeWechat {
    server: Server,
    platform: Shared,
}

impl FakeWechat {
    /// Serves on `address`; port 0 takes a free port.
    pub async fn serve(address: SocketAddr) -> anyhow::Result<Self> {
        let platform = Shared::default();
        let router = Router::new()
            .route("/cgi-bin/stable_token", post(official::stable_token))
            .route("/cgi-bin/token", get(official::token))
            .route("/cgi-bin/template/get_all_private_template", get(official::templates))
            .route("/cgi-bin/message/template/send", post(official::send))
            .route("/cgi-bin/gettoken", get(wecom::token))
            .route("/cgi-bin/agent/get", get(wecom::application))
            .route("/cgi-bin/message/send", post(wecom::send))
            .with_state(Arc::clone(&platform));
        let server = Server::start(address, router).await?;
        Ok(Self { server, platform })
    }

    /// Serves on a free local port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The base address, the same for both platforms.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes the settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.platform).settings);
    }

    /// The fake's clock, by which messages arrive: the time since its start, and the time that the
    /// clock was put ahead.
    pub fn now(&self) -> Duration {
        lock(&self.platform).now()
    }

    /// Puts the clock ahead: tokens age, limits and windows pass.
    pub fn advance(&self, by: Duration) {
        lock(&self.platform).advance(by);
    }

    /// Answers the next sends with these errcodes and delivers nothing.
    pub fn refuse_next(&self, codes: &[i64]) {
        for code in codes {
            self.inject(Fault::on(Endpoint::Send, Effect::Errcode(*code)).times(1));
        }
    }

    /// Makes calls fail.
    pub fn inject(&self, fault: Fault) -> Injected {
        lock(&self.platform).faults.inject(fault)
    }

    /// Ends all faults. Calls that hang continue.
    pub fn end_faults(&self) {
        lock(&self.platform).faults.end();
    }

    /// Stops: ends every connection, and every new one at once.
    pub fn down(&self) {
        self.server.down();
    }

    /// Starts again under the same address, with its state.
    pub fn up(&self) {
        self.server.up();
    }

    /// Makes all tokens expire.
    pub fn expire_token(&self) {
        let mut platform = lock(&self.platform);
        let now = platform.now();
        platform.tokens.expire(now);
    }

    /// Revokes all tokens of the account with this appid or corp id, as if another service had
    /// requested new ones.
    pub fn revoke_tokens(&self, account: &str) {
        let mut platform = lock(&self.platform);
        let now = platform.now();
        platform.tokens.revoke(account, now);
    }

    /// The messages people have received, oldest first; the last 100,000.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.platform).inbox.since(0)
    }

    /// Returns the messages received after the first `seen`, and the number of all messages.
    pub fn messages_since(&self, seen: u64) -> (Vec<Message>, u64) {
        let platform = lock(&self.platform);
        (platform.inbox.since(seen), platform.inbox.delivered)
    }

    /// Returns the messages that one person has received by either platform, oldest first. A person
    /// is named by [`Settings::people`], or by the address.
    pub fn inbox(&self, person: &str) -> Vec<Message> {
        let platform = lock(&self.platform);
        let people = &platform.settings.people;
        let theirs = |message: &&Message| {
            people.get(&message.touser).unwrap_or(&message.touser).as_str() == person
        };
        platform.inbox.messages.iter().filter(theirs).cloned().collect()
    }

    /// Returns the messages that repeat an earlier message to the same address: with the same
    /// `client_msg_id` or the same text, within the time for which the platform remembers a
    /// message.
    pub fn received_twice(&self) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(sameness)
    }

    /// Like [`Self::received_twice`], but messages are the same if `key` is, for instance
    /// [`Message::title`].
    pub fn received_twice_by(&self, key: impl Fn(&Message) -> String) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(|message| [key(message)])
    }

    /// Returns the number of messages that people have received.
    pub fn delivered(&self) -> u64 {
        lock(&self.platform).inbox.delivered
    }

    /// Returns the number of messages that WeCom has dropped while it answered with success.
    pub fn dropped(&self) -> u64 {
        lock(&self.platform).inbox.dropped
    }

    /// Returns the number of sends, including failed and repeated ones.
    pub fn sends(&self) -> usize {
        lock(&self.platform).sends.all
    }

    /// Returns the number of sends with a valid token of this account.
    pub fn sends_of(&self, account: &str) -> usize {
        lock(&self.platform).sends.of(account)
    }

    /// Returns the number of token requests.
    pub fn token_requests(&self) -> usize {
        lock(&self.platform).token_requests.all
    }

    /// Returns the number of token requests of this appid or corp id.
    pub fn token_requests_of(&self, account: &str) -> usize {
        lock(&self.platform).token_requests.of(account)
    }
}
