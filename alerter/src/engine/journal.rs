//! The journal of a partition's devices: their stored state, as lines of text.
//!
//! Pure. Each batch adds an entry with the devices that it saw, in their state after the batch. The
//! last line of a device counts. A row per device and batch would cost the database more than all
//! the rest of the evaluation. Once the entries hold far more lines than there are devices, the
//! next entry holds all devices. It replaces the entries before it.
//!
//! A line is `device_sn seen_at customer_id org_id user_id seen`. `-` is no value, and `=` is the
//! value of the line before. `seen` is `epoch_ms*vitals` for each time, joined by commas. The vitals
//! are hexadecimal bits in the order of [`Vital::ALL`](crate::rules::vital::Vital::ALL).
//!
//! A time without vitals belongs to the latest record: first its interval in seconds, then, where it
//! was not evaluated, its time, and a third time if it was ahead of the clock. Older releases skip
//! times without vitals.

use ljwx_reading::{DeviceSn, Ids};

use crate::engine::device::{Device, LastRecord, LastSeen, VitalTimes};

/// Lines of one row, and of the rows of one statement, at most: some 70 kB. For packets from 128 kB
/// on, the server takes memory from the system each time.
pub const ROW_LINES_MAX: usize = 1_024;

/// Bytes of a line, as a watch usually causes it.
const LINE_BYTES_EXPECTED: usize = 72;

/// Lines up to which a journal only grows, for any number of devices.
const LINES_MAX: usize = 65_536;

/// Lines per device up to which a journal only grows.
const LINES_PER_DEVICE_MAX: usize = 4;

/// Ends a time without vitals.
const NO_VITALS: &str = "*0";

/// Cost of reading one more row, in lines.
const ROW_LINES: usize = 4;

/// The size of a partition's journal since it was last written as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalSize {
    /// Lines of all rows.
    pub lines: usize,
    /// Number of rows.
    pub rows: usize,
}

impl JournalSize {
    /// Whether the journal of a partition with so many devices is to be written as a whole.
    pub fn is_due(self, devices: usize) -> bool {
        let cost = self.lines + self.rows * ROW_LINES;
        cost > LINES_MAX.max(devices * LINES_PER_DEVICE_MAX)
    }

    /// Adds a row of so many lines.
    pub fn add(&mut self, lines: usize) {
        self.lines += lines;
        self.rows += 1;
    }
}

/// A row of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalRow {
    /// Number of devices.
    pub lines: usize,
    /// One line for each device.
    pub text: String,
}

/// The rows that a batch adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalBatch {
    /// Rows to add.
    pub rows: Vec<JournalRow>,
    /// Whether the rows hold all devices, so that the rows before them are removed.
    pub whole: bool,
}

impl JournalBatch {
    /// Returns the rows of these devices.
    pub fn new<'a>(devices: impl Iterator<Item = (&'a DeviceSn, &'a Device)>, whole: bool) -> Self {
        let mut left = devices.size_hint().1.unwrap_or(ROW_LINES_MAX);
        let mut rows: Vec<JournalRow> = Vec::new();
        let mut before = None;
        for (sn, device) in devices {
            if rows.last().is_none_or(|row| row.lines == ROW_LINES_MAX) {
                let bytes = left.min(ROW_LINES_MAX) * LINE_BYTES_EXPECTED;
                rows.push(JournalRow { lines: 0, text: String::with_capacity(bytes) });
                before = None;
            }
            let Some(row) = rows.last_mut() else { break };
            let LastSeen { at, ids: Ids { customer_id, org_id, user_id } } = device.last_seen;
            let figures = [Some(at), customer_id, org_id, user_id];
            write_line(&mut row.text, sn, figures, before, device);
            row.lines += 1;
            left -= 1;
            before = Some(figures);
        }
        Self { rows, whole }
    }
}

fn write_line(
    text: &mut String,
    sn: &DeviceSn,
    figures: [Option<i64>; 4],
    before: Option<[Option<i64>; 4]>,
    device: &Device,
) {
    text.push_str(sn.as_str());
    for (place, figure) in figures.into_iter().enumerate() {
        text.push(' ');
        match figure {
            figure if before.is_some_and(|before| before[place] == figure) => text.push('='),
            Some(figure) => text.push_str(itoa::Buffer::new().format(figure)),
            None => text.push('-'),
        }
    }
    text.push(' ');
    write_times(text, device);
    text.push('\n');
}

fn write_times(text: &mut String, device: &Device) {
    let begin = text.len();
    device.seen.write(text);
    let LastRecord { at, interval_s, is_ahead } = device.last_record;
    let is_evaluated = at == device.last_seen.at;
    let figures = [interval_s, at, 1];
    let written = match (is_evaluated, is_ahead) {
        (true, _) => usize::from(interval_s > 0),
        (false, false) => 2,
        (false, true) => 3,
    };
    if written > 0 && text.ends_with('-') && text.len() == begin + 1 {
        text.truncate(begin);
    }
    for figure in &figures[..written] {
        if text.len() > begin {
            text.push(',');
        }
        text.push_str(itoa::Buffer::new().format(*figure));
        text.push_str(NO_VITALS);
    }
}

/// Returns the latest record of a line with these times.
fn last_record(times: &str, last_seen: LastSeen) -> Option<LastRecord> {
    let mut figures = times.split(',').filter_map(|time| time.strip_suffix(NO_VITALS));
    let mut figure = || figures.next().map(str::parse).transpose().ok();
    let interval_s = figure()?.unwrap_or(0);
    let at = figure()?.unwrap_or(last_seen.at);
    Some(LastRecord { at, interval_s, is_ahead: figure()?.is_some_and(|ahead: i64| ahead > 0) })
}

/// A line that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no line of a journal: {0:?}")]
pub struct UnreadableLine(pub String);

/// Returns the devices of a row without the states of their rules, in the order of its lines. If a
/// line is unreadable, a line after it that refers to it with `=` is unreadable too.
pub fn read(text: &str) -> impl Iterator<Item = Result<(DeviceSn, Device), UnreadableLine>> {
    let mut before = None;
    text.lines().map(move |line| {
        read_line(line, &mut before).ok_or_else(|| UnreadableLine(line.to_owned()))
    })
}

fn read_line(line: &str, before: &mut Option<[Option<i64>; 4]>) -> Option<(DeviceSn, Device)> {
    let last = before.take();
    let mut words = line.split(' ');
    let sn = DeviceSn::new(words.next()?)?;
    let mut figures = [None; 4];
    for (place, figure) in figures.iter_mut().enumerate() {
        *figure = match words.next()? {
            "=" => last?[place],
            "-" => None,
            word => Some(word.parse().ok()?),
        };
    }
    let [at, customer_id, org_id, user_id] = figures;
    let times = words.next()?;
    let last_seen = LastSeen { at: at?, ids: Ids { customer_id, org_id, user_id } };
    let (seen, last_record) = (VitalTimes::read(times)?, last_record(times, last_seen)?);
    if words.next().is_some() {
        return None;
    }
    *before = Some(figures);
    Some((sn, Device { seen, last_seen, last_record, ..Device::default() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::Vital;

    fn sn(text: &str) -> DeviceSn {
        DeviceSn::new(text).unwrap()
    }

    fn ids(user_id: i64) -> Ids {
        Ids { customer_id: Some(7), org_id: None, user_id: Some(user_id) }
    }

    fn text(entry: &JournalBatch) -> String {
        entry.rows.iter().map(|row| row.text.as_str()).collect()
    }

    #[test]
    fn a_line_says_what_the_line_before_does_not() {
        let seen = VitalTimes::at([(Vital::HeartRate, 5), (Vital::Stress, 5), (Vital::Sleep, 9)]);
        let device = |seen: &VitalTimes, at, ids, last_record| Device {
            seen: seen.clone(),
            last_seen: LastSeen { at, ids },
            last_record,
            ..Device::default()
        };
        let record = |at, interval_s, is_ahead| LastRecord { at, interval_s, is_ahead };
        let none = VitalTimes::default();
        let devices = [
            (sn("A1"), device(&seen, 100, ids(1), record(100, 60, false))),
            (sn("A2"), device(&none, 100, ids(2), record(100, 0, false))),
            (sn("A3"), device(&none, 100, ids(2), record(160, 60, false))),
            (sn("A4"), device(&seen, 101, Ids::default(), record(160, 0, true))),
        ];
        let entry = JournalBatch::new(devices.iter().map(|(sn, device)| (sn, device)), false);
        assert_eq!(
            text(&entry),
            "A1 100 7 - 1 5*41,9*400,60*0\nA2 = = = 2 -\nA3 = = = = 60*0,160*0\n\
             A4 101 - = - 5*41,9*400,0*0,160*0,1*0\n"
        );
        let read: Vec<_> = read(&entry.rows[0].text).map(Result::unwrap).collect();
        assert_eq!(read, devices);
    }

    #[test]
    fn what_is_no_line_is_named_and_the_lines_after_it_are_read() {
        for broken in [
            "",
            "A1",
            "A1 5 - - -",
            "A1 5 - - - 5*g",
            "A1 5 - - - x*0",
            "A1 x - - - -",
            "A1 5 - - - - -",
        ] {
            let text = format!("{broken}\nA2 6 - - - 7*1\n");
            let mut lines = read(&text);
            assert_eq!(lines.next().unwrap(), Err(UnreadableLine(broken.to_owned())));
            let (sn, Device { seen, last_seen, .. }) = lines.next().unwrap().unwrap();
            assert_eq!(
                (sn.as_str(), seen.last(Vital::HeartRate), last_seen.at),
                ("A2", Some(7), 6)
            );
        }
        let text = "A1 5 1 - 9 -\nA2 6 2 x - -\nA3 7 = - - -\nA4 8 4 - - -\nA5 = = = = -\n";
        let read: Vec<_> =
            read(text).map(|line| line.ok().map(|(_, device)| device.last_seen)).collect();
        let last_seen = |at, customer_id, user_id| {
            Some(LastSeen {
                at,
                ids: Ids { customer_id: Some(customer_id), org_id: None, user_id },
            })
        };
        assert_eq!(
            read,
            [last_seen(5, 1, Some(9)), None, None, last_seen(8, 4, None), last_seen(8, 4, None)]
        );
    }

    #[test]
    fn a_long_entry_has_rows_that_can_each_be_read_alone() {
        let last_seen = LastSeen { at: 100, ids: ids(1) };
        let last_record = LastRecord { at: 100, ..LastRecord::default() };
        let device = Device { last_seen, last_record, ..Device::default() };
        let sns: Vec<_> = (0..ROW_LINES_MAX + 1).map(|number| sn(&number.to_string())).collect();
        let entry = JournalBatch::new(sns.iter().map(|sn| (sn, &device)), true);
        let lines: Vec<_> = entry.rows.iter().map(|row| row.lines).collect();
        assert_eq!(lines, [ROW_LINES_MAX, 1]);
        let (_, last) = read(&entry.rows[1].text).next().unwrap().unwrap();
        assert_eq!(last, device);
    }

    #[test]
    fn a_journal_is_written_anew_once_it_is_long_for_its_devices() {
        let length = |lines, rows| JournalSize { lines, rows };
        assert!(!length(LINES_MAX, 0).is_due(10));
        assert!(length(LINES_MAX + 1, 0).is_due(10));
        assert!(length(0, LINES_MAX).is_due(10), "rows count as well");
        assert!(!length(399_999, 0).is_due(100_000));
        assert!(length(400_001, 0).is_due(100_000));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "[A1 =*,0-9a-f\n-]{0,80}") {
            read(&text).for_each(drop);
        }
    }
}
