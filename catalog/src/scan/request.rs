//! What a client asks for, and the same once it is pinned to snapshots and a schema.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{columns::Columns, expression::Expression};
use crate::{CatalogError, metadata::Document};

/// Longest filter, as JSON. Each plan task carries it.
const MAX_FILTER_BYTES: usize = 1 << 20;

/// `PlanTableScanRequest` of the specification.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct ScanRequest {
    snapshot_id: Option<i64>,
    start_snapshot_id: Option<i64>,
    end_snapshot_id: Option<i64>,
    select: Option<Vec<String>>,
    filter: Option<Value>,
    case_sensitive: Option<bool>,
    use_snapshot_schema: Option<bool>,
    stats_fields: Option<Vec<String>>,
    min_rows_requested: Option<i64>,
}

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Range {
    /// Those of a snapshot; of an empty table without one.
    At(Option<i64>),
    /// Those that appends added after one snapshot, up to another.
    Appended { after: i64, to: i64 },
}

/// A request that means the same whatever becomes of the table: plans and plan tasks carry it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pinned {
    pub(crate) range: Range,
    pub(crate) schema_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<Value>,
    pub(crate) case_sensitive: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stats_fields: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_rows: Option<i64>,
}

impl ScanRequest {
    /// Checks the request and pins it to what the table is now.
    pub(crate) fn pin(self, document: &Document) -> Result<Pinned, CatalogError> {
        let invalid = |text: String| Err(CatalogError::Invalid(text));
        let range = match (self.snapshot_id, self.start_snapshot_id, self.end_snapshot_id) {
            (Some(_), None, None) | (None, None, None) => {
                Range::At(self.snapshot_id.or_else(|| document.current_snapshot_id()))
            }
            (None, Some(after), Some(to)) => Range::Appended { after, to },
            (None, None, Some(_)) => {
                return invalid("$.start-snapshot-id: it is needed beside end-snapshot-id".to_owned());
            }
            (None, Some(_), None) => {
                return invalid("$.end-snapshot-id: it is needed beside start-snapshot-id".to_owned());
            }
            (Some(_), _, _) => {
                let text = "$.snapshot-id: a scan is of one snapshot, or from one to another, not both";
                return invalid(text.to_owned());
            }
        };
        if self.min_rows_requested.is_some_and(|rows| rows < 0) {
            return invalid("$.min-rows-requested: a number of rows is not negative".to_owned());
        }
        let last = match range {
            Range::At(id) => id,
            Range::Appended { to, .. } => Some(to),
        };
        let snapshot = match last {
            None => None,
            Some(id) => Some(snapshot(document, id)?),
        };
        let own = snapshot.and_then(|snapshot| snapshot["schema-id"].as_i64());
        let own = own.filter(|_| self.use_snapshot_schema == Some(true));
        let schema_id = own.or_else(|| document.int("current-schema-id")).unwrap_or_default();
        let pinned = Pinned {
            range,
            schema_id,
            filter: self.filter,
            case_sensitive: self.case_sensitive.unwrap_or(true),
            stats_fields: self.stats_fields.unwrap_or_default(),
            min_rows: self.min_rows_requested,
        };
        let (columns, _) = pinned.bind(document)?;
        columns.ids(&self.select.unwrap_or_default(), "select").map_err(CatalogError::Invalid)?;
        Ok(pinned)
    }
}

impl Pinned {
    /// The schema's columns, and the filter over them.
    pub(crate) fn bind(&self, document: &Document) -> Result<(Columns, Expression), CatalogError> {
        let schemas = document.list("schemas").iter();
        let schema = schemas.into_iter().find(|schema| schema["schema-id"].as_i64() == Some(self.schema_id));
        let Some(schema) = schema else {
            let text = format!("the table has no schema {} any more: plan the scan again", self.schema_id);
            return Err(CatalogError::Invalid(text));
        };
        let columns = Columns::new(schema, self.case_sensitive);
        let expression = match &self.filter {
            None => Expression::Constant(true),
            Some(filter) if filter.to_string().len() > MAX_FILTER_BYTES => {
                let text = format!("$.filter: it is longer than {MAX_FILTER_BYTES} bytes");
                return Err(CatalogError::Invalid(text));
            }
            Some(filter) => Expression::parse(filter, &columns).map_err(CatalogError::Invalid)?,
        };
        columns.ids(&self.stats_fields, "stats-fields").map_err(CatalogError::Invalid)?;
        Ok((columns, expression))
    }
}

/// A snapshot of a table.
pub(crate) fn snapshot(document: &Document, id: i64) -> Result<&Value, CatalogError> {
    document.snapshot(id).ok_or_else(|| {
        CatalogError::Invalid(format!(
            "the table has no snapshot {id}: it expired, or never was of this table"
        ))
    })
}
