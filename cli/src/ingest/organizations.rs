//! `firn ingest organizations`: a CSV file as the tenant's table `reference.organizations`.

use std::{
    collections::{BTreeMap, HashMap},
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    compute::concat_batches,
    csv::{ReaderBuilder, reader::Format},
    datatypes::{DataType, Field, Schema},
};
use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::tables::REFERENCE_ORGANIZATIONS;
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, StorageConfig, TableOperation, Transaction, WriteOptions,
    ensure_table,
};

use crate::{connection::ConnectionArgs, failure::usage, output};

const ID: &str = "organization_id";
const HOST: &str = "host_id";
const OWNER: &str = "owner_email";

/// Arguments of `firn ingest organizations`.
#[derive(clap::Args)]
pub(crate) struct OrganizationsArgs {
    /// CSV file with one header line: organization_id, for a computer's row host_id, for a person's owner_email, and name, unit or
    /// any other columns
    file: PathBuf,
    /// Branch to put them on
    #[arg(long, default_value = "main")]
    branch: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command: the file's rows are all that the table holds afterwards.
pub(super) async fn run(args: &OrganizationsArgs) -> Result<()> {
    let shown = args.file.display().to_string();
    let text = std::fs::read(&args.file).with_context(|| format!("reading {shown}"))?;
    let rows = parse(&args.file, &text)?;
    check(&rows).map_err(|problem| usage(format!("{shown}: {problem}")))?;
    let client = args.connection.connect().await?.lake_client()?;
    let file_io = FileIo::new(StorageConfig::default());
    let (namespace, name) = REFERENCE_ORGANIZATIONS;
    let new = NewTable {
        ident: TableIdent::new(namespace, name),
        schema: rows.schema(),
        partitioning: Vec::new(),
        properties: BTreeMap::new(),
    };
    let table = ensure_table(&client, &file_io, &args.branch, &new).await?;
    let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
    if let Err(error) = writer.write(&rows).await {
        writer.abort().await;
        return Err(error.into());
    }
    let add = writer.close().await?;
    let base_snapshot_id = Some(table.current_snapshot().map(|snapshot| snapshot.id));
    let operation = TableOperation {
        table: table.ident().clone(),
        operation: Operation::Overwrite { remove: None, add, base_snapshot_id },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    };
    let transaction =
        Transaction { reference: args.branch.clone(), operations: vec![operation], max_attempts: 3 };
    let committed = transaction.commit(&client, &file_io).await;
    committed.context("somebody changed the table meanwhile: try again")?;
    output::line(&format!("{namespace}.{name} has {} rows on {}", rows.num_rows(), args.branch))
}

/// All columns as text: what they mean is for whoever reads them. An empty value is none.
fn parse(file: &Path, text: &[u8]) -> Result<RecordBatch> {
    let shown = file.display();
    let unreadable = || format!("{shown} is no CSV file with a header line");
    let format = Format::default().with_header(true);
    let (header, _) = format.infer_schema(Cursor::new(text), Some(0)).with_context(unreadable)?;
    let column = |field: &Arc<Field>| Field::new(field.name().trim(), DataType::Utf8, true);
    let schema = Arc::new(Schema::new(header.fields().iter().map(column).collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(Cursor::new(text));
    let batches: Vec<RecordBatch> = reader.and_then(Iterator::collect).with_context(unreadable)?;
    concat_batches(&schema, &batches).with_context(unreadable)
}

/// Each row is about one organisation, and no two about the same.
fn check(rows: &RecordBatch) -> Result<(), String> {
    let schema = rows.schema();
    let mut seen = HashMap::new();
    for field in schema.fields() {
        if field.name().is_empty() {
            return Err("a column has no name".to_owned());
        }
        if seen.insert(field.name().as_str(), ()).is_some() {
            return Err(format!("column '{}' stands twice", field.name()));
        }
    }
    let column = |name: &str| rows.column_by_name(name).map(|column| column.as_string::<i32>());
    let Some(ids) = column(ID) else { return Err(format!("there is no column '{ID}'")) };
    let (hosts, owners) = (column(HOST), column(OWNER));
    let mut lines = HashMap::new();
    for row in 0..rows.num_rows() {
        // As an editor counts them, unless values hold line breaks.
        let line = row + 2;
        let value = |column: Option<&StringArray>| {
            let column = column.filter(|column| column.is_valid(row))?;
            Some(column.value(row).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let Some(id) = value(Some(ids)) else { return Err(format!("line {line} has no {ID}")) };
        let key = match (value(hosts), value(owners).map(|owner| owner.to_lowercase())) {
            (Some(_), Some(_)) => {
                return Err(format!("line {line} has both {HOST} and {OWNER}: write a line for each"));
            }
            (Some(host), None) => (HOST, host),
            (None, Some(owner)) => (OWNER, owner),
            (None, None) => (ID, id),
        };
        let (name, said) = key.clone();
        if let Some(first) = lines.insert(key, line) {
            return Err(format!("lines {first} and {line} are both about {name} '{said}'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parsed(text: &str) -> RecordBatch {
        parse(Path::new("orgs.csv"), text.as_bytes()).unwrap()
    }

    #[test]
    fn rows_are_text_and_what_is_empty_is_none() {
        let rows = parsed("organization_id, name,host_id,cost\nsales,\"Sales, EMEA\",,007\nlab,,pc-1,\n");
        assert_eq!(check(&rows), Ok(()));
        let column = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().clone();
        assert_eq!(column("cost").value(0), "007", "no number, so no zero is lost");
        assert_eq!(column("name").value(0), "Sales, EMEA");
        assert!(column("host_id").is_null(0) && column("name").is_null(1) && column("cost").is_null(1));
        assert_eq!(parsed("organization_id\n").num_rows(), 0, "no rows are an empty table");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |text| check(&parsed(text)).unwrap_err();
        assert_eq!(wrong("id,name\na,b\n"), "there is no column 'organization_id'");
        assert_eq!(wrong("organization_id,name\na,b\n,c\n"), "line 3 has no organization_id");
        assert_eq!(wrong("organization_id,name,name\na,b,c\n"), "column 'name' stands twice");
        assert_eq!(
            wrong("organization_id,owner_email\na,\na,x@b.c\nd,X@b.c\n"),
            "lines 3 and 4 are both about owner_email 'x@b.c'"
        );
        let both = wrong("organization_id,host_id,owner_email\na,h,o\n");
        assert!(both.contains("line 2 has both"), "{both}");
        let ragged = parse(Path::new("orgs.csv"), b"organization_id,name\na,b,c\n").unwrap_err();
        assert!(format!("{ragged:#}").contains("orgs.csv"), "{ragged:#}");
    }
}
