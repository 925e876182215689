//! Names the errors of requests, in one table for answers, metrics and documents.

use axum::http::StatusCode;

/// The stable code of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The body is empty.
    EmptyBody,
    /// The body cannot be parsed.
    MalformedBody,
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
    pub const ALL: [Self; 11] = [
        Self::EmptyBody,
        Self::MalformedBody,
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

    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::MalformedBody => "malformed_body",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::NoAcceptableReading => "no_acceptable_reading",
            Self::TooManyReadings => "too_many_readings",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
        }
    }

    /// Returns the HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::EmptyBody | Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::NoAcceptableReading | Self::TooManyReadings => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Returns the message for people. The answer to a parsed body uses the messages of its items
    /// instead.
    pub const fn message(self) -> &'static str {
        match self {
            Self::EmptyBody => "请求体不能为空",
            Self::MalformedBody => "请求体无法解析",
            Self::PayloadTooLarge => "请求体过大，请分批上传",
            Self::BodyTimeout => "请求体未在规定时间内到达，请重试",
            Self::UnsupportedMediaType => "Content-Type 必须是 UTF-8 编码的 application/json",
            Self::UnsupportedEncoding => "Content-Encoding 只支持 gzip 或 zstd 中的一种",
            Self::NoAcceptableReading => "没有可接收的读数",
            Self::TooManyReadings => "读数过多，请分批上传",
            Self::Unavailable => "服务暂时不可用，请稍后重试",
            Self::NotFound => "路径不存在",
            Self::MethodNotAllowed => "请求方法不受支持，请使用 POST",
        }
    }

    /// Whether the answer closes the connection, because the rest of the body is not read.
    pub const fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::PayloadTooLarge
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
mod tests {
    use ljwx_reading::RejectionCode;

    use super::*;

    #[test]
    fn a_code_is_one_word_in_answers_records_metrics_and_documents() {
        let items = [RejectionCode::MalformedBody, RejectionCode::TooManyReadings];
        for (ours, item) in
            [ErrorCode::MalformedBody, ErrorCode::TooManyReadings].into_iter().zip(items)
        {
            assert_eq!(ours.as_str(), item.as_str(), "a record's header says it otherwise");
        }
        let documents = include_str!("../../docs/running.md");
        for code in ErrorCode::ALL {
            let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
            assert!(documents.contains(&row), "docs/running.md lacks {row}");
        }
        let zeros = crate::metrics::SERVICE.zeros.iter();
        let (_, _, shown) =
            zeros.clone().find(|(name, ..)| *name == crate::metrics::REFUSALS).unwrap();
        assert_eq!(*shown, ErrorCode::ALL.map(ErrorCode::as_str), "shown at 0 from the start");
    }
}
