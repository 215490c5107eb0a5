//! What records get from the tenant's table of organisations: what it says when they are taken, whatever state it is in.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Schema},
    json::ReaderBuilder,
};
use firn_catalog_client::iceberg::TableIdent;
use firn_ingest::ReplayFrom;
use firn_inventory::{LogPosition, ORGANIZATION_COLUMNS, QuarantineBuilder, Rejection, RejectionKind};
use firn_runtime::{StageState, StageStatus};
use firn_table::{
    DataFileWriter, NewTable, Operation, Table, TableOperation, Transaction, WriteOptions, ensure_table,
};
use serde_json::{Value, json};

use crate::{
    exactly_once::{check, check_at},
    house::{House, Place, Running, produce, rows_of},
    replay::{QUARANTINE, commit, replay},
};

/// The table as an engine may have made it: not all columns are text.
fn schema() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let columns = ["organization_id", "host_id", "owner_email", "name", "unit"].map(text);
    Schema::new([columns.to_vec(), vec![Field::new("cost_center", DataType::Int64, true)]].concat())
}

/// Replaces what the table holds; answers it as it is then.
async fn put(house: &House, branch: &str, schema: Schema, rows: Value) -> Table {
    let client = house.catalog.tenant("acme");
    let new = NewTable {
        ident: TableIdent::new("reference", "organizations"),
        schema: Arc::new(schema.clone()),
        partitioning: Vec::new(),
        properties: BTreeMap::new(),
    };
    let table = ensure_table(&client, &house.file_io, branch, &new).await.unwrap();
    let lines: String = rows.as_array().unwrap().iter().map(|row| format!("{row}\n")).collect();
    let mut reader = ReaderBuilder::new(Arc::new(schema)).build(lines.as_bytes()).unwrap();
    let batch: RecordBatch = reader.next().unwrap().unwrap();
    let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
    writer.write(&batch).await.unwrap();
    let operation = TableOperation {
        table: table.ident().clone(),
        operation: Operation::Overwrite {
            remove: None,
            add: writer.close().await.unwrap(),
            base_snapshot_id: None,
        },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    };
    let transaction =
        Transaction { reference: branch.to_owned(), operations: vec![operation], max_attempts: 5 };
    transaction.commit(&client, &house.file_io).await.unwrap();
    Table::load(&client, &house.file_io, branch, table.ident()).await.unwrap()
}

/// Takes a table's files away behind the catalog's back.
async fn damage(house: &House, table: &Table) {
    for file in table.data_files(None).await.unwrap() {
        house.file_io.delete(&file.location).await.unwrap();
    }
}

async fn send(house: &House, host: &str, fields: &str) -> Place {
    let record = format!(r#"{{"host_id":"{host}"{fields}}}"#);
    house.append(vec![produce("acme", host, &record)]).await[0]
}

/// What the rows of a branch say of organisations, by computer.
async fn said(house: &House, branch: &str) -> BTreeMap<String, String> {
    let Some(table) = house.table_at("acme", branch, "inventory").await else { return BTreeMap::new() };
    let columns = ORGANIZATION_COLUMNS.join(", ");
    let mut said = BTreeMap::new();
    for batch in rows_of(&table, &format!("host_id, {columns}")).await {
        let texts = |column: &ArrayRef| cast(column, &DataType::Utf8).unwrap().as_string::<i32>().clone();
        let columns: Vec<StringArray> = batch.columns().iter().map(texts).collect();
        for row in 0..batch.num_rows() {
            let value = |column: &StringArray| column.iter().nth(row).flatten().unwrap_or("-").to_owned();
            said.insert(value(&columns[0]), columns[1..].iter().map(value).collect::<Vec<_>>().join(" "));
        }
    }
    said
}

async fn await_said(house: &House, host: &str, wanted: &str) {
    house
        .until(&format!("{host} is of '{wanted}'"), async || {
            said(house, "main").await.get(host).is_some_and(|said| said == wanted)
        })
        .await;
}

fn board(house: &House) -> StageStatus {
    house.board.all().remove(&("reference".to_owned(), "acme".to_owned())).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_get_what_the_table_says_when_they_are_taken() {
    let house = House::new(&["acme"]).await;
    let running = Running::start(house.worker());
    let mut sent = vec![send(&house, "a", r#","organization_id":"lab""#).await];
    await_said(&house, "a", "- - - -").await;

    let rows = json!([
        {"organization_id": "lab", "name": "Research", "unit": "R&D", "cost_center": 4711},
        {"organization_id": "sales", "name": "Sales"},
        {"organization_id": "sales", "host_id": "c"},
    ]);
    let table = put(&house, "main", schema(), rows).await;
    sent.push(send(&house, "b", r#","organization_id":"lab""#).await);
    await_said(&house, "b", r#"lab Research R&D {"cost_center":4711}"#).await;
    sent.push(send(&house, "c", r#","organization_id":"lab""#).await);
    await_said(&house, "c", "sales Sales - -").await;
    let inventory = house.table("acme", "inventory").await.unwrap();
    let summary = inventory.current_snapshot().unwrap().summary;
    assert_eq!(summary["firn.reference.organizations"], table.current_snapshot().unwrap().id.to_string());

    put(&house, "main", schema(), json!([{"organization_id": "lab", "name": "Labs"}])).await;
    sent.push(send(&house, "d", r#","organization_id":"lab""#).await);
    await_said(&house, "d", "lab Labs - -").await;
    let all = said(&house, "main").await;
    assert_eq!(all["b"], r#"lab Research R&D {"cost_center":4711}"#, "what was taken stays as it was");
    running.drain().await;
    check(&house, "acme", &sent).await;
    assert_eq!(board(&house), StageStatus::default(), "nothing to be told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cant_be_read_stops_nobody_and_is_told() {
    let house = House::new(&["acme"]).await;
    let lab = |name: &str| json!([{"organization_id": "lab", "name": name}]);
    put(&house, "main", schema(), lab("Research")).await;
    let running = Running::start(house.worker());
    let mut sent = vec![send(&house, "a", r#","organization_id":"lab""#).await];
    await_said(&house, "a", "lab Research - -").await;

    let broken = put(&house, "main", schema(), lab("Lost")).await;
    damage(&house, &broken).await;
    sent.push(send(&house, "b", r#","organization_id":"lab""#).await);
    await_said(&house, "b", "lab Research - -").await;
    assert_eq!(board(&house).state, StageState::Failing);
    running.drain().await;

    // A worker that never knew it has nothing to go by, and takes records all the same.
    let running = Running::start(house.worker());
    sent.push(send(&house, "c", r#","organization_id":"lab""#).await);
    await_said(&house, "c", "- - - -").await;

    put(&house, "main", schema(), lab("Again")).await;
    sent.push(send(&house, "d", r#","organization_id":"lab""#).await);
    await_said(&house, "d", "lab Again - -").await;
    assert_eq!((board(&house).state, board(&house).message), (StageState::Running, String::new()));
    running.drain().await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_shape_is_told_with_what_it_lacks() {
    let house = House::new(&["acme"]).await;
    let other = Schema::new(vec![Field::new("org", DataType::Utf8, true)]);
    put(&house, "main", other, json!([{"org": "lab"}])).await;
    let running = Running::start(house.worker());
    let sent = [send(&house, "a", r#","organization_id":"lab""#).await];
    await_said(&house, "a", "- - - -").await;
    running.drain().await;
    check(&house, "acme", &sent).await;
    let board = board(&house);
    assert!(board.state == StageState::Failing && board.message.contains("'organization_id'"), "{board:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_go_by_the_table_of_their_branch() {
    let house = House::new(&["acme"]).await;
    let running = Running::start(house.worker());
    let mut sent = vec![send(&house, "a", r#","organization_id":"lab""#).await];
    sent.push(send(&house, "b", r#","seq":"one""#).await);
    house.await_rows("acme", 1, 1).await;
    running.drain().await;
    house.catalog.tenant("acme").create_branch("corrected", "main").await.unwrap();
    put(&house, "corrected", schema(), json!([{"organization_id": "lab", "name": "Research"}])).await;
    sent.push(send(&house, "c", r#","organization_id":"lab""#).await);
    replay(&house, "corrected", ReplayFrom::Time { since_ms: 0 }).await;
    let all = said(&house, "corrected").await;
    assert_eq!((all["a"].as_str(), all["c"].as_str()), ("- - - -", "lab Research - -"));
    check_at(&house, "acme", "corrected", &sent).await;

    put(&house, "main", schema(), json!([{"organization_id": "lab", "host_id": "d"}])).await;
    // What an older build could not read.
    let position = LogPosition {
        topic_id: "t".to_owned(),
        partition: 0,
        offset: 1_000,
        received_at_us: 1,
        source: "native".to_owned(),
    };
    let mut rows = QuarantineBuilder::default();
    let reason = Rejection::new(RejectionKind::WrongType, "an older build's reason");
    rows.push(&reason, br#"{"host_id":"d"}"#, &position);
    let table = house.table("acme", "quarantine").await.unwrap();
    let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
    writer.write(&rows.finish()).await.unwrap();
    commit(&house, "quarantine", Operation::Append { files: writer.close().await.unwrap() }).await;
    assert_eq!(replay(&house, "main", QUARANTINE).await, (1, 1, 0));
    assert_eq!(said(&house, "main").await["d"], "lab - - -");
}
