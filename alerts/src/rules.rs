//! Each tenant's rules, as they are on `main`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::record_batch::RecordBatch;
use datafusion::{error::DataFusionError, prelude::SessionContext};
use firn_catalog_client::{CatalogClient, ClientErrorKind, ErasureList, TenantClient, iceberg::TableIdent};
use firn_inventory::{
    bronze_schema,
    tables::{POLICY_RULES, SILVER_DEVICE},
};
use firn_policy::{
    CompiledRule, Policy, PolicyError, RULES_SEEDED_PROPERTY as SEEDED, Severity, compile,
    rules_from_batches, rules_schema, rules_to_batch, shipped,
};
use firn_runtime::with_causes;
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, Table, TableError, TableErrorKind, TableOperation,
    TableScan, Transaction, WriteOptions, ensure_table,
};
use futures::StreamExt;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::AlertsError;

/// Where rules are read from.
const REFERENCE: &str = "main";
/// The column that the platforms of rules are compared with.
const PLATFORM: &str = "os_type";
/// What a review needs of `silver.device` beside the rules' columns.
const DEVICE_COLUMNS: [&str; 5] = ["host_id", "event_time", "received_at", "log_partition", "log_offset"];

/// What findings are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) title: String,
    pub(crate) severity: Severity,
}

/// A tenant's rules at one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct TenantRules {
    /// Rules that compile, by id.
    pub(crate) rules: Vec<CompiledRule>,
    /// Words for rules of now and of before.
    pub(crate) words: BTreeMap<String, Words>,
    /// Ids in the table, broken ones included: a rule that can't be read is not withdrawn.
    present: BTreeSet<String>,
    /// Commit of `main` that they were read from.
    pub(crate) commit: String,
    /// What is wrong with rows, for people.
    pub(crate) problems: Vec<String>,
    /// Differs whenever rules come, go or change.
    pub(crate) fingerprint: u64,
    /// Columns that rules read.
    pub(crate) columns: BTreeSet<String>,
}

impl TenantRules {
    /// Compiles what the table holds. Of rows with the same id the first counts.
    pub(crate) fn new(rows: Vec<Result<Policy, PolicyError>>, commit: String, before: Option<&Self>) -> Self {
        let mut rules = BTreeMap::new();
        let mut new = Self {
            commit,
            words: before.map(|before| before.words.clone()).unwrap_or_default(),
            ..Self::default()
        };
        for row in rows {
            let compiled = row.and_then(|policy| {
                new.present.insert(policy.id.clone());
                let words = Words { title: policy.title.clone(), severity: policy.severity };
                new.words.insert(policy.id.clone(), words);
                compile(&policy, &bronze_schema())
            });
            match compiled {
                Ok(rule) if rules.contains_key(&rule.policy.id) => {
                    new.problems
                        .push(format!("policy '{}' stands twice; the first row counts", rule.policy.id));
                }
                Ok(rule) => {
                    rules.insert(rule.policy.id.clone(), rule);
                }
                Err(error) => {
                    new.problems.push(error.to_string());
                    new.present.insert(error.policy);
                }
            }
        }
        new.rules = rules.into_values().collect();
        let read = new.rules.iter().flat_map(|rule| rule.columns.iter().cloned());
        new.columns = read.chain([PLATFORM.to_owned()]).collect();
        let mut hasher = DefaultHasher::new();
        for rule in &new.rules {
            (&rule.policy.id, &rule.revision).hash(&mut hasher);
        }
        new.present.hash(&mut hasher);
        new.fingerprint = hasher.finish();
        new
    }

    /// A rule that compiles.
    pub(crate) fn rule(&self, id: &str) -> Option<&CompiledRule> {
        let at = self.rules.binary_search_by(|rule| rule.policy.id.as_str().cmp(id)).ok()?;
        self.rules.get(at)
    }

    /// Whether the tenant has the rule, broken or not.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.present.contains(id)
    }
}

/// What was read last for a tenant.
struct Entry {
    rules: Arc<TenantRules>,
    /// Metadata document of the table they were read from: the same one means the same rules.
    metadata_location: Option<String>,
}

/// The rules of all tenants.
pub(crate) struct RuleBook {
    catalog: CatalogClient,
    file_io: FileIo,
    entries: Mutex<HashMap<String, Entry>>,
    /// Another one only where it says something else.
    erased: Mutex<Arc<ErasureLists>>,
}

/// Erased subjects by tenant.
pub(crate) type ErasureLists = BTreeMap<String, ErasureList>;

impl RuleBook {
    pub(crate) fn new(catalog: CatalogClient, file_io: FileIo) -> Self {
        Self { catalog, file_io, entries: Mutex::new(HashMap::new()), erased: Mutex::default() }
    }

    /// Who was erased, as read last.
    pub(crate) fn erased(&self) -> Arc<ErasureLists> {
        Arc::clone(&self.erased.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks who was erased.
    pub(crate) async fn learn_erased(&self) -> Result<(), AlertsError> {
        let lists = ErasureList::of(&self.catalog.erasure_jobs().await.map_err(AlertsError::Erasures)?);
        let mut known = self.erased.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != lists {
            *known = Arc::new(lists);
        }
        Ok(())
    }

    /// The names of all tenants.
    pub(crate) async fn tenants(&self) -> Result<Vec<String>, AlertsError> {
        let tenants = self.catalog.tenants().await.map_err(AlertsError::Tenants)?;
        Ok(tenants.into_iter().map(|tenant| tenant.name).collect())
    }

    /// A tenant's tables.
    pub(crate) fn lake(&self, tenant: &str) -> (TenantClient, &FileIo) {
        (self.catalog.tenant(tenant), &self.file_io)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant's rules as read last.
    pub(crate) fn cached(&self, tenant: &str) -> Option<Arc<TenantRules>> {
        self.entries().get(tenant).map(|entry| Arc::clone(&entry.rules))
    }

    /// A tenant's rules; read now if never before. `None`: there is no such tenant.
    pub(crate) async fn of(&self, tenant: &str) -> Result<Option<Arc<TenantRules>>, AlertsError> {
        if let Some(rules) = self.cached(tenant) {
            return Ok(Some(rules));
        }
        match self.refresh(tenant).await {
            Ok(()) => Ok(self.cached(tenant)),
            Err(AlertsError::Rules { source, .. }) if source.kind == TableErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the tenant's `silver.device` into `rows`, as far as its rules read it; nothing if it is not there yet.
    pub(crate) async fn devices(&self, tenant: &str, rows: Sender<Result<RecordBatch, AlertsError>>) {
        if let Err(source) = self.read_devices(tenant, &rows).await
            && source.kind != TableErrorKind::NotFound
        {
            _ = rows.send(Err(AlertsError::rules(tenant, "applied to known hosts")(source))).await;
        }
    }

    async fn read_devices(
        &self,
        tenant: &str,
        rows: &Sender<Result<RecordBatch, AlertsError>>,
    ) -> Result<(), TableError> {
        let Some(rules) = self.cached(tenant) else { return Ok(()) };
        let (namespace, name) = SILVER_DEVICE;
        let ident = TableIdent::new(namespace, name);
        let client = self.catalog.tenant(tenant);
        let table = Table::load(&client, &self.file_io, REFERENCE, &ident).await?;
        if table.current_snapshot().is_none() {
            return Ok(());
        }
        let wanted: BTreeSet<&str> = rules.columns.iter().map(String::as_str).chain(DEVICE_COLUMNS).collect();
        let scan = TableScan::new(&table, None).await?;
        let read = async {
            let frame = SessionContext::new().read_table(Arc::new(scan))?;
            let has = |name: &&str| frame.schema().as_arrow().field_with_name(name).is_ok();
            let columns: Vec<&str> = wanted.into_iter().filter(has).collect();
            let mut stream = frame.select_columns(&columns)?.execute_stream().await?;
            while let Some(batch) = stream.next().await {
                // The other end has gone: the rules changed again, or the partitions went to another.
                if rows.send(Ok(batch?)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        read.await.map_err(|error| failed_read(&table, error))
    }

    /// Looks for changes of all tenants' rules every `interval`, until `shutdown`. Also makes the table of new tenants.
    pub(crate) async fn keep(
        &self,
        interval: Duration,
        shutdown: &CancellationToken,
        report: impl Fn(&str, Option<String>),
    ) {
        loop {
            match self.catalog.tenants().await {
                Ok(tenants) => {
                    if let Err(error) = self.learn_erased().await {
                        tracing::warn!(error = %with_causes(&error), "who is erased stays as it was");
                    }
                    for tenant in tenants {
                        let refreshed = self.refresh(&tenant.name).await;
                        report(&tenant.name, refreshed.err().map(|error| with_causes(&error)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "tenants could not be listed; their rules stay as they are");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Reads a tenant's rules again if their table changed.
    async fn refresh(&self, tenant: &str) -> Result<(), AlertsError> {
        let client = self.catalog.tenant(tenant);
        let reading = || AlertsError::rules(tenant, "read");
        let head = client.reference(REFERENCE).await.map_err(|error| reading()(error.into()))?;
        if self.cached(tenant).is_some_and(|rules| rules.commit == head.hash()) {
            return Ok(());
        }
        let (namespace, name) = POLICY_RULES;
        let ident = TableIdent::new(namespace, name);
        let pinned = format!("{REFERENCE}@{}", head.hash());
        let loaded = match client.load_table(&pinned, &ident).await {
            Ok(loaded) => loaded,
            Err(error) if error.kind == ClientErrorKind::NotFound => {
                // The commit that makes it is newer than this head: the next look reads what it put in.
                return self.create(&client, ident).await;
            }
            Err(error) => return Err(reading()(error.into())),
        };
        let location = loaded.metadata_location.clone();
        if self.same_table(tenant, location.as_deref(), head.hash()) {
            return Ok(());
        }
        let table = Table::load(&client, &self.file_io, &pinned, &ident).await.map_err(reading())?;
        if table.current_snapshot().is_none() && !table.properties().contains_key(SEEDED) {
            return self.create(&client, ident).await;
        }
        let batches = rows(&table).await.map_err(reading())?;
        self.put(tenant, rules_from_batches(&batches), head.hash(), location);
        Ok(())
    }

    /// Notes the newer head if the table behind it is the one that was read.
    fn same_table(&self, tenant: &str, location: Option<&str>, head: &str) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(tenant) else { return false };
        if location.is_none() || entry.metadata_location.as_deref() != location {
            return false;
        }
        let mut rules = TenantRules::clone(&entry.rules);
        head.clone_into(&mut rules.commit);
        entry.rules = Arc::new(rules);
        true
    }

    pub(crate) fn put(
        &self,
        tenant: &str,
        rows: Vec<Result<Policy, PolicyError>>,
        commit: &str,
        metadata_location: Option<String>,
    ) {
        let before = self.cached(tenant);
        let rules = TenantRules::new(rows, commit.to_owned(), before.as_deref());
        for problem in &rules.problems {
            tracing::warn!(tenant, problem, "rule is broken; its findings stay as they are");
        }
        tracing::info!(tenant, rules = rules.rules.len(), commit, "rules adopted");
        self.entries().insert(tenant.to_owned(), Entry { rules: Arc::new(rules), metadata_location });
    }

    /// Makes the table and puts the shipped rules in, whoever else is at it, then reads it.
    async fn create(&self, client: &TenantClient, ident: TableIdent) -> Result<(), AlertsError> {
        let tenant = client.name().to_owned();
        let creating = || AlertsError::rules(&tenant, "created");
        let new = NewTable {
            ident: ident.clone(),
            schema: rules_schema(),
            partitioning: Vec::new(),
            properties: BTreeMap::new(),
        };
        let table = ensure_table(client, &self.file_io, REFERENCE, &new).await.map_err(creating())?;
        if table.current_snapshot().is_none() && !table.properties().contains_key(SEEDED) {
            match seed(client, &self.file_io, &table).await {
                Ok(()) => tracing::info!(tenant, "shipped rules put in"),
                // Another worker was faster.
                Err(error) if error.kind == TableErrorKind::Conflict => {}
                Err(error) => return Err(creating()(error)),
            }
        }
        let head = client.reference(REFERENCE).await.map_err(|error| creating()(error.into()))?;
        let pinned = format!("{REFERENCE}@{}", head.hash());
        let table = Table::load(client, &self.file_io, &pinned, &ident).await.map_err(creating())?;
        let batches = rows(&table).await.map_err(creating())?;
        self.put(&tenant, rules_from_batches(&batches), head.hash(), None);
        Ok(())
    }
}

async fn seed(client: &TenantClient, file_io: &FileIo, table: &Table) -> Result<(), TableError> {
    let mut writer = DataFileWriter::new(table, WriteOptions::default())?;
    writer.write(&rules_to_batch(&shipped())).await?;
    let files = writer.close().await?;
    let operation = TableOperation {
        table: table.ident().clone(),
        operation: Operation::Append { files },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::from([(SEEDED.to_owned(), None)]),
        set_properties: BTreeMap::from([(SEEDED.to_owned(), "true".to_owned())]),
    };
    let transaction =
        Transaction { reference: REFERENCE.to_owned(), operations: vec![operation], max_attempts: 5 };
    transaction.commit(client, file_io).await.map(|_| ())
}

async fn rows(table: &Table) -> Result<Vec<RecordBatch>, TableError> {
    if table.current_snapshot().is_none() {
        return Ok(Vec::new());
    }
    let scan = TableScan::new(table, None).await?;
    let read = async { SessionContext::new().read_table(Arc::new(scan))?.collect().await };
    read.await.map_err(|error| failed_read(table, error))
}

fn failed_read(table: &Table, error: DataFusionError) -> TableError {
    TableError {
        kind: TableErrorKind::Storage,
        context: format!("reading {}", table.ident()),
        source: Some(Box::new(error)),
    }
}

#[cfg(test)]
mod tests;
