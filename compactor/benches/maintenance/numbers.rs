//! A table of random numbers, whose files are as large as they are wanted since nothing makes them smaller.

use std::sync::Arc;

use anyhow::Result;
use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{DataFileWriter, NewTable, Operation, Table, WriteOptions, WrittenFile, ensure_table};
use futures::{StreamExt, TryStreamExt, stream};

use crate::lake::Lake;

const COLUMNS: usize = 16;
/// Files of one commit.
const PER_COMMIT: usize = 1_000;
/// Files written at once.
const PARALLEL: usize = 4;

pub(crate) struct Numbers<'a> {
    lake: &'a Lake,
    table: Table,
}

impl<'a> Numbers<'a> {
    pub(crate) async fn create(lake: &'a Lake, name: &str) -> Result<Self> {
        let ident = TableIdent::new("bronze", name);
        let new = NewTable { ident, schema: schema(), partitioning: Vec::new(), properties: [].into() };
        let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await?;
        Ok(Self { lake, table })
    }

    pub(crate) fn ident(&self) -> &TableIdent {
        self.table.ident()
    }

    /// Appends files of so many bytes each.
    pub(crate) async fn fill(&self, files: usize, bytes: usize) -> Result<()> {
        let rows = bytes / COLUMNS / size_of::<i64>();
        let writes = stream::iter(0..files).map(|number| self.write(number, rows)).buffered(PARALLEL);
        let mut written = writes.try_chunks(PER_COMMIT);
        while let Some(files) = written.try_next().await? {
            let files = files.into_iter().flatten().collect();
            self.lake.commit(self.ident(), Operation::Append { files }, &[]).await?;
        }
        Ok(())
    }

    async fn write(&self, number: usize, rows: usize) -> Result<Vec<WrittenFile>> {
        // SplitMix64: random enough that neither dictionary nor compression finds anything.
        let mut state = number as u64;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(17);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).cast_signed()
        };
        let mut column = || Arc::new(Int64Array::from_iter_values((0..rows).map(|_| next()))) as ArrayRef;
        let columns = (0..COLUMNS).map(|_| column()).collect();
        let mut writer = DataFileWriter::new(&self.table, WriteOptions::default())?;
        writer.write(&RecordBatch::try_new(schema(), columns)?).await?;
        Ok(writer.close().await?)
    }
}

fn schema() -> SchemaRef {
    let fields = (0..COLUMNS).map(|number| Field::new(format!("n{number}"), DataType::Int64, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
