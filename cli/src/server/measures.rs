//! What the metrics of all services are called and mean; docs/METRICS.md says the same.

use std::collections::BTreeMap;

use firn_runtime::{StageState, StatusBoard, Usage};

/// Name, kind, labels, meaning.
const METRICS: &[(&str, &str, &str, &str)] = &[
    ("firn_build_info", "gauge", "version", "1; counts processes by version"),
    ("firn_process_resident_bytes", "gauge", "", "Memory that the process holds (on Linux)"),
    ("firn_process_peak_resident_bytes", "gauge", "", "The most that it ever held (on Linux)"),
    ("firn_stage_failing", "gauge", "stage", "1 while the stage doesn't work, else 0"),
    ("firn_http_request_seconds", "histogram", "method, route, status", "Time to answer a request"),
    ("firn_access_denied_total", "counter", "", "Requests that were refused for want of rights"),
    (
        "firn_audit_lost_total",
        "counter",
        "",
        "Refusals and reads that are missing in the audit log: too many at once, or the catalog or its database was away",
    ),
    (
        "firn_tls_certificate_end_seconds",
        "gauge",
        "",
        "When the listener's certificate ends, in seconds since 1970",
    ),
    (
        "firn_tls_refused_total",
        "counter",
        "reason",
        "Connections without TLS: plain HTTP, too slow, or a handshake that failed",
    ),
    (
        "firn_reload_failures_total",
        "counter",
        "what",
        "Files that changed and can't be used; what there was stays in use",
    ),
    ("firn_catalog_metrics_reports_total", "counter", "tenant", "Scan and commit reports that engines sent"),
    (
        "firn_catalog_metrics_reports_dropped_total",
        "counter",
        "tenant",
        "Those of them that were not kept: too many at once, or the database was away",
    ),
    (
        "firn_catalog_collected_files_total",
        "counter",
        "tenant",
        "Files that garbage collection and orphan removal deleted",
    ),
    ("firn_catalog_collected_bytes_total", "counter", "tenant", "Their bytes"),
    ("firn_gateway_upload_seconds", "histogram", "", "Time to take an upload, until the log has it"),
    (
        "firn_gateway_records_total",
        "counter",
        "tenant, outcome",
        "Records that were uploaded: accepted or refused",
    ),
    (
        "firn_relay_records_total",
        "counter",
        "tenant",
        "Records of other producers that were copied from the tenant's own topic",
    ),
    (
        "firn_ingest_records_total",
        "counter",
        "tenant, table",
        "Records that were committed to a table; table quarantine: those that could not be taken",
    ),
    ("firn_ingest_commits_total", "counter", "tenant", "Commits of batches"),
    (
        "firn_ingest_failures_total",
        "counter",
        "tenant",
        "Batches that were not committed and are taken again",
    ),
    (
        "firn_ingest_freshness_seconds",
        "histogram",
        "topic",
        "Age of a batch's newest record when it was committed",
    ),
    ("firn_ingest_lag_records", "gauge", "topic", "Records of the topic that wait for this worker"),
    ("firn_ingest_buffered_bytes", "gauge", "topic", "Bytes of records in memory"),
    (
        "firn_ingest_commit_interval_seconds",
        "gauge",
        "topic",
        "Longest time between two commits of a tenant now",
    ),
    ("firn_ingest_rejections_total", "counter", "kind", "Records that went to quarantine, by reason"),
    ("firn_ingest_erased_total", "counter", "tenant", "Records passed over, since their subject was erased"),
    (
        "firn_ingest_reference_failures_total",
        "counter",
        "tenant",
        "Times that `reference.organizations` could not be read, and what was known of it went on holding",
    ),
    ("firn_ingest_replayed_total", "counter", "tenant", "Records taken by replays"),
    (
        "firn_ingest_tenant_lag_records",
        "gauge",
        "topic, tenant",
        "Records of the tenant that this worker has read and that are in no table yet",
    ),
    (
        "firn_ingest_tenant_fresh_until_seconds",
        "gauge",
        "topic, tenant",
        "Receipt of the newest record in the tenant's table, in seconds since 1970",
    ),
    ("firn_ingest_suspended", "gauge", "tenant", "1 while the tenant's ingest is suspended, else 0"),
    ("firn_promotion_runs_total", "counter", "outcome", "Promotion runs: ok or failed"),
    ("firn_promotion_rows_total", "counter", "model", "Rows that models wrote"),
    (
        "firn_freshness_behind_seconds",
        "gauge",
        "tenant, table",
        "How long a table with a freshness objective lacks what its inputs have",
    ),
    (
        "firn_table_health",
        "gauge",
        "tenant, table",
        "Health score of a table when its files were looked at last: 0 (all work undone) to 100",
    ),
    ("firn_freshness_missed", "gauge", "tenant, table", "1 while that is longer than the objective, else 0"),
    ("firn_alerts_records_total", "counter", "tenant", "Records that were judged"),
    ("firn_alerts_transitions_total", "counter", "tenant", "Transitions of findings"),
    ("firn_alerts_late_samples_total", "counter", "tenant", "Samples that came too late for their window"),
    ("firn_alerts_unreadable_records_total", "counter", "", "Records that could not be judged"),
    ("firn_alerts_lag_records", "gauge", "", "Records that wait to be judged by this worker"),
    ("firn_alerts_sink_delivered_total", "counter", "sink", "Transitions that a sink took"),
    ("firn_alerts_sink_dead_letters_total", "counter", "sink", "Transitions that a sink refused for good"),
];

/// Tells Prometheus what the metrics mean, and who this is.
pub(super) fn describe() {
    for &(name, kind, _, meaning) in METRICS {
        match kind {
            "counter" => metrics::describe_counter!(name, meaning),
            "gauge" => metrics::describe_gauge!(name, meaning),
            _ => metrics::describe_histogram!(name, meaning),
        }
    }
    metrics::gauge!("firn_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// What the process takes of the machine, where the system tells.
pub(super) fn report_process() {
    let Ok(usage) = Usage::of_this_process() else { return };
    #[allow(clippy::cast_precision_loss, reason = "a gauge")]
    let set = |name: &'static str, bytes: u64| metrics::gauge!(name).set(bytes as f64);
    set("firn_process_resident_bytes", usage.resident_bytes);
    set("firn_process_peak_resident_bytes", usage.peak_resident_bytes);
}

/// Which stages don't work, of any tenant's or as a whole.
pub(super) fn report_stages(board: &StatusBoard) {
    let mut stages: BTreeMap<String, bool> = BTreeMap::new();
    for ((stage, tenant), status) in board.all() {
        *stages.entry(stage).or_default() |= tenant == "*" && status.state == StageState::Failing;
    }
    for (stage, fails) in stages {
        metrics::gauge!("firn_stage_failing", "stage" => stage).set(f64::from(u8::from(fails)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/METRICS.md");

    #[test]
    fn reference_page_lists_exactly_these() {
        let row = |(name, kind, labels, meaning): &(&str, &str, &str, &str)| {
            format!("| `{name}` | {kind} | {labels} | {meaning} |")
        };
        let wanted: Vec<String> = METRICS.iter().map(row).collect();
        let listed: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| `firn_")).collect();
        assert_eq!(listed, wanted);
    }

    #[test]
    fn names_follow_prometheus_conventions() {
        for &(name, kind, _, meaning) in METRICS {
            assert!(name.starts_with("firn_") && !meaning.is_empty(), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}: counters alone end in _total");
        }
    }
}
