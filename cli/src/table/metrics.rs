//! `firn table metrics`: what engines said that their scans and commits of a table cost.

use anyhow::Result;
use chrono::DateTime;
use firn_catalog_client::MetricsReport;
use serde_json::Value;

use super::ident;
use crate::{connection::ConnectionArgs, duration, output};

/// Arguments of `firn table metrics`.
#[derive(clap::Args)]
pub(crate) struct MetricsArgs {
    /// Its name, such as gold.compliance
    table: String,
    /// At most so many reports
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn table metrics`.
pub(super) async fn metrics(args: &MetricsArgs) -> Result<()> {
    let ident = ident(&args.table)?;
    let client = args.connection.connect().await?.lake_client()?;
    let reports = client.metrics_reports(Some(&ident), usize::from(args.limit)).await?;
    if args.json {
        return output::json(&reports);
    }
    let headings = ["when", "ref", "what", "snapshot", "took", "files", "skipped manifests", "by"];
    output::rows(
        &headings,
        reports.iter().map(row).collect(),
        "no reports within the last 7 days; Spark, Flink and Trino send them by themselves",
    )
}

fn row(report: &MetricsReport) -> Vec<String> {
    let of = &report.report;
    let is_scan = of["report-type"] == "scan-report";
    let what = if is_scan { "scan" } else { of["operation"].as_str().unwrap_or("commit") };
    let when = DateTime::parse_from_rfc3339(&report.received_at)
        .map_or_else(|_| report.received_at.clone(), |at| duration::ago(at.timestamp_millis()));
    let files = if is_scan { "result-data-files" } else { "added-data-files" };
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        value => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    vec![
        when,
        report.reference.clone().unwrap_or_default(),
        what.to_owned(),
        text(&of["snapshot-id"]),
        took(&of["metrics"], if is_scan { "total-planning-duration" } else { "total-duration" }),
        text(&of["metrics"][files]["value"]),
        text(&of["metrics"]["skipped-data-manifests"]["value"]),
        text(&of["metadata"]["engine-name"]),
    ]
}

/// A timer in milliseconds; empty if there is none of a known unit.
fn took(metrics: &Value, name: &str) -> String {
    let timer = &metrics[name];
    let per_ms = match timer["time-unit"].as_str() {
        Some("nanoseconds") => 1e6,
        Some("microseconds") => 1e3,
        Some("milliseconds") => 1.0,
        Some("seconds") => 1e-3,
        _ => return String::new(),
    };
    timer["total-duration"].as_f64().map_or_else(String::new, |total| format!("{:.1} ms", total / per_ms))
}

#[cfg(test)]
mod tests {
    use firn_catalog_client::iceberg::TableIdent;
    use serde_json::json;

    use super::*;

    #[test]
    fn scans_and_commits_are_rows() {
        let report = |report: Value| MetricsReport {
            table: TableIdent::new("ns", "t"),
            reference: Some("main".to_owned()),
            received_at: chrono::Utc::now().to_rfc3339(),
            report,
        };
        let scan = report(json!({
            "report-type": "scan-report", "snapshot-id": 7, "metadata": {"engine-name": "spark"},
            "metrics": {
                "total-planning-duration": {"count": 1, "time-unit": "nanoseconds", "total-duration": 2_644_235},
                "result-data-files": {"unit": "count", "value": 3},
                "skipped-data-manifests": {"unit": "count", "value": 2},
            },
        }));
        assert_eq!(row(&scan)[1..], ["main", "scan", "7", "2.6 ms", "3", "2", "spark"]);
        let commit = report(json!({
            "report-type": "commit-report", "snapshot-id": 8, "operation": "append",
            "metrics": {"added-data-files": {"unit": "count", "value": 1}},
        }));
        assert_eq!(row(&commit)[2..6], ["append", "8", "", "1"]);
    }
}
