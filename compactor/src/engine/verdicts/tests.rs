//! Judging in increments, with late records, changed rules and withdrawn ones.

#![allow(clippy::unwrap_used)]

use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanArray, Int32Array, TimestampMicrosecondArray},
        util::pretty::pretty_format_batches,
    },
    physical_plan::stream::RecordBatchStreamAdapter,
};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

use super::*;

/// Host, event time, encrypted; the place in the log follows from the place in the list.
type Record = (u8, i64, Option<bool>);

fn policy(id: &str, rule: &str) -> Policy {
    firn_policy::parse(&format!("id = '{id}'\ntitle = 'T'\nseverity = 'high'\nrule = '{rule}'"), "t.toml")
        .unwrap()
}

fn batch(records: &[(usize, Record)]) -> RecordBatch {
    let mut records = records.to_vec();
    records.sort_by_key(|(offset, record)| (record.0, *offset));
    let instants = |values: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let hosts: StringArray = records.iter().map(|(_, record)| Some(format!("h{}", record.0))).collect();
    let words: StringArray = records.iter().map(|_| Some("linux")).collect();
    let encrypted: BooleanArray = records.iter().map(|(_, record)| record.2).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("host_id", Arc::new(hosts)),
        ("hostname", Arc::new(words.clone())),
        ("organization_id", Arc::new(words.clone())),
        ("os_type", Arc::new(words)),
        ("disk_encrypted", Arc::new(encrypted)),
        ("event_time", instants(records.iter().map(|(_, record)| record.1).collect())),
        ("received_at", instants(records.iter().map(|(offset, _)| *offset as i64).collect())),
        ("log_partition", Arc::new(Int32Array::from(vec![0; records.len()]))),
        (
            "log_offset",
            Arc::new(Int64Array::from_iter_values(records.iter().map(|(offset, _)| *offset as i64))),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn stream(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema = batch.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)])))
}

async fn judged(policies: &[Policy], records: RecordBatch, prior: Option<RecordBatch>) -> RecordBatch {
    let rules = RuleSet::compile(policies, Vec::new(), &records.schema());
    assert!(rules.broken.is_empty(), "{:?}", rules.broken);
    let found: Vec<_> = judge(rules, stream(records), prior.map(stream)).collect().await;
    let batches: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    datafusion::arrow::compute::concat_batches(&verdict_schema(), &batches).unwrap()
}

fn shown(batch: &RecordBatch) -> String {
    let columns: Vec<_> = ["host_id", "rule_id", "state", "since", "evidence", "log_offset"]
        .iter()
        .map(|name| batch.schema().index_of(name).unwrap())
        .collect();
    pretty_format_batches(&[batch.project(&columns).unwrap()]).unwrap().to_string()
}

fn at(offset: usize, record: Record) -> (usize, Record) {
    (offset, record)
}

#[tokio::test]
async fn late_records_change_nothing_and_untouched_hosts_stay() {
    let rules = [policy("disk", "disk_encrypted")];
    let first = [at(0, (1, 10, Some(true))), at(1, (2, 10, Some(false))), at(2, (3, 10, None))];
    let before = judged(&rules, batch(&first), None).await;
    let second = [at(3, (2, 5, Some(true))), at(4, (2, 20, Some(false))), at(5, (0, 1, Some(false)))];
    let after = judged(&rules, batch(&second), Some(before)).await;
    expect_test::expect![[r#"
        +---------+---------+-----------+-----------------------------+--------------------------+------------+
        | host_id | rule_id | state     | since                       | evidence                 | log_offset |
        +---------+---------+-----------+-----------------------------+--------------------------+------------+
        | h0      | disk    | fail      | 1970-01-01T00:00:00.000001Z | {"disk_encrypted":false} | 5          |
        | h1      | disk    | pass      | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":true}  | 0          |
        | h2      | disk    | fail      | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":false} | 4          |
        | h3      | disk    | no_result | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":null}  | 2          |
        +---------+---------+-----------+-----------------------------+--------------------------+------------+"#]].assert_eq(&shown(&after));
}

#[tokio::test]
async fn records_of_a_host_in_two_partitions_are_judged_as_they_were_received() {
    let rows =
        batch(&[at(0, (1, 20, Some(false))), at(1, (1, 30, Some(false))), at(2, (1, 10, Some(false)))]);
    let mut columns = rows.columns().to_vec();
    let place = |name: &str| rows.schema().index_of(name).unwrap();
    // The last one was received first, before partitions were added.
    columns[place("log_partition")] = Arc::new(Int32Array::from(vec![0, 0, 1]));
    let received = TimestampMicrosecondArray::from(vec![21, 31, 11]).with_timezone("UTC");
    columns[place("received_at")] = Arc::new(received);
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let after = judged(&[policy("disk", "disk_encrypted")], rows, None).await;
    let since = after.column_by_name("since").unwrap();
    assert_eq!(micros(since).unwrap().value(0), 10);
}

#[tokio::test]
async fn a_changed_rule_judges_the_newest_record_again_and_a_withdrawn_one_goes() {
    let rules = [policy("disk", "disk_encrypted"), policy("old", "disk_encrypted")];
    let records = [at(0, (1, 10, Some(true))), at(1, (2, 10, None))];
    let before = judged(&rules, batch(&records), None).await;
    let changed = [policy("disk", "coalesce(disk_encrypted, false)"), policy("new", "not disk_encrypted")];
    let after = judged(&changed, batch(&records), Some(before)).await;
    expect_test::expect![[r#"
        +---------+---------+-----------+-----------------------------+-------------------------+------------+
        | host_id | rule_id | state     | since                       | evidence                | log_offset |
        +---------+---------+-----------+-----------------------------+-------------------------+------------+
        | h1      | disk    | pass      | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":true} | 0          |
        | h1      | new     | fail      | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":true} | 0          |
        | h2      | disk    | fail      | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":null} | 1          |
        | h2      | new     | no_result | 1970-01-01T00:00:00.000010Z | {"disk_encrypted":null} | 1          |
        +---------+---------+-----------+-----------------------------+-------------------------+------------+"#]].assert_eq(&shown(&after));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn increments_equal_full_recomputation(
        records in proptest::collection::vec((0_u8..4, 0_i64..20, any::<Option<bool>>()), 0..40),
        cuts in proptest::collection::vec(0_usize..40, 0..4),
    ) {
        let records: Vec<_> = records.into_iter().enumerate().collect();
        let rules = [policy("a", "disk_encrypted"), policy("b", "not disk_encrypted")];
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(records.len())).collect();
        cuts.extend([0, records.len()]);
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (full, incremental) = runtime.block_on(async {
            let mut known = None;
            for cut in cuts.windows(2) {
                known = Some(judged(&rules, batch(&records[cut[0]..cut[1]]), known).await);
            }
            (judged(&rules, batch(&records), None).await, known.unwrap())
        });
        prop_assert_eq!(shown(&full), shown(&incremental));
    }
}
