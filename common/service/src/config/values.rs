//! Parses the values of settings: durations, time zones and times.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Parses a duration such as `250ms`, `8s` or `5m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write a duration with its unit, such as 250ms, 8s or 5m".to_owned())
}

/// Parses the variable of a flag. An empty one is false.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Parses the name of a time zone.
pub fn time_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| "write an IANA zone name, such as Asia/Shanghai".to_owned())
}

/// The zone of the devices' wall clocks. All services must have the same.
#[derive(Debug, Clone, clap::Args)]
pub struct ZoneArgs {
    /// Time zone of the devices' wall clocks and of every stored time; the same for all services.
    #[arg(long = "time-zone", env = "TIME_ZONE", default_value = "Asia/Shanghai", value_parser = time_zone)]
    pub zone: TimeZone,
}

/// A time as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeArg {
    /// A time with its own offset.
    Instant(Timestamp),
    /// A time on the devices' wall clock.
    Wall(DateTime),
}

impl TimeArg {
    /// Parses a time.
    pub fn parse(text: &str) -> Result<Self, String> {
        let instant = text.parse().map(Self::Instant).ok();
        instant.or_else(|| text.parse().map(Self::Wall).ok()).ok_or_else(|| {
            "write a time such as 2025-09-02 16:09:00 or 2025-09-02T16:09:00+08:00".to_owned()
        })
    }

    /// Returns milliseconds since 1970. A wall clock time that occurs twice means its first
    /// occurrence.
    pub fn at_ms(self, zone: &TimeZone) -> i64 {
        match self {
            Self::Instant(at) => at.as_millisecond(),
            Self::Wall(at) => zone
                .to_ambiguous_timestamp(at)
                .compatible()
                .map_or(i64::MAX, Timestamp::as_millisecond),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_the_devices_zone_unless_it_brings_its_own() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        for text in ["2025-09-02 16:09:00", "2025-09-02T08:09:00Z", "2025-09-02T10:09:00+02:00"] {
            assert_eq!(TimeArg::parse(text).unwrap().at_ms(&zone), 1_756_800_540_000, "{text}");
        }
        assert!(TimeArg::parse("yesterday").is_err());
    }
}
