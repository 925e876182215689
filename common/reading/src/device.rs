//! The origin of a reading: device, tenant, organisation, user, and way of upload.
//!
//! Holds values only. The `parse` module parses a device's JSON.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// Longest device serial number, in bytes.
pub const DEVICE_SN_BYTES_MAX: usize = 64;

/// Serial number of the canary, whose readings show that what gateways accept reaches MySQL. The canary
/// is no device: its readings count nowhere as seen, and no rule is evaluated for them.
pub const CANARY_SN: &str = "LJWX-CANARY";

/// A device's serial number: 1 to 64 visible ASCII characters, compared bytewise. Serial numbers of
/// watches are short enough to be stored inline, without an allocation for every reading.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeviceSn(CompactString);

impl DeviceSn {
    /// Takes a trimmed serial number. Returns `None` if it is empty, too long or holds anything but
    /// visible ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let valid = (1..=DEVICE_SN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Self(text.into()))
    }

    /// Returns the serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the serial number of the canary.
    pub fn is_canary(&self) -> bool {
        self.as_str() == CANARY_SN
    }
}

impl fmt::Display for DeviceSn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tenant, organisation and user of a reading, as the device sent them. An id is never zero.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ids {
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<i64>,
    /// Organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<i64>,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i64>,
}

impl Ids {
    /// Whether all three ids are present.
    pub fn is_complete(&self) -> bool {
        self.customer_id.is_some() && self.org_id.is_some() && self.user_id.is_some()
    }

    /// Returns the id of a field by its canonical name.
    pub fn named(&self, field: &str) -> Option<i64> {
        match field {
            "customer_id" => self.customer_id,
            "org_id" => self.org_id,
            "user_id" => self.user_id,
            _ => None,
        }
    }

    /// Fills absent ids from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            customer_id: self.customer_id.or(other.customer_id),
            org_id: self.org_id.or(other.org_id),
            user_id: self.user_id.or(other.user_id),
        }
    }
}

/// The way by which a reading was uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadMethod {
    /// By the watch itself over Wi-Fi. The default if an item names no method, or a record a method
    /// of a later version.
    #[default]
    Wifi,
    /// Through a phone.
    Bluetooth,
    /// By mobile network. `4g` is an older word for this method.
    Esim,
    /// Inside an event of the watch.
    CommonEvent,
}

impl UploadMethod {
    /// Returns the word stored in MySQL and Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wifi => "wifi",
            Self::Bluetooth => "bluetooth",
            Self::Esim => "esim",
            Self::CommonEvent => "common_event",
        }
    }

    /// Returns the method that a word means, older words included.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "wifi" => Self::Wifi,
            "bluetooth" => Self::Bluetooth,
            "esim" | "4g" => Self::Esim,
            "common_event" => Self::CommonEvent,
            _ => return None,
        })
    }
}
