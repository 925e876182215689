//! Reads the channels of a rule's notifications, in each form that the platform writes.
//!
//! Pure. [`crate::notify::recipients`] decides whom the channels reach.

use serde_json::Value;

use super::fields::RuleFields;
use crate::rules::channel::Channels;

/// Reads the channels of the rule. Unknown channels are skipped, with a doubt.
pub(super) fn channels(form: &mut RuleFields<'_>) -> Channels {
    let mut words: Vec<String> = match form.value("enabled_channels").cloned() {
        Some(Value::Array(_)) => list(form.document("enabled_channels")),
        Some(Value::String(text)) if text.trim_start().starts_with('[') => {
            list(form.document("enabled_channels"))
        }
        Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
        Some(_) => {
            form.add_error("enabled_channels", "must be a list of channels");
            return Channels::default();
        }
        None => Vec::new(),
    };
    words.retain(|word| !word.trim().is_empty());
    if words.is_empty() {
        // A rule that names no channel is still meant to reach people.
        words.push(form.text("notification_type").unwrap_or_else(|| "both".to_owned()));
    }
    let (mut channels, mut skipped) = (Channels::default(), Vec::new());
    for word in words {
        match word.trim().to_lowercase().as_str() {
            "wechat" => channels.wechat = true,
            "wecom" => channels.wecom = true,
            "message" => channels.message = true,
            "both" => (channels.wechat, channels.message) = (true, true),
            "log" => channels.log = true,
            _ => skipped.push(word),
        }
    }
    if !skipped.is_empty() {
        let skipped = skipped.join(", ");
        form.add_doubt(format!("notifications by {skipped} are skipped: not configured here"));
    }
    channels
}

fn list(document: Option<Value>) -> Vec<String> {
    let Some(Value::Array(words)) = document else { return Vec::new() };
    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
