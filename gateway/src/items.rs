//! Parses a body into its items: readings, repeated readings and rejections, in order.
//!
//! Pure. Leaves publishing and counting to `ingest`, and the form of an answer to `http::response`.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::content_encoding::Encoding;
use ljwx_reading::envelope::{self, BodyError, BodyItem};
use ljwx_reading::{
    DeviceSn, Ids, ParseContext, Reading, Rejection, RejectionCode, Warning, WarningCode,
};

/// A body after decompression.
#[derive(Debug, Clone, Copy)]
pub enum BodyContent<'a> {
    /// The decompressed bytes.
    Open(&'a [u8]),
    /// A compressed body that cannot be decompressed.
    Broken { received: &'a [u8], encoding: Encoding },
}

impl BodyContent<'_> {
    /// Returns the number of its bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Open(body) => body.len(),
            Self::Broken { received, .. } => received.len(),
        }
    }
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

impl ParsedItem<'_> {
    /// Whether the bytes of a device's item are kept: the item is no reading, or its reading does not
    /// hold all of it.
    pub fn is_kept(&self) -> bool {
        match &self.parsed {
            Parsed::Accepted(reading) => is_cut(reading),
            Parsed::Duplicate => false,
            Parsed::Rejected(_) => true,
        }
    }
}

/// Whether a part of the item was left out of its reading.
pub fn is_cut(reading: &Reading) -> bool {
    reading.warnings().iter().any(|warning| warning.cut)
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
    /// Equal to the last reading of the same identity in this body, warnings included.
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
            let name = encoding.as_str();
            let message = format!("请求体不是 Content-Encoding 所说的 {name}：不完整或已损坏");
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
            id_warnings: &item.id_warnings,
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
                    before, Some(Parsed::Accepted(before)) if before.says_the_same_as(&reading)
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
    /// The fault and, for a rejection, the remedy, in Chinese.
    pub message: String,
}

impl ItemResult {
    /// Describes a field of an accepted reading that was left out, replaced or is doubtful.
    pub fn of_warning(index: usize, device_sn: &str, warning: &Warning) -> Self {
        let field = &warning.field;
        let left_out = |fault| format!("{field} {fault}，未采用；该读数的其余部分已接收");
        Self {
            index,
            device_sn: Some(device_sn.to_owned()),
            code: warning.code.as_str(),
            field: Some(warning.field.to_string()),
            message: match warning.code {
                WarningCode::Missing => format!("缺少 {field}，以收到的时间代替"),
                WarningCode::AheadOfClock => {
                    format!("{field} 比服务器时间快 10 分钟以上，保留原值：请校准设备的时钟")
                }
                WarningCode::OutOfRange => left_out("超出范围"),
                WarningCode::TooLarge => left_out("过大"),
                WarningCode::Invalid | WarningCode::Unknown => left_out("无法识别"),
            },
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
#[path = "items_tests.rs"]
mod tests;
