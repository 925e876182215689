use ljwx_reading::{RejectionCode, WarningCode};
use serde_json::{Value, json};

use super::*;

const PAGES: [(&str, &str); 2] = [
    ("docs/devices.md", include_str!("../../docs/devices.md")),
    ("docs/devices.zh.md", include_str!("../../docs/devices.zh.md")),
];

/// Returns the codes of items: those of rejections, then those of warnings.
fn item_codes() -> Vec<&'static str> {
    let rejections = RejectionCode::ALL.iter().map(|code| code.as_str());
    rejections.chain(WarningCode::ALL.iter().map(|code| code.as_str())).collect()
}

/// Returns the codes in the first cells of the tables in a section of a page, and the cell after each.
fn rows(page: &'static str, section: &str) -> Vec<(&'static str, &'static str)> {
    let (_, rest) = page.split_once(&format!("\n## {section} ")).unwrap();
    let section = rest.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    cells.map(|(code, rest)| (code, rest.split(" |").next().unwrap_or_default())).collect()
}

#[test]
fn a_code_is_one_word_for_an_item_and_for_its_body() {
    for (ours, item) in [
        (ErrorCode::MalformedBody, RejectionCode::MalformedBody),
        (ErrorCode::TooManyReadings, RejectionCode::TooManyReadings),
    ] {
        assert_eq!(ours.as_str(), item.as_str(), "a record's header says it otherwise");
    }
}

#[test]
fn every_code_is_shown_at_0_from_the_start() {
    let mut zeros = crate::metrics::SERVICE.zeros.iter();
    let (_, _, shown) = zeros.find(|(name, ..)| *name == crate::metrics::REFUSALS).unwrap();
    assert_eq!(*shown, ErrorCode::ALL.map(ErrorCode::as_str));
}

#[test]
fn the_pages_for_device_makers_list_every_code_and_no_other() {
    let refusals = ErrorCode::ALL.map(|code| (code.as_str(), code.status().as_str().to_owned()));
    let of_bodies = ErrorCode::ALL.map(ErrorCode::as_str);
    let items: Vec<_> = item_codes().into_iter().filter(|code| !of_bodies.contains(code)).collect();
    for (page, text) in PAGES {
        let rows = rows(text, "6");
        for (code, status) in &refusals {
            let row = rows.iter().find(|(listed, _)| listed == code);
            assert_eq!(row.map(|(_, cell)| *cell), Some(status.as_str()), "{page}: {code}");
        }
        let mut listed: Vec<_> = rows.iter().map(|(code, _)| *code).collect();
        let mut expected = [&of_bodies[..], items.as_slice()].concat();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{page}");
    }
}

#[test]
fn the_conformance_kit_explains_every_code() {
    let kit = include_str!("../../tests/conformance/conformance.py");
    for code in item_codes().into_iter().chain(ErrorCode::ALL.map(ErrorCode::as_str)) {
        assert!(kit.contains(&format!("\n    \"{code}\": (")), "{code}");
    }
}

#[test]
fn the_openapi_document_lists_every_code_and_no_other() {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Code"]["enum"], json!(ErrorCode::ALL.map(ErrorCode::as_str)));
    assert_eq!(schemas["ItemCode"]["enum"], json!(item_codes()));
}
