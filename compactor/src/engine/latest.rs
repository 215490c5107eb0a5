//! The newest row per key.
//!
//! Taking the newest of (increment and previous output) gives what taking the newest of all input gives, since the
//! newest row of a key is either new or was the newest before. Rows that agree in the whole order are repeats.

use std::sync::Arc;

use datafusion::{catalog::TableProvider, dataframe::DataFrame, error::Result, prelude::SessionContext};

use super::{quoted, quoted_list};

const INCREMENT: &str = "firn_increment";
const PREVIOUS: &str = "firn_previous";

/// Rows of both tables, of each key only the one that is last by `order`; a null is older than any value. The tables
/// have the same schema.
pub(crate) async fn merge_latest(
    session: &SessionContext,
    increment: Arc<dyn TableProvider>,
    previous: Option<Arc<dyn TableProvider>>,
    key: &[String],
    order: &[String],
) -> Result<DataFrame> {
    let schema = increment.schema();
    let columns = quoted_list(schema.fields().iter().map(|field| field.name().as_str()));
    let mut rows = format!("SELECT {columns} FROM {INCREMENT}");
    session.register_table(INCREMENT, increment)?;
    if let Some(previous) = previous {
        session.register_table(PREVIOUS, previous)?;
        rows.push_str(&format!(" UNION ALL SELECT {columns} FROM {PREVIOUS}"));
    }
    let key = quoted_list(key.iter().map(String::as_str));
    let order: Vec<_> = order.iter().map(|column| format!("{} DESC NULLS LAST", quoted(column))).collect();
    let order = order.join(", ");
    session
        .sql(&format!(
            "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {key} ORDER BY {order}) \
             AS firn_rank FROM ({rows})) WHERE firn_rank = 1"
        ))
        .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::{
        arrow::{
            array::{ArrayRef, Int64Array, RecordBatch, StringArray},
            util::pretty::pretty_format_batches,
        },
        catalog::MemTable,
    };
    use proptest::prelude::{Strategy, prop_assert_eq, proptest};

    use super::*;

    /// Host, event time, offset; the offset says which record it is.
    type Row = (u8, i64, i64);

    fn table(rows: &[Row]) -> Arc<dyn TableProvider> {
        let hosts: StringArray = rows.iter().map(|row| Some(format!("host-{}", row.0))).collect();
        let times: Int64Array = rows.iter().map(|row| (row.1 % 7 != 0).then_some(row.1)).collect();
        let offsets: Int64Array = rows.iter().map(|row| Some(row.2)).collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("host_id", Arc::new(hosts)),
            ("event_time", Arc::new(times)),
            ("log_offset", Arc::new(offsets)),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
                .unwrap();
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
    }

    async fn newest(rows: &[Row], previous: Option<Arc<dyn TableProvider>>) -> Vec<RecordBatch> {
        let (key, order) = (["host_id".to_owned()], ["event_time".to_owned(), "log_offset".to_owned()]);
        let merged = merge_latest(&SessionContext::new(), table(rows), previous, &key, &order).await.unwrap();
        let host = datafusion::prelude::col("host_id").sort(true, false);
        merged.sort(vec![host]).unwrap().collect().await.unwrap()
    }

    fn shown(batches: &[RecordBatch]) -> String {
        pretty_format_batches(batches).unwrap().to_string()
    }

    #[tokio::test]
    async fn the_last_by_order_wins_and_null_loses() {
        let rows = [(1, 5, 1), (1, 9, 0), (1, 7, 2), (2, 7, 3), (2, 14, 4)];
        expect_test::expect![[r#"
            +---------+------------+------------+
            | host_id | event_time | log_offset |
            +---------+------------+------------+
            | host-1  | 9          | 0          |
            | host-2  |            | 4          |
            +---------+------------+------------+"#]]
        .assert_eq(&shown(&newest(&rows, None).await));
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        /// Late rows, repeats and nulls included, in any split into increments.
        #[test]
        fn increments_equal_full_recomputation(
            increments in proptest::collection::vec(
                proptest::collection::vec((0_u8..5, 0_i64..30, 0_i64..20).prop_map(|row| row), 0..12), 1..6)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (full, incremental) = runtime.block_on(async {
                let mut previous: Option<Vec<RecordBatch>> = None;
                for increment in &increments {
                    let before = previous.map(|batches| {
                        let schema = table(&[]).schema();
                        Arc::new(MemTable::try_new(schema, vec![batches]).unwrap()) as Arc<dyn TableProvider>
                    });
                    previous = Some(newest(increment, before).await);
                }
                (newest(&increments.concat(), None).await, previous.unwrap())
            });
            prop_assert_eq!(shown(&full), shown(&incremental));
        }
    }
}
