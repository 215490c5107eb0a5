//! Doing: reads records and commands, lets the engine decide, writes what it decided in one transaction, restores state.

mod alone;
mod backlog;
mod outputs;
mod rebuild;
mod repartition;
mod restore;
mod reviews;
mod session;
mod topics;

use std::{sync::Arc, time::Duration};

use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, INVENTORY_TOPIC};
use firn_runtime::{StageState, StatusBoard, retry::Backoff, with_causes};
use firn_stream::{Log, StreamErrorKind, SubscribeOptions};
use tokio_util::sync::CancellationToken;

use crate::{AlertsConfig, AlertsError, index::FindingsIndex, rules::RuleBook};
pub(crate) use rebuild::Rebuilding;
pub use rebuild::{Difference, Rebuilt};
pub(crate) use repartition::Repartitioning;
pub use repartition::{Move, Repartitioned};
use session::Session;

/// Group of the workers.
pub(crate) const GROUP: &str = "firn-alerts";
/// This stage on the status board.
pub(crate) const STAGE: &str = "alerts";

/// Sessions that end for want of the log or the catalog are followed by another: state comes back from the log.
const RESTARTS: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(10), attempts: u32::MAX };

/// The worker of this process.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) book: Arc<RuleBook>,
    pub(crate) index: FindingsIndex,
    pub(crate) board: StatusBoard,
    pub(crate) config: AlertsConfig,
}

impl Worker {
    /// Works until `shutdown`, or until something fails that trying again can't mend.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) -> Result<(), AlertsError> {
        let mut failures = 0;
        loop {
            let error = match self.session(shutdown, &mut failures).await {
                Ok(()) => return Ok(()),
                Err(error) if shutdown.is_cancelled() || !may_pass(&error) => return Err(error),
                Err(error) => error,
            };
            failures += 1;
            let delay = RESTARTS.delay(failures);
            let reason = with_causes(&error);
            tracing::warn!(error = %reason, ?delay, "alerts session ended; the next one restores state from the log");
            self.board.update(STAGE, "*", |status| {
                status.state = StageState::Failing;
                status.message = reason;
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Joins the group, works, and leaves it. Whatever ends it, nothing half-done remains.
    async fn session(&self, shutdown: &CancellationToken, failures: &mut u32) -> Result<(), AlertsError> {
        let mut session = Session::join(self).await?;
        let mut result = Ok(());
        while result.is_ok() && !shutdown.is_cancelled() {
            result = session.turn().await;
            if result.is_ok() {
                *failures = 0;
            }
        }
        session.leave().await;
        result
    }
}

/// Whether the same may go well later.
fn may_pass(error: &AlertsError) -> bool {
    match error {
        AlertsError::Stream { source, .. } => source.kind == StreamErrorKind::Unavailable,
        AlertsError::Rules { .. }
        | AlertsError::Erasures(_)
        | AlertsError::Tenants(_)
        | AlertsError::Lake { .. } => true,
        AlertsError::State { .. } | AlertsError::Config(_) | AlertsError::Crashed(_) => false,
    }
}

/// How the group is joined.
fn membership(instance_id: Option<String>) -> SubscribeOptions {
    SubscribeOptions {
        group: GROUP.to_owned(),
        topics: vec![INVENTORY_TOPIC.to_owned(), ALERTS_COMMANDS_TOPIC.to_owned()],
        instance_id,
        from_beginning: true,
    }
}

#[cfg(test)]
mod tests;
