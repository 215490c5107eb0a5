//! A tenant's own models: rows of its table `policies.models`, so that they branch, merge and roll back with the data.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch, StringArray},
        compute::cast,
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    prelude::SessionContext,
};
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_inventory::tables::POLICY_MODELS;
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, Table, TableOperation, TableScan, Transaction, WriteOptions,
    ensure_table,
};

use super::{Model, ModelError, ModelGraph, SourceTables, check_own_models, models};
use crate::{
    CompactorError,
    promotion::{load_optional, model_state},
};

/// Who is asked again if somebody else changed the models at the same time.
const ATTEMPTS: usize = 1;

/// The models of a tenant at a reference.
#[derive(Clone, Debug)]
pub struct TenantModels {
    /// The shipped ones and its own.
    pub graph: Arc<ModelGraph>,
    /// Why its own are left out, if they are.
    pub problem: Option<ModelError>,
}

/// Own model files by name.
pub type ModelFiles = BTreeMap<String, String>;

fn ident() -> TableIdent {
    let (namespace, name) = POLICY_MODELS;
    TableIdent::new(namespace, name)
}

fn schema() -> SchemaRef {
    let column = |name: &str, doc: &str| {
        let doc = [("doc".to_owned(), doc.to_owned())];
        Field::new(name, DataType::Utf8, false).with_metadata(doc.into())
    };
    Arc::new(Schema::new(vec![
        column("file", "Name of the file that the model came from; unique"),
        column("text", "The file: a header and one SELECT"),
    ]))
}

impl TenantModels {
    /// Reads the tenant's own models and puts them beside `shipped`. Where they don't fit, the shipped ones run alone.
    pub(crate) async fn read(
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
        shipped: &Arc<ModelGraph>,
    ) -> Result<Self, CompactorError> {
        let (files, _) = read_files(client, file_io, reference).await?;
        if files.is_empty() {
            return Ok(Self { graph: Arc::clone(shipped), problem: None });
        }
        let parsed = files.iter().map(|(file, text)| Model::parse(file, text)).collect::<Result<_, _>>();
        Ok(match parsed.and_then(|own| shipped.with(own)) {
            Ok(graph) => Self { graph: Arc::new(graph), problem: None },
            Err(error) => {
                let tenant = client.name();
                tracing::warn!(tenant, %error, "the tenant's own models are left out");
                Self { graph: Arc::clone(shipped), problem: Some(error) }
            }
        })
    }

    /// The tenant's models at a reference.
    pub async fn of(
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
    ) -> Result<Self, CompactorError> {
        Self::read(client, file_io, reference, &Arc::new(models()?)).await
    }
}

/// The files, and the snapshot that they were read from.
async fn read_files(
    client: &TenantClient,
    file_io: &FileIo,
    reference: &str,
) -> Result<(ModelFiles, Option<i64>), CompactorError> {
    let Some(table) = load_optional(client, file_io, reference, &ident()).await? else {
        return Ok((ModelFiles::new(), None));
    };
    let failed = |error| CompactorError::query(table.ident(), &error);
    let snapshot_id = table.current_snapshot().map(|snapshot| snapshot.id);
    let rows = SessionContext::new().read_table(Arc::new(TableScan::new(&table, None).await?));
    let rows = rows.and_then(|rows| rows.select_columns(&["file", "text"])).map_err(failed)?;
    let mut files = ModelFiles::new();
    for batch in rows.collect().await.map_err(failed)? {
        let text = |index: usize| -> Result<StringArray, CompactorError> {
            let column = cast(batch.column(index), &DataType::Utf8).map_err(|error| failed(error.into()))?;
            Ok(column.as_string::<i32>().clone())
        };
        let (names, texts) = (text(0)?, text(1)?);
        files.extend(
            (0..batch.num_rows()).map(|row| (names.value(row).to_owned(), texts.value(row).to_owned())),
        );
    }
    Ok((files, snapshot_id))
}

/// The shipped models and those of files.
pub(super) fn graph_with(files: &ModelFiles) -> Result<ModelGraph, ModelError> {
    let own = files.iter().map(|(file, text)| Model::parse(file, text)).collect::<Result<_, _>>()?;
    models()?.with(own)
}

/// Puts files among the tenant's own models on a branch, and takes others out; answers those it has then. They run from the
/// next promotion on.
pub async fn change_own_models(
    client: &TenantClient,
    file_io: &FileIo,
    branch: &str,
    put: ModelFiles,
    remove: &[String],
) -> Result<ModelFiles, CompactorError> {
    let new = NewTable { ident: ident(), schema: schema(), partitioning: Vec::new(), properties: [].into() };
    let (mut files, base) = read_files(client, file_io, branch).await?;
    if let Some(unknown) = remove.iter().find(|file| !files.contains_key(*file)) {
        let known: Vec<_> = files.keys().cloned().collect();
        let message = format!("the tenant has no such model; it has: {}", known.join(", "));
        return Err(ModelError { file: unknown.clone(), line: 1, column: 1, message }.into());
    }
    files.retain(|file, _| !remove.contains(file));
    files.extend(put);
    refuse_foreign_outputs(client, file_io, branch, &files).await?;
    let sources = SourceTables::of(client, file_io, branch, &files).await?;
    check_own_models(&files, &sources).await?;
    let table = ensure_table(client, file_io, branch, &new).await?;
    let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
    if !files.is_empty() {
        writer.write(&batch(&table, &files)?).await?;
    }
    let add = writer.close().await?;
    let operation = TableOperation {
        table: ident(),
        operation: Operation::Overwrite { remove: None, add, base_snapshot_id: Some(base) },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    };
    let transaction =
        Transaction { reference: branch.to_owned(), operations: vec![operation], max_attempts: ATTEMPTS };
    transaction.commit(client, file_io).await?;
    Ok(files)
}

/// A model would take the place of what its table holds, so that must not come from elsewhere.
async fn refuse_foreign_outputs(
    client: &TenantClient,
    file_io: &FileIo,
    branch: &str,
    files: &ModelFiles,
) -> Result<(), CompactorError> {
    let graph = graph_with(files)?;
    for model in graph.models().iter().filter(|model| files.contains_key(&model.file)) {
        let Some(table) = load_optional(client, file_io, branch, &model.table).await? else { continue };
        if table.current_snapshot().is_some() && model_state(&table).is_none() {
            let message = format!(
                "the table {} has rows that no model made: name another output, or drop the table first",
                model.table
            );
            return Err(ModelError { file: model.file.clone(), line: 1, column: 1, message }.into());
        }
    }
    Ok(())
}

fn batch(table: &Table, files: &ModelFiles) -> Result<RecordBatch, CompactorError> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(files.keys()));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(files.values()));
    RecordBatch::try_new(schema(), vec![names, texts])
        .map_err(|error| CompactorError::query(table.ident(), &error.into()))
}
