//! From signals to one cancellation token.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal, as a shell reports an interrupted command.
const INTERRUPTED: i32 = 130;

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once: whatever was acknowledged is durable
/// already, so nothing is lost but the rest of the drain.
///
/// Must be called within a Tokio runtime; fails if the operating system refuses the handlers.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // A file at its size limit (ulimit -f) is an error of a write, as a full disk is, and not the end of the process.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = first_of(&mut interrupt, &mut terminate).await;
        tracing::info!(signal = name, "draining; a second signal ends at once");
        cancelled.cancel();
        let name = first_of(&mut interrupt, &mut terminate).await;
        tracing::warn!(signal = name, "ending at once");
        #[allow(clippy::disallowed_methods, reason = "who asks twice wants no destructors")]
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}

async fn first_of(
    interrupt: &mut tokio::signal::unix::Signal,
    terminate: &mut tokio::signal::unix::Signal,
) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
