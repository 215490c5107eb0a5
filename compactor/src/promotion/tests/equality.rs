//! Whatever comes in, and in whatever steps: what increments made equals what a full computation makes.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use firn_inventory::bronze_schema;
use firn_table::{NewTable, RowPositions, TableScan, ensure_table};
use proptest::{
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof},
    test_runner::TestRunner,
};

use super::*;
use crate::maintenance::{Maintenance, MaintenancePlace};

/// Models of each kind over the source and over each other, so that removals reach them in every shape.
const MODELS: [(&str, &str); 9] = [
    (
        "copy.sql",
        "-- model: silver.copy\n-- kind: append\n\
         -- dedup: host_id, event_id within 7d of received_at by log_partition, log_offset\n\
         SELECT * FROM bronze.inventory",
    ),
    (
        "newest.sql",
        "-- model: silver.newest\n-- kind: latest\n-- key: host_id\n\
         -- order: event_time, received_at, log_partition, log_offset\n\
         -- check: no-42 drop cpu_usage <> 42\n\
         SELECT * FROM bronze.inventory WHERE disk_total_bytes IS NULL OR disk_total_bytes > 1",
    ),
    (
        "packages.sql",
        "-- model: silver.packages\n-- kind: append\n-- key: host_id\n\
         SELECT host_id, package['name'] AS name FROM (SELECT host_id, unnest(software) AS package FROM silver.newest)",
    ),
    (
        "sums.sql",
        "-- model: gold.sums\n-- kind: aggregate\n-- check: some drop samples > 1\n\
         SELECT window_start, organization_id, count(*) AS samples, count(DISTINCT host_id) AS hosts,\n\
         sum(cpu_usage) AS total, CAST(sum(cpu_usage) AS DOUBLE) / count(cpu_usage) AS average\n\
         FROM (SELECT date_trunc('hour', event_time) AS window_start, organization_id, host_id, cpu_usage\n\
         FROM bronze.inventory) GROUP BY window_start, organization_id",
    ),
    (
        "fleet.sql",
        "-- model: gold.fleet\n-- kind: aggregate\n\
         SELECT os_type, count(*) AS hosts, sum(cpu_usage) AS total, count(DISTINCT organization_id) AS orgs\n\
         FROM silver.newest GROUP BY os_type",
    ),
    (
        "extremes.sql",
        "-- model: gold.extremes\n-- kind: aggregate\n\
         SELECT host_id, min(cpu_usage) AS least, max(event_time) AS last FROM silver.copy GROUP BY host_id",
    ),
    (
        "daily.sql",
        "-- model: silver.daily\n-- kind: latest\n-- key: host_id, day\n\
         -- order: event_time, received_at, log_partition, log_offset\n\
         SELECT *, CAST(event_time AS DATE) AS day FROM bronze.inventory",
    ),
    (
        "judged.sql",
        "-- model: gold.judged\n-- kind: aggregate\n-- judged: rule, state\n\
         SELECT day, rule, state, count(*) AS hosts FROM silver.daily GROUP BY day, rule, state",
    ),
    (
        "verdicts.sql",
        "-- model: gold.compliance\n-- kind: rules\n-- current: silver.newest\nSELECT * FROM silver.copy",
    ),
];

#[derive(Clone, Debug)]
enum Op {
    /// Host, event, minutes late, CPU and a choice of other values.
    Report(Vec<(u8, u8, u16, u8, u8)>),
    /// Rows of a source or output go, by share of all.
    Delete(u8),
    Compact,
    Evolve(u8),
    Promote,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let record = (0_u8..6, 0_u8..9, 0_u16..200, 40_u8..44, any::<u8>());
    let report = || proptest::collection::vec(record.clone(), 1..7).prop_map(Op::Report).boxed();
    let op = prop_oneof![
        4 => report(),
        4 => Just(Op::Promote),
        1 => any::<u8>().prop_map(Op::Delete),
        1 => Just(Op::Compact),
        1 => (0_u8..3).prop_map(Op::Evolve),
    ];
    (report(), proptest::collection::vec(op, 6..14)).prop_map(|(first, mut ops)| {
        ops.insert(0, first);
        ops.insert(1, Op::Promote);
        ops
    })
}

struct World {
    lake: Lake,
    promotion: Promotion,
    maintenance: Maintenance,
    offset: i64,
    increments: BTreeMap<String, usize>,
}

impl World {
    async fn start(rewrite_below_rows: u64) -> Self {
        let lake = Lake::start().await;
        let compactor = lake.compactor("one");
        let mut promotion = compactor.promotion.clone();
        let mut config = (*promotion.config).clone();
        config.rewrite_below_rows = rewrite_below_rows;
        config.maintenance.min_small_files = 2;
        promotion.config = Arc::new(config);
        let parsed = MODELS.iter().map(|(file, text)| Model::parse(file, text).unwrap()).collect();
        promotion.graph = Arc::new(ModelGraph::new(parsed).unwrap());
        let mut maintenance = compactor.maintenance;
        maintenance.config = Arc::clone(&promotion.config);
        Self { lake, promotion, maintenance, offset: 0, increments: BTreeMap::new() }
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Report(records) => {
                let mut reports = Vec::new();
                for (host, event, late, cpu, more) in records {
                    let received = chrono::DateTime::from_timestamp_micros(
                        crate::testing::START + self.offset * crate::testing::MINUTE,
                    );
                    let sent = received.unwrap();
                    let collected = sent - chrono::TimeDelta::minutes(i64::from(*late));
                    let mut fields = json!({
                        "sent_at": sent.to_rfc3339(), "collected_at": collected.to_rfc3339(),
                        "disk_encrypted": more % 3 == 0, "disk_total_bytes": more % 7,
                        "os_type": if more % 2 == 0 { "linux" } else { "windows" },
                        "software": (0..more % 4).map(|n| json!({"name": format!("p{n}")})).collect::<Vec<_>>(),
                    });
                    if more % 5 > 0 {
                        fields["cpu_usage"] = json!(cpu);
                    }
                    let (host, event) = (format!("h{host}"), format!("e{event}"));
                    reports.push(inventory(self.offset, &host, &event, fields));
                    self.offset += 1;
                }
                self.lake.report(&reports).await;
            }
            Op::Delete(choice) => {
                let table = self.lake.table("main", "bronze.inventory").await.unwrap();
                let mut delete = RowPositions::default();
                for file in table.data_files(None).await.unwrap() {
                    for row in (0..file.record_count).filter(|row| (row + u64::from(*choice)) % 5 == 0) {
                        delete.insert(&file.location, row);
                    }
                }
                let operation = Operation::RowDelta { delete, add: Vec::new() };
                self.lake.commit("main", &table, operation).await;
            }
            Op::Compact => {
                let stop = CancellationToken::new();
                self.maintenance.visit(&self.lake.client, &mut MaintenancePlace::default(), &stop).await;
            }
            Op::Evolve(number) => {
                let mut fields: Vec<_> = bronze_schema().fields().iter().cloned().collect();
                fields.push(Arc::new(Field::new(format!("later_{number}"), DataType::Int64, true)));
                let wanted = NewTable {
                    ident: TableIdent::new("bronze", "inventory"),
                    schema: Arc::new(Schema::new(fields)),
                    partitioning: Vec::new(),
                    properties: [].into(),
                };
                ensure_table(&self.lake.client, &self.lake.file_io, "main", &wanted).await.unwrap();
            }
            Op::Promote => self.promote().await,
        }
    }

    async fn promote(&mut self) {
        let before = self.promotion.history.of("acme").len();
        promote(&self.lake, &self.promotion).await;
        let runs = self.promotion.history.of("acme");
        if runs.len() == before {
            return;
        }
        assert_eq!(runs[0].state, RunState::Succeeded, "{:?}", runs[0]);
        for model in &runs[0].receipt.as_ref().unwrap().models {
            if model.action == "increment" {
                *self.increments.entry(model.model.clone()).or_default() += 1;
            }
        }
    }

    /// The models' outputs, computed in full on a branch without them.
    async fn full(&self) -> BTreeMap<String, Vec<String>> {
        let run = "full";
        let branch = branches::working(run);
        self.lake.client.create_branch(&branch, MAIN).await.unwrap();
        for model in self.promotion.graph.models() {
            branches::drop_table(&self.lake.client, &branch, &model.table).await.unwrap();
        }
        for model in self.promotion.graph.models() {
            let asked = RunRequest::default();
            let run_model = self.promotion.run_model(&self.lake.client, run, model, &asked);
            let (receipt, _) = run_model.await.unwrap();
            assert_ne!(receipt.action, "increment", "{receipt:?}");
        }
        let outputs = self.outputs(&branch).await;
        branches::delete(&self.lake.client, &branch).await.unwrap();
        outputs
    }

    async fn outputs(&self, reference: &str) -> BTreeMap<String, Vec<String>> {
        let mut outputs = BTreeMap::new();
        for model in self.promotion.graph.models() {
            let name = model.table.to_string();
            let rows = match self.lake.table(reference, &name).await {
                None => Vec::new(),
                Some(table) => rows(&table).await,
            };
            outputs.insert(name, rows);
        }
        outputs
    }
}

/// All rows as sorted text, columns by name.
async fn rows(table: &firn_table::Table) -> Vec<String> {
    let session = datafusion::prelude::SessionContext::new();
    let frame = session.read_table(Arc::new(TableScan::new(table, None).await.unwrap())).unwrap();
    let mut names: Vec<_> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    names.sort();
    let frame = frame.select_columns(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let mut rows = Vec::new();
    for batch in frame.collect().await.unwrap() {
        let mut writer = datafusion::arrow::json::WriterBuilder::new()
            .build::<_, datafusion::arrow::json::writer::LineDelimited>(Vec::new());
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        rows.extend(String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_owned));
    }
    rows.sort();
    rows
}

#[test]
fn increments_equal_full_computation_over_random_histories() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // A history takes some seconds. PROPTEST_CASES asks for more of them.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let increments = std::cell::RefCell::new(BTreeMap::<String, usize>::new());
    let case = (any::<bool>(), ops());
    let outcome = runner.run(&case, |(in_place, ops)| {
        let (incremental, full, made) = runtime.block_on(async {
            let mut world = World::start(if in_place { 0 } else { 100 }).await;
            for op in &ops {
                world.apply(op).await;
            }
            world.promote().await;
            (world.outputs(MAIN).await, world.full().await, world.increments)
        });
        for (model, count) in made {
            *increments.borrow_mut().entry(model).or_default() += count;
        }
        proptest::prop_assert_eq!(incremental, full);
        Ok(())
    });
    outcome.unwrap();
    let increments = increments.into_inner();
    for (file, text) in MODELS {
        let model = Model::parse(file, text).unwrap().table.to_string();
        assert!(
            increments.get(&model).is_some_and(|count| *count > 1),
            "{model} was hardly computed by increments: {increments:?}"
        );
    }
}
