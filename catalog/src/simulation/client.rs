//! Somebody who reads, commits, branches and merges through whichever catalog there is.

mod tables;
mod versions;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, header},
};
use futures::future::{Either, select};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{
    history::{Change, Read, Saw, Verdict, What},
    ledger::Count,
    world::{Replica, World},
};
use crate::CatalogError;

const TURNS: u64 = 20;
/// Longest pause between two turns.
const PAUSE: Duration = Duration::from_millis(100);
/// How long clients wait for an answer: some hang up in the midst of it.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_secs(2), Duration::from_secs(60), Duration::from_secs(60)];

/// See the module.
pub(super) struct Client {
    number: u64,
    turn: u64,
    world: Arc<World>,
}

/// What came back over HTTP; `None` is nothing.
type Answer = Option<(u16, Value)>;

impl Client {
    pub(super) fn new(number: u64, world: Arc<World>) -> Self {
        Self { number, turn: 0, world }
    }

    /// All turns.
    pub(super) async fn work(mut self) {
        while self.turn < TURNS {
            self.turn += 1;
            self.world.chance.pause(PAUSE).await;
            match self.world.chance.below(100) {
                0..30 => self.commit_table().await,
                30..40 => self.commit_tables().await,
                40..50 => self.create_table().await,
                50..60 => drop(self.load(&self.world.branch(), &self.table()).await),
                60..75 => self.commit_value().await,
                75..83 => self.create_branch().await,
                83..95 => self.merge().await,
                _ => self.delete_branch().await,
            }
        }
    }

    /// A name for what is done in this turn.
    fn name(&self) -> String {
        format!("{}-{}", self.number, self.turn)
    }

    fn patience(&self) -> Duration {
        self.world.chance.one(&PATIENCE).copied().unwrap_or_default()
    }

    /// Waits for an answer as long as patience lasts.
    async fn wait<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let (answer, end) = (std::pin::pin!(answer), std::pin::pin!(self.world.time.sleep(self.patience())));
        match select(answer, end).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// One request of Iceberg REST.
    async fn ask(
        &self,
        replica: &Replica,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.world.token));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).expect("its parts are well-formed");
        let router = replica.router.clone();
        let answer = self.wait(async move {
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            (status, serde_json::from_slice(&bytes).unwrap_or_default())
        });
        answer.await
    }

    /// Takes note of a change, and of what was said of it.
    fn note(&self, what: What, branch: &str, began: Count, verdict: Verdict, how: &str) {
        let (name, ended) = (self.name(), self.world.sequence.next());
        self.world.ledger.note(&format!("{name} on {branch}: {how}: {verdict:?}"));
        let branch = branch.to_owned();
        let change = Change { name, branch, what, began, ended, verdict };
        self.world.history().changes.push(change);
    }

    /// Takes note of what was seen of a branch.
    fn saw(&self, branch: &str, began: Count, saw: Saw) {
        let (branch, ended) = (branch.to_owned(), self.world.sequence.next());
        self.world.history().reads.push(Read { branch, began, ended, saw });
    }
}

/// What an answer of the Iceberg API says of a change.
fn verdict(answer: &Answer) -> Verdict {
    match answer {
        Some((200..=299, _)) => Verdict::Acknowledged,
        // 503: nothing was done.
        Some((400..=499 | 503, _)) => Verdict::Refused,
        _ => Verdict::Unknown,
    }
}

/// The same of the version store.
fn verdict_of<T>(answer: Option<&Result<T, CatalogError>>) -> Verdict {
    match answer {
        Some(Ok(_)) => Verdict::Acknowledged,
        None | Some(Err(CatalogError::Unknown(_) | CatalogError::Internal(_))) => Verdict::Unknown,
        Some(Err(_)) => Verdict::Refused,
    }
}
