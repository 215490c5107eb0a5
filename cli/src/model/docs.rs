//! `firn model docs`: models and their columns, as Markdown or JSON.

use std::fmt::Write;

use anyhow::{Result, bail};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use firn_compactor::{Check, CheckSeverity, Model, ModelKind, check_models};
use serde::Serialize;

use super::{ReadArgs, kind_name, read_with_sources};
use crate::output;

/// Arguments of `firn model docs`.
#[derive(clap::Args)]
pub(crate) struct DocsArgs {
    /// Only the model of this table
    table: Option<String>,
    #[command(flatten)]
    read: ReadArgs,
}

/// A model as `firn model docs --json` shows it.
#[derive(Serialize)]
struct ModelDocs {
    table: String,
    description: String,
    kind: ModelKind,
    reads: Vec<String>,
    columns: Vec<ColumnDocs>,
    checks: Vec<CheckDocs>,
}

#[derive(Serialize)]
struct ColumnDocs {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    doc: String,
}

#[derive(Serialize)]
struct CheckDocs {
    name: String,
    severity: CheckSeverity,
    condition: String,
}

impl ModelDocs {
    fn of(model: &Model, schema: &SchemaRef) -> Self {
        let column = |field: &FieldRef| ColumnDocs {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            doc: field.metadata().get("doc").cloned().unwrap_or_default(),
        };
        let check = |check: &Check| CheckDocs {
            name: check.name.clone(),
            severity: check.severity,
            condition: check.condition.clone(),
        };
        Self {
            table: model.table.to_string(),
            description: model.description.clone(),
            kind: model.kind,
            reads: model.inputs.iter().map(ToString::to_string).collect(),
            columns: schema.fields().iter().map(column).collect(),
            checks: model.checks.iter().map(check).collect(),
        }
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.table, self.description);
        let reads = self.reads.iter().map(|input| format!("`{input}`")).collect::<Vec<_>>().join(", ");
        // Writing to a string can't fail.
        let _ = writeln!(text, "Kind `{}`, reads {reads}.\n", kind_name(self.kind));
        text.push_str("| column | type | |\n| --- | --- | --- |\n");
        for column in &self.columns {
            let _ = writeln!(text, "| `{}` | {} | {} |", column.name, column.data_type, in_cell(&column.doc));
        }
        if !self.checks.is_empty() {
            text.push_str("\n| check | a row that breaks it | condition |\n| --- | --- | --- |\n");
            for check in &self.checks {
                let then = match check.severity {
                    CheckSeverity::Warn => "is counted",
                    CheckSeverity::Drop => "is left out",
                    CheckSeverity::Fail => "fails the run",
                };
                let _ = writeln!(text, "| {} | {then} | `{}` |", check.name, in_cell(&check.condition));
            }
        }
        text
    }
}

pub(super) async fn run(args: &DocsArgs) -> Result<()> {
    let (graph, sources) = read_with_sources(&args.read).await?;
    let schemas = check_models(&graph, sources.schemas()).await?;
    let wanted = |model: &&Model| args.table.as_ref().is_none_or(|table| model.table.to_string() == *table);
    let found: Vec<_> = graph.models().iter().filter(wanted).collect();
    if let (true, Some(table)) = (found.is_empty(), &args.table) {
        bail!("no model makes '{table}': 'firn model ls' lists them");
    }
    let docs: Vec<_> = found.into_iter().map(|model| ModelDocs::of(model, &schemas[&model.table])).collect();
    if args.read.json {
        return output::json(&docs);
    }
    docs.iter().try_for_each(|docs| output::line(&docs.markdown()))
}

/// A bar would end the cell.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "text".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "long".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "instant".to_owned(),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
            format!("record of {}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
