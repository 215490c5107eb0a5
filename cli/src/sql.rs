//! `firn sql`: DataFusion in this process over the tables of a tenant, pinned to one commit.

mod system;

use std::{io::Write, sync::Arc};

use anyhow::{Context, Result};
use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::prelude::SQLOptions;
use firn_table::{FileIo, ReferenceSpec, StorageConfig, lake_session};
use futures::StreamExt;

use crate::{connection::ConnectionArgs, output};

/// What a query may hold in memory; more goes to disk where the operator can, else the query fails.
const MEMORY_BYTES: usize = 1 << 30;
/// A table for people is laid out as a whole, so it is bounded.
const TABLE_ROWS: usize = 10_000;

/// Arguments of `firn sql`.
#[derive(clap::Args)]
pub(crate) struct SqlArgs {
    /// The query, such as 'select hostname from silver.device'
    sql: String,
    /// Branch, tag, hash, or Nessie's reference syntax
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Read the state of this instant, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    at: Option<DateTime<Utc>>,
    /// How rows are printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One header line, then a line per row
    Csv,
    /// One array of objects
    Json,
}

fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse().map_err(|_| format!("'{text}' is no instant: write it as 2026-11-22T10:00:00Z"))
}

/// Runs the query. Reads only: whoever wants to change data uses an engine.
pub(crate) async fn run(args: &SqlArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let spec = ReferenceSpec { reference: reference(&args.reference, args.at) };
    let session = lake_session(&client, &FileIo::new(StorageConfig::default()), &spec, MEMORY_BYTES).await?;
    system::register(&session, &client)?;
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(&args.sql, read_only).await.context("the query")?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let mut stream = frame.execute_stream().await.context("the query")?;
    let mut printer = Printer::new(args.format, &schema);
    while let Some(batch) = stream.next().await {
        printer.write(&batch.context("the query")?)?;
    }
    printer.finish()
}

fn reference(reference: &str, at: Option<DateTime<Utc>>) -> String {
    match at {
        Some(instant) => format!("{reference}*{}", instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        None => reference.to_owned(),
    }
}

/// Prints batches as they come.
enum Printer {
    Table { batches: Vec<RecordBatch>, rows: usize, more: usize },
    Csv { writer: Box<arrow::csv::Writer<std::io::Stdout>>, schema: SchemaRef },
    Json(arrow::json::ArrayWriter<std::io::Stdout>),
}

impl Printer {
    fn new(format: Format, schema: &SchemaRef) -> Self {
        match format {
            Format::Table => {
                Self::Table { batches: vec![RecordBatch::new_empty(schema.clone())], rows: 0, more: 0 }
            }
            Format::Csv => {
                let writer = arrow::csv::WriterBuilder::new().with_header(true).build(std::io::stdout());
                Self::Csv { writer: Box::new(writer), schema: schema.clone() }
            }
            Format::Json => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Self::Json(builder.build(std::io::stdout()))
            }
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Table { batches, rows, more } => {
                let kept = batch.slice(0, batch.num_rows().min(TABLE_ROWS - *rows));
                *rows += kept.num_rows();
                *more += batch.num_rows() - kept.num_rows();
                batches.push(kept);
            }
            Self::Csv { writer, .. } => writer.write(&flatten(batch)?)?,
            Self::Json(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Table { batches, more, .. } => {
                let text = arrow::util::pretty::pretty_format_batches(&batches)?.to_string();
                output::line(&output::plain(&text))?;
                if more > 0 {
                    output::complain(&format!("{more} more rows; --format csv prints all"));
                }
                Ok(())
            }
            Self::Csv { mut writer, schema } => {
                // The header comes with the first batch; a result without rows has one too.
                writer.write(&flatten(&RecordBatch::new_empty(schema))?)?;
                Ok(writer.into_inner().flush()?)
            }
            Self::Json(mut writer) => {
                writer.finish()?;
                Ok(writeln!(std::io::stdout())?)
            }
        }
    }
}

/// CSV has no lists and structs: they become text.
fn flatten(batch: &RecordBatch) -> Result<RecordBatch> {
    let options = FormatOptions::default();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(field.as_ref().clone());
            columns.push(column.clone());
            continue;
        }
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let text = |row| (!column.is_null(row)).then(|| formatter.value(row).to_string());
        fields.push(Field::new(field.name(), DataType::Utf8, true));
        columns.push(Arc::new((0..column.len()).map(text).collect::<StringArray>()));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn instant_becomes_a_reference() {
        let at = parse_instant("2026-11-22T11:00:00+01:00").unwrap();
        assert_eq!(reference("main", Some(at)), "main*2026-11-22T10:00:00Z");
        assert_eq!(reference("dev@abc", None), "dev@abc");
        assert!(parse_instant("yesterday").is_err());
    }

    #[test]
    fn nested_columns_become_text_in_csv() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None]);
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("l", Arc::new(lists) as ArrayRef),
        ])
        .unwrap();
        let flat = flatten(&batch).unwrap();
        let texts = flat.column(1).as_any().downcast_ref::<StringArray>().unwrap();
        assert_eq!(texts.iter().collect::<Vec<_>>(), [Some("[1, 2]"), None]);
    }
}
