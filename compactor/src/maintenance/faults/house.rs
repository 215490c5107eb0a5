//! A lake whose files are on S3, proxies before S3 and the catalog, and compactors that come by way of them: in this process, and in
//! one that can be killed.

use std::{
    collections::BTreeSet,
    ops::Range,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use firn_catalog_client::{CatalogClient, GcRequest, GcState, GcTable, StaticToken, TenantClient};
use firn_table::{DataFileEntry, FileIo, Operation, Table};
use firn_tests::{Fault, FaultProxy, Process, SeaweedFs, until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::DEADLINE;
use crate::{
    Compacted, CompactorConfig, CompactorError, TableMaintenance,
    promotion::MAIN,
    testing::{Lake, inventory, s3},
};

pub(super) const BRONZE: &str = "bronze.inventory";

/// Variables of the process that is killed.
pub(super) const CHILD: &str = "FIRN_TEST_COMPACTOR_CATALOG";
const CHILD_TOKEN: &str = "FIRN_TEST_COMPACTOR_TOKEN";
const CHILD_STORE: &str = "FIRN_TEST_COMPACTOR_STORE";

pub(super) struct House {
    /// Reaches the catalog itself, and files by way of the proxy.
    pub(super) lake: Lake,
    pub(super) store: FaultProxy,
    pub(super) catalog: FaultProxy,
    logs: TempDir,
    _server: SeaweedFs,
}

impl House {
    pub(super) async fn new() -> Self {
        let server = SeaweedFs::start().await.unwrap();
        server.create_bucket("lake").await.unwrap();
        let store = FaultProxy::start(&server.endpoint()).await.unwrap();
        let lake = Lake::on_s3(&store.url()).await;
        let catalog = FaultProxy::start(&lake.url).await.unwrap();
        Self { lake, store, catalog, logs: tempfile::tempdir().unwrap(), _server: server }
    }

    fn token(&self) -> String {
        self.lake.key.service_token("compactor", Duration::from_secs(3_600))
    }

    /// Inventories, each in a file of its own.
    pub(super) async fn report(&self, offsets: Range<i64>) {
        for offset in offsets {
            let (host, event) = (format!("h{}", offset % 3), format!("e{offset}"));
            self.lake.report(&[inventory(offset, &host, &event, json!({}))]).await;
        }
    }

    async fn table(&self) -> Table {
        self.lake.table(MAIN, BRONZE).await.unwrap()
    }

    pub(super) async fn rows(&self) -> String {
        self.lake.rows(MAIN, BRONZE, "SELECT log_offset, host_id, event_id FROM t ORDER BY log_offset").await
    }

    pub(super) async fn files(&self) -> Vec<DataFileEntry> {
        self.table().await.data_files(None).await.unwrap()
    }

    /// So many more inventories that there are so many files, from this offset on; answers the next one.
    pub(super) async fn report_up_to(&self, files: usize, offset: i64) -> i64 {
        let end = offset + i64::try_from(files - self.files().await.len()).unwrap();
        self.report(offset..end).await;
        end
    }

    /// Removes all rows.
    pub(super) async fn clear(&self) {
        let all = Operation::Overwrite { remove: None, add: Vec::new(), base_snapshot_id: None };
        self.lake.commit(MAIN, &self.table().await, all).await;
    }

    pub(super) async fn snapshots(&self) -> usize {
        self.table().await.snapshots().len()
    }

    /// The fault befalls the so-manieth request from now on, wherever it goes, but for the catalog's own.
    pub(super) fn nth_request(&self, number: usize, fault: Fault) {
        let left = Arc::new(AtomicUsize::new(number));
        for proxy in [&self.store, &self.catalog] {
            let left = Arc::clone(&left);
            proxy.decide(move |_: &Method, path| {
                if path.ends_with(".metadata.json") {
                    return Fault::None;
                }
                let before =
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if before == Ok(1) { fault } else { Fault::None }
            });
        }
    }

    pub(super) fn heal(&self) {
        self.store.heal();
        self.catalog.heal();
    }

    /// Rewrites all files in this process, under a lease that lasts so long without renewal.
    pub(super) async fn compact(&self, lease_ttl: Duration) -> Result<Compacted, CompactorError> {
        compact(&self.catalog.url(), self.token(), &self.store.url(), lease_ttl).await
    }

    /// All snapshots have the rows that they say they have.
    pub(super) async fn check_history(&self) {
        let table = self.table().await;
        for snapshot in table.snapshots() {
            let scan = firn_table::TableScan::new(&table, Some(snapshot.id)).await.unwrap();
            let session = datafusion::prelude::SessionContext::new();
            let rows = session.read_table(Arc::new(scan)).unwrap().collect().await.unwrap();
            let rows: usize = rows.iter().map(|batch| batch.num_rows()).sum();
            assert_eq!(rows.to_string(), snapshot.summary["total-records"], "{snapshot:?}");
        }
    }

    /// Files in the table's folder that no state needs, as a removal of orphans finds them; what states need is there.
    pub(super) async fn orphans(&self) -> u64 {
        let table = self.table().await;
        let of = GcTable { ident: table.ident().clone(), reference: MAIN.to_owned(), folders: Vec::new() };
        let request = GcRequest { dry_run: true, table: Some(of), ..GcRequest::default() };
        let client = &self.lake.client;
        client.start_gc(&request).await.unwrap();
        let run = until("garbage is looked for", DEADLINE, async || {
            let run = client.last_gc().await.map_err(|error| error.to_string())?;
            if run.state == GcState::Running { Err("it runs".to_owned()) } else { Ok(run) }
        });
        let report = run.await.unwrap().report.unwrap();
        assert_eq!((&report.unreadable[..], report.files_removed), (&[][..], 0), "{report:?}");
        let location = table.metadata()["location"].as_str().unwrap();
        let files = self.lake.file_io.list(location).await.unwrap();
        let there: BTreeSet<_> = files.into_iter().map(|(location, _)| location).collect();
        for snapshot in table.snapshots() {
            for file in table.data_files(Some(snapshot.id)).await.unwrap() {
                assert!(there.contains(&file.location), "{} is gone", file.location);
            }
        }
        assert!(report.files_young <= there.len() as u64, "{report:?}");
        report.files_young
    }

    pub(super) async fn await_orphans(&self, wanted: u64) {
        let are_gone = async || {
            let found = self.orphans().await;
            if found == wanted { Ok(()) } else { Err(found) }
        };
        until("what was written is removed", DEADLINE, are_gone).await.unwrap();
    }
}

async fn compact(
    catalog: &str,
    token: String,
    store: &str,
    lease_ttl: Duration,
) -> Result<Compacted, CompactorError> {
    let client: TenantClient =
        CatalogClient::new(catalog, Arc::new(StaticToken(token))).unwrap().tenant("acme");
    let file_io = FileIo::new(s3(store));
    // Under one name, so that nobody waits for the lease of one that was killed.
    let config = CompactorConfig { holder: "one".to_owned(), lease_ttl, ..CompactorConfig::default() };
    let maintenance = TableMaintenance::new(config, file_io.clone()).unwrap();
    let (namespace, name) = BRONZE.split_once('.').unwrap();
    let ident = firn_catalog_client::iceberg::TableIdent::new(namespace, name);
    let table = Table::load(&client, &file_io, MAIN, &ident).await?;
    let groups = maintenance.plan(&table, true).await?;
    maintenance.compact(&table, &groups, |_| {}).await
}

/// Starts `test` of this executable again, as a compactor.
pub(super) fn child_command(house: &House, test: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(CHILD, house.catalog.url()).env(CHILD_TOKEN, house.token());
    command.env(CHILD_STORE, house.store.url());
    Process::start("a compactor", &mut command, &house.logs.path().join("compactor.log")).unwrap()
}

/// What that process does.
pub(super) async fn child() {
    let variable = |name| std::env::var(name).unwrap();
    let (catalog, token, store) = (variable(CHILD), variable(CHILD_TOKEN), variable(CHILD_STORE));
    let compacted = compact(&catalog, token, &store, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(compacted.failures, [""; 0]);
}
