//! Runs when somebody asks for one.

use std::{sync::Arc, time::Duration};

use firn_catalog_client::{TenantClient, nessie::Reference};
use firn_runtime::StatusBoard;
use firn_table::FileIo;
use tokio_util::sync::CancellationToken;

use super::{
    PROMOTION, Promotion, RunRequest,
    fit::{assess, way_out},
    plan::{Action, decide},
    state::load,
};
use crate::{
    CompactorConfig, CompactorError, Model, RunRecord, RunState, engine::Engine, history::History,
    lease::HeldLease, models,
};

/// How long to wait for a run of the server to give the lease back.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);

/// Runs models in this process as the service does, and under the same lease: while one is at work, the service's own runs of
/// the tenant wait.
pub struct ModelRuns {
    inner: Promotion,
}

impl ModelRuns {
    /// Runs with their own bounds of memory and threads.
    pub fn new(config: CompactorConfig, file_io: FileIo) -> Result<Self, CompactorError> {
        let inner = Promotion {
            engine: Engine::new(&config)?,
            config: Arc::new(config),
            graph: Arc::new(models()?),
            file_io,
            board: StatusBoard::default(),
            history: History::default(),
        };
        Ok(Self { inner })
    }

    /// Runs what is asked for and publishes it on its branch. A run that began is answered also if it failed: it says why. What
    /// can't be asked for is `Refused`, or the error of the tenant's own models that don't fit.
    pub async fn run(
        &self,
        client: &TenantClient,
        request: &RunRequest,
    ) -> Result<RunRecord, CompactorError> {
        let name = &request.reference;
        match client.reference(name).await? {
            Reference::Branch { name: found, .. } if found == *name => {}
            _ => {
                let text =
                    format!("'{name}' is no branch: models run on a branch, which takes what they make");
                return Err(CompactorError::Refused(text));
            }
        }
        let models = self.inner.models(client, name).await?;
        if let Some(problem) = models.problem {
            return Err(problem.into());
        }
        let chosen = models.graph.select(&request.models).map_err(CompactorError::Refused)?;
        if !request.rebuild {
            self.refuse_misfits(client, name, &chosen).await?;
        }
        let config = &self.inner.config;
        let (holder, ttl) = (&config.holder, config.lease_ttl);
        let lease = HeldLease::acquire_within(LEASE_PATIENCE, client, PROMOTION, holder, ttl).await?;
        let run = self.inner.run_repeatedly(client, request);
        let done = lease.guard(&CancellationToken::new(), run).await;
        lease.release().await;
        let newest = self.inner.history.of(client.name()).into_iter().next();
        match (done, newest) {
            (Ok(()), Some(record)) => Ok(record),
            (Err(_), Some(record)) if record.state == RunState::Failed => Ok(record),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(CompactorError::Stopped),
        }
    }

    /// Who asks for a run hears before it that a table has to be made anew; the service goes on with the other models.
    async fn refuse_misfits(
        &self,
        client: &TenantClient,
        reference: &str,
        chosen: &[&Model],
    ) -> Result<(), CompactorError> {
        let mut misfits = Vec::new();
        for model in chosen {
            let loaded = load(client, &self.inner.file_io, &self.inner.engine, reference, model).await?;
            let decided = decide(model, loaded.held.as_ref(), &loaded.positions, i64::MAX);
            if let Action::Rebuild(misfit) = assess(model, &loaded, decided).await? {
                let name = model.table.to_string();
                misfits.push(format!("{name}: {}", way_out(&name, &misfit)));
            }
        }
        if misfits.is_empty() { Ok(()) } else { Err(CompactorError::Refused(misfits.join("\n"))) }
    }
}
