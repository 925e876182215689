//! A fake of WeChat's two platforms on one port: official accounts (template messages) and WeCom
//! (applications' messages), with their tokens, validation, limits and memory of the messages sent.
//!
//! People receive only the part of a message that the platforms show.
//!
//! ```text
//! call ── connection ── token ── fault? ── work of the platform ── inbox of a person
//!        (http_server) (token) (call, fault) (official, wecom,    (message, template)
//!                                             limits, recent)
//! ```
//!
//! By default the fake accepts every well-formed call. Tests change its settings
//! ([`FakeWechat::set`]), make calls fail ([`FakeWechat::inject`], [`FakeWechat::down`]), advance
//! its clock ([`FakeWechat::advance`]), and check the messages that people received
//! ([`FakeWechat::inbox`]), not the calls. The fake does not prescribe how a caller reacts to an
//! answer.

mod call;
mod fake_wechat;
mod fault;
mod limits;
mod message;
mod official;
mod platform;
mod recent;
mod settings;
mod template;
mod token;
mod wecom;

pub use fake_wechat::FakeWechat;
pub use fault::{Effect, Endpoint, Fault, Injected, Moment};
pub use limits::Limit;
pub use message::{Message, SAME_WITHIN_OFFICIAL, SAME_WITHIN_WECOM};
pub use settings::{APP_SECRET, Account, CORP_SECRET, Kind, NURSE, Settings, TEMPLATE_ID};
pub use token::TOKEN_PREFIX;

#[cfg(test)]
mod tests;
