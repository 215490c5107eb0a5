//! The service: sweeps over the tenants on a runtime of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::Router;
use firn_auth::Guard;
use firn_catalog_client::{CatalogClient, ErasureJob, ErasureState, Tenant};
use firn_runtime::{StageState, StatusBoard};
use firn_table::FileIo;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    CompactorConfig, CompactorError, api,
    engine::Engine,
    erasure::{ErasurePlace, Erasures},
    history::History,
    maintenance::{MAINTENANCE, Maintenance, MaintenancePlace},
    models,
    promotion::{PROMOTION, Promotion, TenantPlace},
};

/// Longest pause while the catalog can't be reached.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Promotes and maintains all tenants that its client reaches. Cheap to clone.
#[derive(Clone)]
pub struct Compactor {
    client: CatalogClient,
    pub(crate) promotion: Promotion,
    pub(crate) maintenance: Maintenance,
    pub(crate) erasures: Erasures,
}

/// What is remembered of one tenant.
#[derive(Default)]
struct Place {
    promotion: TenantPlace,
    maintenance: MaintenancePlace,
    erasure: ErasurePlace,
}

impl Compactor {
    /// A compactor with the shipped models. It does nothing until [`Compactor::run`].
    pub fn new(
        config: CompactorConfig,
        client: CatalogClient,
        file_io: FileIo,
        board: StatusBoard,
    ) -> Result<Self, CompactorError> {
        let (engine, config, graph) = (Engine::new(&config)?, Arc::new(config), Arc::new(models()?));
        let maintenance = Maintenance::new(
            Arc::clone(&config),
            Arc::clone(&graph),
            engine.clone(),
            file_io.clone(),
            board.clone(),
        );
        let erasures =
            Erasures { config: Arc::clone(&config), file_io: file_io.clone(), board: board.clone() };
        let promotion = Promotion { config, graph, engine, file_io, board, history: History::default() };
        Ok(Self { client, promotion, maintenance, erasures })
    }

    /// `/v1/tenants/{tenant}/promotions` and `/v1/tenants/{tenant}/models`.
    pub fn router(&self, guard: impl Into<Guard>) -> Router {
        api::router(
            self.client.clone(),
            guard.into(),
            Arc::clone(&self.promotion.graph),
            self.promotion.file_io.clone(),
            self.promotion.history.clone(),
        )
    }

    /// Works until `stop`. Queries run on threads of their own, so that HTTP stays responsive.
    pub async fn run(&self, stop: CancellationToken) {
        let threads = self.promotion.config.threads.max(1);
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("compactor")
            .enable_all()
            .build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the compactor's threads could not be started");
                self.fail_all(&format!("its threads could not be started: {error}"));
                return;
            }
        };
        let compactor = self.clone();
        let ended = runtime.spawn(async move { compactor.sweep_until(stop).await }).await;
        runtime.shutdown_background();
        if let Err(error) = ended {
            tracing::error!(%error, "the compactor stopped by itself");
            self.fail_all("it stopped by itself: the log says why");
        }
    }

    async fn sweep_until(&self, stop: CancellationToken) {
        let mut places: HashMap<String, Place> = HashMap::new();
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match self.client.tenants().await {
                Ok(tenants) => {
                    failures = 0;
                    places = self.sweep(tenants, places, &stop).await;
                    self.promotion.config.interval
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "the tenants could not be listed, trying again");
                    self.fail_all(&format!("the catalog can't be reached: {error}"));
                    Duration::from_secs(1).saturating_mul(1 << u32::min(failures, 5)).min(LONGEST_PAUSE)
                }
            };
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Visits every tenant once, a few at a time; tenants that are gone are forgotten.
    async fn sweep(
        &self,
        tenants: Vec<Tenant>,
        mut places: HashMap<String, Place>,
        stop: &CancellationToken,
    ) -> HashMap<String, Place> {
        for stage in [PROMOTION, MAINTENANCE] {
            self.promotion.board.update(stage, "*", |status| {
                status.state = StageState::Running;
                status.message = format!("{} tenants", tenants.len());
            });
        }
        let mut jobs = self.erasures_by_tenant().await;
        let visits: Vec<_> = tenants
            .into_iter()
            .map(|tenant| {
                let place = places.remove(&tenant.name).unwrap_or_default();
                let jobs = jobs.remove(&tenant.name).unwrap_or_default();
                self.visit(tenant, place, jobs, stop)
            })
            .collect();
        stream::iter(visits).buffer_unordered(self.promotion.config.parallel_tenants.max(1)).collect().await
    }

    /// Erasures by tenant, oldest first, also those that are done.
    async fn erasures_by_tenant(&self) -> HashMap<String, Vec<ErasureJob>> {
        let mut jobs = match self.client.erasure_jobs().await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(%error, "erasures could not be listed, trying again");
                Vec::new()
            }
        };
        jobs.sort_by(|a, b| a.erasure.requested_at.cmp(&b.erasure.requested_at));
        let mut by_tenant: HashMap<String, Vec<ErasureJob>> = HashMap::new();
        for job in jobs {
            by_tenant.entry(job.erasure.tenant.clone()).or_default().push(job);
        }
        by_tenant
    }

    async fn visit(
        &self,
        tenant: Tenant,
        mut place: Place,
        jobs: Vec<ErasureJob>,
        stop: &CancellationToken,
    ) -> (String, Place) {
        if tenant.state == "active" {
            let client = self.client.tenant(&tenant.name);
            let (done, open): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| job.erasure.state == ErasureState::Done);
            self.erasures.recheck(&client, &done, &mut place.erasure).await;
            self.erasures.visit(&client, open, &mut place.erasure, stop).await;
            self.promotion.visit(&client, &mut place.promotion, stop).await;
            self.maintenance.visit(&client, &mut place.maintenance, stop).await;
        } else {
            for stage in [PROMOTION, MAINTENANCE] {
                self.promotion.board.update(stage, &tenant.name, |status| {
                    status.state = StageState::Suspended;
                    status.message = format!("the tenant is {}", tenant.state);
                });
            }
        }
        (tenant.name, place)
    }

    fn fail_all(&self, message: &str) {
        for stage in [PROMOTION, MAINTENANCE] {
            self.promotion.board.update(stage, "*", |status| {
                status.state = StageState::Failing;
                message.clone_into(&mut status.message);
            });
        }
    }
}
