//! Creating tables from Arrow schemas, and adding columns to them.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use firn_catalog_client::{
    ClientErrorKind, TenantClient,
    iceberg::{CreateTableRequest, TableChange, TableIdent},
};
use iceberg::spec::Transform;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    FileIo, Table, TableError,
    schema::{FieldIds, iceberg_schema, optional_field},
};

/// Tries before racing creators or evolvers are given up.
const MAX_ATTEMPTS: usize = 10;
/// First id of a partition field, by the specification.
const FIRST_PARTITION_FIELD_ID: usize = 1000;

/// One partition field: `day(received_at)` is `Partitioning { column: "received_at", transform: "day" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioning {
    /// Source column, top level.
    pub column: String,
    /// Iceberg transform: `identity`, `day`, `hour`, `month`, `year`, `bucket[N]`, `truncate[W]`.
    pub transform: String,
}

/// A table to be. Field ids are assigned; a field's Arrow metadata `doc` becomes the column's doc.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Identifier.
    pub ident: TableIdent,
    /// Schema. Timestamps in microseconds, with zone UTC or without.
    pub schema: SchemaRef,
    /// Partition fields.
    pub partitioning: Vec<Partitioning>,
    /// Table properties.
    pub properties: BTreeMap<String, String>,
}

/// Loads the table, creating namespace and table if absent; loses a race to another creator gracefully. Columns (and fields
/// of nested ones) that `new.schema` has and the table lacks are added as optional; nothing else of it changes.
pub async fn ensure_table(
    client: &TenantClient,
    file_io: &FileIo,
    reference: &str,
    new: &NewTable,
) -> Result<Table, TableError> {
    let mut last_error = None;
    for _ in 0..MAX_ATTEMPTS {
        let step = match client.load_table(reference, &new.ident).await {
            Ok(loaded) => {
                let table = Table::from_loaded(client, file_io, reference, &new.ident, loaded);
                let Some(change) = added_columns(&table, &new.schema)? else { return Ok(table) };
                client.commit_table(reference, &new.ident, &change, &Uuid::new_v4().to_string()).await
            }
            Err(error) if error.kind == ClientErrorKind::NotFound => {
                client.ensure_namespace(reference, &new.ident.namespace).await?;
                client.create_table(reference, &new.ident.namespace, &create_request(new)?).await
            }
            Err(error) => return Err(error.into()),
        };
        match step {
            Ok(loaded) => return Ok(Table::from_loaded(client, file_io, reference, &new.ident, loaded)),
            // Another was faster, or the outcome is unknown: what is there now decides. Neither can happen twice, since
            // creating needs absence and each change asserts the schema that it was made from.
            Err(error) if matches!(error.kind, ClientErrorKind::Conflict | ClientErrorKind::Unknown) => {
                last_error = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last_error
        .map_or_else(|| TableError::conflict(format!("table {} keeps changing", new.ident)), Into::into))
}

fn create_request(new: &NewTable) -> Result<CreateTableRequest, TableError> {
    let schema = iceberg_schema(&new.schema, &mut FieldIds::starting_at(1))?;
    Ok(CreateTableRequest {
        name: new.ident.name.clone(),
        location: None,
        partition_spec: Some(partition_spec(new, &schema)?),
        schema,
        write_order: None,
        stage_create: false,
        properties: new.properties.clone(),
    })
}

fn partition_spec(new: &NewTable, schema: &Value) -> Result<Value, TableError> {
    let columns = schema["fields"].as_array().map_or(&[][..], Vec::as_slice);
    let mut fields = Vec::new();
    for (index, Partitioning { column, transform }) in new.partitioning.iter().enumerate() {
        let (table, unusable) =
            (&new.ident, || format!("cannot partition table {} by {transform}({column})", new.ident));
        let source = columns.iter().find(|field| field["name"] == json!(column)).ok_or_else(|| {
            TableError::invalid(format!("table {table} has no column '{column}' to partition by"))
        })?;
        let parsed: Transform = transform
            .parse()
            .map_err(|error| TableError::caused(crate::TableErrorKind::Invalid, unusable(), error))?;
        let suffix = match parsed {
            Transform::Identity => "",
            Transform::Year => "_year",
            Transform::Month => "_month",
            Transform::Day => "_day",
            Transform::Hour => "_hour",
            Transform::Bucket(_) => "_bucket",
            Transform::Truncate(_) => "_trunc",
            Transform::Void | Transform::Unknown => return Err(TableError::invalid(unusable())),
        };
        fields.push(json!({
            "name": format!("{column}{suffix}"),
            "transform": transform,
            "source-id": source["id"],
            "field-id": FIRST_PARTITION_FIELD_ID + index,
        }));
    }
    Ok(json!({"spec-id": 0, "fields": fields}))
}

/// The commit that adds what the table lacks, or `None` if it lacks nothing.
fn added_columns(table: &Table, wanted: &SchemaRef) -> Result<Option<TableChange>, TableError> {
    let metadata = table.metadata();
    let current_id = &metadata["current-schema-id"];
    let schemas = metadata["schemas"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(current) = schemas.iter().find(|schema| &schema["schema-id"] == current_id) else {
        return Err(TableError::unsupported(format!("table {} has no current schema", table.ident())));
    };
    let last_id =
        metadata["last-column-id"].as_i64().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
    let mut ids = FieldIds::starting_at(last_id + 1);
    let mut schema = current.clone();
    add_fields(&mut schema, wanted.fields(), &mut ids)?;
    if ids.last() == last_id {
        return Ok(None);
    }
    let next_schema_id =
        schemas.iter().filter_map(|schema| schema["schema-id"].as_i64()).max().unwrap_or(0) + 1;
    schema["schema-id"] = json!(next_schema_id);
    Ok(Some(TableChange {
        identifier: Some(table.ident().clone()),
        requirements: vec![
            json!({"type": "assert-table-uuid", "uuid": table.uuid()}),
            json!({"type": "assert-current-schema-id", "current-schema-id": current_id}),
            json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": last_id}),
        ],
        updates: vec![
            json!({"action": "add-schema", "schema": schema, "last-column-id": ids.last()}),
            json!({"action": "set-current-schema", "schema-id": -1}),
        ],
    }))
}

/// Adds to a struct type what it lacks, at any depth.
fn add_fields(struct_type: &mut Value, wanted: &Fields, ids: &mut FieldIds) -> Result<(), TableError> {
    let Some(fields) = struct_type["fields"].as_array_mut() else { return Ok(()) };
    for field in wanted {
        match fields.iter_mut().find(|known| known["name"].as_str() == Some(field.name())) {
            Some(known) => add_nested(&mut known["type"], field, ids)?,
            None => fields.push(optional_field(field, ids)?),
        }
    }
    Ok(())
}

fn add_nested(known: &mut Value, wanted: &Field, ids: &mut FieldIds) -> Result<(), TableError> {
    match wanted.data_type() {
        DataType::Struct(fields) if known["type"] == "struct" => add_fields(known, fields, ids),
        DataType::List(element) | DataType::LargeList(element) if known["type"] == "list" => {
            add_nested(&mut known["element"], element, ids)
        }
        DataType::Map(entries, _) if known["type"] == "map" => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => add_nested(&mut known["value"], &pair[1], ids),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
