//! One call on its way through the faults in force.

use axum::response::{IntoResponse, Response};

use super::answer::{Said, answer, page, without_errcode};
use super::fault::{Effect, Endpoint, Moment};
use super::platform::{Platform, Shared, lock};
use crate::fakes::http_server::Connection;
use crate::stack::wait;

/// Answers a call of `account`. `handle` is the platform's own doing; it is not done where a fault
/// keeps it from that.
pub(super) async fn through(
    platform: &Shared,
    connection: &Connection,
    (endpoint, account): (Endpoint, &str),
    handle: impl FnOnce(&mut Platform) -> Said,
) -> Response {
    let fault = lock(platform).faults.strike(endpoint, account);
    let handle = || answer(handle(&mut lock(platform)));
    let Some((effect, ended)) = fault else { return handle() };
    match effect {
        Effect::Errcode(code) => answer(Err(code)),
        Effect::Delay(time) => {
            wait::pass(time).await;
            handle()
        }
        Effect::Hang(Moment::Before) => {
            ended.cancelled().await;
            handle()
        }
        Effect::Hang(Moment::After) => {
            let answer = handle();
            ended.cancelled().await;
            answer
        }
        Effect::Cut(moment) => {
            if moment == Moment::After {
                handle();
            }
            connection.cut();
            ().into_response()
        }
        Effect::Page(status) => page(status),
        Effect::NoErrcode => without_errcode(),
    }
}
