//! Builds the answers of the two policies. Devices get 200 for everything that they must not send
//! again. API clients get the matching HTTP status.

use axum::http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use metrics::counter;
use serde_json::{Value, json};

use crate::admission::byte_budget::BodyReservation;
use crate::ingest::{Echo, IngestResult, RoutePolicy};
use crate::items::ItemResult;
use crate::metrics::REFUSALS;
use crate::request_error::{ErrorCode, RequestError};
use crate::request_span::REQUEST_ID;

/// Header of the answers to dry runs.
const DRY_RUN: &str = "x-dry-run";

/// The context of an answer.
#[derive(Debug)]
pub struct Responder<'a> {
    pub policy: RoutePolicy,
    /// Zone of the answer's time.
    pub zone: &'a TimeZone,
    /// The id of the request in logs and traces.
    pub request_id: String,
}

impl Responder<'_> {
    /// Answers a body whose records are all in Kafka, or a dry run.
    pub fn ingested(&self, result: IngestResult) -> Response {
        let results = results(&result.item_results);
        if let Some(code) = self.error_code(&result) {
            return self.problem(code, &result.item_results[0].message, results, result.echo);
        }
        let accepted = result.success > 0 || result.error == 0;
        let mut details = json!({
            "success": result.success,
            "duplicate": result.duplicate,
            "error": result.error,
        });
        if !results.is_empty() {
            details["results"] = Value::Array(results);
        }
        let body = json!({
            "status": if accepted { "success" } else { "error" },
            "message": message(&result),
            "details": details,
        });
        self.sealed(StatusCode::OK, "application/json", body, result.echo)
    }

    /// Returns the error for a body without an accepted reading. API clients get an error because
    /// they still hold their data. Devices get 200.
    pub fn error_code(&self, result: &IngestResult) -> Option<ErrorCode> {
        if self.policy == RoutePolicy::Device || result.success > 0 || result.error == 0 {
            return None;
        }
        Some(match result.item_results[0].code {
            code if result.malformed && code == ErrorCode::TooManyReadings.as_str() => {
                ErrorCode::TooManyReadings
            }
            _ if result.malformed => ErrorCode::MalformedBody,
            _ => ErrorCode::NoAcceptableReading,
        })
    }

    /// Answers a request that was refused.
    pub fn error_response(&self, error_code: RequestError) -> Response {
        let RequestError { code, retry_after } = error_code;
        let mut response = match self.policy {
            RoutePolicy::Device => {
                let body = json!({
                    "status": "error",
                    "code": code.as_str(),
                    "message": code.message(),
                });
                counter!(REFUSALS, "code" => code.as_str()).increment(1);
                self.sealed(code.status(), "application/json", body, None)
            }
            RoutePolicy::Api => self.problem(code, code.message(), Vec::new(), None),
        };
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if code.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match code {
            ErrorCode::UnsupportedEncoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            }
            ErrorCode::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            _ => {}
        }
        response
    }

    /// Builds an error by RFC 9457.
    fn problem(
        &self,
        code: ErrorCode,
        detail: &str,
        results: Vec<Value>,
        echo: Option<Echo>,
    ) -> Response {
        counter!(REFUSALS, "code" => code.as_str()).increment(1);
        let mut body = json!({
            "type": format!("urn:ljwx:problem:{}", code.as_str()),
            "title": code.status().canonical_reason().unwrap_or_default(),
            "status": code.status().as_u16(),
            "detail": detail,
            "code": code.as_str(),
        });
        if !results.is_empty() {
            body["results"] = Value::Array(results);
        }
        self.sealed(code.status(), "application/problem+json", body, echo)
    }

    /// Adds to the answer the time and the id of the request, and the readings of a dry run.
    fn sealed(
        &self,
        status: StatusCode,
        kind: &'static str,
        mut body: Value,
        echo: Option<Echo>,
    ) -> Response {
        let now = Timestamp::now();
        let time = ZonedDateTime::new(now, self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z");
        body["server_time"] = time.to_string().into();
        body["server_epoch_ms"] = now.as_millisecond().into();
        body["request_id"] = self.request_id.as_str().into();
        let is_dry_run = echo.is_some();
        let body = match echo {
            Some(echo) => with_readings(body, echo),
            None => body.to_string().into(),
        };
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if is_dry_run {
            headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

/// The answer to a dry run and its part of the budget of bodies.
struct HeldAnswer {
    bytes: Vec<u8>,
    _held: BodyReservation,
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Adds the readings of a dry run to the end of the answer. They stay the bytes that their records
/// would have: as a `Value`, a document would change its form.
fn with_readings(mut answer: Value, Echo { values, held }: Echo) -> Bytes {
    answer["dry_run"] = true.into();
    let mut bytes = answer.to_string().into_bytes();
    // The closing brace.
    bytes.pop();
    bytes.extend_from_slice(b",\"readings\":[");
    bytes.extend_from_slice(&values.join(&b','));
    bytes.extend_from_slice(b"]}");
    Bytes::from_owner(HeldAnswer { bytes, _held: held })
}

fn message(result: &IngestResult) -> String {
    if result.duplicate == 0 && result.error == 0 {
        return "数据已接收并处理".into();
    }
    let mut message = format!("批量处理完成，成功{}条", result.success);
    for (word, count) in [("重复", result.duplicate), ("失败", result.error)] {
        if count > 0 {
            message.push_str(&format!("，{word}{count}条"));
        }
    }
    message
}

fn results(item_results: &[ItemResult]) -> Vec<Value> {
    let entry = |remark: &ItemResult| {
        json!({
            "index": remark.index,
            "device_sn": remark.device_sn,
            "code": remark.code,
            "field": remark.field,
            "message": remark.message,
        })
    };
    item_results.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::byte_budget::{BodyBudget, NoRoom};

    #[test]
    fn the_readings_of_a_dry_run_stay_bytes_that_count_until_they_are_sent() {
        const BYTES: usize = 8192;
        let budget = BodyBudget::new(BYTES);
        let mut held = budget.hold();
        held.cover(BYTES).unwrap();
        let values = vec![br#"{"b":1.50,"a":1}"#.to_vec(), b"{}".to_vec()];
        let answer = with_readings(json!({ "status": "success" }), Echo { values, held });
        assert!(answer.ends_with(br#","readings":[{"b":1.50,"a":1},{}]}"#), "{answer:?}");
        let read: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&read["status"], &read["dry_run"]), (&json!("success"), &json!(true)));
        assert_eq!(budget.hold().cover(1), Err(NoRoom), "the answer is not sent yet");
        drop(answer);
        assert_eq!(budget.hold().cover(1), Ok(()));
    }
}
