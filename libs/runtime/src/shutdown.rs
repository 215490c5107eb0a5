//! From signals to one cancellation token.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal, as a shell reports an interrupted command.
const INTERRUPTED: i32 = 130;

/// A token that SIGINT or SIGTERM cancels, and SIGHUP where a terminal was closed: to a process without one, SIGHUP says that
/// its files changed (see [`crate::reload`]). A second signal ends the process at once: whatever was acknowledged is durable
/// already, so nothing is lost but the rest of the drain.
///
/// Must be called within a Tokio runtime; fails if the operating system refuses the handlers.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Asked now: a terminal that is gone is none.
    let mut hangup = if io::stdin().is_terminal() { Some(signal(SignalKind::hangup())?) } else { None };
    // A file at its size limit (ulimit -f) is an error of a write, as a full disk is, and not the end of the process.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = first_of(&mut interrupt, &mut terminate, hangup.as_mut()).await;
        tracing::info!(signal = name, "draining; a second signal ends at once");
        cancelled.cancel();
        let name = first_of(&mut interrupt, &mut terminate, None).await;
        tracing::warn!(signal = name, "ending at once");
        #[allow(clippy::disallowed_methods, reason = "who asks twice wants no destructors")]
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}

async fn first_of(
    interrupt: &mut Signal,
    terminate: &mut Signal,
    hangup: Option<&mut Signal>,
) -> &'static str {
    let hung_up = async {
        match hangup {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = hung_up => "SIGHUP",
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
