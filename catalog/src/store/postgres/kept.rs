//! Connections that are kept out of the pool for what is asked all the time: the pool tests each one that comes back, which costs
//! as much as a question.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgPool, Postgres, pool::PoolConnection};

/// Few, so that most of the pool is there for everything else.
const MOST: usize = 4;
/// One that was idle for longer is tested before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// After so long all of them go back to the pool, which closes those that are too old.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Connections of a pool that nobody uses just now.
pub(super) struct Kept(Mutex<Idle>);

struct Idle {
    /// And since when each of them is idle.
    connections: Vec<(PoolConnection<Postgres>, Instant)>,
    emptied: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(Idle { connections: Vec::new(), emptied: Instant::now() }))
    }
}

impl Kept {
    /// One of them, or one of the pool.
    pub(super) async fn take(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        while let Some((mut connection, since)) = self.pop() {
            if since.elapsed() < TRUSTED_IDLE || connection.ping().await.is_ok() {
                return Ok(connection);
            }
        }
        pool.acquire().await
    }

    /// Keeps one that works; what is dropped instead goes back to the pool, which tests it.
    pub(super) fn give(&self, connection: PoolConnection<Postgres>) {
        let mut idle = self.idle();
        if idle.emptied.elapsed() > KEPT_FOR {
            idle.connections.clear();
            idle.emptied = Instant::now();
        } else if idle.connections.len() < MOST {
            idle.connections.push((connection, Instant::now()));
        }
    }

    /// Gives all of them back.
    pub(super) fn clear(&self) {
        self.idle().connections.clear();
    }

    fn pop(&self) -> Option<(PoolConnection<Postgres>, Instant)> {
        self.idle().connections.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
