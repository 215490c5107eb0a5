//! Allowed reads on their way into the audit log: counted by principal and table, and written once a minute, one entry per
//! principal. Firn's own services aren't counted: they read all the time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use firn_auth::{Access, Refusals, TenantName};
use serde_json::{Value, json};

use crate::{
    store::{Store, StoreError, Write},
    version::{Actor, Key, audit_event},
};

const WRITTEN_EVERY: Duration = Duration::from_secs(60);
/// More different reads than this in one minute are only counted, as lost.
const MAX_COUNTED: usize = 20_000;

/// What was given to who read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Given {
    /// The description of a table or view, or where that lies.
    Metadata,
    /// Keys to its files.
    Credentials,
    /// A signature for a request for one of its files.
    Signature,
}

impl Given {
    fn word(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Credentials => "credentials",
            Self::Signature => "signature",
        }
    }
}

/// Those of this minute. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    /// `Some` while a task waits to write them.
    counted: Mutex<Option<Counted>>,
}

#[derive(Default)]
struct Counted {
    all: HashMap<(TenantName, String), BTreeMap<Read, u64>>,
    different: usize,
}

/// What a reference was called, a key on it, and what was given.
type Read = (String, Vec<String>, Given);

impl Reads {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Inner { store, counted: Mutex::default() }))
    }

    /// Counts one. `reference` is as the caller spelled it; empty for `main`. Never waits.
    pub(crate) fn note(&self, access: &Access, reference: &str, key: &Key, given: Given) {
        let principal = access.principal().name();
        if principal.starts_with("service:") {
            return;
        }
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = counted.is_none();
        let now = counted.get_or_insert_default();
        let reads = now.all.entry((access.tenant().clone(), principal.to_owned())).or_default();
        let reference = if reference.is_empty() { "main" } else { reference };
        let read = (reference.to_owned(), key.0.clone(), given);
        match reads.get_mut(&read) {
            Some(count) => *count += 1,
            None if now.different < MAX_COUNTED => {
                now.different += 1;
                reads.insert(read, 1);
            }
            None => Refusals::lost(1),
        }
        drop(counted);
        if idle {
            let reads = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WRITTEN_EVERY).await;
                reads.write().await;
            });
        }
    }

    /// Writes what was counted: each minute, and before the process ends.
    pub(crate) async fn write(&self) {
        let counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner).take();
        for ((tenant, principal), reads) in counted.unwrap_or_default().all {
            let count = reads.values().sum();
            if let Err(error) = self.write_one(&tenant, principal, reads).await {
                tracing::warn!(%tenant, %error, count, "reads are missing in the audit log");
                Refusals::lost(count);
            }
        }
    }

    async fn write_one(
        &self,
        tenant: &TenantName,
        principal: String,
        reads: BTreeMap<Read, u64>,
    ) -> Result<(), StoreError> {
        let tables: Vec<Value> = reads
            .into_iter()
            .map(|((reference, key, given), count)| {
                json!({"reference": reference, "key": key, "given": given.word(), "count": count})
            })
            .collect();
        let actor = Actor { principal, request_id: None };
        let events = vec![audit_event("read", &actor, &json!({ "reads": tables }))];
        // A tenant that is gone meanwhile has no audit log any more.
        let write = Write { repository: tenant.to_string(), events, ..Write::default() };
        self.0.store.write(&write).await.map(drop)
    }
}
