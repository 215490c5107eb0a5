//! Which tenants' hosts are to be reviewed, and the reading of their `silver.device`, behind live records.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use firn_runtime::with_causes;
use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

use crate::{AlertsError, engine::Devices, rules::RuleBook};

/// Silver lags behind the stream: what it lacks is looked for again after these times.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(180),
];
/// Batches read ahead.
const AHEAD: usize = 2;

/// See the module.
#[derive(Default)]
pub(super) struct Reviews {
    /// When a tenant is due, and how often it was looked at.
    wanted: BTreeMap<String, (Instant, usize)>,
    running: Option<Running>,
}

struct Running {
    tenant: String,
    attempt: usize,
    rows: Receiver<Result<RecordBatch, AlertsError>>,
    reviewed: u64,
}

impl Reviews {
    /// A tenant's rules are others than before.
    pub(super) fn want(&mut self, tenant: &str) {
        self.wanted.insert(tenant.to_owned(), (Instant::now(), 0));
        if self.running.as_ref().is_some_and(|running| running.tenant == tenant) {
            self.running = None;
        }
    }

    /// The next rows, if any lie ready.
    pub(super) fn next(&mut self, book: &Arc<RuleBook>, hosts: impl Fn(&str) -> u64) -> Option<Devices> {
        if self.running.is_none() {
            self.start(book);
        }
        let running = self.running.as_mut()?;
        match running.rows.try_recv() {
            Ok(Ok(rows)) => return Some(Devices { tenant: running.tenant.clone(), rows }),
            Ok(Err(error)) => {
                tracing::warn!(tenant = running.tenant, error = %with_causes(&error), "hosts could not be reviewed now");
            }
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {}
        }
        let Running { tenant, attempt, reviewed, .. } = self.running.take()?;
        let left = hosts(&tenant).saturating_sub(reviewed);
        match AGAIN_AFTER.get(attempt).filter(|_| left > 0) {
            Some(after) => {
                self.wanted.entry(tenant).or_insert((Instant::now() + *after, attempt + 1));
            }
            None => tracing::info!(tenant, reviewed, left, "hosts reviewed by the present rules"),
        }
        None
    }

    /// So many hosts of the last rows were reviewed.
    pub(super) fn count(&mut self, reviewed: u64) {
        if let Some(running) = &mut self.running {
            running.reviewed += reviewed;
        }
    }

    fn start(&mut self, book: &Arc<RuleBook>) {
        let now = Instant::now();
        let due = self.wanted.iter().find(|(_, (at, _))| *at <= now);
        let Some((tenant, attempt)) = due.map(|(tenant, (_, attempt))| (tenant.clone(), *attempt)) else {
            return;
        };
        self.wanted.remove(&tenant);
        let (sender, rows) = channel(AHEAD);
        let (book, name) = (Arc::clone(book), tenant.clone());
        // Ends when the receiver goes: its send fails then.
        tokio::spawn(async move { book.devices(&name, sender).await });
        self.running = Some(Running { tenant, attempt, rows, reviewed: 0 });
    }
}
