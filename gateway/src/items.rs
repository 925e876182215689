//! Parses a body into its items: readings, repeated readings and rejections, in order.
//!
//! Pure. Leaves publishing and counting to `ingest`, and the form of an answer to `http::response`.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::content_encoding::Encoding;
use ljwx_reading::envelope::{self, BodyError, BodyItem};
use ljwx_reading::{DeviceSn, Ids, ParseContext, Reading, Rejection, RejectionCode, Warning};

/// A body after decompression.
#[derive(Debug, Clone, Copy)]
pub enum BodyContent<'a> {
    /// The decompressed bytes.
    Open(&'a [u8]),
    /// A compressed body that cannot be decompressed.
    Broken { received: &'a [u8], encoding: Encoding },
}

/// The facts about a body that its items do not hold.
#[derive(Debug, Clone, Copy)]
pub struct BodyContext<'a> {
    pub zone: &'a TimeZone,
    /// Receipt of the body.
    pub received_at: Timestamp,
}

/// A parsed body.
#[derive(Debug)]
pub struct ParsedBody<'a> {
    /// The items in order. The one item of a malformed body is the body itself.
    pub items: Vec<ParsedItem<'a>>,
    /// Whether the whole body could not be parsed.
    pub malformed: bool,
}

/// One item and the result of parsing it.
#[derive(Debug)]
pub struct ParsedItem<'a> {
    pub source: ItemSource<'a>,
    pub parsed: Parsed,
}

/// An item as received.
#[derive(Debug, Clone, Copy)]
pub struct ItemSource<'a> {
    /// The item's index in its body.
    pub index: usize,
    pub raw: &'a [u8],
    /// Ids beside the `data` that holds the item.
    pub ids: Ids,
    /// The compression of the bytes, if the body could not be decompressed.
    pub encoding: Option<Encoding>,
}

/// The result of parsing one item.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every item is a reading")]
pub enum Parsed {
    Accepted(Reading),
    /// Equal to the last reading of the same identity in this body.
    Duplicate,
    Rejected(Rejection),
}

/// Parses a body. Returns `None` if the body is empty.
pub fn parse_body<'a>(
    content: BodyContent<'a>,
    context: &BodyContext<'_>,
) -> Option<ParsedBody<'a>> {
    match content {
        BodyContent::Open(body) => match envelope::unwrap(body) {
            Ok(found) => Some(ParsedBody { items: parse_items(&found, context), malformed: false }),
            Err(BodyError::Empty) => None,
            Err(BodyError::Rejected(rejection)) => Some(malformed(body, None, rejection)),
        },
        BodyContent::Broken { received, encoding } => {
            let message = format!(
                "the body is not {}, though its header says so: it is cut short or damaged",
                encoding.as_str()
            );
            let rejection = Rejection::new(RejectionCode::MalformedBody, message);
            Some(malformed(received, Some(encoding), rejection))
        }
    }
}

/// Rejects a body as a whole.
fn malformed(raw: &[u8], encoding: Option<Encoding>, rejection: Rejection) -> ParsedBody<'_> {
    let source = ItemSource { index: 0, raw, ids: Ids::default(), encoding };
    let item = ParsedItem { source, parsed: Parsed::Rejected(rejection) };
    ParsedBody { items: vec![item], malformed: true }
}

fn parse_items<'a>(found: &[BodyItem<'a>], context: &BodyContext<'_>) -> Vec<ParsedItem<'a>> {
    let mut items: Vec<ParsedItem<'a>> = Vec::with_capacity(found.len());
    // The index of the last reading of each identity.
    let mut latest: HashMap<(DeviceSn, DateTime), usize> = HashMap::new();
    for (index, item) in found.iter().enumerate() {
        let intake = ParseContext {
            zone: context.zone,
            received_at: context.received_at,
            index,
            ids: item.ids,
        };
        let parsed = match &item.rejection {
            Some(rejection) => Err(rejection.clone()),
            None => Reading::parse(item.raw, &intake),
        };
        let parsed = match parsed {
            Err(rejection) => Parsed::Rejected(rejection),
            // A body of one item has no duplicates.
            Ok(reading) if found.len() == 1 => Parsed::Accepted(reading),
            Ok(reading) => {
                let identity = (reading.device_sn().clone(), reading.timestamp());
                let before = latest.get(&identity).map(|place| &items[*place].parsed);
                let repeated = matches!(
                    before, Some(Parsed::Accepted(before)) if before.has_same_content_as(&reading)
                );
                if repeated {
                    Parsed::Duplicate
                } else {
                    latest.insert(identity, index);
                    Parsed::Accepted(reading)
                }
            }
        };
        let raw = item.raw.get().as_bytes();
        let source = ItemSource { index, raw, ids: item.ids, encoding: None };
        items.push(ParsedItem { source, parsed });
    }
    items
}

/// An entry of an answer about one rejected item or one warning.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemResult {
    /// The item's index in its body.
    pub index: usize,
    /// The item's serial number, if it could be read.
    pub device_sn: Option<String>,
    /// The stable word of the rejection or warning.
    pub code: &'static str,
    /// Canonical name of the field.
    pub field: Option<String>,
    /// The fault and, for a rejection, the remedy.
    pub message: String,
}

impl ItemResult {
    /// Describes a field that was left out of an accepted reading.
    pub fn of_warning(index: usize, device_sn: &str, warning: &Warning) -> Self {
        Self {
            index,
            device_sn: Some(device_sn.to_owned()),
            code: warning.code.as_str(),
            field: Some(warning.field.to_string()),
            message: format!(
                "{} was not usable as sent; the rest of the reading was accepted",
                warning.field
            ),
        }
    }

    /// Describes a rejected item.
    pub fn of_rejection(index: usize, rejection: Rejection) -> Self {
        Self {
            index,
            device_sn: rejection.device_sn,
            code: rejection.code.as_str(),
            field: rejection.field.map(str::to_owned),
            message: rejection.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(content: BodyContent<'a>) -> Option<ParsedBody<'a>> {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let received_at = "2025-09-02T08:30:00Z".parse().unwrap();
        parse_body(content, &BodyContext { zone: &zone, received_at })
    }

    /// Returns each item in one word: a (accepted), d (duplicate) or the code of its rejection.
    fn outcomes(body: &str) -> Vec<&'static str> {
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        assert!(!parsed.malformed, "{body}");
        let places: Vec<_> = parsed.items.iter().map(|item| item.source.index).collect();
        assert_eq!(places, (0..parsed.items.len()).collect::<Vec<_>>());
        let word = |item: &ParsedItem<'_>| match &item.parsed {
            Parsed::Accepted(_) => "a",
            Parsed::Duplicate => "d",
            Parsed::Rejected(rejection) => rejection.code.as_str(),
        };
        parsed.items.iter().map(word).collect()
    }

    fn item(device: &str, heart_rate: u8) -> String {
        let time = "2025-09-02 16:09:00";
        format!(r#"{{"deviceSn":"{device}","timestamp":"{time}","heart_rate":{heart_rate}}}"#)
    }

    #[test]
    fn items_keep_their_order_and_only_the_last_of_an_identity_is_repeated() {
        let (a, changed, b) = (item("A", 70), item("A", 71), item("B", 70));
        for (items, expected) in [
            (vec![&a], vec!["a"]),
            (vec![&a, &a, &b], vec!["a", "d", "a"]),
            (vec![&a, &b, &a], vec!["a", "a", "d"]),
            (vec![&a, &changed, &a, &a], vec!["a", "a", "a", "d"]),
        ] {
            let items: Vec<_> = items.into_iter().map(String::as_str).collect();
            assert_eq!(outcomes(&format!("[{}]", items.join(","))), expected, "{items:?}");
        }
    }

    #[test]
    fn a_rejected_item_costs_no_other_item_and_keeps_its_own_bytes() {
        let body = format!(r#"[{},1,{{"heart_rate":70}}]"#, item("A", 70));
        assert_eq!(outcomes(&body), ["a", "invalid_item", "missing_device_sn"]);
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        assert_eq!(parsed.items[2].source.raw, br#"{"heart_rate":70}"#);
    }

    #[test]
    fn ids_beside_the_data_go_with_each_of_its_items() {
        let body = format!(r#"{{"customer_id":7,"data":[{},1]}}"#, item("A", 70));
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        let ids: Vec<_> = parsed.items.iter().map(|item| item.source.ids.customer_id).collect();
        assert_eq!(ids, [Some(7), Some(7)]);
        let Parsed::Accepted(reading) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
        assert_eq!(reading.ids().customer_id, Some(7));
    }

    #[test]
    fn an_empty_body_is_none_and_a_malformed_one_is_its_own_item() {
        assert!(parse(BodyContent::Open(b" ")).is_none());
        assert!(parse(BodyContent::Open(b"{}")).is_none());
        assert!(parse(BodyContent::Open(br#"{"data":[]}"#)).unwrap().items.is_empty());
        let broken = BodyContent::Broken { received: b"\x1f\x8b", encoding: Encoding::Gzip };
        for (content, raw, encoding, message) in [
            (BodyContent::Open(b"nope"), &b"nope"[..], None, "is not valid JSON"),
            (broken, b"\x1f\x8b", Some(Encoding::Gzip), "the body is not gzip"),
        ] {
            let parsed = parse(content).unwrap();
            assert!(parsed.malformed && parsed.items.len() == 1, "{parsed:?}");
            let ItemSource { index, raw: kept, encoding: noted, .. } = parsed.items[0].source;
            assert_eq!((index, kept, noted), (0, raw, encoding));
            let Parsed::Rejected(rejection) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
            assert_eq!(rejection.code, RejectionCode::MalformedBody);
            assert!(rejection.message.contains(message), "{rejection}");
        }
    }

    #[test]
    fn a_remark_names_the_item_the_field_and_the_remedy() {
        let body = r#"{"deviceSn":"A","timestamp":"2025-09-02 16:09:00","heart_rate":999}"#;
        let parsed = parse(BodyContent::Open(body.as_bytes())).unwrap();
        let Parsed::Accepted(reading) = &parsed.items[0].parsed else { panic!("{parsed:?}") };
        let remark = ItemResult::of_warning(3, "A", &reading.warnings()[0]);
        assert_eq!((remark.index, remark.code), (3, "out_of_range"));
        assert_eq!(remark.field.as_deref(), Some("heart_rate"));
        assert!(remark.message.starts_with("heart_rate was not usable as sent"));
        let rejection = Rejection::of_field(RejectionCode::InvalidTimestamp, "timestamp", "why");
        let remark = ItemResult::of_rejection(4, rejection);
        assert_eq!((remark.index, remark.code), (4, "invalid_timestamp"));
        assert_eq!((remark.field.as_deref(), remark.message.as_str()), (Some("timestamp"), "why"));
    }
}
