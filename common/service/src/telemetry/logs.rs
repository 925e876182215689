//! Sets up log lines: their form, and a filter that can change while the process runs.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use metrics::counter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::metrics::LOG_LINES;

/// Target of the lines about calls that change something. No filter hides them.
pub const AUDIT: &str = "audit";

/// Time after which a changed filter ends: a forgotten one would fill disks.
const CHANGE_TIME: Duration = Duration::from_secs(3600);

/// Targets whose lines at `trace` may hold what the services send, secrets included.
const NEVER_TRACED: [&str; 4] = ["hyper", "librdkafka", "rdkafka", "rustls"];

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
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    state: Arc<Mutex<LevelState>>,
}

#[derive(Debug)]
struct LevelState {
    /// The filter of the settings.
    configured: String,
    /// The filter in its place, and when that ends.
    changed: Option<(String, Instant)>,
}

impl LogLevel {
    fn new(handle: reload::Handle<EnvFilter, Registry>, configured: String) -> Self {
        let state = LevelState { configured, changed: None };
        Self { handle, state: Arc::new(Mutex::new(state)) }
    }

    /// Returns the active filter.
    pub fn get(&self) -> String {
        let state = self.state();
        state.changed.as_ref().map_or(&state.configured, |(filter, _)| filter).clone()
    }

    /// Changes the filter for an hour from `now` on. The error states the fault of the filter.
    pub fn set(&self, filter: &str, now: Instant) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("{error}; send a filter such as info or ljwx=debug,info")
        };
        let (filter, shown) = parse(filter).map_err(|error| wrong(&error))?;
        if traces_secrets(&shown) {
            let names = NEVER_TRACED.join(", ");
            return Err(wrong(&format!("{names} are not traced, nor single spans")));
        }
        let mut state = self.state();
        self.handle.reload(filter).map_err(|error| wrong(&error))?;
        state.changed = Some((shown, now + CHANGE_TIME));
        Ok(())
    }

    /// Returns to the filter of the settings if a change has ended by `now`. Returns this filter then.
    pub fn expire(&self, now: Instant) -> Option<String> {
        let mut state = self.state();
        state.changed.as_ref().filter(|(_, end)| *end <= now)?;
        let (filter, shown) = parse(&state.configured).ok()?;
        self.handle.reload(filter).ok()?;
        state.changed = None;
        Some(shown)
    }

    fn state(&self) -> MutexGuard<'_, LevelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a filter shows lines at `trace` that may hold secrets. The lines of a span come from any
/// target.
fn traces_secrets(filter: &str) -> bool {
    let Ok(targets) = filter.parse::<Targets>() else { return true };
    let is_traced = |name: &&str| {
        let below = |(target, level): (&str, LevelFilter)| {
            target.starts_with(*name) && level == LevelFilter::TRACE
        };
        targets.would_enable(name, &Level::TRACE) || targets.iter().any(below)
    };
    filter.contains('[') || NEVER_TRACED.iter().any(is_traced)
}

/// Whether `text` is a valid filter.
pub(super) fn is_filter(text: &str) -> bool {
    parse(text).is_ok()
}

/// Parses a filter, adds the lines of [`AUDIT`], and returns the filter's own text too. Rejects empty
/// text: it would log only errors, which is hardly ever meant.
fn parse(text: &str) -> anyhow::Result<(EnvFilter, String)> {
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "the filter is empty");
    let filter = EnvFilter::try_new(text)?;
    let shown = filter.to_string();
    Ok((filter.add_directive(format!("{AUDIT}=info").parse()?), shown))
}

/// Sends log lines to standard error.
pub(super) fn install(filter: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    let (filter, configured) = parse(filter).context("--log-level")?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Human => lines.with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(CountLines).try_init()?;
    Ok(LogLevel::new(handle, configured))
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
    fn a_filter_is_changed_for_an_hour_and_a_wrong_one_changes_nothing() {
        let (filter, configured) = parse("info").unwrap();
        let (_layer, handle) = reload::Layer::new(filter);
        let level = LogLevel::new(handle, configured);
        let now = Instant::now();
        level.set("ljwx=debug,info", now).unwrap();
        assert_eq!(level.get(), "ljwx=debug,info");
        for wrong in ["", "ljwx=loud", "info,ljwx=/", "trace"] {
            let error = level.set(wrong, now).unwrap_err();
            assert!(error.contains("such as info"), "{error}");
        }
        assert_eq!(level.expire(now + CHANGE_TIME - Duration::from_secs(1)), None);
        assert_eq!(level.get(), "ljwx=debug,info");
        assert_eq!(level.expire(now + CHANGE_TIME), Some("info".to_owned()));
        assert_eq!((level.get().as_str(), level.expire(now + CHANGE_TIME)), ("info", None));
    }

    #[test]
    fn no_filter_traces_what_may_hold_secrets() {
        for (text, traces) in [
            ("info", false),
            ("debug", false),
            ("ljwx=trace,info", false),
            ("rdkafka=debug,ljwx_gateway=trace,warn", false),
            ("trace,hyper=info,rdkafka=debug,librdkafka=info,rustls=warn", false),
            ("trace", true),
            ("5", true),
            ("info,rdkafka=trace", true),
            ("info,rdkafka", true),
            ("info,hyper_util::client=TRACE", true),
            ("trace,hyper=info", true),
            ("info,[batch]=trace", true),
            ("info,[batch]=debug", true),
        ] {
            let (_, shown) = parse(text).unwrap();
            assert_eq!(traces_secrets(&shown), traces, "{text}: {shown}");
            assert!(!shown.contains(AUDIT), "{shown}");
        }
    }
}
