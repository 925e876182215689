//! Shows on standard error how far a copy is: a bar on a terminal, and a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two refreshes: on a terminal, and elsewhere.
const REFRESH: Duration = Duration::from_millis(250);
const REFRESH_LOG: Duration = Duration::from_secs(10);

/// Characters of the bar.
const BAR: usize = 20;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;

/// The progress of one table on the screen.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    name: String,
    total: i64,
    /// Rows copied before this run.
    before: i64,
    copied: i64,
    begun: Instant,
    shown: Option<Instant>,
}

impl Screen {
    /// Creates an empty screen.
    pub fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            name: String::new(),
            total: 0,
            before: 0,
            copied: 0,
            begun: Instant::now(),
            shown: None,
        }
    }

    /// Begins a table of about `total` rows, of which `before` were copied by earlier runs.
    pub fn begin(&mut self, name: &str, total: i64, before: i64) {
        *self = Self { name: name.to_owned(), total, before, ..Self::new() };
        self.show();
    }

    /// Adds copied rows.
    pub fn add(&mut self, rows: usize) {
        self.copied += rows as i64;
        let refresh = if self.is_terminal { REFRESH } else { REFRESH_LOG };
        if self.shown.is_none_or(|shown| shown.elapsed() >= refresh) {
            self.show();
        }
    }

    /// Ends the table, with a last line.
    pub fn end(&mut self) {
        self.total = self.before + self.copied;
        self.show();
        if self.is_terminal {
            let _ = writeln!(io::stderr());
        }
    }

    /// Returns the rows per second of this run.
    pub fn rate(&self) -> f64 {
        self.copied as f64 / self.begun.elapsed().as_secs_f64().max(0.001)
    }

    fn show(&mut self) {
        self.shown = Some(Instant::now());
        let line = line(&self.name, self.before + self.copied, self.total, self.rate());
        // A closed standard error must not end the copy.
        let _ = if self.is_terminal {
            write!(io::stderr(), "\r\x1b[K{line}")
        } else {
            writeln!(io::stderr(), "{line}")
        };
    }
}

/// Returns the line of a table with `done` of about `total` rows at `rate` rows per second.
pub fn line(name: &str, done: i64, total: i64, rate: f64) -> String {
    // The server's estimate may be too low.
    let total = total.max(done);
    let part = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let full = (part * BAR as f64) as usize;
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(BAR - full.min(BAR)));
    let percent = (part * 100.0) as i64;
    let left = if done < total && rate > 0.0 {
        format!(", {} left", time_text((total - done) as f64 / rate))
    } else {
        String::new()
    };
    format!("{name} [{bar}] {percent} %, {done} of about {total} rows, {rate:.0}/s{left}")
}

/// Returns a time for people.
pub fn time_text(seconds: f64) -> String {
    if seconds < 2.0 * MINUTE {
        format!("{seconds:.0} s")
    } else if seconds < 2.0 * HOUR {
        format!("{:.0} min", seconds / MINUTE)
    } else {
        format!("{:.1} h", seconds / HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_is_done_and_how_long_the_rest_takes() {
        for (done, total, rate, expected) in [
            (0, 300, 0.0, "t [--------------------] 0 %, 0 of about 300 rows, 0/s"),
            (150, 300, 5.0, "t [##########----------] 50 %, 150 of about 300 rows, 5/s, 30 s left"),
            (400, 300, 9.6, "t [####################] 100 %, 400 of about 400 rows, 10/s"),
            (0, 0, 0.0, "t [####################] 100 %, 0 of about 0 rows, 0/s"),
        ] {
            assert_eq!(line("t", done, total, rate), expected);
        }
        for (seconds, expected) in [(29.4, "29 s"), (600.0, "10 min"), (36_000.0, "10.0 h")] {
            assert_eq!(time_text(seconds), expected);
        }
    }
}
