//! What the handlers of all routers share.

use std::{ops::Deref, sync::Arc};

use firn_auth::{Guard, Verifier};
use firn_runtime::clock::{Clock, SystemClock};

use super::{policies::Policies, reads::Reads};
use crate::{
    CatalogConfig, CatalogError,
    delegation::Delegation,
    iceberg::{RecentTables, Turns},
    reports::Reports,
    scan::Jobs,
    storage::Storage,
    store::{self, Store},
    version::VersionStore,
};

/// Shared by all handlers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Parts>);

/// See [`AppState`].
pub(crate) struct Parts {
    pub(crate) config: CatalogConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) versions: VersionStore,
    pub(crate) storage: Storage,
    /// What clients are given to reach files.
    pub(crate) delegation: Delegation,
    pub(crate) guard: Guard,
    /// Allowed reads, for the audit log.
    pub(crate) reads: Reads,
    /// Commits to one table take turns here.
    pub(crate) turns: Turns,
    /// What commits begin with.
    pub(crate) recent_tables: RecentTables,
    /// What engines said of their scans and commits.
    pub(crate) reports: Reports,
    /// Scans that are being planned.
    pub(crate) scans: Jobs,
}

impl AppState {
    /// Opens the database (running migrations) and the warehouse.
    pub(crate) async fn open(config: CatalogConfig, verifier: Verifier) -> Result<Self, CatalogError> {
        let storage = Storage::open(&config)?;
        let store = store::open(&config.database_url).await?;
        Self::over(config, verifier, store, storage, Arc::new(SystemClock))
    }

    /// Over what is open already.
    pub(crate) fn over(
        config: CatalogConfig,
        verifier: Verifier,
        store: Arc<dyn Store>,
        storage: Storage,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CatalogError> {
        let delegation = Delegation::new(&storage, &config.s3)?;
        let versions = VersionStore::timed(Arc::clone(&store), config.cache_bytes / 2, clock);
        let reports = Reports::new(Arc::clone(&store));
        let guard =
            Guard::new(verifier, Policies::new(Arc::clone(&store), versions.clone(), storage.clone()));
        let recent_tables = RecentTables::new(config.cache_bytes / 8);
        let reads = Reads::new(Arc::clone(&store));
        Ok(Self(Arc::new(Parts {
            config,
            store,
            versions,
            storage,
            delegation,
            guard,
            reads,
            turns: Turns::default(),
            recent_tables,
            reports,
            scans: Jobs::default(),
        })))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
