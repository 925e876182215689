//! Servers that stand in for those of others.

pub mod http_server;
pub mod platform;
pub mod tcp_proxy;
pub mod webhook;
pub mod wechat;
