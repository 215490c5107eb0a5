//! Two processes whose clocks differ, over one database.

#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use firn_runtime::clock::Clock;

use super::{
    MergeMode, MergeRequest, MergeSource, Meta, Op, VersionStore,
    suite::{key, request, table},
};
use crate::store::{SqliteStore, Store};

/// Ahead of the machine's clock, or behind it.
struct Skewed(TimeDelta);

#[async_trait::async_trait]
impl Clock for Skewed {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.0
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

#[tokio::test]
async fn histories_of_two_clocks_are_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap());
    let at = |skew| VersionStore::timed(Arc::clone(&store), 1 << 20, Arc::new(Skewed(skew)));
    let stores = [at(TimeDelta::hours(2)), at(TimeDelta::hours(-2))];
    stores[0].create("acme").await.unwrap();
    let replicas = stores.map(|store| store.repository("acme"));
    let create = |name: String| Op::Put { key: key(&name), content: table("1"), expected: Some(None) };

    for round in 0..10 {
        let replica = &replicas[round % 2];
        replica.commit(request("main", vec![create(format!("main-{round}"))])).await.unwrap();
    }
    let base = replicas[0].resolve("main").await.unwrap().hash;
    replicas[1].create_reference("dev", false, base).await.unwrap();
    for (replica, branch) in [(0, "main"), (1, "dev"), (0, "dev"), (1, "main")] {
        let create = create(format!("{branch}-by-{replica}"));
        replicas[replica].commit(request(branch, vec![create])).await.unwrap();
    }
    let from = replicas[1].resolve("dev").await.unwrap().hash;
    let merge = MergeRequest {
        branch: "main".to_owned(),
        expected_head: None,
        source: MergeSource::Merge(from),
        meta: Meta::default(),
        default_mode: MergeMode::Normal,
        modes: std::collections::BTreeMap::new(),
        reconciled: Vec::new(),
        dry_run: false,
        idempotency: None,
    };
    let merged = replicas[1].merge(merge).await.unwrap();
    assert_eq!((merged.applied, merged.base), (true, Some(base)));

    let (log, _) = replicas[1].log(merged.hash, 100).await.unwrap();
    assert_eq!(log.len(), 13);
    assert!(log.windows(2).all(|pair| pair[0].time > pair[1].time), "{log:?}");
    for commit in &log {
        let instant = commit.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let found = replicas[0].resolve(&format!("main*{instant}")).await.unwrap();
        assert_eq!(found.hash, commit.hash);
    }
}
