//! A JSON object as keys and raw values, unchanged.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The keys and raw values of one JSON object, in their order in the text.
///
/// Keys are bytes: half a surrogate pair in a key has no place in a `str`, and no field has such a
/// key. As text, one such key would cost the whole object.
#[derive(Debug)]
pub struct JsonObject<'a>(Vec<(Cow<'a, [u8]>, &'a RawValue)>);

impl<'a> JsonObject<'a> {
    /// Reads `raw` as an object. Returns `None` for any other value.
    pub fn read(raw: &'a RawValue) -> Option<Self> {
        raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
    }

    /// Whether the object has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of `key`. If a key occurs twice, the later value counts, as in other JSON
    /// readers.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let key = key.as_bytes();
        self.0.iter().rev().find(|(name, _)| **name == *key).map(|(_, raw)| *raw)
    }

    /// Returns the first of `spellings` with a value that is not absent.
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

impl<'de: 'a, 'a> Deserialize<'de> for JsonObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = JsonObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(KEYS_EXPECTED);
                while let Some(Key(key)) = map.next_key()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(JsonObject(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Capacity for the keys of one item: a watch sends 22, so one allocation holds them.
const KEYS_EXPECTED: usize = 24;

/// A key that borrows from the body unless the key holds escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, [u8]>);

/// A JSON value as the fields of a reading see it.
#[derive(Debug, PartialEq)]
pub enum Scalar<'a> {
    /// `null`, `""`, blanks, or the string `"null"`.
    Absent,
    /// A string, trimmed.
    Text(Cow<'a, str>),
    /// A JSON number, as written.
    Number(&'a str),
    /// A value that no field accepts: a boolean, an object, an array, a broken string.
    Other,
}

impl<'a> Scalar<'a> {
    /// Classifies a raw value.
    pub fn read(raw: &'a RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => Self::Absent,
            Some(b'"') => match string(text) {
                None => Self::Other,
                Some(Cow::Borrowed(string)) => Self::of_trimmed(Cow::Borrowed(string.trim())),
                Some(Cow::Owned(string)) => Self::of_trimmed(Cow::Owned(string.trim().to_owned())),
            },
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            _ => Self::Other,
        }
    }

    fn of_trimmed(text: Cow<'a, str>) -> Self {
        if is_absent(&text) { Self::Absent } else { Self::Text(text) }
    }

    /// Returns the text of a string or a number.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }
}

/// Whether a trimmed string means that there is no value.
pub fn is_absent(trimmed: &str) -> bool {
    trimmed.is_empty() || trimmed == "null"
}

/// Returns the content of a JSON string. `None` if the text is not a valid string, such as half a
/// surrogate pair.
pub fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_key_is_found_however_it_is_escaped_and_the_last_of_its_values_counts() {
        let object = JsonObject::read(raw(r#"{"\u0069d":"a","\ud800":1,"i\u0064":"b"}"#)).unwrap();
        assert_eq!(object.get("id").unwrap().get(), "\"b\"");
        assert!(object.get("").is_none());
        assert!(JsonObject::read(raw("{}")).unwrap().is_empty());
    }

    #[test]
    fn a_value_with_half_a_surrogate_pair_is_no_text() {
        for json in [r#""\ud800""#, r#""a\udc00""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#] {
            assert_eq!(Scalar::read(raw(json)), Scalar::Other, "{json}");
        }
        assert_eq!(Scalar::read(raw(r#""\ud83d\ude00""#)), Scalar::Text("😀".into()));
    }

    proptest! {
        #[test]
        fn no_key_hides_another(escapes in prop::collection::vec(any::<u16>(), 0..6)) {
            let key: String = escapes.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!(r#"{{"{key}":1,"id":"x"}}"#);
            let object = JsonObject::read(raw(&json)).unwrap();
            prop_assert_eq!(object.get("id").unwrap().get(), "\"x\"");
        }
    }
}
