//! Planning all models without data: wrong columns and types show before anything runs.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::datatypes::SchemaRef, common::DFSchema, datasource::empty::EmptyTable, error::DataFusionError,
    prelude::SessionContext,
};
use firn_catalog_client::iceberg::TableIdent;

use super::{columns::documented_schema, judged::judged_schema, register, verdicts::verdict_schema};
use crate::{Model, ModelError, ModelGraph, ModelKind, model::position_of};

/// Plans every model over its inputs' schemas and answers the schema of each output. `sources` are the schemas of the
/// tables that no model writes.
pub async fn check_models(
    graph: &ModelGraph,
    sources: &BTreeMap<TableIdent, SchemaRef>,
) -> Result<BTreeMap<TableIdent, SchemaRef>, ModelError> {
    let mut known = sources.clone();
    for model in graph.models() {
        check_inputs(model, &known)?;
        let schema = output_schema(model, &known).await?;
        known.insert(model.table.clone(), schema);
    }
    Ok(known)
}

/// Plans a model over its inputs' schemas and answers that of its output.
pub(crate) async fn output_schema(
    model: &Model,
    known: &BTreeMap<TableIdent, SchemaRef>,
) -> Result<SchemaRef, ModelError> {
    let mut config = datafusion::prelude::SessionConfig::new();
    config.options_mut().sql_parser.collect_spans = true;
    let session = SessionContext::new_with_config(config);
    for (table, schema) in known {
        let schema = match &model.judged {
            Some(columns) if table == model.driving_input() => judged_schema(schema, columns),
            _ => Arc::clone(schema),
        };
        let empty = Arc::new(EmptyTable::new(schema));
        register(&session, table, empty).map_err(|error| fault(model, &error, 1))?;
    }
    let planned = session.sql(&model.sql).await.map_err(|error| fault(model, &error, 1))?;
    let schema = match model.kind {
        ModelKind::Rules => verdict_schema(),
        _ => documented_schema(model, planned.schema().as_arrow()),
    };
    check_columns(model, &schema)?;
    if model.kind == ModelKind::Append
        && let Some(input) = known.get(model.driving_input())
    {
        check_key_of_input(model, input)?;
    }
    let columns = DFSchema::try_from(schema.as_ref().clone()).map_err(|error| fault(model, &error, 1))?;
    for check in &model.checks {
        session
            .parse_sql_expr(&check.condition, &columns)
            .and_then(|condition| session.create_physical_expr(condition, &columns))
            .map_err(|error| ModelError {
                message: format!("check '{}': {}", check.name, error.strip_backtrace()),
                line: check.line,
                column: 1,
                file: model.file.clone(),
            })?;
    }
    Ok(schema)
}

/// All tables that a model reads must be there.
fn check_inputs(model: &Model, known: &BTreeMap<TableIdent, SchemaRef>) -> Result<(), ModelError> {
    let Some(unknown) = model.inputs.iter().find(|input| !known.contains_key(input)) else { return Ok(()) };
    let (line, column) = position_of(&model.sql, &unknown.to_string()).unwrap_or((1, 1));
    let message = format!("no model makes '{unknown}', and no table of that name is known");
    Err(ModelError { file: model.file.clone(), line, column, message })
}

/// Changed rows are found by the key in the input and in the output.
fn check_key_of_input(model: &Model, input: &SchemaRef) -> Result<(), ModelError> {
    match model.key.iter().find(|name| input.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => {
            let (line, column) = place_in_header(model, name);
            let message = format!(
                "the input {} has no column '{name}': the key of kind append is one of the input, too",
                model.driving_input()
            );
            Err(ModelError { file: model.file.clone(), line, column, message })
        }
    }
}

/// Where the header names a column.
fn place_in_header(model: &Model, name: &str) -> (u64, u64) {
    let place = model.sql.lines().enumerate().find_map(|(index, line)| {
        let at = line.starts_with("--").then(|| line.find(name))??;
        Some((index as u64 + 1, line[..at].chars().count() as u64 + 1))
    });
    place.unwrap_or((1, 1))
}

/// Columns that the header names must exist.
fn check_columns(model: &Model, schema: &SchemaRef) -> Result<(), ModelError> {
    let dedup =
        model.dedup.iter().flat_map(|dedup| dedup.key.iter().chain([&dedup.time]).chain(&dedup.order));
    let partitions = model.partitioning.iter().map(|field| &field.column);
    let mut named =
        model.key.iter().chain(&model.order).chain(dedup).chain(partitions).chain(model.columns.keys());
    match named.find(|name| schema.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => {
            let (line, column) = place_in_header(model, name);
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("the output has no column '{name}': it has {}", names.join(", "));
            Err(ModelError { file: model.file.clone(), line, column, message })
        }
    }
}

/// The engine's error at the place it points to.
fn fault(model: &Model, error: &DataFusionError, line: u64) -> ModelError {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let (line, column) = span.map_or((line, 1), |span| (span.start.line, span.start.column));
    ModelError { file: model.file.clone(), line, column, message: error.strip_backtrace() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use expect_test::expect;
    use firn_inventory::bronze_schema;

    use super::*;
    use crate::models;

    fn sources() -> BTreeMap<TableIdent, SchemaRef> {
        BTreeMap::from([(TableIdent::new("bronze", "inventory"), bronze_schema())])
    }

    #[tokio::test]
    async fn shipped_models_plan_over_bronze_and_document_every_column() {
        let schemas = check_models(&models().unwrap(), &sources()).await.unwrap();
        for (table, schema) in schemas {
            for field in schema.fields() {
                assert!(field.metadata().contains_key("doc"), "{table}.{} has no doc", field.name());
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_plan_is_pointed_at() {
        let wrong = [
            "-- model: silver.a\n-- kind: full\nSELECT host_id,\n  hostnam\nFROM bronze.inventory",
            "-- model: silver.a\n-- kind: full\n-- check: x fail colour > 1\nSELECT host_id FROM bronze.inventory",
            "-- model: silver.a\n-- kind: full\n-- key: host\nSELECT os_type FROM bronze.inventory",
            "-- model: silver.a\n-- kind: full\nSELECT *\nFROM silver.q",
        ];
        let mut messages = String::new();
        for text in wrong {
            let graph = ModelGraph::new(vec![Model::parse("a.sql", text).unwrap()]).unwrap();
            let error = check_models(&graph, &sources()).await.unwrap_err().to_string();
            messages.push_str(&error.chars().take(90).collect::<String>());
            messages.push('\n');
        }
        expect![[r#"
            a.sql:4:3: Schema error: No field named hostnam. Valid fields are bronze.inventory.receive
            a.sql:3:1: check 'x': Schema error: No field named colour. Valid fields are host_id.
            a.sql:3:9: the output has no column 'host': it has os_type
            a.sql:4:6: no model makes 'silver.q', and no table of that name is known
        "#]]
        .assert_eq(&messages);
    }
}
