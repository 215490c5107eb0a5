//! Groups, kept by partials in a table beside the output.
//!
//! Partials and output carry the same token, set in the commits that wrote them. Where the tokens differ the partials are
//! of another state than the output, and both are computed in full.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::MemTable,
    dataframe::DataFrame,
    prelude::col,
};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{NewTable, Partitioning, PositionScan, Table, TableScan, ensure_table};

use super::{Changed, Keeps, MOST_CHANGED_ROWS, ModelRun, Output, Step};
use crate::{
    CompactorError,
    engine::{Partials, lake_schema, locate, merge_partials},
    promotion::{
        branches::drop_table,
        receipt::ModelReceipt,
        state::{PARTIALS_PROPERTY, load_optional},
    },
};

/// What the name of a table of partials ends with.
pub(crate) const PARTIALS_SUFFIX: &str = "_partials";

/// The table beside an output that holds its partials.
fn partials_table(output: &TableIdent) -> TableIdent {
    TableIdent { namespace: output.namespace.clone(), name: format!("{}{PARTIALS_SUFFIX}", output.name) }
}

impl ModelRun<'_> {
    pub(super) async fn aggregate(
        &self,
        changed: Option<&Changed>,
        receipt: &mut ModelReceipt,
    ) -> Result<Step, CompactorError> {
        let failed = |error| self.failed(&error);
        if self.model.inputs.len() > 1 {
            return self.full().await;
        }
        let driving = match changed {
            Some(changed) => Arc::clone(&changed.added),
            None => self.all().await?,
        };
        let query = self.query(driving).await?;
        let output = self.output_of(&query).await?;
        let partials = match Partials::of(query).map_err(failed)? {
            Ok(partials) => partials,
            Err(reason) if changed.is_some() => return Ok(Step::Full(reason)),
            Err(reason) => {
                receipt.notes.push(format!("can't be kept by partials: {reason}"));
                return self.full().await;
            }
        };
        match changed {
            None => self.all_groups(&partials, output).await,
            Some(changed) => self.changed_groups(&partials, output, changed).await,
        }
    }

    async fn all_groups(&self, partials: &Partials, output: Table) -> Result<Step, CompactorError> {
        let failed = |error| self.failed(&error);
        let ident = partials_table(&self.model.table);
        // An earlier model may have kept other things under the same names.
        drop_table(self.client, self.branch, &ident).await?;
        let rows = partials.partials().map_err(failed)?;
        let wanted = NewTable {
            ident,
            schema: partials_schema(partials, &lake_schema(rows.schema().as_arrow())),
            partitioning: by_day(&rows),
            properties: [("comment".to_owned(), format!("What {} is kept from.", self.model.table))].into(),
        };
        let table = ensure_table(self.client, &self.promotion.file_io, self.branch, &wanted).await?;
        let rows = rows.execute_stream().await.map_err(failed)?;
        self.write_partials(Output::new(table.clone(), rows, Keeps::Nothing)).await?;
        let table = Table::load(self.client, table.file_io(), self.branch, table.ident()).await?;
        let rows = self.session().read_table(Arc::new(TableScan::new(&table, None).await?));
        let rows = rows.and_then(|rows| partials.finished(rows)).map_err(failed)?;
        let rows = rows.execute_stream().await.map_err(failed)?;
        Ok(Step::Output(Output::new(output, rows, Keeps::Nothing)))
    }

    async fn changed_groups(
        &self,
        partials: &Partials,
        output: Table,
        changed: &Changed,
    ) -> Result<Step, CompactorError> {
        let (session, failed) = (self.session(), |error| self.failed(&error));
        let file_io = &self.promotion.file_io;
        let ident = partials_table(&self.model.table);
        let Some(table) = load_optional(self.client, file_io, self.branch, &ident).await? else {
            return Ok(Step::Full(format!("{ident} is missing")));
        };
        let token = |table: &Table| table.properties().get(PARTIALS_PROPERTY).cloned();
        if token(&table).is_none() || token(&table) != token(&output) {
            return Ok(Step::Full(format!("{ident} is of another state")));
        }
        if changed.rows > MOST_CHANGED_ROWS {
            return Ok(Step::Full(format!("{} rows changed", changed.rows)));
        }
        let mut delta = partials.partials().map_err(failed)?;
        if let Some(removed) = &changed.removed {
            if let Some(reason) = partials.adds_only() {
                return Ok(Step::Full(reason));
            }
            let removed = match Partials::of(self.query(Arc::clone(removed)).await?).map_err(failed)? {
                Ok(removed) => removed,
                Err(reason) => return Ok(Step::Full(reason)),
            };
            let removed = removed.partials().and_then(|rows| partials.negated(rows)).map_err(failed)?;
            delta = delta.union(removed).and_then(|rows| partials.added_up(rows)).map_err(failed)?;
        }
        let delta = delta.cache().await.map_err(failed)?;
        let key = partials.key();
        let names: Vec<_> = key.iter().map(String::as_str).collect();
        let groups = delta.clone().select_columns(&names).and_then(DataFrame::distinct).map_err(failed)?;
        let groups = groups.cache().await.map_err(failed)?;

        let columns: Vec<_> =
            table.arrow_schema()?.fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let filters = crate::engine::ranges(&key, &groups).await.map_err(failed)?;
        let Some(prior) = PositionScan::new(&table, &session, &columns, &filters).await? else {
            return Ok(Step::Full(format!("rows of {ident} were deleted by equality")));
        };
        let merged = merge_partials(&session, partials, delta, &prior).await.map_err(failed)?;
        let Some((rows, places)) = merged else {
            return Ok(Step::Full("more rows were removed than it holds".to_owned()));
        };
        let rows = match rows.first().map(|batch| batch.schema()) {
            None => session.read_empty().map_err(failed)?,
            Some(schema) => {
                let rows = MemTable::try_new(schema, vec![rows]).map_err(failed)?;
                session.read_table(Arc::new(rows)).map_err(failed)?
            }
        };
        let rows = rows.execute_stream().await.map_err(failed)?;
        self.write_partials(Output::new(table, rows, Keeps::all_but(places))).await?;

        let table = Table::load(self.client, file_io, self.branch, &ident).await?;
        let Some(of_groups) = locate(&session, &table, &key, &groups).await? else {
            return Ok(Step::Full(format!("rows of {ident} were deleted by equality")));
        };
        let rows = session.read_table(Arc::new(TableScan::at(&table, &of_groups).await?));
        let rows = rows.and_then(|rows| partials.finished(rows)).map_err(failed)?;
        let renamed = key.iter().zip(&partials.output_key);
        let renamed: Vec<_> = renamed.map(|(key, name)| col(key).alias(name)).collect();
        let groups = groups.select(renamed).map_err(failed)?;
        let Some(replaced) = locate(&session, &output, &partials.output_key, &groups).await? else {
            return Ok(Step::Full(format!("rows of {} were deleted by equality", output.ident())));
        };
        let rows = rows.execute_stream().await.map_err(failed)?;
        Ok(Step::Output(Output::new(output, rows, Keeps::all_but(replaced))))
    }
}

/// The partials' schema with what each column stands for.
fn partials_schema(partials: &Partials, schema: &Schema) -> SchemaRef {
    let docs: HashMap<_, _> = partials.docs().into_iter().collect();
    let fields = schema.fields().iter().map(|field| {
        let doc = docs.get(field.name()).map(|doc| ("doc".to_owned(), doc.clone()));
        Field::clone(field).with_metadata(doc.into_iter().collect())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Groups are mostly windows of time: what changes is then in few partitions.
fn by_day(rows: &DataFrame) -> Vec<Partitioning> {
    let fields = rows.schema().fields();
    let time = fields.iter().find(|field| {
        field.name().starts_with("key_") && matches!(field.data_type(), DataType::Timestamp(..))
    });
    let by_day = time.map(|field| Partitioning { column: field.name().clone(), transform: "day".to_owned() });
    by_day.into_iter().collect()
}
