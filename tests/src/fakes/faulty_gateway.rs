//! A gateway that fails in the ways that its clients must bear, and passes all other requests on to
//! the real one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::clients::http;
use crate::fakes::http_server::{Connection, Server};
use crate::fakes::lock;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The real gateway answers.
    Passed,
    /// The answer is this status, with the seconds of `Retry-After` if there are any.
    Refused(u16, Option<u64>),
    /// The connection is cut. The real gateway sees nothing of the request.
    Cut,
}

#[derive(Debug)]
struct Gateway {
    /// Address of the real gateway.
    target: String,
    /// The fates of the next requests. All later ones are passed.
    fates: VecDeque<Fate>,
    /// The end of the last `Retry-After`.
    retry_at: Instant,
    /// Requests that came before it.
    too_early: usize,
}

type Shared = Arc<Mutex<Gateway>>;

/// The running gateway. It stops when dropped.
#[derive(Debug)]
pub struct FaultyGateway {
    server: Server,
    gateway: Shared,
}

impl FaultyGateway {
    /// Starts in front of the gateway at the address `target`.
    pub async fn start(target: String, fates: &[Fate]) -> anyhow::Result<Self> {
        let fates = fates.iter().copied().collect();
        let gateway = Gateway { target, fates, retry_at: Instant::now(), too_early: 0 };
        let gateway = Arc::new(Mutex::new(gateway));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&gateway));
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await?;
        Ok(Self { server, gateway })
    }

    /// The base address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Requests that came before a `Retry-After` had passed.
    pub fn too_early(&self) -> usize {
        lock(&self.gateway).too_early
    }

    /// Fates that no request has met yet.
    pub fn unmet(&self) -> usize {
        lock(&self.gateway).fates.len()
    }
}

impl Gateway {
    /// Decides what happens to a request that comes now.
    fn next(&mut self, now: Instant) -> Fate {
        if now < self.retry_at {
            self.too_early += 1;
        }
        let fate = self.fates.pop_front().unwrap_or(Fate::Passed);
        if let Fate::Refused(_, Some(seconds)) = fate {
            self.retry_at = now + Duration::from_secs(seconds);
        }
        fate
    }
}

async fn answer(
    State(gateway): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fate = lock(&gateway).next(Instant::now());
    match fate {
        Fate::Cut => {
            connection.cut();
            StatusCode::OK.into_response()
        }
        Fate::Refused(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut answer = (status, "{}").into_response();
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            answer
        }
        Fate::Passed => {
            let url = format!("{}{uri}", lock(&gateway).target);
            let kept = [CONTENT_TYPE, CONTENT_ENCODING].into_iter().filter_map(|name| {
                let value = headers.get(&name)?.to_str().ok()?;
                Some((name.to_string(), value.to_owned()))
            });
            let kept: Vec<_> = kept.collect();
            let kept: Vec<_> = kept.iter().map(|(name, value)| (&**name, &**value)).collect();
            match http::send(method.as_str(), &url, &kept, body.to_vec()).await {
                Ok(answer) => {
                    let status = StatusCode::from_u16(answer.status);
                    (status.unwrap_or(StatusCode::BAD_GATEWAY), answer.text).into_response()
                }
                Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_meet_their_fates_in_order_and_those_too_early_are_counted() {
        let target = FaultyGateway::start(String::new(), &[Fate::Refused(201, None)]).await;
        let target = target.unwrap();
        let fates = [Fate::Refused(503, Some(60)), Fate::Cut, Fate::Passed];
        let faulty = FaultyGateway::start(target.url(), &fates).await.unwrap();
        let refused = http::post(&faulty.url(), "{}").await.unwrap();
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("60")));
        assert_eq!((faulty.too_early(), faulty.unmet()), (0, 2));
        assert!(http::post(&faulty.url(), "{}").await.is_err(), "the connection is cut");
        assert_eq!(http::post(&faulty.url(), "{}").await.unwrap().status, 201);
        assert_eq!((faulty.too_early(), faulty.unmet()), (2, 0));
    }
}
