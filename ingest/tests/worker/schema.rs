//! Versions of the published schema side by side, as in a rolling upgrade.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema};
use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::bronze_schema;
use firn_table::{NewTable, Partitioning, ensure_table};

use crate::{
    exactly_once::check,
    house::{House, Running, produce},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_a_version_adds_are_columns_with_its_first_commit_and_later_versions_columns_stay() {
    let house = House::new(&["acme"]).await;
    // As a version made it that didn't know two fields yet, and one came to that knows another.
    let known = |field: &Arc<Field>| !["secure_boot", "tpm_present"].contains(&field.name().as_str());
    let mut fields: Vec<Arc<Field>> =
        bronze_schema().fields().iter().filter(|field| known(field)).cloned().collect();
    fields.push(Arc::new(Field::new("gpu_model", DataType::Utf8, true)));
    let table = NewTable {
        ident: TableIdent::new("bronze", "inventory"),
        schema: Arc::new(Schema::new(fields)),
        partitioning: vec![Partitioning { column: "received_at".into(), transform: "day".into() }],
        properties: BTreeMap::new(),
    };
    let client = house.catalog.tenant("acme");
    ensure_table(&client, &house.file_io, "main", &table).await.unwrap();

    let running = Running::start(house.worker());
    let record = r#"{"host_id":"pc-1","secure_boot":true,"tpm_present":false,"gpu_model":"RX"}"#;
    let sent = house.append(vec![produce("acme", "pc-1", record)]).await;
    house.await_rows("acme", 1, 0).await;
    running.drain().await;
    check(&house, "acme", &sent).await;
    let row = house.rows("acme", "inventory", "secure_boot, tpm_present, gpu_model, extra").await;
    let row = arrow::util::pretty::pretty_format_batches(&row).unwrap().to_string();
    assert!(row.contains("| true        | false       |           | {\"gpu_model\":\"RX\"} |"), "{row}");
}
