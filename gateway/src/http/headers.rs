//! Reads what a request's head states about its body and about its purpose. Pure.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ljwx_reading::content_encoding::Encoding;

/// The compression of a body. `None`: not compressed.
pub type Coding = Option<Encoding>;

/// The body has an unknown compression, or more than one.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownCoding;

/// The query asks for a dry run in an unknown way.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidDryRun;

/// Whether the query asks for a dry run. A misspelt value must neither store nor only check the body.
pub fn is_dry_run(query: Option<&str>) -> Result<bool, InvalidDryRun> {
    let pairs = query.unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(name, _)| *name == "dry_run").map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) | (Some("false"), None) => Ok(false),
        (Some("true"), None) => Ok(true),
        _ => Err(InvalidDryRun),
    }
}

/// Returns the compression of the body.
pub fn coding(headers: &HeaderMap) -> Result<Coding, UnknownCoding> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let name = value.to_str().map_err(|_| UnknownCoding)?.trim();
    if values.next().is_some() {
        return Err(UnknownCoding);
    }
    if name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Encoding::named(name).map(Some).ok_or(UnknownCoding)
}

/// Whether the content type is JSON in UTF-8. A missing content type counts as JSON, because the
/// parser checks the body anyway.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    let content_type = content_type.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    let charset = parts.filter_map(|part| part.strip_prefix("charset="));
    json && charset.map(|name| name.trim_matches('"')).all(|name| name == "utf-8" || name == "utf8")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &axum::http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn one_known_coding_is_taken_and_nothing_else() {
        let coding = |values: &[&'static str]| coding(&headers(&CONTENT_ENCODING, values));
        assert_eq!(coding(&[]), Ok(None));
        assert_eq!(coding(&["Identity"]), Ok(None));
        assert_eq!(coding(&["GZIP"]), Ok(Some(Encoding::Gzip)));
        assert_eq!(coding(&["zstd"]), Ok(Some(Encoding::Zstd)));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &[""]] {
            assert_eq!(coding(refused), Err(UnknownCoding), "{refused:?}");
        }
    }

    #[test]
    fn a_dry_run_is_asked_for_by_one_known_value() {
        for (query, expected) in [
            (None, Ok(false)),
            (Some(""), Ok(false)),
            (Some("a=1&b"), Ok(false)),
            (Some("dry_run=false"), Ok(false)),
            (Some("a=1&dry_run=true"), Ok(true)),
            (Some("dry_run"), Err(InvalidDryRun)),
            (Some("dry_run="), Err(InvalidDryRun)),
            (Some("dry_run=yes"), Err(InvalidDryRun)),
            (Some("dry_run=TRUE"), Err(InvalidDryRun)),
            (Some("dry_run=true&dry_run=true"), Err(InvalidDryRun)),
        ] {
            assert_eq!(is_dry_run(query), expected, "{query:?}");
        }
    }

    #[test]
    fn json_in_utf_8_is_known_by_its_content_type() {
        let is_json = |value| is_json(&headers(&CONTENT_TYPE, &[value]));
        for taken in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.ljwx+json;charset=\"utf-8\"",
            "application/json; version=1",
        ] {
            assert!(is_json(taken), "{taken}");
        }
        for refused in ["text/plain", "application/json; charset=gbk", "application/x-json"] {
            assert!(!is_json(refused), "{refused}");
        }
        assert!(super::is_json(&HeaderMap::new()));
    }
}
