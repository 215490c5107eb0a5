//! Sorting on other machines: which files can go there, and what those machines must know.
//!
//! They read the files as any engine does, by columns' names and without knowing the table. So only files go there whose rows are what
//! stands in them: without deletes, and with just the columns that the table has now.

use std::{collections::BTreeMap, fmt};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    execution::{SendableRecordBatchStream, object_store::ObjectStoreUrl},
    prelude::SessionContext,
};
use futures::{StreamExt, stream};
use iceberg::spec::DataFileFormat;
use object_store::path::Path;
use parquet::{arrow::ArrowSchemaConverter, schema::types::SchemaDescriptor};

use super::{
    copy::{Leaf, read_footer},
    order::SortColumn,
};
use crate::{
    FileIo, StorageConfig, Table, TableError, TableErrorKind, deletes::FileDeletes, file_io::Location,
    manifests::LiveFile,
};

/// Footers read at once.
const PARALLEL_READS: usize = 8;

/// Machines that sort what is too large for this one.
#[async_trait::async_trait]
pub trait SortCluster: fmt::Debug + Send + Sync {
    /// Whether files of so many bytes together are to be sorted there.
    fn takes(&self, bytes: u64) -> bool;

    /// All rows of the files in order, with the job's columns by their names. Merging what comes from there takes memory of the session.
    /// What is under way there ends when the rows are dropped. An error says where the machines are, and what to do.
    async fn sort(
        &self,
        session: &SessionContext,
        job: SortJob,
    ) -> Result<SendableRecordBatchStream, TableError>;
}

/// Files whose rows are put in order together.
pub struct SortJob {
    /// Whose files they are, for people.
    pub table: String,
    /// The columns that each file has.
    pub schema: SchemaRef,
    /// What the rows are sorted by.
    pub by: Vec<SortColumn>,
    /// Where the files lie: `file:///` or `s3://bucket`.
    pub store: ObjectStoreUrl,
    /// Paths within it, and sizes in bytes.
    pub files: Vec<(Path, u64)>,
    /// How this process reaches them.
    pub storage: StorageConfig,
    /// Belongs to the credentials, if those are temporary ones.
    pub session_token: Option<String>,
}

impl SortJob {
    /// The job that sorts `files`, or why no other machine can do it.
    pub(super) async fn new(
        table: &Table,
        files: &[(LiveFile, FileDeletes)],
        schema: &SchemaRef,
        by: &[SortColumn],
    ) -> Result<Result<Self, String>, TableError> {
        if table.format_version() >= 3 {
            return Ok(Err("rows of format 3 inherit their ids from where they lie".to_owned()));
        }
        if let Some(fault) = files.iter().find_map(|(file, deletes)| fault_of_entry(file, deletes)) {
            return Ok(Err(fault));
        }
        let columns = Columns::of_schema(table, schema)?;
        let file_io = table.file_io();
        let faults = files.iter().map(|(file, _)| columns.fault_of(file_io, file)).collect::<Vec<_>>();
        let mut faults = stream::iter(faults).buffer_unordered(PARALLEL_READS);
        while let Some(fault) = faults.next().await {
            if let Some(fault) = fault? {
                return Ok(Err(fault));
            }
        }
        let Some(first) = files.first() else { return Ok(Err("there are no files".to_owned())) };
        let store = Location::parse(first.0.location())?.store_url()?;
        let mut paths = Vec::with_capacity(files.len());
        for (file, _) in files {
            let location = Location::parse(file.location())?;
            if location.store_url()? != store {
                return Ok(Err("the files lie in several buckets".to_owned()));
            }
            paths.push((location.path()?, file.data_file().file_size_in_bytes()));
        }
        let (storage, session_token) = file_io.access();
        let (table, schema, by) = (table.ident().to_string(), SchemaRef::clone(schema), by.to_vec());
        Ok(Ok(Self { table, schema, by, store, files: paths, storage, session_token }))
    }
}

/// Columns of Parquet by the path of their names.
#[derive(PartialEq)]
struct Columns(BTreeMap<String, Leaf>);

impl Columns {
    fn of_schema(table: &Table, schema: &Schema) -> Result<Self, TableError> {
        let parquet = ArrowSchemaConverter::new().convert(schema).map_err(|error| {
            let context = format!("the schema of table {} has no form in Parquet", table.ident());
            TableError::caused(TableErrorKind::Unsupported, context, error)
        })?;
        Ok(Self::of(&parquet))
    }

    fn of(parquet: &SchemaDescriptor) -> Self {
        Self(parquet.columns().iter().map(|column| (column.path().string(), Leaf::new(column))).collect())
    }

    /// Why the file's rows can't be read by the names of the columns.
    async fn fault_of(&self, file_io: &FileIo, file: &LiveFile) -> Result<Option<String>, TableError> {
        let (location, size_bytes) = (file.location(), file.data_file().file_size_in_bytes());
        let footer = read_footer(file_io, location, size_bytes).await?;
        let is_same = Self::of(footer.file_metadata().schema_descr()) == *self;
        Ok((!is_same).then(|| format!("the columns of {location} are others than the table's")))
    }
}

fn fault_of_entry(file: &LiveFile, deletes: &FileDeletes) -> Option<String> {
    let location = file.location();
    if deletes.count() > 0 {
        return Some(format!("rows of {location} are deleted"));
    }
    let format = file.data_file().file_format();
    (format != DataFileFormat::Parquet).then(|| format!("{location} is {format}"))
}
