//! Fakes of servers that are not ours.

pub mod faulty_gateway;
pub mod http_server;
pub mod platform;
pub mod recorder;
pub mod tcp_proxy;
pub mod webhook;
pub mod wechat;
