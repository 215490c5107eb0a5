//! The newest row per key.
//!
//! A newer row takes the place of the one before, so that an increment costs what it holds and one look at keys and orders
//! of the output. Where rows of the input were removed, the newest of what is left of their keys is looked for in the
//! input. Rows that agree in the whole order are repeats: the one that is there stays.

use std::sync::Arc;

use datafusion::{catalog::TableProvider, dataframe::DataFrame, error::Result, prelude::SessionContext};

use super::{quoted, quoted_list};

const ADDED: &str = "firn_added";
const PRIOR: &str = "firn_prior";
const AFFECTED: &str = "firn_affected";
const INPUT: &str = "firn_input";

/// What identifies a row and says which is newest.
#[derive(Clone, Copy)]
pub(crate) struct Newest<'a> {
    pub(crate) key: &'a [String],
    pub(crate) order: &'a [String],
}

/// What an increment brings.
pub(crate) struct Arrived {
    /// Rows of the output's columns.
    pub(crate) added: Arc<dyn TableProvider>,
    /// Whether these are the newest of their keys already.
    pub(crate) chosen: bool,
    /// Where rows were removed: their keys, and all rows of the input.
    pub(crate) affected: Option<(DataFrame, Arc<dyn TableProvider>)>,
    /// Key, order and place of the output's rows; absent if there are none.
    pub(crate) prior: Option<Arc<dyn TableProvider>>,
}

impl Newest<'_> {
    /// `left`'s key equals that of `right`.
    fn same_key(&self, left: &str, right: &str) -> String {
        let equal = self.key.iter().map(|name| format!("{left}.{0} = {right}.{0}", quoted(name)));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    /// `left` is after `right`; a null is older than any value.
    fn newer(&self, left: &str, right: &str) -> String {
        self.order.iter().rev().fold("false".to_owned(), |rest, name| {
            let (new, old) = (format!("{left}.{}", quoted(name)), format!("{right}.{}", quoted(name)));
            format!(
                "(({new} IS NOT NULL AND ({old} IS NULL OR {new} > {old})) \
                 OR (({new} IS NOT DISTINCT FROM {old}) AND {rest}))"
            )
        })
    }

    /// The query for the newest row of each key in `rows`.
    fn of(&self, columns: &str, rows: &str) -> String {
        let key = quoted_list(self.key.iter().map(String::as_str));
        let order: Vec<_> =
            self.order.iter().map(|column| format!("{} DESC NULLS LAST", quoted(column))).collect();
        let order = order.join(", ");
        format!(
            "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {key} ORDER BY {order}) \
             AS firn_rank FROM ({rows})) WHERE firn_rank = 1"
        )
    }

    /// Rows that are newer than what the output has of their keys; where there is a prior, each with the place of the row
    /// that it replaces, if any.
    pub(crate) async fn arrive(&self, session: &SessionContext, arrived: Arrived) -> Result<DataFrame> {
        let schema = arrived.added.schema();
        let columns = quoted_list(schema.fields().iter().map(|field| field.name().as_str()));
        session.register_table(ADDED, arrived.added)?;
        let mut rows = format!("SELECT {columns} FROM {ADDED}");
        let mut prior = format!("SELECT * FROM {PRIOR}");
        if let Some((affected, input)) = arrived.affected {
            session.register_table(AFFECTED, affected.into_view())?;
            session.register_table(INPUT, input)?;
            let known = |of: &str| format!("(SELECT 1 FROM {AFFECTED} a WHERE {})", self.same_key("a", of));
            // What was added of such a key may be gone again: the input says what is left.
            rows = format!(
                "SELECT {columns} FROM {ADDED} n WHERE NOT EXISTS {} \
                 UNION ALL SELECT {columns} FROM {INPUT} i WHERE EXISTS {}",
                known("n"),
                known("i")
            );
            prior = format!("SELECT * FROM {PRIOR} p WHERE NOT EXISTS {}", known("p"));
        }
        let newest = if arrived.chosen { rows } else { self.of(&columns, &rows) };
        let Some(table) = arrived.prior else { return session.sql(&newest).await };
        session.register_table(PRIOR, table)?;
        let (same, newer) = (self.same_key("n", "p"), self.newer("n", "p"));
        session
            .sql(&format!(
                "SELECT n.*, p.firn_file, p.firn_position FROM ({newest}) n LEFT JOIN ({prior}) p ON {same} \
                 WHERE p.firn_file IS NULL OR {newer}"
            ))
            .await
    }
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

    /// The newest of `rows`, and which of them replace rows of `prior`: as host, event time, offset and the host replaced.
    async fn newest(rows: &[Row], prior: &[Row]) -> Vec<RecordBatch> {
        let (key, order) = (["host_id".to_owned()], ["event_time".to_owned(), "log_offset".to_owned()]);
        let session = SessionContext::new();
        let prior = (!prior.is_empty()).then(|| {
            session.register_table("known", table(prior)).unwrap();
            session.clone()
        });
        let prior = match prior {
            None => None,
            Some(session) => {
                let sql = "SELECT *, CAST(0 AS BIGINT) AS firn_file, log_offset AS firn_position FROM known";
                Some(session.sql(sql).await.unwrap().into_view())
            }
        };
        let arrived = Arrived { added: table(rows), chosen: false, affected: None, prior };
        let newest = Newest { key: &key, order: &order }.arrive(&session, arrived).await.unwrap();
        let host = datafusion::prelude::col("host_id").sort(true, false);
        newest.sort(vec![host]).unwrap().collect().await.unwrap()
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
        .assert_eq(&shown(&newest(&rows, &[]).await));
    }

    #[tokio::test]
    async fn only_newer_rows_replace_what_is_there() {
        let prior = [(1, 9, 0), (2, 7, 3), (3, 8, 5), (4, 7, 6)];
        // Older, newer than null, equal, a null after a null, and a new host.
        let rows = [(1, 8, 9), (2, 1, 1), (3, 8, 5), (4, 14, 7), (5, 7, 8)];
        expect_test::expect![[r#"
            +---------+------------+------------+-----------+---------------+
            | host_id | event_time | log_offset | firn_file | firn_position |
            +---------+------------+------------+-----------+---------------+
            | host-2  | 1          | 1          | 0         | 3             |
            | host-4  |            | 7          | 0         | 6             |
            | host-5  |            | 8          |           |               |
            +---------+------------+------------+-----------+---------------+"#]]
        .assert_eq(&shown(&newest(&rows, &prior).await));
    }
}
