//! Taking records once more: from quarantine after a fix, or from the log onto a branch.
//!
//! A replay is a row of steps, each one request of bounded work and one commit. A step says how to ask for the next, so that
//! nothing of a replay lives in the server: whoever asks can stop and go on at any step, and a step that is asked for twice
//! does nothing the second time, since records that are in the target already are skipped.
//!
//! On `main` each record is taken once, by the worker: a replay from the log is refused there. On another branch it goes on
//! where ingest would: records that are missing below the branch's positions are filled in, those above move the positions
//! with them. So the branch stays a state that ingest itself could have made, and merging it into a `main` whose bronze
//! moved on is a conflict, not a second copy.

mod from_log;
mod from_quarantine;
mod present;
mod rows;
mod time;

use std::time::Duration;

use firn_catalog_client::{ClientErrorKind, nessie::Reference};
use firn_stream::{StreamError, StreamErrorKind};
use firn_table::TableError;
use serde::{Deserialize, Serialize};

use super::{BRANCH, Worker, commit::Failure};

/// A step ends after this long, or these many records or bytes.
const STEP_TIME: Duration = Duration::from_secs(10);
const STEP_RECORDS: usize = 20_000;
const STEP_BYTES: usize = 64 << 20;

/// Body of `POST /v1/tenants/{tenant}/ingest/replay`: one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The branch that takes the records.
    pub branch: String,
    /// What is replayed, or how far the last step came.
    pub from: ReplayFrom,
}

/// What is replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReplayFrom {
    /// Quarantined records of the branch that are understood now.
    Quarantine {
        /// Only those with one of these reasons (`wrong_type` …); all if there are none.
        #[serde(default)]
        kinds: Vec<String>,
        /// Where the last step ended.
        #[serde(default)]
        cursor: Option<QuarantineCursor>,
    },
    /// The log, from an offset in each of these partitions; others are not read.
    Offsets {
        /// Where to begin.
        offsets: Vec<PartitionOffset>,
    },
    /// The log, from the first record of each partition that was appended at a time or later.
    Time {
        /// Milliseconds since the epoch.
        since_ms: i64,
    },
    /// The rest of a replay from the log.
    Rest(LogCursor),
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionOffset {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What is left of a replay from the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogCursor {
    /// The topic that the offsets lie in.
    pub topic_id: String,
    /// What is left of each partition.
    pub ranges: Vec<LeftRange>,
}

/// What is left of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftRange {
    /// Partition.
    pub partition: i32,
    /// Next offset to be read.
    pub next: i64,
    /// Behind the last: where the log ended when the replay began.
    pub end: i64,
}

/// How far a replay of quarantine came. Files that it writes itself come after `until`, so that it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineCursor {
    /// Sequence number and location of the last file that was looked at.
    pub after: (i64, String),
    /// Sequence number of the newest file when the replay began.
    pub until: i64,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayStep {
    /// How to ask for the next step; absent at the end.
    pub next: Option<ReplayFrom>,
    /// Records that were looked at, of all tenants.
    pub read: u64,
    /// Records that went into `bronze.inventory`.
    pub inventory: u64,
    /// Records that went into, or stayed in, `bronze.quarantine`.
    pub quarantined: u64,
    /// Records that were in the target already.
    pub present: u64,
}

/// Why a step did nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    /// What was asked for can't be done.
    #[error("{0}")]
    Refused(String),
    /// The same step may work when it is asked for again.
    #[error("{0}")]
    Later(String),
    /// A person must look.
    #[error("{0}")]
    Broken(String),
}

/// One step.
pub(super) async fn step(
    worker: &Worker,
    tenant: &str,
    request: ReplayRequest,
) -> Result<ReplayStep, ReplayError> {
    let ReplayRequest { branch, from } = request;
    match worker.catalog.tenant(tenant).reference(&branch).await {
        Ok(Reference::Branch { .. }) => {}
        Ok(_) => {
            return Err(ReplayError::Refused(format!("'{branch}' is no branch: only branches take records")));
        }
        Err(error) if error.kind == ClientErrorKind::NotFound => {
            let message =
                format!("there is no branch '{branch}': make it with 'firn branch create {branch}'");
            return Err(ReplayError::Refused(message));
        }
        Err(error) => return Err(ReplayError::Later(error.to_string())),
    }
    let step = match from {
        ReplayFrom::Quarantine { kinds, cursor } => {
            from_quarantine::step(worker, tenant, &branch, kinds, cursor).await?
        }
        _ if branch == BRANCH => {
            return Err(ReplayError::Refused(format!(
                "{BRANCH} takes each record of the log once, by itself: make a branch (firn branch create NAME) and \
                 replay onto it"
            )));
        }
        ReplayFrom::Offsets { offsets } => {
            let begin = from_log::Begin::Offsets(offsets);
            from_log::begin(worker, tenant, &branch, begin).await?
        }
        ReplayFrom::Time { since_ms } => {
            from_log::begin(worker, tenant, &branch, from_log::Begin::Time(since_ms)).await?
        }
        ReplayFrom::Rest(cursor) => from_log::step(worker, tenant, &branch, cursor).await?,
    };
    let replayed = step.inventory;
    metrics::counter!("firn_ingest_replayed_total", "tenant" => tenant.to_owned()).increment(replayed);
    if replayed > 0 {
        tracing::info!(tenant, branch, records = replayed, "replayed");
    }
    Ok(step)
}

impl From<Failure> for ReplayError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Raced(what) => {
                Self::Later(format!("something else changed the tables meanwhile: {what}"))
            }
            Failure::Later(what) => Self::Later(what),
            Failure::Stopped(what) => Self::Broken(what),
        }
    }
}

impl From<TableError> for ReplayError {
    fn from(error: TableError) -> Self {
        Failure::from(error).into()
    }
}

impl From<StreamError> for ReplayError {
    fn from(error: StreamError) -> Self {
        match error.kind {
            StreamErrorKind::Unavailable => Self::Later(error.to_string()),
            StreamErrorKind::Truncated | StreamErrorKind::NoSuchTopic => Self::Refused(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}
