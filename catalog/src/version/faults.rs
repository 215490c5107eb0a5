//! A store whose answers get lost: the owner of a test says which writes happen.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{
    CommitRequest, Hash, Op, VersionStore,
    suite::{key, request, table},
};
use crate::{
    CatalogError,
    store::{
        DocumentRow, DocumentSelection, EventRow, Heads, IdempotencyRow, ObjectAge, ReferenceRow,
        SqliteStore, Store, StoreError, Sweep, Write, Written,
    },
};

/// Loses the answers to the next writes that move a reference.
struct Losing {
    inner: SqliteStore,
    /// Answers still to be lost after the write happened.
    after: AtomicUsize,
    /// Answers still to be lost without the write happening.
    before: AtomicUsize,
}

/// Takes one from a counter, if there is one.
fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

#[async_trait::async_trait]
impl Sweep for Losing {
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError> {
        self.inner.object_ages(repository, after, limit).await
    }

    async fn purge(&self, repository: &str) -> Result<(), StoreError> {
        self.inner.purge(repository).await
    }

    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError> {
        self.inner.delete_objects(repository, objects).await
    }
}

#[async_trait::async_trait]
impl Store for Losing {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        self.inner.heads(repository, names).await
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        self.inner.references(repository).await
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        self.inner.objects(repository, hashes).await
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        let moves = write.references.iter().any(|moved| moved.from != moved.to);
        let lost = || StoreError::Unknown(sqlx::Error::WorkerCrashed);
        if moves && take(&self.before) {
            return Err(lost());
        }
        let written = self.inner.write(write).await?;
        if moves && take(&self.after) { Err(lost()) } else { Ok(written) }
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.inner.idempotency(repository, key).await
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.inner.events(repository, after, limit).await
    }

    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.inner.last_events().await
    }

    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        self.inner.documents(kind, selection).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    fn reconnect(&self, database_url: &str) -> Result<(), StoreError> {
        self.inner.reconnect(database_url)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let inner = SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap();
    let store = Arc::new(Losing { inner, after: AtomicUsize::new(0), before: AtomicUsize::new(0) });
    let versions = VersionStore::new(Arc::clone(&store) as Arc<dyn Store>, 1 << 20);
    versions.create("acme").await.unwrap();
    let repository = versions.repository("acme");
    let create = |name: &str| -> CommitRequest {
        request("main", vec![Op::Put { key: key(name), content: table("1"), expected: Some(None) }])
    };

    store.after.store(1, Ordering::SeqCst);
    let landed = repository.commit(create("a")).await.unwrap();
    store.before.store(2, Ordering::SeqCst);
    let repeated = repository.commit(create("b")).await.unwrap();
    let (log, _) = repository.log(repository.resolve("main").await.unwrap().hash, 10).await.unwrap();
    let hashes: Vec<Hash> = log.iter().map(|commit| commit.hash).collect();
    assert_eq!(hashes, [repeated.hash, landed.hash]);
    assert_eq!(repository.events(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_that_is_away_before_the_write_means_nothing_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let inner = SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap();
    let store = Arc::new(Losing { inner, after: AtomicUsize::new(0), before: AtomicUsize::new(0) });
    let versions = VersionStore::new(Arc::clone(&store) as Arc<dyn Store>, 1 << 20);
    versions.create("acme").await.unwrap();
    let repository = versions.repository("acme");
    store.close().await;
    let operation = Op::Put { key: key("a"), content: table("1"), expected: Some(None) };
    let answer = repository.commit(request("main", vec![operation])).await;
    assert!(matches!(answer, Err(CatalogError::Unavailable(_))), "{answer:?}");
}
