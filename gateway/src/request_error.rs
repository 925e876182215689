//! Names the errors of requests, in one table for answers, metrics and documents.

use axum::http::StatusCode;

/// The stable code of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The body is empty.
    EmptyBody,
    /// The body cannot be parsed.
    MalformedBody,
    /// A parameter of the query has an unknown value.
    InvalidParameter,
    /// The body is larger than allowed, received or decompressed.
    PayloadTooLarge,
    /// The body arrived too slowly, or its connection broke.
    BodyTimeout,
    /// The content type is not JSON.
    UnsupportedMediaType,
    /// The compression is not supported.
    UnsupportedEncoding,
    /// No item of the body is a reading.
    NoAcceptableReading,
    /// The body holds too many items.
    TooManyReadings,
    /// Kafka, the queue or this process cannot accept the body now.
    Unavailable,
    /// The path does not exist.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::EmptyBody,
        Self::MalformedBody,
        Self::InvalidParameter,
        Self::PayloadTooLarge,
        Self::BodyTimeout,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::NoAcceptableReading,
        Self::TooManyReadings,
        Self::Unavailable,
        Self::NotFound,
        Self::MethodNotAllowed,
    ];

    /// The table: stable word, HTTP status, and message for people.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as Status;
        match self {
            Self::EmptyBody => ("empty_body", Status::BAD_REQUEST, "请求体不能为空"),
            Self::MalformedBody => ("malformed_body", Status::BAD_REQUEST, "请求体无法解析"),
            Self::InvalidParameter => {
                ("invalid_parameter", Status::BAD_REQUEST, "dry_run 只能是一个 true 或 false")
            }
            Self::PayloadTooLarge => {
                ("payload_too_large", Status::PAYLOAD_TOO_LARGE, "请求体过大，请分批上传")
            }
            Self::BodyTimeout => {
                ("body_timeout", Status::REQUEST_TIMEOUT, "请求体未在规定时间内到达，请重试")
            }
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                Status::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type 必须是 UTF-8 编码的 application/json",
            ),
            Self::UnsupportedEncoding => (
                "unsupported_encoding",
                Status::UNSUPPORTED_MEDIA_TYPE,
                "Content-Encoding 只支持 gzip 或 zstd 中的一种",
            ),
            Self::NoAcceptableReading => {
                ("no_acceptable_reading", Status::UNPROCESSABLE_ENTITY, "没有可接收的读数")
            }
            Self::TooManyReadings => {
                ("too_many_readings", Status::UNPROCESSABLE_ENTITY, "读数过多，请分批上传")
            }
            Self::Unavailable => {
                ("unavailable", Status::SERVICE_UNAVAILABLE, "服务暂时不可用，请稍后重试")
            }
            Self::NotFound => ("not_found", Status::NOT_FOUND, "路径不存在"),
            Self::MethodNotAllowed => {
                ("method_not_allowed", Status::METHOD_NOT_ALLOWED, "请求方法不受支持，请使用 POST")
            }
        }
    }

    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Returns the HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// Returns the message for people. The answer to a parsed body uses the messages of its items
    /// instead.
    pub const fn message(self) -> &'static str {
        self.row().2
    }

    /// Whether the answer closes the connection, because the rest of the body is not read.
    pub const fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::InvalidParameter
                | Self::PayloadTooLarge
                | Self::BodyTimeout
                | Self::UnsupportedMediaType
                | Self::UnsupportedEncoding
                | Self::NotFound
                | Self::MethodNotAllowed
        )
    }
}

/// A refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestError {
    pub code: ErrorCode,
    /// Seconds until a retry is worthwhile.
    pub retry_after: Option<u64>,
}

impl From<ErrorCode> for RequestError {
    fn from(code: ErrorCode) -> Self {
        Self { code, retry_after: None }
    }
}

#[cfg(test)]
#[path = "request_error_tests.rs"]
mod tests;
