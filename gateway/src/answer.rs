//! What the two policies answer: devices get a 200 for whatever must not be sent again, API
//! clients the status codes that HTTP has for it.

use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::body::BodyFailure;
use crate::ingest::{Ingested, Policy, Remark};

/// Most entries of `results` in one answer.
const RESULTS_MAX: usize = 100;

/// Why a request is turned away before or instead of being taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing was sent.
    Empty,
    /// The body could not be read.
    Body(BodyFailure),
    /// Not JSON by its content type.
    ContentType,
    /// Kafka, the queue or this process cannot take it now; seconds until it is worth a try.
    Unavailable { retry_after: u64, draining: bool },
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Empty => StatusCode::BAD_REQUEST,
            Self::Body(BodyFailure::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyFailure::Stalled) => StatusCode::REQUEST_TIMEOUT,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Empty => "请求体不能为空",
            Self::Body(BodyFailure::TooLarge) => "请求体过大，请分批上传",
            Self::Body(BodyFailure::Stalled) => "请求体未在规定时间内到达，请重试",
            Self::ContentType => "Content-Type 必须是 application/json",
            Self::Unavailable { .. } => "服务暂时不可用，请稍后重试",
        }
    }
}

/// Answers for a body that was taken in.
pub fn ingested(policy: Policy, result: &Ingested) -> Response {
    let results = results(&result.remarks);
    if policy == Policy::Api && result.success == 0 && result.error > 0 {
        let status = if result.malformed {
            malformed_status(result)
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        return problem(status, &result.remarks[0].message, results);
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
        "message": message(result),
        "details": details,
    });
    (StatusCode::OK, axum::Json(body)).into_response()
}

/// JSON that does not parse is the client's syntax; one that holds too much is understood.
fn malformed_status(result: &Ingested) -> StatusCode {
    match result.remarks.first().map(|remark| remark.code) {
        Some("malformed_body") => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn message(result: &Ingested) -> String {
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

fn results(remarks: &[Remark]) -> Vec<Value> {
    let entry = |remark: &Remark| {
        json!({
            "index": remark.index,
            "device_sn": remark.device_sn,
            "code": remark.code,
            "field": remark.field,
            "message": remark.message,
        })
    };
    remarks.iter().take(RESULTS_MAX).map(entry).collect()
}

/// Answers for a request that was turned away.
pub fn refused(policy: Policy, refusal: Refusal) -> Response {
    let status = refusal.status();
    let mut response = match policy {
        Policy::Device => {
            let body = json!({"status": "error", "message": refusal.message()});
            (status, axum::Json(body)).into_response()
        }
        Policy::Api => problem(status, refusal.message(), Vec::new()),
    };
    let headers = response.headers_mut();
    if let Refusal::Unavailable { retry_after, .. } = refusal {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    let closes = matches!(refusal, Refusal::Body(_) | Refusal::Unavailable { draining: true, .. });
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An error as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str, results: Vec<Value>) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if !results.is_empty() {
        body["results"] = Value::Array(results);
    }
    let mut response = (status, body.to_string()).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
