//! Commits while PostgreSQL itself goes wrong.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use firn_tests::{Postgres, until};

use super::{
    Hash, Op, Repository, VersionStore,
    suite::{key, request, table},
};
use crate::{
    CatalogError,
    store::{self, Store},
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn over(store: Arc<dyn Store>) -> Repository {
    let versions = VersionStore::new(store, 1 << 20);
    versions.create("acme").await.unwrap();
    versions.repository("acme")
}

fn create(name: &str) -> Op {
    Op::Put { key: key(name), content: table("1"), expected: Some(None) }
}

async fn logged(repository: &Repository) -> Vec<Hash> {
    let head = repository.resolve("main").await.unwrap().hash;
    repository.log(head, 100_000).await.unwrap().0.iter().map(|commit| commit.hash).collect()
}

/// Commits wait for a standby, from now on or no more.
async fn wait_for_standby(server: &Postgres, names: &str) {
    server.psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    until("the setting is read", PATIENCE, async || {
        let known = server.psql("SHOW synchronous_standby_names")?;
        anyhow::ensure!(known.trim() == names, "it is '{known}'");
        Ok(())
    })
    .await
    .unwrap();
    // Whether commits wait is for the checkpointer to say, which reads the setting in its own time, but before it does any work.
    server.psql("CHECKPOINT").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_connection_is_lost_during_commit_is_found_and_made_once() {
    let server = Postgres::start().await.unwrap();
    let repository = over(store::open(&server.url()).await.unwrap()).await;
    repository.commit(request("main", vec![create("before")])).await.unwrap();
    // It is durable here, and waits for a standby that there isn't: PostgreSQL is in the midst of COMMIT.
    wait_for_standby(&server, "nobody").await;
    let committing = tokio::spawn({
        let repository = repository.clone();
        async move { repository.commit(request("main", vec![create("during")])).await }
    });
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%catalog_write%'";
    until("the commit waits", PATIENCE, async || {
        let pid = server.psql(waiting)?;
        anyhow::ensure!(!pid.is_empty(), "nobody waits");
        Ok(())
    })
    .await
    .unwrap();
    server.psql(&format!("SELECT pg_terminate_backend(pid) FROM ({waiting}) w")).unwrap();
    // What ends a wait by force has committed here all the same.
    let committed = committing.await.unwrap().unwrap();
    wait_for_standby(&server, "").await;
    let log = logged(&repository).await;
    assert_eq!((log.len(), log[0]), (2, committed.hash));
    assert_eq!(repository.events(0, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_that_takes_over_has_all_that_was_acknowledged() {
    let mut primary = Postgres::start().await.unwrap();
    let standby = primary.replica().await.unwrap();
    wait_for_standby(&primary, "*").await;
    until("the standby is synchronous", PATIENCE, async || {
        let state = primary.psql("SELECT sync_state FROM pg_stat_replication")?;
        anyhow::ensure!(state == "sync", "it is '{state}'");
        Ok(())
    })
    .await
    .unwrap();
    let store = store::open(&primary.url()).await.unwrap();
    let repository = over(Arc::clone(&store)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (repository, stop) = (repository.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut acknowledged, mut number) = (Vec::new(), 0);
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let create = create(&format!("t{writer}-{number}"));
                    match repository.commit(request("main", vec![create])).await {
                        Ok(committed) => acknowledged.push(committed.hash),
                        Err(CatalogError::Unavailable(_) | CatalogError::Unknown(_)) => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                acknowledged
            })
        })
        .collect();
    let enough = async |least: usize| {
        until("commits are made", PATIENCE, async || {
            let made = logged(&repository).await.len();
            anyhow::ensure!(made >= least, "{made} commits");
            Ok(made)
        })
        .await
        .unwrap()
    };
    let before = enough(50).await;
    primary.kill().unwrap();
    standby.psql("SELECT pg_promote()").unwrap();
    store.reconnect(&standby.url()).unwrap();
    until("the standby takes writes", PATIENCE, async || standby.psql("CREATE TABLE promoted ()"))
        .await
        .unwrap();
    until("the catalog goes on", PATIENCE, async || store.ping().await).await.unwrap();
    enough(before + 50).await;
    stop.store(true, Ordering::SeqCst);

    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let log = logged(&over(store::open(&standby.url()).await.unwrap()).await).await;
    let once: BTreeSet<Hash> = log.iter().copied().collect();
    assert_eq!(once.len(), log.len());
    let lost = acknowledged.iter().filter(|hash| !once.contains(hash)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}
