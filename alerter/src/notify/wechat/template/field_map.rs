//! The map from a template's fields to their contents, as an account's row holds it.
//!
//! Parsing refuses a map that could never fill its template. Filling fits every value to the type
//! of its field.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::content::Content;
use super::field_type::FieldType;
use crate::notify::notice::Notice;
use crate::rules::Vital;

/// The fields of a template, each with its source.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct FieldMap(Vec<Field>);

#[derive(Debug, Clone, PartialEq, Hash)]
struct Field {
    name: String,
    kind: FieldType,
    source: FieldSource,
}

#[derive(Debug, Clone, PartialEq, Hash)]
enum FieldSource {
    /// The same text in every message.
    Constant(String),
    /// A piece of the notice.
    Content(Content, Words),
}

/// The words of a content, by their keys.
type Words = BTreeMap<String, String>;

/// A field's entry with words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    content: Content,
    #[serde(default)]
    words: Words,
}

impl Default for FieldMap {
    /// The fields of an older template: patient, event, level and time.
    fn default() -> Self {
        let fields = [
            ("keyword1", Content::Patient),
            ("keyword2", Content::Event),
            ("keyword3", Content::Level),
            ("keyword4", Content::Time),
        ];
        Self(fields.map(|(name, content)| Field::new(name, content, Words::new())).into())
    }
}

impl FieldMap {
    /// Parses an account's map. The error names the field at fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        let map: Map<String, Value> = serde_json::from_str(text)
            .map_err(|_| "a map must be a JSON object of fields and contents".to_owned())?;
        let fields = map.into_iter().map(|(name, entry)| {
            Field::parse(&name, entry).map_err(|reason| format!("{name}: {reason}"))
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        if !fields.iter().any(Field::says_who) {
            return Err("a map must show patient or device in a field of text".to_owned());
        }
        Ok(Self(fields))
    }

    /// Returns the names of the fields.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().map(|field| field.name.clone()).collect()
    }

    /// Whether a field shows how many alerts a message reports.
    pub fn shows_count(&self) -> bool {
        self.0.iter().any(Field::shows_count)
    }

    /// Returns the field that shows the number of alerts behind whom the message concerns, because
    /// no other field shows the number.
    fn stand_in(&self, notice: &Notice) -> Option<&Field> {
        // In its plain form, a string with a sign in it would be empty.
        let has_room = |field: &&Field| {
            field.kind != FieldType::CharacterString || !notice.plain_fields.contains(&field.name)
        };
        let fields = self.0.iter().filter(|field| field.says_who()).filter(has_room);
        fields.min_by_key(|field| field.kind != FieldType::Line).filter(|_| !self.shows_count())
    }

    /// Returns the data of a template message: every field with its value.
    pub fn data(&self, notice: &Notice) -> Value {
        let stand_in = self.stand_in(notice);
        let values = self.0.iter().map(|field| {
            let fitted = field.value(notice, stand_in == Some(field));
            let value = match notice.plain_fields.contains(&field.name) {
                true => field.kind.plain(&fitted),
                false => fitted,
            };
            (field.name.clone(), json!({ "value": value }))
        });
        Value::Object(values.collect())
    }

    /// Returns the fields of the next message in their plain form. `None`: no plainer form is left.
    ///
    /// The platform refused a message with the fields `plain`. First the field that it named is made
    /// plain, then all.
    pub fn plainer(
        &self,
        plain: &BTreeSet<String>,
        refused: Option<&str>,
    ) -> Option<BTreeSet<String>> {
        let all = self.names();
        if plain.is_superset(&all) {
            return None;
        }
        match refused {
            Some(field) if plain.is_empty() && all.contains(field) => {
                Some([field.to_owned()].into())
            }
            _ => Some(all),
        }
    }
}

impl Field {
    fn new(name: &str, content: Content, words: Words) -> Self {
        let source = FieldSource::Content(content, words);
        Self { name: name.to_owned(), kind: FieldType::of(name), source }
    }

    fn parse(name: &str, entry: Value) -> Result<Self, String> {
        let kind = FieldType::of(name);
        if let Some(constant) = entry.as_str().and_then(|text| text.strip_prefix('=')) {
            let source = FieldSource::Constant(constant.to_owned());
            return match kind.takes(constant) {
                true => Ok(Self { name: name.to_owned(), kind, source }),
                false => Err(format!("the type cannot hold {constant:?}")),
            };
        }
        let entry = if entry.is_string() { json!({ "content": entry }) } else { entry };
        let entry = serde_json::from_value(entry);
        let Entry { content, words } = entry.map_err(|error| error.to_string())?;
        if let Some(word) = words.values().find(|word| !kind.takes(word)) {
            return Err(format!("the type cannot hold {word:?}"));
        }
        match (words.is_empty(), content) {
            (true, _) if !kind.can_hold(content) => {
                Err("the type can never hold the content, or only with words".to_owned())
            }
            (false, _) if kind == FieldType::Number => Err("a number has no words".to_owned()),
            (true, _) | (false, Content::State | Content::Level | Content::Sign) => {
                Ok(Self::new(name, content, words))
            }
            (false, _) => Err("only state, level and sign have words".to_owned()),
        }
    }

    fn shows(&self, content: Content) -> bool {
        matches!(self.source, FieldSource::Content(own, _) if own == content)
    }

    /// Whether the field says whom a message concerns, even in its plain form.
    fn says_who(&self) -> bool {
        use FieldType::{CharacterString, Line, Name};
        self.shows(Content::Patient) && matches!(self.kind, Line | Name)
            || self.shows(Content::Device) && matches!(self.kind, Line | CharacterString)
    }

    /// Whether the field shows how many alerts a message reports.
    fn shows_count(&self) -> bool {
        let is_line = self.kind == FieldType::Line;
        self.shows(Content::Count) || self.shows(Content::Event) && is_line
    }

    /// Returns the field's value in the form of its type. An event counts the alerts of a message
    /// that reports several, and so does a `stand_in`.
    fn value(&self, notice: &Notice, stand_in: bool) -> String {
        match &self.source {
            FieldSource::Constant(text) => text.clone(),
            FieldSource::Content(content, words) => {
                let word = notice.word_key(*content).and_then(|key| words.get(key));
                let text = word.cloned().unwrap_or_else(|| self.text(notice, *content));
                let counts = stand_in || *content == Content::Event;
                match counts && !notice.beside.is_empty() {
                    true => self.kind.fit_counted(&text, notice.alerts()),
                    false => self.kind.fit(&text),
                }
            }
        }
    }

    /// Returns a content without a word as this field's type spells it.
    fn text(&self, notice: &Notice, content: Content) -> String {
        let is_plain = notice.plain_fields.contains(&self.name);
        match (self.kind, content, notice.value) {
            // Only words that were approved with the template may stand there.
            (FieldType::Const, ..) => String::new(),
            (kind, Content::Time, _) if is_plain || kind == FieldType::Time => {
                notice.wall.strftime("%-Y年%-m月%-d日 %H:%M").to_string()
            }
            (FieldType::Number, Content::Value, Some(value)) => value.to_string(),
            // A duration's units are no ASCII, and its numbers alone would be another duration.
            (FieldType::CharacterString, Content::Value | Content::Reading, Some(seconds))
                if notice.vital == Vital::NoData && !notice.is_over() =>
            {
                format!("{seconds}s")
            }
            _ => notice.content(content),
        }
    }
}

#[cfg(test)]
#[path = "field_map_tests.rs"]
mod tests;
