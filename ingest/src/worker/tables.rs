//! The tables that the worker creates.

use std::collections::BTreeMap;

use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::{
    bronze_schema, field_class, quarantine_schema,
    tables::{BRONZE_INVENTORY, BRONZE_QUARANTINE},
};
use firn_table::{NewTable, Partitioning};

/// Namespace and name as an identifier.
pub(super) fn ident((namespace, name): (&str, &str)) -> TableIdent {
    TableIdent::new(namespace, name)
}

/// `bronze.inventory`, partitioned by the day of receipt.
pub(super) fn inventory_table() -> NewTable {
    new_table(BRONZE_INVENTORY, bronze_schema())
}

/// `bronze.quarantine`, partitioned likewise.
pub(super) fn quarantine_table() -> NewTable {
    new_table(BRONZE_QUARANTINE, quarantine_schema())
}

fn new_table(name: (&str, &str), schema: arrow::datatypes::SchemaRef) -> NewTable {
    let mut classes: BTreeMap<String, String> = BTreeMap::new();
    for column in schema.fields() {
        let names = classes.entry(format!("firn.class.{}", field_class(column.name()).as_str())).or_default();
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(column.name());
    }
    NewTable {
        ident: ident(name),
        schema,
        partitioning: vec![Partitioning { column: "received_at".into(), transform: "day".into() }],
        properties: classes,
    }
}
