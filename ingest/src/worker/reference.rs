//! A tenant's table `reference.organizations` as the worker sees it: read when a commit begins, if it may have changed.
//!
//! What a record says of its organisation is what the table said when the record was taken; the snapshot's summary tells which
//! snapshot of the table that was. A table that isn't there adds nothing. One that can't be read stops nobody: what was known
//! of it holds on, and the stage `reference` of the status says what is wrong.

mod organizations;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::prelude::SessionContext;
use firn_catalog_client::TenantClient;
use firn_inventory::tables::REFERENCE_ORGANIZATIONS;
use firn_runtime::{StageState, StatusBoard, with_causes};
use firn_table::{FileIo, Table, TableErrorKind, TableScan};
use futures::StreamExt;
use moka::sync::Cache;
use serde_json::{Map, Value};

use super::tables::ident;
pub(super) use organizations::Organizations;

/// The stage's name on the status board.
const STAGE: &str = "reference";
/// Summary of the snapshots of `bronze.inventory`: from which snapshot of `reference.organizations` its rows were filled.
pub(super) const SNAPSHOT_PROPERTY: &str = "firn.reference.organizations";
/// As JSON text. That is some 100,000 computers, each assigned in a row of its own.
const MAX_TABLE_BYTES: usize = 16 << 20;
/// All tenants' tables together, as they lie in memory; what isn't kept is read again.
const MAX_CACHE_BYTES: u64 = 64 << 20;
/// What the entry of a tenant without a table takes, roughly.
const ENTRY_BYTES: usize = 256;
/// A table that takes longer to read is not waited for.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The tables of all tenants.
pub(super) struct Reference {
    file_io: FileIo,
    board: StatusBoard,
    /// Age after which a table is looked at again.
    refresh: Duration,
    /// By tenant and branch.
    known: Cache<(String, String), Arc<Known>>,
}

/// What was read last.
struct Known {
    looked_at: Instant,
    version: Option<Version>,
    organizations: Arc<Organizations>,
}

/// What the contents of a table depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    table: String,
    snapshot_id: Option<i64>,
    schema_id: Option<i64>,
}

impl Reference {
    pub(super) fn new(file_io: FileIo, board: StatusBoard, refresh: Duration) -> Self {
        let bytes = |_: &(String, String), known: &Arc<Known>| {
            u32::try_from(ENTRY_BYTES + known.organizations.memory_bytes()).unwrap_or(u32::MAX)
        };
        let known = Cache::builder().weigher(bytes).max_capacity(MAX_CACHE_BYTES).build();
        Self { file_io, board, refresh, known }
    }

    /// The tenant's organisations for a commit that begins now; none if it has no such table.
    pub(super) async fn organizations(&self, client: &TenantClient, branch: &str) -> Arc<Organizations> {
        let key = (client.name().to_owned(), branch.to_owned());
        let before = self.known.get(&key);
        if let Some(known) = &before
            && known.looked_at.elapsed() < self.refresh
        {
            return Arc::clone(&known.organizations);
        }
        let looked_at = Instant::now();
        let look = tokio::time::timeout(MAX_WAIT, self.look(client, branch, before.as_deref()));
        let looked = look
            .await
            .unwrap_or_else(|_| Err(format!("it takes more than {} s to read", MAX_WAIT.as_secs())));
        let (version, organizations) = match looked {
            Ok(found) => {
                self.say(client.name(), None);
                found
            }
            Err(problem) => {
                self.say(client.name(), Some(&problem));
                before
                    .map(|known| (known.version.clone(), Arc::clone(&known.organizations)))
                    .unwrap_or_default()
            }
        };
        let known = Known { looked_at, version, organizations: Arc::clone(&organizations) };
        self.known.insert(key, Arc::new(known));
        organizations
    }

    /// The table as it is now; read only if it is another than before.
    async fn look(
        &self,
        client: &TenantClient,
        branch: &str,
        before: Option<&Known>,
    ) -> Result<(Option<Version>, Arc<Organizations>), String> {
        let table = match Table::load(client, &self.file_io, branch, &ident(REFERENCE_ORGANIZATIONS)).await {
            Ok(table) => table,
            Err(error) if error.kind == TableErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(with_causes(&error)),
        };
        let snapshot = table.current_snapshot().map(|snapshot| snapshot.id);
        let version = Some(Version {
            table: table.metadata()["table-uuid"].as_str().unwrap_or_default().to_owned(),
            snapshot_id: snapshot,
            schema_id: table.metadata()["current-schema-id"].as_i64(),
        });
        if let Some(known) = before.filter(|known| known.version == version) {
            return Ok((version, Arc::clone(&known.organizations)));
        }
        let rows = if snapshot.is_some() { rows(&table).await? } else { Vec::new() };
        let organizations = Organizations::of(snapshot, rows)?;
        let tenant = client.name();
        tracing::info!(tenant, branch, snapshot, rows = organizations.rows(), "organisations read");
        Ok((version, Arc::new(organizations)))
    }

    /// Puts it on the board; a tenant without a table and without trouble has no line there.
    fn say(&self, tenant: &str, problem: Option<&str>) {
        let Some(problem) = problem else {
            if self.board.get(STAGE, tenant).is_some_and(|line| line.state == StageState::Failing) {
                self.board.update(STAGE, tenant, |status| {
                    status.state = StageState::Running;
                    status.message.clear();
                });
            }
            return;
        };
        metrics::counter!("firn_ingest_reference_failures_total", "tenant" => tenant.to_owned()).increment(1);
        let (namespace, name) = REFERENCE_ORGANIZATIONS;
        tracing::warn!(tenant, problem, "{namespace}.{name} can't be used; what was known of it holds");
        self.board.update(STAGE, tenant, |status| {
            status.state = StageState::Failing;
            status.message =
                format!("{namespace}.{name} can't be used, so records get what was known of it, if anything: {problem}");
        });
    }
}

/// The table's rows as JSON objects, whatever wrote them.
async fn rows(table: &Table) -> Result<Vec<Map<String, Value>>, String> {
    let scan = TableScan::new(table, None).await.map_err(|error| with_causes(&error))?;
    let frame = SessionContext::new().read_table(Arc::new(scan)).map_err(|error| with_causes(&error))?;
    let mut stream = frame.execute_stream().await.map_err(|error| with_causes(&error))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| with_causes(&error))?;
        let mut writer = arrow::json::ArrayWriter::new(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map_err(|error| with_causes(&error))?;
        let json = writer.into_inner();
        bytes += json.len();
        if bytes > MAX_TABLE_BYTES {
            return Err(format!("it holds more than {} MiB", MAX_TABLE_BYTES >> 20));
        }
        let some: Vec<Map<String, Value>> = if json.is_empty() {
            Vec::new()
        } else {
            serde_json::from_slice(&json).map_err(|error| with_causes(&error))?
        };
        rows.extend(some);
    }
    Ok(rows)
}
