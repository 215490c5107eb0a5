//! Schemas that change under files that don't.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Fields, Schema},
};
use expect_test::expect;
use firn_catalog_client::iceberg::{TableChange, TableIdent};
use firn_table::{NewTable, Table, TableScan, ensure_table};
use serde_json::{Value, json};

use crate::harness::{DAY, Lake, query, sample_schema, samples};

fn with_column(schema: &Schema, field: Field) -> Arc<Schema> {
    let fields = schema.fields().iter().cloned().chain([Arc::new(field)]).collect::<Fields>();
    Arc::new(Schema::new(fields))
}

fn new_table(table: &Table, schema: Arc<Schema>) -> NewTable {
    NewTable { ident: table.ident().clone(), schema, partitioning: vec![], properties: BTreeMap::new() }
}

/// Replaces the current schema by what `change` makes of it.
pub(crate) async fn change_schema(lake: &Lake, table: &Table, change: impl FnOnce(&mut Vec<Value>)) {
    let metadata = table.metadata();
    let current = &metadata["current-schema-id"];
    let schemas = metadata["schemas"].as_array().unwrap();
    let mut schema = schemas.iter().find(|schema| &schema["schema-id"] == current).unwrap().clone();
    change(schema["fields"].as_array_mut().unwrap());
    schema["schema-id"] = json!(schemas.len());
    let change = TableChange {
        identifier: None,
        requirements: vec![],
        updates: vec![
            json!({"action": "add-schema", "schema": schema}),
            json!({"action": "set-current-schema", "schema-id": -1}),
        ],
    };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table("main", table.ident(), &change, &key).await.unwrap();
}

#[tokio::test]
async fn added_columns_are_null_in_older_files() {
    let lake = Lake::start().await;
    let table = lake.samples("evolving", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 1)])).await;

    let wider = with_column(&sample_schema(), Field::new("os", DataType::Utf8, false));
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new_table(&table, Arc::clone(&wider)))
        .await
        .unwrap();
    assert!(table.arrow_schema().unwrap().field_with_name("os").unwrap().is_nullable());
    let narrow = samples(&[("b", DAY, 2)]);
    let columns =
        narrow.columns().iter().cloned().chain([Arc::new(StringArray::from(vec!["linux"])) as ArrayRef]);
    lake.append(&table, &RecordBatch::try_new(wider, columns.collect()).unwrap()).await;
    // An older writer goes on without the column.
    lake.append(&table, &samples(&[("c", DAY, 3)])).await;

    let table = lake.load(&table).await;
    let scan = TableScan::new(&table, None).await.unwrap();
    expect![[r#"
        +---------+-------+-------+
        | host_id | value | os    |
        +---------+-------+-------+
        | a       | 1     |       |
        | b       | 2     | linux |
        | c       | 3     |       |
        +---------+-------+-------+"#]]
    .assert_eq(&query(scan, "SELECT host_id, value, os FROM t ORDER BY host_id").await);
    let scan = TableScan::new(&table, None).await.unwrap();
    expect![[r#"
        +---------+
        | host_id |
        +---------+
        | a       |
        | c       |
        +---------+"#]]
    .assert_eq(&query(scan, "SELECT host_id FROM t WHERE os IS NULL ORDER BY host_id").await);
}

#[tokio::test]
async fn an_equal_schema_changes_nothing() {
    let lake = Lake::start().await;
    let table = lake.samples("same", &[]).await;
    let again = lake.samples("same", &[]).await;
    assert_eq!(table.metadata(), again.metadata());
}

#[tokio::test]
async fn racing_creators_and_evolvers_all_succeed_once() {
    let lake = Lake::start().await;
    let ident = TableIdent::new("bronze", "raced");
    let ensure = |column: usize| {
        let schema =
            with_column(&sample_schema(), Field::new(format!("extra_{}", column % 3), DataType::Utf8, true));
        let new =
            NewTable { ident: ident.clone(), schema, partitioning: vec![], properties: BTreeMap::new() };
        let (client, file_io) = (lake.client.clone(), lake.file_io.clone());
        async move { ensure_table(&client, &file_io, "main", &new).await.unwrap() }
    };
    futures::future::join_all((0..9).map(ensure)).await;
    let table = Table::load(&lake.client, &lake.file_io, "main", &ident).await.unwrap();
    let schema = table.arrow_schema().unwrap();
    let mut names = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
    names.sort_unstable();
    assert_eq!(names, ["at", "extra_0", "extra_1", "extra_2", "host_id", "value"]);
}

#[tokio::test]
async fn columns_are_followed_by_id_through_renames_and_reuse_of_names() {
    let lake = Lake::start().await;
    let table = lake.samples("renamed", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 1)])).await;
    let table = lake.load(&table).await;
    // `value` becomes `amount`; a new column takes the old name.
    change_schema(&lake, &table, |fields| {
        fields[2]["name"] = json!("amount");
        fields.push(json!({"id": 4, "name": "value", "required": false, "type": "long"}));
    })
    .await;
    let table = lake.load(&table).await;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("host_id", Arc::new(StringArray::from(vec!["b"]))),
        ("at", samples(&[("b", DAY, 0)]).column(1).clone()),
        ("amount", Arc::new(Int64Array::from(vec![2]))),
        ("value", Arc::new(Int64Array::from(vec![20]))),
    ];
    lake.append(&table, &RecordBatch::try_from_iter(columns).unwrap()).await;

    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    expect![[r#"
        +---------+--------+-------+
        | host_id | amount | value |
        +---------+--------+-------+
        | a       | 1      |       |
        | b       | 2      | 20    |
        +---------+--------+-------+"#]]
    .assert_eq(&query(scan, "SELECT host_id, amount, value FROM t ORDER BY host_id").await);
    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    expect![[r#"
        +---------+
        | host_id |
        +---------+
        | a       |
        +---------+"#]]
    .assert_eq(&query(scan, "SELECT host_id FROM t WHERE amount = 1").await);
}

#[tokio::test]
async fn nested_fields_are_added_and_read_from_older_files() {
    let lake = Lake::start().await;
    let list = |fields: Vec<Field>| {
        let element = Field::new("item", DataType::Struct(Fields::from(fields)), true);
        Field::new("software", DataType::List(Arc::new(element)), true)
    };
    let name = || Field::new("name", DataType::Utf8, false);
    let new = |field: Field| NewTable {
        ident: TableIdent::new("bronze", "nested"),
        schema: Arc::new(Schema::new(vec![field])),
        partitioning: vec![],
        properties: BTreeMap::new(),
    };
    let json_rows = |field: &Field, json: &str| {
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let mut reader = datafusion::arrow::json::ReaderBuilder::new(schema).build(json.as_bytes()).unwrap();
        reader.next().unwrap().unwrap()
    };
    let narrow = list(vec![name()]);
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new(narrow.clone())).await.unwrap();
    lake.append(&table, &json_rows(&narrow, r#"{"software":[{"name":"curl"}]}"#)).await;

    let wide = list(vec![name(), Field::new("version", DataType::Utf8, true)]);
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new(wide.clone())).await.unwrap();
    lake.append(&table, &json_rows(&wide, r#"{"software":[{"name":"vim","version":"9"}]}"#)).await;

    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    let sql = "SELECT p['name'] AS name, p['version'] AS version FROM (SELECT unnest(software) AS p FROM t) ORDER BY name";
    expect![[r#"
        +------+---------+
        | name | version |
        +------+---------+
        | curl |         |
        | vim  | 9       |
        +------+---------+"#]]
    .assert_eq(&query(scan, sql).await);
}

#[tokio::test]
async fn columns_added_with_a_default_have_it_in_older_files() {
    let lake = Lake::start().await;
    let package = DataType::Struct(Fields::from(vec![Field::new("name", DataType::Utf8, false)]));
    let software = Field::new("software", DataType::List(Arc::new(Field::new("item", package, true))), true);
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), software]));
    let new = NewTable {
        ident: TableIdent::new("bronze", "defaults"),
        schema: Arc::clone(&schema),
        partitioning: vec![],
        properties: BTreeMap::from([("format-version".to_owned(), "3".to_owned())]),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    let json = r#"{"id":1,"software":[{"name":"curl"}]}{"id":2,"software":null}"#;
    let mut reader = datafusion::arrow::json::ReaderBuilder::new(schema).build(json.as_bytes()).unwrap();
    lake.append(&table, &reader.next().unwrap().unwrap()).await;
    let table = lake.load(&table).await;
    change_schema(&lake, &table, |fields| {
        let os = json!({"id": 5, "name": "os", "required": true, "type": "string"});
        let version = json!({"id": 6, "name": "version", "required": false, "type": "int"});
        let with_default = |mut field: Value, default: Value| {
            field["initial-default"] = default.clone();
            field["write-default"] = default;
            field
        };
        fields.push(with_default(os, json!("linux")));
        fields[1]["type"]["element"]["fields"].as_array_mut().unwrap().push(with_default(version, json!(9)));
    })
    .await;

    let table = lake.load(&table).await;
    let scan = async || TableScan::new(&table, None).await.unwrap();
    let sql = "SELECT id, os, p['name'] AS name, p['version'] AS version FROM (SELECT id, os, unnest(software) AS p FROM t)";
    expect![[r#"
        +----+-------+------+---------+
        | id | os    | name | version |
        +----+-------+------+---------+
        | 1  | linux | curl | 9       |
        +----+-------+------+---------+"#]]
    .assert_eq(&query(scan().await, sql).await);
    let counts =
        "SELECT count(*) FILTER (WHERE os = 'linux') AS old, count(*) AS all FROM t WHERE os = 'linux'";
    expect![[r#"
        +-----+-----+
        | old | all |
        +-----+-----+
        | 2   | 2   |
        +-----+-----+"#]]
    .assert_eq(&query(scan().await, counts).await);
    assert!(query(scan().await, "SELECT count(*) FROM t WHERE os = 'other'").await.contains("| 0 "));
}
