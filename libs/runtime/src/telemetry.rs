//! Logs: text for people, JSON for machines, always on standard error, so that standard output holds data alone. And
//! traces, where a collector is named.

mod otlp;

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use otlp::{Exporter, TraceConfig, TraceError};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Directives such as `info` or `firn_ingest=debug,info`; the variable `FIRN_LOG` wins.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The level can't be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{level}' is no log level: write error, warn, info, debug, trace, or directives such as 'firn_ingest=debug,info'"
)]
pub struct LogLevelError {
    /// What was given.
    pub level: String,
}

/// Logging or tracing can't be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level can't be understood.
    #[error(transparent)]
    Level(#[from] LogLevelError),
    /// The collector can't be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Starts logging for this process, and sending traces as `service` if a collector is named. Called once, first of all; a
/// second call leaves the first in place. Keep the answer until the end: dropping it sends the last spans.
///
/// `override_level` is the value of `FIRN_LOG`, if set. With a collector it must be called within a Tokio runtime.
pub fn init(
    config: &LogConfig,
    override_level: Option<&str>,
    trace: &TraceConfig,
    service: &str,
) -> Result<Option<Exporter>, TelemetryError> {
    let level = override_level.filter(|level| !level.is_empty()).unwrap_or(&config.level);
    let filter = || EnvFilter::try_new(level).map_err(|_| LogLevelError { level: level.to_owned() });
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match config.format {
        LogFormat::Text => lines.with_target(false).with_filter(filter()?).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter()?).boxed(),
    };
    let started = trace.endpoint.as_ref().map(|endpoint| otlp::start(endpoint, trace.sample, service));
    let (exporter, tracer) = started.transpose()?.unzip();
    // Whatever is logged, spans are traced.
    let spans = tracer
        .map(|tracer| tracing_opentelemetry::layer().with_tracer(tracer).with_filter(LevelFilter::INFO));
    if tracing_subscriber::registry().with(lines).with(spans).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(exporter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wrong_level_says_what_is_right() {
        let error = init(&LogConfig::default(), Some("firn=loud"), &TraceConfig::default(), "x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("'firn=loud' is no log level"), "{error}");
    }

    #[test]
    fn section_has_defaults_and_knows_its_keys() {
        let config: LogConfig = toml::from_str("format = 'json'").unwrap();
        assert_eq!(config, LogConfig { level: "info".into(), format: LogFormat::Json });
        assert!(toml::from_str::<LogConfig>("colour = true").is_err());
    }
}
