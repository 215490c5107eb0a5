//! What is kept of a failed run, on the branch that shows its output: so it can be told after a restart, and by others than who
//! ran it.
//!
//! The run is a property of a small table of that branch. Whatever may hold values of rows (the rows that break a check, the
//! engine's words) stands in rows of that table, in columns that erasures look through.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    prelude::{SessionContext, col},
};
use firn_catalog_client::{TenantClient, iceberg::TableIdent, nessie::Reference};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, Table, TableOperation, TableScan, Transaction, WriteOptions,
    ensure_table,
};
use serde::{Deserialize, Serialize};

use super::{branches, state::load_optional};
use crate::{
    CheckSeverity, CompactorError, FailingCheck, RunRecord,
    engine::{rows_as_json, rows_from_json},
};

/// Property with the run as JSON, without what its rows hold.
const RUN: &str = "firn.promotion.run";

fn ident() -> TableIdent {
    TableIdent::new("promotion", "failure")
}

/// One line of the table: why the run failed, or a row that breaks a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Line {
    number: i64,
    reason: Option<String>,
    model: Option<String>,
    check_name: Option<String>,
    severity: Option<CheckSeverity>,
    condition: Option<String>,
    violations: Option<i64>,
    evidence: Option<String>,
}

fn schema() -> SchemaRef {
    let columns = [
        ("number", DataType::Int64, "Order of the lines"),
        ("reason", DataType::Utf8, "Why the run failed, in the first line"),
        ("model", DataType::Utf8, "Model whose output breaks a check"),
        ("check_name", DataType::Utf8, "The check"),
        ("severity", DataType::Utf8, "warn, drop or fail"),
        ("condition", DataType::Utf8, "The SQL that is false"),
        ("violations", DataType::Int64, "Rows that break the check, of which some follow"),
        ("evidence", DataType::Utf8, "One of these rows, as JSON"),
    ];
    let field = |(name, data_type, doc): (&str, DataType, &str)| {
        Field::new(name, data_type, true).with_metadata([("doc".to_owned(), doc.to_owned())].into())
    };
    Arc::new(Schema::new(columns.map(field).to_vec()))
}

fn lines(record: &RunRecord) -> Vec<Line> {
    let mut lines = vec![Line { reason: record.error.clone(), ..Line::default() }];
    for check in &record.checks {
        lines.extend(check.rows.iter().map(|row| Line {
            model: Some(check.model.clone()),
            check_name: Some(check.check.clone()),
            severity: Some(check.severity),
            condition: Some(check.condition.clone()),
            violations: i64::try_from(check.violations).ok(),
            evidence: Some(row.to_string()),
            ..Line::default()
        }));
    }
    for (line, number) in lines.iter_mut().zip(0..) {
        line.number = number;
    }
    lines
}

/// Puts lines back where they came from.
fn with_lines(mut record: RunRecord, lines: Vec<Line>) -> RunRecord {
    for line in lines {
        record.error = record.error.or(line.reason);
        let (Some(model), Some(name)) = (line.model, line.check_name) else { continue };
        let row = line.evidence.and_then(|text| serde_json::from_str(&text).ok());
        match record.checks.last_mut().filter(|check| check.model == model && check.check == name) {
            Some(check) => check.rows.extend(row),
            None => record.checks.push(FailingCheck {
                model,
                check: name,
                severity: line.severity.unwrap_or(CheckSeverity::Fail),
                condition: line.condition.unwrap_or_default(),
                violations: line.violations.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
                rows: row.into_iter().collect(),
            }),
        }
    }
    record
}

/// Keeps a run on a branch.
pub(super) async fn keep(
    client: &TenantClient,
    file_io: &FileIo,
    branch: &str,
    record: &RunRecord,
) -> Result<(), CompactorError> {
    let bare = RunRecord { error: None, checks: Vec::new(), ..record.clone() };
    let text = serde_json::to_string(&bare).unwrap_or_default();
    let new = NewTable {
        ident: ident(),
        schema: schema(),
        partitioning: Vec::new(),
        properties: [(RUN.to_owned(), text)].into(),
    };
    let table = ensure_table(client, file_io, branch, &new).await?;
    let failed = |error| CompactorError::query(table.ident(), &error);
    let rows = rows_from_json(&table.arrow_schema()?, &lines(record)).map_err(failed)?;
    let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
    writer.write(&rows).await?;
    let operation = TableOperation {
        table: ident(),
        operation: Operation::Append { files: writer.close().await? },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    };
    let transaction =
        Transaction { reference: branch.to_owned(), operations: vec![operation], max_attempts: 1 };
    transaction.commit(client, file_io).await?;
    Ok(())
}

/// The failed runs whose branches are kept.
pub(crate) async fn failed_runs(
    client: &TenantClient,
    file_io: &FileIo,
) -> Result<Vec<RunRecord>, CompactorError> {
    let mut records = Vec::new();
    let references = client.references().await?;
    for name in references.iter().map(Reference::name).filter(|name| branches::is_of_failed(name)) {
        if let Some(table) = load_optional(client, file_io, name, &ident()).await? {
            records.extend(read(&table).await?);
        }
    }
    Ok(records)
}

async fn read(table: &Table) -> Result<Option<RunRecord>, CompactorError> {
    let text = table.properties().get(RUN).cloned().unwrap_or_default();
    let Ok(record) = serde_json::from_str::<RunRecord>(&text) else { return Ok(None) };
    if table.current_snapshot().is_none() {
        return Ok(Some(record));
    }
    let scan = TableScan::new(table, None).await?;
    let rows = async {
        let rows = SessionContext::new().read_table(Arc::new(scan))?;
        let batches = rows.sort(vec![col("number").sort(true, true)])?.collect().await?;
        rows_as_json(&batches)
    };
    let rows = rows.await.map_err(|error| CompactorError::query(table.ident(), &error))?;
    let lines = rows.into_iter().filter_map(|row| serde_json::from_value(row).ok()).collect();
    Ok(Some(with_lines(record, lines)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::RunState;

    #[test]
    fn lines_hold_what_the_record_does_and_come_back() {
        let check = |model: &str, rows: Vec<serde_json::Value>| FailingCheck {
            model: model.to_owned(),
            check: "c".to_owned(),
            severity: CheckSeverity::Drop,
            condition: "a > 1".to_owned(),
            violations: 7,
            rows,
        };
        let record = RunRecord {
            run: "r".to_owned(),
            reference: "dev".to_owned(),
            state: RunState::Failed,
            started_at_ms: 1,
            finished_at_ms: Some(2),
            branch: Some("promote/r-failed".to_owned()),
            error: Some("seven rows".to_owned()),
            checks: vec![
                check("a.b", vec![json!({"v": 1}), json!({"v": null})]),
                check("a.c", vec![json!({"v": 3})]),
            ],
            receipt: None,
        };
        let bare = RunRecord { error: None, checks: Vec::new(), ..record.clone() };
        let batch = rows_from_json(&schema(), &lines(&record)).unwrap();
        let back = rows_as_json(&[batch]).unwrap();
        let back = back.into_iter().map(|row| serde_json::from_value(row).unwrap()).collect();
        assert_eq!(with_lines(bare, back), record);
    }
}
