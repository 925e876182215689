//! Fakes of servers that are not ours.

pub mod faulty_gateway;
pub mod http_server;
pub mod platform;
pub mod recorder;
pub mod tcp_proxy;
pub mod webhook;
pub mod wechat;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the state of a fake, also after a panic of another holder.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
