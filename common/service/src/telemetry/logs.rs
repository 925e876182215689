//! Log lines: their form, what is logged and how that is changed while the process runs.

use std::io::IsTerminal;

use anyhow::Context;
use clap::ValueEnum;
use metrics::counter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::metrics::LOG_LINES;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Text, for people.
    Human,
}

/// What is logged, for as long as the process runs.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// The filter in force.
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs by another filter from now on; the error says what is wrong with it.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("{error}; send a filter such as info or ljwx=debug,info")
        };
        let parsed = parse(filter).map_err(|error| wrong(&error))?;
        self.0.reload(parsed).map_err(|error| wrong(&error))
    }
}

/// Whether `text` is a filter.
pub(super) fn is_filter(text: &str) -> bool {
    parse(text).is_ok()
}

/// Empty text is no filter: it would log nothing but errors, and hardly anybody means that.
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

/// Counts lines that somebody should read.
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
