//! Keeping a stage alive: one that ends or panics is started again, and the status board says so meanwhile.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{StageState, StatusBoard, retry::Backoff};

/// Never gives up: a stage that can't start today may tomorrow, and the others go on.
const RESTARTS: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), attempts: u32::MAX };

/// A stage that ran this long is well: its next failure counts as the first.
const HEALTHY_AFTER: Duration = Duration::from_secs(120);

/// Runs `stage` until `shutdown`. `start` makes one run of it; a run that returns early or panics shows as failing on the
/// board (tenant `*`) with the reason, and is followed by another after a back-off.
///
/// After `shutdown` the running one is left to drain; it must end by itself.
pub async fn supervise<F>(stage: &str, board: &StatusBoard, shutdown: &CancellationToken, start: F)
where
    F: Fn() -> JoinHandle<Result<(), String>>,
{
    supervise_with(RESTARTS, stage, board, shutdown, start).await;
}

async fn supervise_with<F>(
    restarts: Backoff,
    stage: &str,
    board: &StatusBoard,
    shutdown: &CancellationToken,
    start: F,
) where
    F: Fn() -> JoinHandle<Result<(), String>>,
{
    let mut failures = 0;
    loop {
        let began = Instant::now();
        board.update(stage, "*", |status| status.state = StageState::Running);
        let ended = start().await;
        if shutdown.is_cancelled() {
            return;
        }
        let reason = match ended {
            Ok(Ok(())) => "ended without being asked to".to_owned(),
            Ok(Err(reason)) => reason,
            Err(crashed) => format!("crashed: {crashed}"),
        };
        failures = if began.elapsed() >= HEALTHY_AFTER { 1 } else { failures + 1 };
        let delay = restarts.delay(failures);
        tracing::error!(stage, failures, error = %reason, ?delay, "stage stopped; starting it again");
        board.update(stage, "*", |status| {
            status.state = StageState::Failing;
            status.message = format!("{reason}; starting again in {} s", delay.as_secs().max(1));
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return,
        }
        board.update(stage, "*", |status| status.message.clear());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn stage_that_dies_is_failing_and_started_again() {
        let board = StatusBoard::default();
        let shutdown = CancellationToken::new();
        let runs = Arc::new(AtomicU32::new(0));
        let (seen, counted, end) = (board.clone(), runs.clone(), shutdown.clone());
        let quick =
            Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(1), attempts: u32::MAX };
        supervise_with(quick, "ingest", &board, &shutdown, move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let (seen, end) = (seen.clone(), end.clone());
            tokio::spawn(async move {
                match run {
                    0 => return Err("no disk".to_owned()),
                    1 => std::panic::panic_any("boom"),
                    _ => end.cancel(),
                }
                assert_eq!(seen.all()[&("ingest".into(), "*".into())].state, StageState::Running);
                Ok(())
            })
        })
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!(board.all()[&("ingest".to_owned(), "*".to_owned())].message, "");
    }
}
