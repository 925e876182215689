//! A stand-in for WeChat's two platforms on one port: official accounts (template messages) and WeCom
//! (applications' messages), with their tokens, validation, limits and memory of what was sent.
//!
//! People see of a message what the platforms show of it, which is less than what was sent.
//!
//! ```text
//! call ── connection ── token ── fault? ── what the platform does ── inbox of a person
//!         (entrance)   (token)  (fault)   (official, wecom, limits,    (message,
//!                                          recent)                     template)
//! ```
//!
//! As it starts it takes everything that is well formed. Tests set what it knows and allows
//! ([`FakeWechat::set`]), let it fail ([`FakeWechat::inject`], [`FakeWechat::down`]), put its clock
//! ahead ([`FakeWechat::advance`]), and judge by what people received ([`FakeWechat::inbox`]), not by
//! what was called. Nothing here decides what a caller ought to do about an answer.

mod account;
mod answer;
mod call;
mod fault;
mod limits;
mod message;
mod official;
mod platform;
mod recent;
mod seen;
mod settings;
mod template;
mod token;
mod wecom;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};

pub use account::{Account, Kind};
pub use fault::{Effect, Endpoint, Fault, Injected, Moment};
pub use limits::Limit;
pub use message::{Message, SAME_WITHIN_OFFICIAL, SAME_WITHIN_WECOM};
pub use settings::Settings;
pub use token::TOKEN_PREFIX;

use crate::fakes::http_server::Server;
use platform::{Shared, lock};

/// Secret of every official account, unless [`Settings::accounts`] says otherwise.
pub const APP_SECRET: &str = "secret-of-the-stand-in";

/// Secret of every application in WeCom, unless [`Settings::accounts`] says otherwise.
pub const CORP_SECRET: &str = "corp-secret-of-the-stand-in";

/// Template of every account here.
pub const TEMPLATE_ID: &str = "template-alarm";

/// The person who receives the alarms.
pub const NURSE: &str = "openid-nurse";

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
}

#[cfg(test)]
mod tests;
