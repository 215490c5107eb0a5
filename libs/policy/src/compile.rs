//! From a rule's text to an expression over Arrow batches. The same compiled rule serves the stream, gold and backtests.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::{Policy, PolicyError};

/// A rule ready to run over batches that have (at least) the columns it was compiled for.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// The policy.
    pub policy: Policy,
    /// First 16 hex digits of SHA-256 over id, rule, platforms and grace: the revision.
    pub revision: String,
    /// Columns it reads: the evidence.
    pub columns: Vec<String>,
    pub(crate) expression: Arc<dyn PhysicalExpr>,
}

/// What a rule says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Compliant.
    Pass,
    /// In breach.
    Fail,
    /// Can't tell: a column is null, or the platform is another.
    NoResult,
}

/// A rule over a batch.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Per row.
    pub verdicts: Vec<Verdict>,
}

/// Compiles a policy against a schema (bronze or silver: same names and types). `now()` in a rule means the record's
/// `event_time`, so that a verdict never depends on when it is computed.
pub fn compile(_policy: &Policy, _schema: &SchemaRef) -> Result<CompiledRule, PolicyError> {
    todo!()
}

impl CompiledRule {
    /// Evaluates every row. An error at run time makes the whole batch "no result" and is returned beside it.
    #[must_use]
    pub fn evaluate(&self, _batch: &RecordBatch) -> (Evaluation, Option<String>) {
        todo!()
    }

    /// The values that decided for one row, as a JSON object.
    #[must_use]
    pub fn evidence(&self, _batch: &RecordBatch, _row: usize) -> serde_json::Value {
        todo!()
    }
}
