//! Running a compiled rule over batches.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array},
    compute::{cast, take},
    datatypes::DataType,
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
};
use datafusion::{error::Result as DataFusionResult, physical_plan::PhysicalExpr};
use serde_json::Value;

use crate::{
    CompiledRule,
    compile::{Body, PLATFORM_COLUMN},
};

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

/// List elements shown in evidence: enough to see what is wrong without copying an inventory into each alert.
const EVIDENCE_ELEMENTS: usize = 20;

impl CompiledRule {
    /// Evaluates every row; a rule that isn't about single records has no result of any. A row on which the rule fails at run time (a division by zero, say) is "no result", and the
    /// first such error is returned beside the verdicts; other rows are not touched by it, so that a verdict never depends
    /// on which records share a batch.
    #[must_use]
    pub fn evaluate(&self, batch: &RecordBatch) -> (Evaluation, Option<String>) {
        let rows = batch.num_rows();
        let Body::Record(expression) = &self.body else {
            return (Evaluation { verdicts: vec![Verdict::NoResult; rows] }, None);
        };
        let input = match self.input(batch) {
            Ok(input) => input,
            Err(error) => {
                return (Evaluation { verdicts: vec![Verdict::NoResult; rows] }, Some(error.to_string()));
            }
        };
        let applies = self.applies(batch);
        let (answers, error) = match run(expression, &input) {
            Ok(answers) => (answers, None),
            Err(_) => run_each(expression, &input, &applies),
        };
        let verdict = |row: usize| match answers.is_valid(row) && applies[row] {
            true if answers.value(row) => Verdict::Pass,
            true => Verdict::Fail,
            false => Verdict::NoResult,
        };
        (Evaluation { verdicts: (0..rows).map(verdict).collect() }, error)
    }

    /// The values that decided for one row, as a JSON object. Long lists are cut.
    #[must_use]
    pub fn evidence(&self, batch: &RecordBatch, row: usize) -> Value {
        self.evidence_of(batch, &[row]).pop().unwrap_or_default()
    }

    /// The same for several rows, in their order: that is far cheaper than one by one.
    #[must_use]
    pub fn evidence_of(&self, batch: &RecordBatch, rows: &[usize]) -> Vec<Value> {
        let render = || -> Result<Vec<Value>, ArrowError> {
            let places: UInt64Array = rows.iter().map(|row| *row as u64).collect();
            let input = self.columns_of(batch, rows.len(), |column| take(column, &places, None))?;
            let mut text = Vec::new();
            let mut writer =
                WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
            writer.write(&input)?;
            writer.finish()?;
            drop(writer);
            let values =
                serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<Vec<_>, _>>();
            let values = values.map_err(|error| ArrowError::JsonError(error.to_string()))?;
            if values.len() != rows.len() {
                let message = format!("{} values for {} rows", values.len(), rows.len());
                return Err(ArrowError::JsonError(message));
            }
            Ok(values)
        };
        match render() {
            Ok(mut values) => {
                values.iter_mut().for_each(shorten);
                values
            }
            Err(error) => vec![serde_json::json!({ "error": error.to_string() }); rows.len()],
        }
    }

    /// The batch's columns that the rule reads, in the types it was compiled for.
    pub(crate) fn input(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.columns_of(batch, batch.num_rows(), |column| Ok(Arc::clone(column)))
    }

    /// The same of chosen rows.
    fn columns_of(
        &self,
        batch: &RecordBatch,
        rows: usize,
        choose: impl Fn(&ArrayRef) -> Result<ArrayRef, ArrowError>,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let column = batch.column_by_name(field.name()).ok_or_else(|| {
                ArrowError::SchemaError(format!("the batch lacks the column '{}'", field.name()))
            })?;
            let column = choose(column)?;
            let same = column.data_type() == field.data_type();
            columns.push(if same { column } else { cast(&column, field.data_type())? });
        }
        // A rule that counts records reads no column: the rows are there nevertheless.
        let rows = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &rows)
    }

    /// Whether the rule is about the platform, by row.
    pub(crate) fn applies(&self, batch: &RecordBatch) -> Vec<bool> {
        if self.policy.platforms.is_empty() {
            return vec![true; batch.num_rows()];
        }
        let column =
            batch.column_by_name(PLATFORM_COLUMN).and_then(|column| cast(column, &DataType::Utf8).ok());
        let Some(column) = column else { return vec![false; batch.num_rows()] };
        let wanted =
            |name: &str| self.policy.platforms.iter().any(|platform| platform.eq_ignore_ascii_case(name));
        column.as_string::<i32>().iter().map(|name| name.is_some_and(wanted)).collect()
    }
}

fn run(expression: &Arc<dyn PhysicalExpr>, input: &RecordBatch) -> DataFusionResult<BooleanArray> {
    let answers = expression.evaluate(input)?.into_array(input.num_rows())?;
    Ok(answers.as_boolean().clone())
}

fn run_each(
    expression: &Arc<dyn PhysicalExpr>,
    input: &RecordBatch,
    applies: &[bool],
) -> (BooleanArray, Option<String>) {
    let mut first_error = None;
    let mut answer = |row: usize| {
        if !applies[row] {
            return None;
        }
        match run(expression, &input.slice(row, 1)) {
            Ok(answer) => answer.is_valid(0).then(|| answer.value(0)),
            Err(error) => {
                first_error.get_or_insert_with(|| error.strip_backtrace());
                None
            }
        }
    };
    let answers = (0..input.num_rows()).map(&mut answer).collect();
    (answers, first_error)
}

fn shorten(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Array(elements) if elements.len() > EVIDENCE_ELEMENTS => {
            let more = elements.len() - EVIDENCE_ELEMENTS;
            elements.truncate(EVIDENCE_ELEMENTS);
            elements.push(Value::String(format!("and {more} more")));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::{
        array::{Int64Array, ListArray, StringArray, StringViewArray, TimestampMicrosecondArray},
        datatypes::{Field, Int32Type, Schema, SchemaRef, TimeUnit},
    };

    use super::*;
    use crate::{compile, parse};

    fn schema() -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("event_time", utc, false),
            Field::new("os_type", DataType::Utf8, true),
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
        ]))
    }

    fn batch(rows: &[(Option<&str>, Option<i64>, Option<i64>)]) -> RecordBatch {
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|_| 86_400_000_000))
            .with_timezone("UTC");
        let platforms: StringArray = rows.iter().map(|row| row.0).collect();
        let a: Int64Array = rows.iter().map(|row| row.1).collect();
        let b: Int64Array = rows.iter().map(|row| row.2).collect();
        RecordBatch::try_new(schema(), vec![Arc::new(times), Arc::new(platforms), Arc::new(a), Arc::new(b)])
            .unwrap()
    }

    fn rule(rule: &str, platforms: &str) -> CompiledRule {
        let toml = format!("id='p'\ntitle='P'\nseverity='low'\nplatforms={platforms}\nrule=\"{rule}\"");
        compile(&parse(&toml, "p.toml").unwrap(), &schema()).unwrap()
    }

    #[test]
    fn true_false_and_null_are_pass_fail_and_no_result() {
        let rule = rule("a > b", "[]");
        let (evaluation, error) = rule.evaluate(&batch(&[
            (None, Some(2), Some(1)),
            (None, Some(1), Some(2)),
            (None, None, Some(2)),
        ]));
        assert_eq!(evaluation.verdicts, [Verdict::Pass, Verdict::Fail, Verdict::NoResult]);
        assert_eq!(error, None);
    }

    #[test]
    fn other_platforms_give_no_result() {
        let rule = rule("a > b", "['linux', 'macos']");
        let fail = (Some(1), Some(2));
        let rows = [Some("linux"), Some("windows"), None, Some("macOS")].map(|os| (os, fail.0, fail.1));
        let (evaluation, _) = rule.evaluate(&batch(&rows));
        assert_eq!(evaluation.verdicts, [Verdict::Fail, Verdict::NoResult, Verdict::NoResult, Verdict::Fail]);
    }

    #[test]
    fn run_time_error_touches_its_own_row_only() {
        let rule = rule("a / b > 1", "[]");
        let rows = [(None, Some(4), Some(2)), (None, Some(4), Some(0)), (None, Some(1), Some(2))];
        let (evaluation, error) = rule.evaluate(&batch(&rows));
        assert_eq!(evaluation.verdicts, [Verdict::Pass, Verdict::NoResult, Verdict::Fail]);
        assert!(error.unwrap().to_lowercase().contains("divide by zero"));
    }

    #[test]
    fn missing_column_makes_no_result_and_is_named() {
        let (evaluation, error) =
            rule("a > b", "[]").evaluate(&batch(&[(None, None, None)]).project(&[0, 2]).unwrap());
        assert_eq!(evaluation.verdicts, [Verdict::NoResult]);
        assert!(error.unwrap().contains("'b'"));
    }

    #[test]
    fn text_views_from_scans_are_taken_like_text() {
        let rule = rule("os_type = 'linux'", "['linux']");
        let views: StringViewArray = [Some("linux"), Some("windows")].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("os_type", Arc::new(views) as Arc<dyn Array>)]).unwrap();
        assert_eq!(rule.evaluate(&batch).0.verdicts, [Verdict::Pass, Verdict::NoResult]);
    }

    #[test]
    fn evidence_holds_the_columns_read_with_nulls() {
        let rule = rule("a > b OR event_time > now() - INTERVAL '1 day'", "[]");
        let evidence = rule.evidence(&batch(&[(None, Some(2), None)]), 0);
        assert_eq!(evidence, serde_json::json!({ "event_time": "1970-01-02T00:00:00Z", "a": 2, "b": null }));
    }

    #[test]
    fn evidence_of_rows_is_that_of_each_in_their_order() {
        let rule = rule("a > b", "[]");
        let rows: Vec<_> = (0..5).map(|n| (None, Some(n), (n != 3).then_some(7))).collect();
        let batch = batch(&rows);
        let places = [4, 0, 3, 0];
        let one_by_one: Vec<_> = places.iter().map(|row| rule.evidence(&batch, *row)).collect();
        assert_eq!(rule.evidence_of(&batch, &places), one_by_one);
        assert_eq!(one_by_one[2], serde_json::json!({ "a": 3, "b": null }));
    }

    #[test]
    fn long_lists_in_evidence_are_cut() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some((0..50).map(Some))]);
        let batch = RecordBatch::try_from_iter([("numbers", Arc::new(list) as Arc<dyn Array>)]).unwrap();
        let toml = "id='p'\ntitle='P'\nseverity='low'\nrule='cardinality(numbers) > 60'";
        let rule = compile(&parse(toml, "p.toml").unwrap(), &batch.schema()).unwrap();
        let evidence = rule.evidence(&batch, 0);
        assert_eq!(evidence["numbers"].as_array().unwrap().len(), 21);
        assert_eq!(evidence["numbers"][20], "and 30 more");
    }
}
