//! `POST …/tables/{table}/metrics`: what an engine's scan or commit cost.

use axum::{
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use firn_auth::Action;
use firn_catalog_client::MetricsReport;
use serde_json::Value;

use super::{
    call::{Call, parse_body},
    content::Kind,
    error::ApiError,
};
use crate::{management::AppState, reports::without_values};

/// Larger reports are refused.
const MAX_BYTES: usize = 64 << 10;

/// A field, and what it must be.
type Field = (&'static str, fn(&Value) -> bool);

/// What a report must have ("ScanReport", "CommitReport").
const SCAN: [Field; 7] = [
    ("table-name", Value::is_string),
    ("snapshot-id", Value::is_i64),
    ("filter", |value| value.is_object() || value.is_boolean()),
    ("schema-id", Value::is_i64),
    ("projected-field-ids", Value::is_array),
    ("projected-field-names", Value::is_array),
    ("metrics", Value::is_object),
];
const COMMIT: [Field; 5] = [
    ("table-name", Value::is_string),
    ("snapshot-id", Value::is_i64),
    ("sequence-number", Value::is_i64),
    ("operation", Value::is_string),
    ("metrics", Value::is_object),
];

/// Takes a report; it is kept for a while.
pub(super) async fn report(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let found = scope.need(Kind::Table, &call.ident()?).await?;
    let body = body?;
    if body.len() > MAX_BYTES {
        let text = format!("a metrics report has at most {MAX_BYTES} bytes, this one {}", body.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", text));
    }
    let mut report: Value = parse_body(&body)?;
    check(&report)?;
    if let Some(filter) = report.get_mut("filter") {
        *filter = without_values(filter);
    }
    metrics::counter!("firn_catalog_metrics_reports_total", "tenant" => scope.tenant.clone()).increment(1);
    let kept = MetricsReport {
        table: found.ident,
        reference: found.resolved.reference.map(|reference| reference.name),
        received_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        report,
    };
    state.reports.add(&scope.tenant, kept);
    Ok(StatusCode::NO_CONTENT)
}

fn check(report: &Value) -> Result<(), ApiError> {
    let needed: &[Field] = match report["report-type"].as_str() {
        Some("scan-report") => &SCAN,
        Some("commit-report") => &COMMIT,
        _ => {
            let text = "$.report-type: a report is a 'scan-report' or a 'commit-report'";
            return Err(ApiError::invalid(text));
        }
    };
    for (field, fits) in needed {
        if !fits(&report[*field]) {
            return Err(ApiError::invalid(format!(
                "$.{field}: it is missing, or of another type than specified"
            )));
        }
    }
    Ok(())
}
