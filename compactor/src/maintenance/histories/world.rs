//! A real catalog over local files, and beside it what each commit and snapshot must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use datafusion::{
    arrow::{
        array::{AsArray, Int64Array, RecordBatch},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
    },
    prelude::SessionContext,
};
use firn_catalog_client::{
    ClientErrorKind, GcReport, GcRequest, GcState, GcTable,
    iceberg::TableIdent,
    nessie::{MergeRequest, TableMerge},
};
use firn_table::{
    DataFileWriter, FILE_COLUMN, FileIo, NewTable, Operation, POSITION_COLUMN, PositionScan, RowPositions,
    StorageConfig, Table, TableErrorKind, TableScan, WriteOptions, WrittenFile, ensure_table,
};

use super::{
    Step,
    reach::{files_below, local, reach},
};
use crate::{
    CompactorConfig, CompactorError, Rollback, RollbackTarget, TableMaintenance, promotion::MAIN,
    testing::Lake,
};

/// What collections are told to keep in any case.
const SAFETY_AGE: Duration = Duration::from_secs(3_600);
/// How much older everything becomes.
const AGING: Duration = Duration::from_secs(7_200);
/// Rows of an append.
const ROWS: i64 = 3;

type Rows = BTreeSet<i64>;

/// Files that are written and not committed.
struct Written {
    branch: String,
    rows: Rows,
    files: Vec<WrittenFile>,
}

pub(super) struct World {
    lake: Lake,
    maintenance: TableMaintenance,
    /// Rows at each commit.
    commits: BTreeMap<String, Rows>,
    parents: BTreeMap<String, Vec<String>>,
    /// Rows of each snapshot.
    snapshots: BTreeMap<i64, Rows>,
    branches: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    written: Option<Written>,
    /// Files that no state needs and that are too young to go.
    young: BTreeSet<PathBuf>,
    made: i64,
}

fn ident() -> TableIdent {
    TableIdent::new("bronze", "t")
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
}

/// Ids in a stream of one batch after the other.
async fn ids(scan: TableScan) -> Vec<i64> {
    let batches = SessionContext::new().read_table(Arc::new(scan)).unwrap().collect().await.unwrap();
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut ids: Vec<i64> = batches.iter().flat_map(column).collect();
    ids.sort_unstable();
    ids
}

impl World {
    pub(super) async fn new() -> Self {
        let lake = Lake::start().await;
        let config = CompactorConfig { holder: "test".to_owned(), ..CompactorConfig::default() };
        let maintenance = TableMaintenance::new(config, lake.file_io.clone()).unwrap();
        // Whatever can be copied is: files with deletes, and single ones, are decoded.
        let copied = ("firn.maintenance.min-row-group-bytes".to_owned(), "1".to_owned());
        let new = NewTable {
            ident: ident(),
            schema: schema(),
            partitioning: Vec::new(),
            properties: [copied].into(),
        };
        ensure_table(&lake.client, &lake.file_io, MAIN, &new).await.unwrap();
        let mut world = Self {
            lake,
            maintenance,
            commits: BTreeMap::new(),
            parents: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            written: None,
            young: BTreeSet::new(),
            made: 0,
        };
        world.moved(MAIN, Rows::new()).await;
        world
    }

    /// Takes note of a branch's new commits, which hold `rows`.
    async fn moved(&mut self, branch: &str, rows: Rows) {
        let log = self.lake.client.log(branch, 100, false).await.unwrap();
        let head = log[0].commit_meta.hash.clone().unwrap();
        for entry in log {
            let hash = entry.commit_meta.hash.unwrap();
            self.commits.entry(hash.clone()).or_insert_with(|| rows.clone());
            self.parents.insert(hash, entry.commit_meta.parent_commit_hashes);
        }
        self.branches.insert(branch.to_owned(), head);
        if let Some(snapshot) = self.load(branch).await.current_snapshot() {
            self.snapshots.entry(snapshot.id).or_insert(rows);
        }
    }

    fn branch(&self, choice: usize) -> String {
        self.branches.keys().nth(choice % self.branches.len()).unwrap().clone()
    }

    fn rows(&self, branch: &str) -> Rows {
        self.commits[&self.branches[branch]].clone()
    }

    /// The table at a reference, read past what was read before.
    async fn load(&self, reference: &str) -> Table {
        let file_io = FileIo::new(StorageConfig::default());
        Table::load(&self.lake.client, &file_io, reference, &ident()).await.unwrap()
    }

    pub(super) async fn take(&mut self, step: &Step) {
        match *step {
            Step::Append { branch } => {
                let branch = self.branch(branch);
                let written = self.write(branch).await;
                self.append(written).await;
            }
            Step::DeleteRows { branch, choice } => self.delete_rows(&self.branch(branch), choice).await,
            Step::Branch { from } => {
                self.made += 1;
                let (name, from) = (format!("b{}", self.made), self.branch(from));
                self.lake.client.create_branch(&name, &from).await.unwrap();
                self.branches.insert(name, self.branches[&from].clone());
            }
            Step::Tag { from } => {
                self.made += 1;
                let (name, from) = (format!("v{}", self.made), self.branch(from));
                self.lake.client.create_tag(&name, &from).await.unwrap();
                self.tags.insert(name, self.branches[&from].clone());
            }
            Step::Drop { branch } => {
                let branch = self.branch(branch);
                if branch != MAIN {
                    self.lake.client.delete_reference(&branch).await.unwrap();
                    self.branches.remove(&branch);
                }
            }
            Step::MergeIntoMain { from } => self.merge(&self.branch(from)).await,
            Step::Compact => {
                let table = self.load(MAIN).await;
                let groups = self.maintenance.plan(&table, true).await.unwrap();
                let compacted = self.maintenance.compact(&table, &groups, |_| {}).await.unwrap();
                assert_eq!(compacted.conflicting_groups, 0);
                self.moved(MAIN, self.rows(MAIN)).await;
            }
            Step::Expire => {
                let table = self.load(MAIN).await;
                self.maintenance.expire(&table, Some(Duration::ZERO), Some(1)).await.unwrap();
                self.moved(MAIN, self.rows(MAIN)).await;
            }
            Step::Rollback { branch, choice } => self.roll_back(&self.branch(branch), choice).await,
            Step::Restore { branch, choice } => self.restore(&self.branch(branch), choice).await,
            Step::Write { branch } => {
                // What was written before is given up.
                let written = self.write(self.branch(branch)).await;
                self.young.extend(written.files.iter().map(|file| local(&file.location)));
                self.written = Some(written);
            }
            Step::CommitWritten => {
                if let Some(written) =
                    self.written.take().filter(|one| self.branches.contains_key(&one.branch))
                {
                    self.append(written).await;
                }
            }
            Step::Age => self.age(),
            Step::RemoveOrphans => {
                let table = GcTable { ident: ident(), reference: MAIN.to_owned(), folders: Vec::new() };
                let report = self.collect(Some(table)).await;
                assert_eq!(report.objects_removed, 0);
            }
            Step::CollectGarbage => {
                self.collect(None).await;
            }
        }
    }

    async fn write(&mut self, branch: String) -> Written {
        let rows: Rows = (self.made..self.made + ROWS).collect();
        self.made += ROWS;
        let table = self.load(&branch).await;
        let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
        let column = Int64Array::from_iter_values(rows.iter().copied());
        writer.write(&RecordBatch::try_new(schema(), vec![Arc::new(column)]).unwrap()).await.unwrap();
        Written { branch, rows, files: writer.close().await.unwrap() }
    }

    async fn append(&mut self, written: Written) {
        let Written { branch, rows, files } = written;
        self.lake.commit(&branch, &self.load(&branch).await, Operation::Append { files }).await;
        let rows = self.rows(&branch).union(&rows).copied().collect();
        self.moved(&branch, rows).await;
    }

    /// Every third row.
    async fn delete_rows(&mut self, branch: &str, choice: usize) {
        let (mut rows, table) = (self.rows(branch), self.load(branch).await);
        let gone: Rows = rows.iter().copied().skip(choice % 3).step_by(3).collect();
        if gone.is_empty() {
            return;
        }
        let session = SessionContext::new();
        let scan = PositionScan::new(&table, &session, &["id"], &[]).await.unwrap().unwrap();
        let located = session.read_table(scan.provider().unwrap()).unwrap();
        let located = located.select_columns(&["id", FILE_COLUMN, POSITION_COLUMN]).unwrap();
        let mut delete = RowPositions::default();
        for batch in located.collect().await.unwrap() {
            let column = |index: usize| batch.column(index).as_primitive::<Int64Type>();
            let (ids, files, positions) = (column(0), column(1), column(2));
            for row in (0..ids.len()).filter(|row| gone.contains(&ids.value(*row))) {
                let location = scan.location(files.value(row)).unwrap();
                delete.insert(location, u64::try_from(positions.value(row)).unwrap());
            }
        }
        self.lake.commit(branch, &table, Operation::RowDelta { delete, add: Vec::new() }).await;
        rows.retain(|row| !gone.contains(row));
        self.moved(branch, rows).await;
    }

    /// A conflict changes nothing; whatever else comes of it is what both sides did to the rows.
    async fn merge(&mut self, from: &str) {
        if from == MAIN {
            return;
        }
        let (ours, theirs) = (self.branches[MAIN].clone(), self.branches[from].clone());
        let request = MergeRequest {
            from_ref_name: from.to_owned(),
            from_hash: theirs.clone(),
            message: None,
            commit_meta: None,
            dry_run: false,
            table_merge: TableMerge::All,
        };
        match self.lake.client.merge(MAIN, &request).await {
            Ok(merged) if !merged.was_applied => {}
            Ok(_) => {
                let base = self.merge_base(&ours, &theirs);
                let (base, theirs) = (&self.commits[&base], &self.commits[&theirs]);
                let mut rows = self.commits[&ours].clone();
                rows.extend(theirs.difference(base));
                rows.retain(|row| theirs.contains(row) || !base.contains(row));
                self.moved(MAIN, rows).await;
            }
            Err(error) => assert_eq!(error.kind, ClientErrorKind::Conflict, "{error}"),
        }
    }

    /// The one common ancestor that is no other's: nothing is ever merged into branches, so there is one.
    fn merge_base(&self, one: &str, other: &str) -> String {
        let common: BTreeSet<String> =
            self.ancestors([one]).intersection(&self.ancestors([other])).cloned().collect();
        let is_older = |hash: &String| {
            common.iter().any(|later| later != hash && self.ancestors([later.as_str()]).contains(hash))
        };
        let mut newest = common.iter().filter(|hash| !is_older(hash));
        let base = newest.next().unwrap().clone();
        assert_eq!(newest.next(), None);
        base
    }

    fn ancestors<'a>(&self, heads: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut waiting: Vec<&str> = heads.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(hash) = waiting.pop() {
            // The parents of the first commit are no commit's.
            if let Some(parents) = self.parents.get(hash).filter(|_| found.insert(hash.to_owned())) {
                waiting.extend(parents.iter().map(String::as_str));
            }
        }
        found
    }

    /// Commits that a branch or tag reaches.
    fn kept(&self) -> BTreeSet<String> {
        self.ancestors(self.branches.values().chain(self.tags.values()).map(String::as_str))
    }

    async fn roll_back(&mut self, branch: &str, choice: usize) {
        let table = self.load(branch).await;
        let current = table.current_snapshot().map(|snapshot| snapshot.id);
        let earlier = table.snapshots().into_iter().map(|snapshot| snapshot.id);
        let earlier: Vec<i64> =
            earlier.filter(|id| Some(*id) != current && table.descends_from(*id)).collect();
        if let Some(id) = earlier.get(choice % earlier.len().max(1)) {
            let plan = Rollback::plan(&table, &RollbackTarget::Snapshot(*id), false).await.unwrap();
            assert_eq!(plan.commit(&table).await.unwrap(), *id);
            self.moved(branch, self.snapshots[id].clone()).await;
        }
    }

    async fn restore(&mut self, branch: &str, choice: usize) {
        let table = self.load(branch).await;
        let ancestors: Vec<String> = self.ancestors([self.branches[branch].as_str()]).into_iter().collect();
        let commit = &ancestors[choice % ancestors.len()];
        match Rollback::plan(&table, &RollbackTarget::Commit(commit.clone()), true).await {
            Ok(plan) => {
                plan.commit(&table).await.unwrap();
                self.moved(branch, self.commits[commit].clone()).await;
            }
            // It is there already, or had no snapshot then, or there was no table.
            Err(CompactorError::Refused(_)) => {}
            Err(CompactorError::Table(error)) if error.kind == TableErrorKind::NotFound => {
                assert!(self.commits[commit].is_empty(), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn warehouse(&self) -> PathBuf {
        self.lake.folder().join("warehouse")
    }

    fn age(&mut self) {
        let then = SystemTime::now() - AGING;
        for file in files_below(&self.warehouse()) {
            fs::File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
        }
        let database = rusqlite::Connection::open(self.lake.folder().join("catalog.db")).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        let us = i64::try_from(AGING.as_micros()).unwrap();
        database.execute("UPDATE objects SET referenced_at = referenced_at - ?1", [us]).unwrap();
        // A writer that takes longer than the safety age has lost its files.
        self.written = None;
        self.young.clear();
    }

    async fn collect(&self, table: Option<GcTable>) -> GcReport {
        let request = GcRequest { safety_age_s: Some(SAFETY_AGE.as_secs()), table, ..GcRequest::default() };
        let started = self.lake.client.start_gc(&request).await.unwrap();
        loop {
            let run = self.lake.client.last_gc().await.unwrap();
            assert_eq!(run.id, started.id);
            match run.state {
                GcState::Running => tokio::time::sleep(Duration::from_millis(5)).await,
                GcState::Done => {
                    let report = run.report.unwrap();
                    assert_eq!(report.unreadable, []);
                    return report;
                }
                GcState::Failed => panic!("{:?}", run.error),
            }
        }
    }

    pub(super) async fn check_heads(&self) {
        for (branch, head) in &self.branches {
            let rows: Vec<i64> = self.commits[head].iter().copied().collect();
            assert_eq!(
                ids(TableScan::new(&self.load(branch).await, None).await.unwrap()).await,
                rows,
                "{branch}"
            );
        }
    }

    /// What is needed, and what is too young to go, is there.
    pub(super) async fn check_files(&self) {
        self.needed().await;
        for file in &self.young {
            assert!(file.is_file(), "{} is too young to go", file.display());
        }
    }

    /// Every commit that is kept has its rows, and so has every snapshot that it has in its log.
    pub(super) async fn check_history(&self) {
        for commit in self.kept() {
            let file_io = FileIo::new(StorageConfig::default());
            let rows = &self.commits[&commit];
            let table = match Table::load(&self.lake.client, &file_io, &commit, &ident()).await {
                Err(error) if error.kind == TableErrorKind::NotFound && rows.is_empty() => continue,
                table => table.unwrap(),
            };
            let found = ids(TableScan::new(&table, None).await.unwrap()).await;
            assert_eq!(found, rows.iter().copied().collect::<Vec<_>>(), "{commit}");
            for snapshot in table.snapshots() {
                let found = ids(TableScan::new(&table, Some(snapshot.id)).await.unwrap()).await;
                let rows = self.snapshots[&snapshot.id].iter().copied().collect::<Vec<_>>();
                assert_eq!(found, rows, "snapshot {}", snapshot.id);
            }
        }
    }

    /// Files of all states that are kept; each is there.
    async fn needed(&self) -> BTreeSet<PathBuf> {
        let mut needed = BTreeSet::new();
        for commit in self.kept() {
            for entry in self.lake.client.entries(&commit, None, true).await.unwrap() {
                let content = entry.content.unwrap_or_default();
                if let Some(metadata) = content["metadataLocation"].as_str() {
                    reach(&local(metadata), &mut needed);
                }
            }
        }
        needed
    }

    pub(super) async fn check_only_needed_files_are_left_in_the_table(&self) {
        let location = self.load(MAIN).await.metadata()["location"].as_str().unwrap().to_owned();
        assert_eq!(files_below(&local(&location)), self.needed().await);
    }

    pub(super) async fn check_only_needed_files_are_left(&self) {
        assert_eq!(files_below(&self.warehouse()), self.needed().await);
    }
}
