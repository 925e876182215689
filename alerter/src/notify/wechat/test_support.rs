//! Fakes of the platforms, as far as both have the same form, and a notice to send.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::client::Platforms;
use super::settings::base_url;
use crate::notify::notice::Notice;

/// Time limit of a call in tests.
pub const TIMEOUT: Duration = Duration::from_millis(500);

/// A critical heart rate of the device A1, with a long text.
pub fn notice() -> Notice {
    Notice { text: "心率\"异常\"\n".repeat(200), ..crate::test_support::notice() }
}

/// Both platforms at `url`.
pub fn platforms(url: &str) -> Platforms {
    let url = base_url(url).unwrap();
    Platforms::at(url.clone(), url, TIMEOUT, None).unwrap()
}

/// A server that hands out `tokens` to requests that match `asks`, one after the other, the last
/// one for ever.
pub async fn hand_out(tokens: &[&str], of: &str, asks: fn(&Request) -> bool) -> MockServer {
    let server = MockServer::start().await;
    for (at, token) in tokens.iter().enumerate() {
        let times = if at + 1 < tokens.len() { 1 } else { 1_000 };
        let answer = ResponseTemplate::new(200)
            .set_body_json(json!({"errcode": 0, "access_token": token, "expires_in": 7200}))
            .set_delay(Duration::from_millis(20));
        Mock::given(path(of))
            .and(asks)
            .respond_with(answer)
            .up_to_n_times(times)
            .mount(&server)
            .await;
    }
    server
}

/// Makes `server` answer messages that carry `token`.
pub async fn answer(server: &MockServer, of: &str, token: &str, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path(of))
        .and(query_param("access_token", token))
        .respond_with(answer)
        .mount(server)
        .await;
}

/// An answer with an errcode.
pub fn errcode(errcode: i64) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"errcode": errcode, "errmsg": "said"}))
}

/// Returns the number of calls to a path.
pub async fn asked(server: &MockServer, of: &str) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path() == of).count()
}

/// A platform that hands out one token, cuts the next `cuts` connections after their request, and
/// is unreachable after that.
pub async fn cut_off_after_a_token(cuts: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let token = json!({"access_token": "T1", "expires_in": 7200}).to_string();
        let mut listener = Some(listener);
        for turn in 0..=cuts {
            let (mut stream, _) = listener.as_ref().unwrap().accept().await.unwrap();
            if turn == cuts {
                // Close before the answer: a client that has the answer finds no listener.
                listener = None;
            }
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            if turn == 0 && read > 0 {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ";
                let answer = format!("{head}{}\r\n\r\n{token}", token.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    url
}
