//! Models whose tables no longer fit, and models over tables that none of them makes.

use firn_catalog_client::iceberg::TableChange;
use firn_table::{DataFileWriter, NewTable, WriteOptions, ensure_table};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};

use super::*;
use crate::{CompactorConfig, ModelFiles, RunRecord};

async fn apply(lake: &Lake, file: &str, text: &str) -> Result<(), CompactorError> {
    let files = ModelFiles::from([(file.to_owned(), text.to_owned())]);
    crate::change_own_models(&lake.client, &lake.file_io, MAIN, files, &[]).await.map(|_| ())
}

async fn run(lake: &Lake, model: &str, rebuild: bool) -> Result<RunRecord, CompactorError> {
    let runs = ModelRuns::new(CompactorConfig::default(), lake.file_io.clone()).unwrap();
    let request =
        RunRequest { models: vec![model.to_owned()], rebuild, early: true, ..RunRequest::default() };
    runs.run(&lake.client, &request).await
}

/// What the newest run says of one model: its action and rows.
fn told(record: &RunRecord, model: &str) -> (String, u64) {
    let receipt = record.receipt.as_ref().unwrap_or_else(|| panic!("{record:?}"));
    let found = receipt.models.iter().find(|told| told.model == model).unwrap();
    (found.action.clone(), found.rows)
}

fn by_type(hosts: &str) -> String {
    format!(
        "-- model: gold.by_type\n-- kind: aggregate\nSELECT os_type, {hosts} AS hosts FROM silver.device GROUP BY os_type"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_no_longer_fits_its_model_rests_until_a_rebuild_is_asked_for() {
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    first_reports(&lake).await;
    apply(&lake, "by_type.sql", &by_type("count(*)")).await.unwrap();
    promote(&lake, &promotion).await;
    let before = lake.table(MAIN, "gold.by_type").await.unwrap();
    let set = json!({"action": "set-properties", "updates": {"firn.freshness": "1h"}});
    let change = TableChange { identifier: None, requirements: Vec::new(), updates: vec![set] };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table(MAIN, before.ident(), &change, &key).await.unwrap();

    apply(&lake, "by_type.sql", &by_type("CAST(count(*) AS VARCHAR)")).await.unwrap();
    let why = "its table's column 'hosts' is of type Int64, and the model makes Utf8; \
               'firn model run gold.by_type --rebuild' makes the table anew, in full";
    assert_eq!(forecast_of(&lake, MAIN).await, Some(("rebuild", why.to_owned())));
    let refused = run(&lake, "gold.by_type", false).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("gold.by_type: {why}"));

    // The service goes on with the others, and its runs come to an end.
    lake.report(&[inventory(3, "h3", "e3", json!({}))]).await;
    promote(&lake, &promotion).await;
    let newest = promotion.history.of("acme").into_iter().next().unwrap();
    assert_eq!(told(&newest, "silver.device"), ("increment".to_owned(), 1));
    assert_eq!(told(&newest, "gold.by_type"), ("rebuild".to_owned(), 0));
    let head = lake.client.reference(MAIN).await.unwrap();
    promote(&lake, &promotion).await;
    assert_eq!(lake.client.reference(MAIN).await.unwrap(), head, "nothing is left that it may do");
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.message, format!("gold.by_type rests: {why}"));
    let rested = lake.table(MAIN, "gold.by_type").await.unwrap();
    assert_eq!(rested.current_snapshot(), before.current_snapshot());

    let record = run(&lake, "gold.by_type", true).await.unwrap();
    assert_eq!(told(&record, "gold.by_type"), ("full".to_owned(), 1));
    let after = lake.table(MAIN, "gold.by_type").await.unwrap();
    assert_eq!(after.arrow_schema().unwrap().field_with_name("hosts").unwrap().data_type(), &DataType::Utf8);
    assert_eq!(after.properties()["firn.freshness"], "1h", "what was set of the table stays");
    assert!(lake.rows(MAIN, "gold.by_type", "SELECT * FROM t").await.contains("| linux   | 3     |"));
    assert_eq!(forecast_of(&lake, MAIN).await.unwrap().0, "skip");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_its_inputs_no_longer_fit_is_pointed_at_by_file_line_and_column() {
    let lake = Lake::start().await;
    let promotion = with_models(&lake, "");
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    let mut renamed = lake.compactor("one").promotion;
    let text = "-- model: silver.hosts\n-- kind: full\nSELECT DISTINCT\n  hostid AS host_id FROM silver.copy";
    let copy = promotion.graph.models().iter().find(|model| model.table.name == "copy").unwrap().clone();
    let graph = ModelGraph::new(vec![copy, Model::parse("hosts.sql", text).unwrap()]).unwrap();
    renamed.graph = Arc::new(graph);
    promote(&lake, &renamed).await;
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.state, StageState::Failing);
    assert!(status.message.starts_with("hosts.sql:4:3: "), "{}", status.message);
}

/// A table of the tenant that no part of Firn writes.
async fn assets(lake: &Lake) -> NewTable {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let columns = [("host_id", DataType::Utf8), ("owner", DataType::Utf8), ("seq", DataType::Int64)];
    let schema = Schema::new(columns.map(|(name, data_type)| column(name, data_type)).to_vec());
    let new = NewTable {
        ident: TableIdent::new("ops", "assets"),
        schema: Arc::new(schema),
        partitioning: Vec::new(),
        properties: [].into(),
    };
    ensure_table(&lake.client, &lake.file_io, MAIN, &new).await.unwrap();
    new
}

async fn assign(lake: &Lake, rows: &[(&str, &str, i64)]) {
    let new = assets(lake).await;
    let table = lake.table(MAIN, "ops.assets").await.unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>()),
    ];
    let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
    writer.write(&RecordBatch::try_new(new.schema, columns).unwrap()).await.unwrap();
    let files = writer.close().await.unwrap();
    lake.commit(MAIN, &table, Operation::Append { files }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_model_reads_any_table_of_the_tenant_by_its_increments() {
    let owners = "-- model: gold.owners\n-- kind: latest\n-- key: host_id\n-- order: seq\nSELECT host_id, owner, seq\nFROM ops.assets";
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    let refused = apply(&lake, "owners.sql", owners).await.unwrap_err().to_string();
    assert_eq!(refused, "owners.sql:6:6: no model makes 'ops.assets', and no table of that name is known");

    assign(&lake, &[("h1", "ann", 1), ("h2", "bob", 2)]).await;
    apply(&lake, "owners.sql", owners).await.unwrap();
    promote(&lake, &promotion).await;
    let newest = || promotion.history.of("acme").into_iter().next().unwrap();
    assert_eq!(told(&newest(), "gold.owners"), ("full".to_owned(), 2));
    assign(&lake, &[("h1", "eve", 3), ("h2", "late", 0)]).await;
    promote(&lake, &promotion).await;
    assert_eq!(told(&newest(), "gold.owners"), ("increment".to_owned(), 1));
    expect![[r#"
        +---------+-------+
        | host_id | owner |
        +---------+-------+
        | h1      | eve   |
        | h2      | bob   |
        +---------+-------+"#]]
    .assert_eq(&lake.rows(MAIN, "gold.owners", "SELECT host_id, owner FROM t ORDER BY host_id").await);

    let over = "-- model: ops.assets\n-- kind: full\nSELECT host_id FROM silver.device";
    let refused = apply(&lake, "assets.sql", over).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("assets.sql:1:1: the table ops.assets has rows that no model made"),
        "{refused}"
    );
}
