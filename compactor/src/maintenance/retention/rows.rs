//! Retention row by row: rows of tables that aren't partitioned by time, and values of a class that is kept shorter than its rows.
//!
//! How old a row is, its table's column says that the property [`AGE_COLUMN`] names, else `received_at`, else the only one with a
//! time. Rows beyond the retention are deleted by position; where only values of a class go, rows are written anew without them.
//! Compaction drops both from the files for good.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::{
    arrow::datatypes::{DataType, Field, SchemaRef},
    error::{DataFusionError, Result as QueryResult},
    logical_expr::{Expr, lit},
    scalar::ScalarValue,
};
use firn_table::{
    FILE_COLUMN, Operation, POSITION_COLUMN, PositionScan, RETENTION, RowPositions, Table, TableScan,
    WriteOptions,
};
use futures::StreamExt;

use crate::{
    CompactorError,
    engine::{Pour, collect, named},
    maintenance::Maintenance,
};

/// Property of a table with the column by which its rows age.
const AGE_COLUMN: &str = "firn.retention.column";
/// The column by which rows age that came from inventories.
const RECEIVED_AT: &str = "received_at";

/// Rows to look for: those before an instant, and of them those with a value in one of some columns.
struct Outdated {
    age: String,
    filter: Expr,
    columns: Vec<String>,
}

impl Outdated {
    /// Rows before an instant; `None` if the table has no column that tells how old a row is.
    fn rows(table: &Table, before: DateTime<Utc>) -> Result<Option<Self>, CompactorError> {
        let schema = table.arrow_schema()?;
        let Some(age) = age_column(table, &schema)? else { return Ok(None) };
        let filter = is_before(&age, before).map_err(|error| CompactorError::query(table.ident(), &error))?;
        let age = age.name().clone();
        Ok(Some(Self { columns: vec![age.clone()], age, filter }))
    }

    /// Of those the rows with a value of `class`; `None` if no column that may be null is of it.
    fn values(self, table: &Table, class: &str) -> Result<Option<Self>, CompactorError> {
        let columns = columns_of_class(&table.arrow_schema()?, class, &self.age);
        let holds = columns.iter().map(|name| named(name).is_not_null()).reduce(Expr::or);
        let Some(holds) = holds else { return Ok(None) };
        let read = columns.iter().cloned().chain(self.columns).collect();
        Ok(Some(Self { filter: self.filter.and(holds), columns: read, age: self.age }))
    }
}

/// The column by which rows age.
fn age_column(table: &Table, schema: &SchemaRef) -> Result<Option<Field>, CompactorError> {
    let tells_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32);
    if let Some(name) = table.properties().get(AGE_COLUMN) {
        let found = schema.field_with_name(name).ok().filter(|field| tells_time(field));
        let refused = || {
            let what = table.ident();
            CompactorError::Refused(format!(
                "the property {AGE_COLUMN} of {what} names '{name}', which is no column with a time or date"
            ))
        };
        return found.map(|field| Some(field.clone())).ok_or_else(refused);
    }
    if let Some(field) = schema.field_with_name(RECEIVED_AT).ok().filter(|field| tells_time(field)) {
        return Ok(Some(field.clone()));
    }
    let mut times = schema.fields().iter().filter(|field| tells_time(field));
    Ok(times.next().filter(|_| times.next().is_none()).map(|field| field.as_ref().clone()))
}

fn is_before(age: &Field, before: DateTime<Utc>) -> QueryResult<Expr> {
    let instant = ScalarValue::TimestampMicrosecond(Some(before.timestamp_micros()), Some("UTC".into()));
    Ok(named(age.name()).lt(lit(instant.cast_to(age.data_type())?)))
}

/// Columns whose documentation says the class, as that of inventories does; what must have a value keeps it.
fn columns_of_class(schema: &SchemaRef, class: &str, age: &str) -> Vec<String> {
    let says = format!("Class: {class}.");
    let is_of = |field: &Field| field.metadata().get("doc").is_some_and(|doc| doc.contains(&says));
    let fields = schema.fields().iter().filter(|field| field.is_nullable() && is_of(field));
    fields.map(|field| field.name().clone()).filter(|name| name != age).collect()
}

impl Maintenance {
    /// How many rows are older than an instant.
    pub(in crate::maintenance) async fn count_outdated_rows(
        &self,
        table: &Table,
        before: DateTime<Utc>,
    ) -> Result<u64, CompactorError> {
        let Some(outdated) = Outdated::rows(table, before)? else { return Ok(0) };
        Ok(self.places(table, &outdated).await?.len())
    }

    /// Deletes rows that are older than an instant; answers how many.
    pub(in crate::maintenance) async fn delete_outdated_rows(
        &self,
        table: &Table,
        before: DateTime<Utc>,
    ) -> Result<u64, CompactorError> {
        let Some(outdated) = Outdated::rows(table, before)? else { return Ok(0) };
        let delete = self.places(table, &outdated).await?;
        let rows = delete.len();
        if rows > 0 {
            self.commit(table, Operation::RowDelta { delete, add: Vec::new() }, RETENTION).await?;
        }
        Ok(rows)
    }

    /// Empties the columns of a class in rows that are older than an instant; answers how many rows had a value.
    pub(in crate::maintenance) async fn empty_outdated_values(
        &self,
        table: &Table,
        class: &str,
        before: DateTime<Utc>,
    ) -> Result<u64, CompactorError> {
        let Some(outdated) = Outdated::rows(table, before)? else { return Ok(0) };
        let Some(outdated) = outdated.values(table, class)? else { return Ok(0) };
        let delete = self.places(table, &outdated).await?;
        let rows = delete.len();
        if rows == 0 {
            return Ok(0);
        }
        let failed = |error: DataFusionError| CompactorError::query(table.ident(), &error);
        let kept = TableScan::at(table, &delete).await?;
        let emptied = columns_of_class(&table.arrow_schema()?, class, &outdated.age);
        let kept = self.engine.session().read_table(Arc::new(kept)).map_err(failed)?;
        let columns = kept.schema().fields().iter().map(|field| {
            let name = field.name();
            if !emptied.contains(name) {
                return Ok(named(name));
            }
            Ok(lit(ScalarValue::try_from(field.data_type())?).alias(name))
        });
        let columns = columns.collect::<QueryResult<Vec<_>>>().map_err(failed)?;
        let rows_without = kept.select(columns).map_err(failed)?.execute_stream().await.map_err(failed)?;
        let options =
            WriteOptions { max_buffered_bytes: self.config.write_bytes(), ..WriteOptions::default() };
        let (pour, _) = Pour::new(table, options)?.add(rows_without, None).await?;
        let add = pour.close().await?;
        self.commit(table, Operation::RowDelta { delete, add }, RETENTION).await?;
        Ok(rows)
    }

    /// Where such rows are.
    async fn places(&self, table: &Table, outdated: &Outdated) -> Result<RowPositions, CompactorError> {
        let (session, mut places) = (self.engine.session(), RowPositions::default());
        if table.current_snapshot().is_none() {
            return Ok(places);
        }
        let columns: Vec<_> = outdated.columns.iter().map(String::as_str).collect();
        let filters = [outdated.filter.clone()];
        let Some(scan) = PositionScan::new(table, &session, &columns, &filters).await? else {
            tracing::warn!(table = %table.ident(), "rows are deleted by equality: retention waits for a compaction");
            return Ok(places);
        };
        let found = async {
            let rows = session.read_table(scan.provider()?)?.filter(outdated.filter.clone())?;
            let mut rows =
                rows.select(vec![named(FILE_COLUMN), named(POSITION_COLUMN)])?.execute_stream().await?;
            while let Some(batch) = rows.next().await {
                collect(&batch?, &scan, &mut places)?;
            }
            Ok(places)
        };
        found.await.map_err(|error| CompactorError::query(table.ident(), &error))
    }
}
