//! From an error to what a person reads and the exit status a script reads.

use std::{fmt, io, process::ExitCode};

use firn_runtime::{
    config::ConfigError,
    telemetry::{LogLevelError, TelemetryError, TraceError},
    tls::TlsError,
    with_causes,
};

/// Wrong usage: exit status 2.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A usage error with `message`.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// Writes the error to standard error and says how the process ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    crate::output::complain(&format!("error: {}", with_causes(error.as_ref())));
    if is_usage(error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<ConfigError>()
            || cause.is::<LogLevelError>()
            || cause.is::<TelemetryError>()
            || cause.is::<TraceError>()
            || cause.is::<TlsError>()
    })
}

/// `firn log | head` ends when `head` has seen enough; that is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn usage_is_found_beneath_contexts() {
        let wrapped = Err::<(), _>(usage("--at is no instant")).context("sql");
        assert!(wrapped.is_err_and(|error| is_usage(&error)));
        assert!(!is_usage(&anyhow::anyhow!("no server runs")));
    }

    #[test]
    fn closed_pipe_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_closed_pipe(&error));
    }
}
