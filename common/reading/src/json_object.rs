//! A JSON object seen as the keys and raw values it came with.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The keys and raw values of one JSON object, in the order they came.
#[derive(Debug)]
pub struct Item<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Item<'a> {
    /// Reads `raw` as an object; `None` where it is something else.
    pub fn read(raw: &'a RawValue) -> Option<Self> {
        raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
    }

    /// Whether the object has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`; of a key that came twice, the later one, as other JSON readers have it.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, raw)| *raw)
    }

    /// The first of `spellings` whose value is not absent.
    pub fn first_scalar(&self, spellings: &[&str]) -> Option<(Scalar<'a>, &'a str)> {
        spellings.iter().find_map(|key| {
            let raw = self.get(key)?;
            match Scalar::read(raw) {
                Scalar::Absent => None,
                scalar => Some((scalar, raw.get())),
            }
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Item<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(KEYS_EXPECTED);
                while let Some(Key(key)) = map.next_key()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(Item(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A watch sends 22 keys; one allocation holds them.
const KEYS_EXPECTED: usize = 24;

/// A key that borrows from the body unless it holds escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value as the fields of a reading see it.
#[derive(Debug, PartialEq)]
pub enum Scalar<'a> {
    /// `null`, `""`, blanks, or the word `"null"`.
    Absent,
    /// A string, trimmed.
    Text(Cow<'a, str>),
    /// A JSON number, as written.
    Number(&'a str),
    /// Something no field takes: a boolean, an object, an array, a broken string.
    Other,
}

impl<'a> Scalar<'a> {
    /// Sorts a raw value.
    pub fn read(raw: &'a RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => Self::Absent,
            Some(b'"') => match string(text) {
                None => Self::Other,
                Some(string) if is_absent(&string) => Self::Absent,
                Some(Cow::Borrowed(string)) => Self::Text(Cow::Borrowed(string.trim())),
                Some(Cow::Owned(string)) => Self::Text(Cow::Owned(string.trim().to_owned())),
            },
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            _ => Self::Other,
        }
    }

    /// The text of a string or a number.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }
}

fn is_absent(string: &str) -> bool {
    let trimmed = string.trim();
    trimmed.is_empty() || trimmed == "null"
}

/// The content of a JSON string; `None` for what no string can hold, such as half a surrogate pair.
pub fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}
