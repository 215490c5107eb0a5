//! A process's connections to the database: what is asked may fail, hang, overtake, be done late, or never be answered.

use bytes::Bytes;

use super::{
    chance::{Chance, Fate},
    database::Database,
    life::Life,
};
use crate::store::{
    DocumentRow, DocumentSelection, EventRow, Hash, Heads, IdempotencyRow, ObjectAge, ReferenceRow, Store,
    StoreError, Sweep, Write, Written,
};

/// See the module.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) database: Database,
    pub(super) chance: Chance,
    pub(super) life: Life,
}

impl Link {
    /// Asks something, which changes nothing.
    async fn ask<T: Send>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.chance.travel().await;
        self.life.goes_on().await;
        if self.chance.fails() {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        let answer = answer.await;
        self.chance.travel().await;
        self.life.goes_on().await;
        answer
    }

    /// Writes as soon as no other transaction holds what is to be written.
    async fn transact(&self, write: &Write) -> Result<Written, StoreError> {
        while self.database.is_held(write) {
            self.chance.travel().await;
        }
        self.database.write(write).await
    }

    /// The connection is gone, and the database goes on with what it was sent, or begins with it late.
    fn leave_behind(&self, write: &Write, begun: bool) {
        // Behind another transaction it hasn't begun.
        let begun = begun && !self.database.is_held(write);
        if begun {
            self.database.hold(write);
        }
        let (link, write) = (self.clone(), write.clone());
        tokio::spawn(async move {
            link.chance.hang().await;
            if begun {
                link.database.release(&write);
            }
            // What it answers, nobody hears.
            drop(link.transact(&write).await);
        });
    }
}

fn lost() -> StoreError {
    StoreError::Unknown(sqlx::Error::WorkerCrashed)
}

#[async_trait::async_trait]
impl Store for Link {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        self.ask(self.database.heads(repository, names)).await
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        self.ask(self.database.references(repository)).await
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        self.ask(self.database.objects(repository, hashes)).await
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        self.chance.travel().await;
        self.life.goes_on().await;
        let answer = match self.chance.fate() {
            Fate::Done => self.transact(write).await,
            Fate::Refused => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
            Fate::LostBefore => Err(lost()),
            Fate::LostAfter => self.transact(write).await.and(Err(lost())),
            Fate::LostAhead => {
                self.leave_behind(write, false);
                Err(lost())
            }
            Fate::LostWithin => {
                self.leave_behind(write, true);
                Err(lost())
            }
        };
        self.chance.travel().await;
        self.life.goes_on().await;
        answer
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.ask(self.database.idempotency(repository, key)).await
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.ask(self.database.events(repository, after, limit)).await
    }

    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.ask(self.database.last_events()).await
    }

    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        self.ask(self.database.documents(kind, selection)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(self.database.ping()).await
    }

    fn reconnect(&self, database_url: &str) -> Result<(), StoreError> {
        self.database.reconnect(database_url)
    }

    /// The process lets go of it; others use it still.
    async fn close(&self) {}
}

#[async_trait::async_trait]
impl Sweep for Link {
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError> {
        self.ask(self.database.object_ages(repository, after, limit)).await
    }

    async fn purge(&self, repository: &str) -> Result<(), StoreError> {
        self.ask(self.database.purge(repository)).await
    }

    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError> {
        self.ask(self.database.delete_objects(repository, objects)).await
    }
}
