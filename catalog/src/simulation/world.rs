//! One database, one object store, several catalogs over them that are killed now and then, and who uses them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::Router;
use chrono::TimeDelta;
use firn_auth::{Claims, Role, SigningKey};
use firn_catalog_client::TenantCreate;
use firn_runtime::clock::VirtualTime;
use serde_json::json;

use super::{
    bucket::{Bucket, Path},
    chance::Chance,
    client::Client,
    clock::SkewedClock,
    database::Database,
    history::History,
    ledger::{Ledger, Sequence},
    life::Life,
    link::Link,
};
use crate::{
    CatalogConfig, CatalogError, S3Config, iceberg,
    management::{self, AppState},
    storage::Storage,
    store::Store,
    version::{Actor, CommitRequest, Content, Key, Meta, Op, Repository, VersionStore},
};

/// Whose catalog it is.
pub(super) const TENANT: &str = "acme";
/// The namespace of all tables.
pub(super) const NAMESPACE: &str = "ns";

const REPLICAS: u64 = 3;
const CLIENTS: u64 = 4;
/// After this long everything has ended, whatever hung: the longest wait of a client and that for a lost answer together.
const AFTERMATH: Duration = Duration::from_secs(300);
/// A world that takes longer stands still.
const END: Duration = Duration::from_secs(24 * 3600);
/// All of what a world ever holds.
const CACHE_BYTES: u64 = 256 << 20;

/// A process that serves the catalog.
pub(super) struct Replica {
    pub(super) number: usize,
    /// Iceberg REST.
    pub(super) router: Router,
    /// The version store beneath it.
    pub(super) repository: Repository,
    life: Life,
}

/// See the module.
pub(super) struct World {
    pub(super) time: VirtualTime,
    pub(super) chance: Chance,
    pub(super) sequence: Sequence,
    pub(super) ledger: Ledger,
    pub(super) database: Database,
    pub(super) bucket: Bucket,
    /// Of somebody who may do everything in the tenant.
    pub(super) token: String,
    config: CatalogConfig,
    skewed: bool,
    replicas: Mutex<Vec<Arc<Replica>>>,
    branches: Mutex<Vec<String>>,
    history: Mutex<History>,
    crashes: Mutex<u64>,
}

impl World {
    pub(super) fn new(seed: u64, time: &VirtualTime) -> Self {
        let (chance, sequence) = (Chance::new(seed, time), Sequence::default());
        let clock = Arc::new(SkewedClock::new(time, TimeDelta::zero()));
        let signing_key = SigningKey::generate();
        let mut claims = Claims::new("client", Duration::from_secs(24 * 3600));
        claims.tenants.insert(TENANT.parse().expect("it is a tenant's name"), Role::Maintainer);
        let token = signing_key.sign(&claims);
        let config = CatalogConfig {
            database_url: String::new(),
            warehouse: "s3://lake/warehouse".to_owned(),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: CACHE_BYTES,
            signing_key,
            public_url: String::new(),
        };
        Self {
            time: time.clone(),
            skewed: chance.happens(0.5),
            ledger: Ledger::new(time),
            database: Database::new(clock, &sequence),
            bucket: Bucket::new(&sequence),
            token,
            config,
            chance,
            sequence,
            replicas: Mutex::default(),
            branches: Mutex::new(vec!["main".to_owned()]),
            history: Mutex::default(),
            crashes: Mutex::default(),
        }
    }

    /// Lives through all of it.
    pub(super) async fn live(self: &Arc<Self>) -> Result<(), CatalogError> {
        self.begin().await?;
        for number in 0..REPLICAS {
            let replica = self.launch(usize::try_from(number).unwrap_or_default())?;
            self.replicas().push(Arc::new(replica));
        }
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| tokio::spawn(Client::new(number, Arc::clone(self)).work())).collect();
        let killer = tokio::spawn(Arc::clone(self).kill_now_and_then());
        let done = std::pin::pin!(futures::future::join_all(clients));
        let end = std::pin::pin!(self.time.sleep(END));
        if let futures::future::Either::Right(_) = futures::future::select(done, end).await {
            self.history().wrong.push("the world stands still: somebody waits for ever".to_owned());
        }
        killer.abort();
        self.time.sleep(AFTERMATH).await;
        Ok(())
    }

    /// The tenant and its namespace, before anything can go wrong.
    async fn begin(&self) -> Result<(), CatalogError> {
        let calm = Chance::none(&self.time);
        let state = self.open(Arc::new(self.database.clone()), calm, Life::default(), TimeDelta::zero())?;
        let request = TenantCreate { name: TENANT.to_owned(), ..TenantCreate::default() };
        management::create_tenant(&state, &request, &Actor::default()).await?;
        let content = Content::new(json!({"type": "NAMESPACE", "elements": [NAMESPACE], "properties": {}}));
        let key = Key(vec![NAMESPACE.to_owned()]);
        let operations = vec![Op::Put { key, content, expected: Some(None) }];
        let meta = Meta { committer: "world".to_owned(), message: "begin".to_owned(), ..Meta::default() };
        let branch = "main".to_owned();
        let commit = CommitRequest { branch, expected_head: None, operations, meta, idempotency: None };
        state.versions.repository(TENANT).commit(commit).await.map(drop)
    }

    fn open(
        &self,
        store: Arc<dyn Store>,
        chance: Chance,
        life: Life,
        skew: TimeDelta,
    ) -> Result<AppState, CatalogError> {
        let files = Path { bucket: self.bucket.clone(), chance, life };
        let storage = Storage::over(Box::new(files), std::collections::BTreeMap::new(), &self.config)?;
        let verifier = self.config.signing_key.verifier();
        let clock = Arc::new(SkewedClock::new(&self.time, skew));
        AppState::over(self.config.clone(), verifier, store, storage, clock)
    }

    /// A process begins, with nothing in its memory.
    fn launch(&self, number: usize) -> Result<Replica, CatalogError> {
        let (life, chance) = (Life::default(), self.chance.clone());
        let link = Link { database: self.database.clone(), chance: chance.clone(), life: life.clone() };
        let minutes = i64::try_from(self.chance.below(21)).unwrap_or_default() - 10;
        let skew = if self.skewed { TimeDelta::minutes(minutes) } else { TimeDelta::zero() };
        let state = self.open(Arc::new(link), chance, life.clone(), skew)?;
        let repository = state.versions.repository(TENANT);
        Ok(Replica { number, router: iceberg::router(state), repository, life })
    }

    async fn kill_now_and_then(self: Arc<Self>) {
        if self.chance.is_calm() {
            return;
        }
        loop {
            self.chance.pause(Duration::from_secs(2)).await;
            let number = usize::try_from(self.chance.below(REPLICAS)).unwrap_or_default();
            let old = Arc::clone(&self.replicas()[number]);
            old.life.end();
            *self.crashes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.ledger.note(&format!("replica {number} is killed"));
            self.chance.pause(Duration::from_millis(500)).await;
            match self.launch(number) {
                Ok(replica) => self.replicas()[number] = Arc::new(replica),
                Err(error) => self.history().wrong.push(format!("replica {number} doesn't start: {error}")),
            }
        }
    }

    /// One of the processes, as they are now.
    pub(super) fn replica(&self) -> Arc<Replica> {
        let replicas = self.replicas();
        Arc::clone(self.chance.one(&replicas).expect("there are some"))
    }

    /// A branch that somebody was told is there.
    pub(super) fn branch(&self) -> String {
        self.chance.one(&self.branches()).cloned().unwrap_or_default()
    }

    /// Branches that clients use.
    pub(super) fn branches(&self) -> MutexGuard<'_, Vec<String>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients did.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processes that were killed.
    pub(super) fn crashes(&self) -> u64 {
        *self.crashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository, without anybody's memory and without faults.
    pub(super) fn repository(&self) -> Repository {
        let clock = Arc::new(SkewedClock::new(&self.time, TimeDelta::zero()));
        VersionStore::timed(Arc::new(self.database.reopened()), CACHE_BYTES, clock).repository(TENANT)
    }

    fn replicas(&self) -> MutexGuard<'_, Vec<Arc<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
