//! Metrics reports: what engines said that their scans and commits cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::iceberg::TableIdent;

/// A report as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricsReport {
    /// The table.
    pub table: TableIdent,
    /// Branch or tag that it was reported for; absent for a bare commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When it came (RFC 3339).
    pub received_at: String,
    /// `ScanReport` or `CommitReport` of the Iceberg REST specification, with `report-type`. Values that a scan's filter compares with
    /// are left out.
    pub report: Value,
}

/// Answer of `GET /v1/tenants/{tenant}/metrics-reports`, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricsReports {
    /// The reports.
    pub reports: Vec<MetricsReport>,
}
