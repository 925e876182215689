//! Parses the times of devices and formats wall clocks.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// A reading that is later than its receipt by more than this is stored but moves no guard: 10
/// minutes.
pub const AHEAD_OF_CLOCK_MS: i64 = 10 * 60 * 1000;

/// A reading that is later than its receipt by more than this is rejected: 24 hours.
pub const TIMESTAMP_AHEAD_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// Greatest number that is read as epoch seconds. Greater numbers are milliseconds.
pub const EPOCH_SECONDS_MAX: i64 = 9_999_999_999;

/// First year that a reading's time may have.
const YEAR_MIN: i16 = 2000;

/// An instant and its wall clock, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadingTime {
    pub wall: DateTime,
    pub epoch_ms: i64,
}

impl ReadingTime {
    /// Returns the moment of `epoch_seconds`, or the end of the calendar for a moment beyond it.
    /// Both ends are out of range for every reading.
    pub fn of_epoch(epoch_seconds: i64, zone: &TimeZone) -> Self {
        let calendar = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let seconds = epoch_seconds.clamp(*calendar.start(), *calendar.end());
        let instant = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        Self { wall: zone.to_datetime(instant), epoch_ms: instant.as_millisecond() }
    }

    fn of_wall(wall: DateTime, zone: &TimeZone) -> Option<Self> {
        let instant = zone.to_ambiguous_timestamp(wall).compatible().ok()?;
        Some(Self { wall, epoch_ms: instant.as_millisecond() })
    }

    /// Whether this time is possible for a reading received at `received_at_ms`.
    pub fn is_in_range(&self, received_at_ms: i64) -> bool {
        self.wall.year() >= YEAR_MIN && self.epoch_ms - received_at_ms <= TIMESTAMP_AHEAD_MS_MAX
    }
}

/// Reads `yyyy-MM-dd HH:mm:ss` (also with `T`, a fraction, an offset), epoch seconds or epoch
/// milliseconds. Returns `None` for anything else.
pub fn read(text: &str, zone: &TimeZone) -> Option<ReadingTime> {
    if text.as_bytes().get(4) == Some(&b'-') { calendar(text, zone) } else { epoch(text, zone) }
}

fn epoch(text: &str, zone: &TimeZone) -> Option<ReadingTime> {
    let number: i64 = match text.parse() {
        Ok(number) => number,
        Err(_) => {
            let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
            let float: f64 = text.bytes().all(plain).then(|| text.parse().ok()).flatten()?;
            // The cast ends at the bounds of i64, which are far beyond the calendar.
            float.floor() as i64
        }
    };
    let seconds = if number > EPOCH_SECONDS_MAX { number.div_euclid(1000) } else { number };
    Some(ReadingTime::of_epoch(seconds, zone))
}

fn calendar(text: &str, zone: &TimeZone) -> Option<ReadingTime> {
    let bytes = text.as_bytes();
    let separated = bytes.len() >= 19
        && bytes[7] == b'-'
        && matches!(bytes[10], b' ' | b'T' | b't')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !separated {
        return None;
    }
    let digits = |from: usize, to: usize| -> Option<i16> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let small = |from: usize| digits(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let wall =
        DateTime::new(digits(0, 4)?, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, 0)
            .ok()?;
    let rest = without_fraction(text.get(19..)?)?;
    match rest.trim_start() {
        "" => ReadingTime::of_wall(wall, zone),
        offset => {
            let instant = offset_of(offset)?.to_timestamp(wall).ok()?;
            Some(ReadingTime::of_epoch(instant.as_second(), zone))
        }
    }
}

fn without_fraction(rest: &str) -> Option<&str> {
    let Some(fraction) = rest.strip_prefix(['.', ',']) else { return Some(rest) };
    let end = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (end > 0).then(|| &fraction[end..])
}

/// Parses `Z`, `+08:00`, `+0800` or `+08`.
fn offset_of(text: &str) -> Option<Offset> {
    if text.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if !(digits.len() == 2 || digits.len() == 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits[..2].parse().ok()?;
    let minutes: i32 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    (hours <= 23 && minutes <= 59)
        .then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())
        .flatten()
}

/// Formats `yyyy-MM-dd HH:mm:ss`, the form of every stored and published time.
pub fn wall_text(wall: DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        wall.year(),
        wall.month(),
        wall.day(),
        wall.hour(),
        wall.minute(),
        wall.second()
    )
}

/// Formats milliseconds since 1970 as the wall clock of `zone`. Beyond the calendar, formats the
/// number.
pub fn wall_text_of(epoch_ms: i64, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(epoch_ms)
        .map_or_else(|_| epoch_ms.to_string(), |at| wall_text(zone.to_datetime(at)))
}

/// Formats a zone's offset at `instant` for MySQL, such as `+08:00`: fresh servers have no named
/// zones loaded.
pub fn offset_text(zone: &TimeZone, instant: Timestamp) -> String {
    let seconds = zone.to_offset(instant).seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_the_same_moment() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        for text in [
            "2025-09-02 16:09:00",
            "2025-09-02T16:09:00",
            "2025-09-02T16:09:00.750",
            "2025-09-02T08:09:00Z",
            "2025-09-02T08:09:00.9Z",
            "2025-09-02T10:09:00+02:00",
            "2025-09-02 10:09:00 +0200",
            "1756800540",
            "1756800540000",
            "1.75680054E9",
            "1756800540.5",
        ] {
            let moment = read(text, &zone).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(wall_text(moment.wall), "2025-09-02 16:09:00", "{text}");
            assert_eq!(moment.epoch_ms, 1_756_800_540_000, "{text}");
        }
        for text in [
            "yesterday",
            "2025-02-30 10:00:00",
            "2025-09-02",
            "2025-09-02 16:09",
            "",
            "-",
            "2025-09-02 24:00:00",
            "2025-09-02 16:09:60",
            "2025-09-02 16:09:00x",
            "2025-09-02 16:09:00.",
            "2025-09-02T16:09:00+25:00",
            "１２３４-01-01 00:00:00",
        ] {
            assert_eq!(read(text, &zone), None, "{text}");
        }
        assert_eq!(offset_text(&zone, Timestamp::UNIX_EPOCH), "+08:00");
    }

    #[test]
    fn a_number_beyond_the_calendar_is_a_time_out_of_range() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        for text in [
            "1756800540000000",
            "1756800540000000000",
            "99999999999999999999",
            "1e999",
            "-99999999999999",
            "-99999999999999999999",
        ] {
            let moment = read(text, &zone).unwrap_or_else(|| panic!("{text}"));
            assert!(!moment.is_in_range(1_756_800_600_000), "{text}");
        }
    }
}
