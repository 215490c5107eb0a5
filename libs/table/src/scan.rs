//! A DataFusion table provider over one snapshot, or over chosen files of it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{
    catalog::{Session, TableProvider},
    error::Result as DataFusionResult,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};

use crate::{Table, TableError};

/// Plans its own scans: manifest, partition and metrics pruning, parallel by files and row groups, columns by field id.
#[derive(Debug)]
pub struct TableScan {}

impl TableScan {
    /// All rows of a snapshot (current if none given).
    pub async fn new(_table: &Table, _snapshot_id: Option<i64>) -> Result<Self, TableError> {
        todo!()
    }

    /// Only the given live data files of the current snapshot, by location.
    pub async fn of_files(_table: &Table, _locations: &[String]) -> Result<Self, TableError> {
        todo!()
    }
}

#[async_trait::async_trait]
impl TableProvider for TableScan {
    fn schema(&self) -> SchemaRef {
        todo!()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, _filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        todo!()
    }

    async fn scan(&self, _state: &dyn Session, _projection: Option<&Vec<usize>>, _filters: &[Expr], _limit: Option<usize>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        todo!()
    }
}
