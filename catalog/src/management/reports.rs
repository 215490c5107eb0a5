//! `GET /v1/tenants/{tenant}/metrics-reports`: what engines said that their scans and commits cost.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use firn_auth::Action;
use firn_catalog_client::{MetricsReport, MetricsReports, iceberg::NAMESPACE_SEPARATOR};
use serde::Deserialize;

use super::{AppState, answer::Refused};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct Question {
    /// Levels of the namespace and the name, joined by 0x1F; all tables if absent.
    table: Option<String>,
    limit: Option<usize>,
}

/// The newest reports of a table, or of all that the caller may read.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(question): Query<Question>,
    headers: HeaderMap,
) -> Result<Json<MetricsReports>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Read).await?;
    let table: Option<Vec<String>> =
        question.table.map(|table| table.split(NAMESPACE_SEPARATOR).map(str::to_owned).collect());
    let wanted = |report: &MetricsReport| {
        let mut key = report.table.namespace.clone();
        key.push(report.table.name.clone());
        table.as_ref().is_none_or(|table| *table == key)
            && access.may(Action::Read, report.reference.as_deref(), &key)
    };
    let limit = question.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let reports = state.reports.find(&tenant, table.as_deref(), wanted, limit).await?;
    Ok(Json(MetricsReports { reports }))
}
