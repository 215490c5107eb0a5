//! Checks on a model's output, evaluated on each batch before it is written.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, BooleanArray, RecordBatch, UInt64Array},
        compute::{filter_record_batch, take_record_batch},
        datatypes::SchemaRef,
    },
    common::{DFSchema, cast::as_boolean_array},
    error::Result,
    physical_plan::PhysicalExpr,
    prelude::SessionContext,
};
use serde_json::Value;

use super::json::rows_as_json;
use crate::{Check, CheckResult, CheckSeverity, FailingCheck, Model};

/// Rows shown of a broken check.
const SAMPLE_ROWS: usize = 10;

/// A model's checks, compiled, with what they found so far.
pub(crate) struct Checks {
    model: String,
    checks: Vec<Compiled>,
}

struct Compiled {
    check: Check,
    condition: Arc<dyn PhysicalExpr>,
    violations: u64,
    sample: Vec<Value>,
}

impl Checks {
    /// Compiles a model's checks of some severities over the output's schema.
    pub(crate) fn compile(
        session: &SessionContext,
        model: &Model,
        schema: &SchemaRef,
        severities: &[CheckSeverity],
    ) -> Result<Self> {
        let columns = DFSchema::try_from(schema.as_ref().clone())?;
        let compile = |check: &Check| -> Result<Compiled> {
            let condition = session.parse_sql_expr(&check.condition, &columns)?;
            let condition = session.create_physical_expr(condition, &columns)?;
            Ok(Compiled { check: check.clone(), condition, violations: 0, sample: Vec::new() })
        };
        let wanted = model.checks.iter().filter(|check| severities.contains(&check.severity));
        let checks = wanted.map(compile).collect::<Result<_>>()?;
        Ok(Self { model: model.table.to_string(), checks })
    }

    /// Counts breaches, and answers the batch without the rows that are to be dropped.
    pub(crate) fn apply(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let mut kept = batch;
        for compiled in &mut self.checks {
            let held = compiled.condition.evaluate(&kept)?.into_array(kept.num_rows())?;
            let held = as_boolean_array(&held)?;
            let broken: UInt64Array = (0..kept.num_rows())
                .filter(|row| held.is_valid(*row) && !held.value(*row))
                .map(|row| row as u64)
                .collect();
            if broken.is_empty() {
                continue;
            }
            compiled.violations += broken.len() as u64;
            let room = SAMPLE_ROWS - compiled.sample.len();
            if room > 0 {
                let shown = broken.slice(0, room.min(broken.len()));
                compiled.sample.extend(rows_as_json(&[take_record_batch(&kept, &shown)?])?);
            }
            if compiled.check.severity == CheckSeverity::Drop {
                let keep: BooleanArray = held.iter().map(|value| Some(value != Some(false))).collect();
                kept = filter_record_batch(&kept, &keep)?;
            }
        }
        Ok(kept)
    }

    /// Rows that were left out.
    pub(crate) fn dropped(&self) -> u64 {
        let dropping = self.checks.iter().filter(|compiled| compiled.check.severity == CheckSeverity::Drop);
        dropping.map(|compiled| compiled.violations).sum()
    }

    /// What each check found.
    pub(crate) fn results(&self) -> Vec<CheckResult> {
        let result = |compiled: &Compiled| CheckResult {
            name: compiled.check.name.clone(),
            severity: compiled.check.severity,
            violations: compiled.violations,
        };
        self.checks.iter().map(result).collect()
    }

    /// The checks that were broken, with sample rows.
    pub(crate) fn broken(&self) -> Vec<FailingCheck> {
        let broken = self.checks.iter().filter(|compiled| compiled.violations > 0);
        broken
            .map(|compiled| FailingCheck {
                model: self.model.clone(),
                check: compiled.check.name.clone(),
                severity: compiled.check.severity,
                condition: compiled.check.condition.clone(),
                violations: compiled.violations,
                rows: compiled.sample.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::array::{AsArray, Int64Array};

    use super::*;

    #[test]
    fn false_breaks_null_does_not_and_dropped_rows_go() {
        let text = "-- model: a.b\n-- kind: full\n-- check: even drop v % 2 = 0\n-- check: small fail v < 7\nSELECT * FROM bronze.x";
        let model = Model::parse("m.sql", text).unwrap();
        let values = Int64Array::from(vec![Some(1), Some(2), None, Some(8), Some(3)]);
        let batch = RecordBatch::try_from_iter([("v", Arc::new(values) as _)]).unwrap();
        let mut checks =
            Checks::compile(&SessionContext::new(), &model, &batch.schema(), &CheckSeverity::ALL).unwrap();
        let kept = checks.apply(batch).unwrap();
        let left: Vec<_> =
            kept.column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>().iter().collect();
        assert_eq!(left, [Some(2), None, Some(8)]);
        let found: Vec<_> =
            checks.broken().into_iter().map(|check| (check.check, check.violations, check.rows)).collect();
        let row = |v: i64| serde_json::json!({ "v": v });
        assert_eq!(
            found,
            [("even".to_owned(), 2, vec![row(1), row(3)]), ("small".to_owned(), 1, vec![row(8)])]
        );
    }
}
