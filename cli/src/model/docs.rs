//! `firn model docs`: models and their columns, as Markdown.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Result, bail};
use arrow::datatypes::{DataType, SchemaRef};
use firn_catalog_client::iceberg::TableIdent;
use firn_compactor::{CheckSeverity, Model, check_models};
use firn_inventory::bronze_schema;

use super::{ReadArgs, kind_name, read};
use crate::output;

/// Arguments of `firn model docs`.
#[derive(clap::Args)]
pub(crate) struct DocsArgs {
    /// Only the model of this table
    table: Option<String>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(super) async fn run(args: &DocsArgs) -> Result<()> {
    let graph = read(&args.read).await?;
    let sources = BTreeMap::from([(TableIdent::new("bronze", "inventory"), bronze_schema())]);
    let schemas = check_models(&graph, &sources).await?;
    let wanted = |model: &&Model| args.table.as_ref().is_none_or(|table| model.table.to_string() == *table);
    let found: Vec<_> = graph.models().iter().filter(wanted).collect();
    if let (true, Some(table)) = (found.is_empty(), &args.table) {
        bail!("no model makes '{table}': 'firn model ls' lists them");
    }
    for model in found {
        output::line(&markdown(model, &schemas[&model.table]))?;
    }
    Ok(())
}

fn markdown(model: &Model, schema: &SchemaRef) -> String {
    let mut text = format!("## {}\n\n{}\n\n", model.table, model.description);
    let reads = model.inputs.iter().map(|input| format!("`{input}`")).collect::<Vec<_>>().join(", ");
    // Writing to a string can't fail.
    let _ = writeln!(text, "Kind `{}`, reads {reads}.\n", kind_name(model.kind));
    text.push_str("| column | type | |\n| --- | --- | --- |\n");
    for field in schema.fields() {
        let doc = field.metadata().get("doc").map_or("", String::as_str).replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {doc} |", field.name(), type_name(field.data_type()));
    }
    if !model.checks.is_empty() {
        text.push_str("\n| check | a row that breaks it | condition |\n| --- | --- | --- |\n");
        for check in &model.checks {
            let then = match check.severity {
                CheckSeverity::Warn => "is counted",
                CheckSeverity::Drop => "is left out",
                CheckSeverity::Fail => "fails the run",
            };
            let _ = writeln!(text, "| {} | {then} | `{}` |", check.name, check.condition.replace('|', "\\|"));
        }
    }
    text
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
