//! Sets up log lines: their form, and a filter that can change while the process runs.

use std::io::IsTerminal;

use anyhow::Context;
use clap::ValueEnum;
use metrics::counter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::metrics::LOG_LINES;

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Text, for people.
    Human,
}

/// The log filter, changeable while the process runs.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Returns the active filter.
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Changes the filter. The error states the fault of an invalid filter.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("{error}; send a filter such as info or ljwx=debug,info")
        };
        let parsed = parse(filter).map_err(|error| wrong(&error))?;
        self.0.reload(parsed).map_err(|error| wrong(&error))
    }
}

/// Whether `text` is a valid filter.
pub(super) fn is_filter(text: &str) -> bool {
    parse(text).is_ok()
}

/// Parses a filter. Rejects empty text: it would log only errors, which is hardly ever meant.
fn parse(text: &str) -> anyhow::Result<EnvFilter> {
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "the filter is empty");
    Ok(EnvFilter::try_new(text)?)
}

/// Sends log lines to standard error.
pub(super) fn install(filter: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    let filter = parse(filter).context("--log-level")?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Human => lines.with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(CountLines).try_init()?;
    Ok(LogLevel(handle))
}

/// Counts lines of level warn and error.
struct CountLines;

impl<S: Subscriber> Layer<S> for CountLines {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => counter!(LOG_LINES, "level" => "error").increment(1),
            Level::WARN => counter!(LOG_LINES, "level" => "warn").increment(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_changed_and_a_wrong_one_changes_nothing() {
        let (_layer, handle) = reload::Layer::new(parse("info").unwrap());
        let level = LogLevel(handle);
        level.set("ljwx=debug,info").unwrap();
        assert_eq!(level.get(), "ljwx=debug,info");
        for wrong in ["", "ljwx=loud", "info,ljwx=/"] {
            let error = level.set(wrong).unwrap_err();
            assert!(error.contains("such as info"), "{error}");
        }
        assert_eq!(level.get(), "ljwx=debug,info");
    }
}
