//! Logs: one event per decision, to standard error, as text or as JSON lines.
//!
//! What must never be in them (keys, exporter values, tokens, bodies, whole headers) is the callers' duty; there is no
//! filter here that would catch it. How lines get out without holding anybody up is [`log_writer`]'s question.

use std::io::IsTerminal;
use std::str::FromStr;

use crate::log_writer::{self, LogGuard};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The environment variable that overrides the configured level.
const LEVEL_VARIABLE: &str = "RUST_LOG";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Json,
}

/// What is logged: a level (`info`), or directives (`info,proxy_core=debug`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Level(String);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    #[error(
        "{seen:?} is not a log level; write error, warn, info, debug or trace, or directives such as info,proxy_core=debug"
    )]
    Level { seen: String },
    #[error("logging was set up before")]
    Twice(#[source] TryInitError),
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Level {
    pub fn info() -> Self {
        Level("info".into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Level {
    type Err = TelemetryError;
    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        filter(text).map(|_| Level(text.to_owned()))
    }
}

impl TryFrom<String> for Level {
    type Error = TelemetryError;
    fn try_from(text: String) -> Result<Self, TelemetryError> {
        text.parse()
    }
}

/// Sends the events of this process to standard error from now on. `RUST_LOG`, where set, takes the place of `level`;
/// a value of it that makes no sense is an error rather than silence. The guard belongs to the program's last scope.
pub fn init(format: Format, level: &Level) -> Result<LogGuard, TelemetryError> {
    let filter = match std::env::var(LEVEL_VARIABLE) {
        Ok(text) if !text.is_empty() => filter(&text)?,
        _ => filter(level.as_str())?,
    };
    let (writer, guard) = log_writer::start().map_err(TelemetryError::Thread)?;
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        // Its own complaints go to `eprintln!`, which panics where standard error is closed.
        .log_internal_errors(false);
    match format {
        Format::Text => events.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        Format::Json => events.json().flatten_event(true).with_current_span(true).finish().try_init(),
    }
    .map_err(TelemetryError::Twice)?;
    log_panics();
    Ok(guard)
}

/// The default hook writes to standard error itself and would wait for its reader.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, message = text.unwrap_or("(no text)"), "a panic; this is a bug, please report it");
    }));
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let error = || TelemetryError::Level { seen: text.to_owned() };
    // A lone word that is no level would be taken as the name of a target, and silence everything else.
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let misspelt = |directive: &str| !directive.contains('=') && !is_level(&directive.trim().to_ascii_lowercase());
    if text.split(',').any(misspelt) {
        return Err(error());
    }
    EnvFilter::builder().parse(text).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_levels_and_directives() {
        for text in ["info", "WARN", "off", "info,proxy_core=debug", "warn,hyper=off,evident_proxy::serve=trace"] {
            assert_eq!(text.parse::<Level>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_a_level_that_would_silence_everything() {
        for text in ["", "inof", "verbose", "info,debugg", "proxy_core=loud", "info,"] {
            assert!(matches!(text.parse::<Level>(), Err(TelemetryError::Level { .. })), "{text:?}");
        }
    }
}
