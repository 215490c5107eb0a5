//! `firn.system.metrics_reports`: what engines said of their scans and commits, as a table. It is read when a query names it.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{Field, Schema},
};
use chrono::DateTime;
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider, TableProvider},
    datasource::MemTable,
    error::{DataFusionError, Result as DataFusionResult},
    prelude::SessionContext,
};
use firn_catalog_client::{MetricsReport, TenantClient};

const CATALOG: &str = "firn";
const SCHEMA: &str = "system";
const REPORTS: &str = "metrics_reports";
/// As many as the server answers.
const LIMIT: usize = 1000;

/// The tables that tell of the catalog itself.
struct System {
    client: TenantClient,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

/// Adds them to a session.
pub(super) fn register(session: &SessionContext, client: &TenantClient) -> DataFusionResult<()> {
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(System { client: client.clone() }))?;
    session.register_catalog(CATALOG, Arc::new(catalog));
    Ok(())
}

#[async_trait::async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        vec![REPORTS.to_owned()]
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if name != REPORTS {
            return Ok(None);
        }
        let reports = self.client.metrics_reports(None, LIMIT).await;
        let reports = reports.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let batch = batch(&reports)?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        name == REPORTS
    }
}

fn batch(reports: &[MetricsReport]) -> DataFusionResult<RecordBatch> {
    let text = |of: &dyn Fn(&MetricsReport) -> Option<String>| -> ArrayRef {
        Arc::new(reports.iter().map(of).collect::<StringArray>())
    };
    let field = |name: &'static str| {
        move |report: &MetricsReport| match &report.report[name] {
            serde_json::Value::Null => None,
            value => Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        }
    };
    let received = reports
        .iter()
        .map(|report| DateTime::parse_from_rfc3339(&report.received_at).ok().map(|at| at.timestamp_millis()));
    let snapshots = reports.iter().map(|report| report.report["snapshot-id"].as_i64());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("received_at", Arc::new(received.collect::<TimestampMillisecondArray>().with_timezone("UTC"))),
        ("table_name", text(&|report| Some(report.table.to_string()))),
        ("reference", text(&|report| report.reference.clone())),
        ("report_type", text(&field("report-type"))),
        ("snapshot_id", Arc::new(snapshots.collect::<Int64Array>())),
        ("operation", text(&field("operation"))),
        ("filter", text(&field("filter"))),
        ("metrics", text(&field("metrics"))),
        ("metadata", text(&field("metadata"))),
    ];
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use firn_catalog_client::iceberg::TableIdent;
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_are_rows() {
        let report = MetricsReport {
            table: TableIdent::new("ns", "t"),
            reference: None,
            received_at: "2026-11-22T10:00:00.500Z".to_owned(),
            report: json!({"report-type": "scan-report", "snapshot-id": 7, "filter": true, "metrics": {"a": 1}}),
        };
        let rows = batch(&[report]).unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap().to_string();
        for cell in ["2026-11-22T10:00:00.500Z", "| ns.t ", "| scan-report ", "| 7 ", "| {\"a\":1} "] {
            assert!(shown.contains(cell), "{cell}: {shown}");
        }
        assert_eq!(batch(&[]).unwrap().num_rows(), 0);
    }
}
