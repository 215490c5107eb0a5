//! From a rule's text to an expression over Arrow batches. The same compiled rule serves the stream, gold and backtests.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{RecordBatch, new_null_array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{
        Column, DFSchema, DataFusionError, SchemaError,
        tree_node::{Transformed, TreeNode},
    },
    error::Result as DataFusionResult,
    execution::{SessionState, SessionStateBuilder},
    logical_expr::{Expr, Volatility},
    optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext},
    physical_expr::create_physical_expr,
    physical_plan::PhysicalExpr,
};
use sha2::{Digest, Sha256};

use crate::{
    Policy, PolicyError, functions,
    position::{nearest, position_of},
};

/// The column that `now()` stands for.
const EVENT_TIME: &str = "event_time";
/// The column that `platforms` is compared with.
pub(crate) const PLATFORM_COLUMN: &str = "os_type";

/// A rule ready to run over batches that have (at least) the columns it was compiled for.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// The policy.
    pub policy: Policy,
    /// First 16 hex digits of SHA-256 over id, rule, platforms and grace: the revision.
    pub revision: String,
    /// Columns it reads: the evidence.
    pub columns: Vec<String>,
    /// Invariant: the expression's column indexes point into this schema, whose fields are `columns`.
    pub(crate) schema: SchemaRef,
    pub(crate) expression: Arc<dyn PhysicalExpr>,
}

/// DataFusion's own functions and ours. Rules see no tables, so one state serves all.
static PLANNER: LazyLock<SessionState> = LazyLock::new(|| {
    let mut builder = SessionStateBuilder::new().with_default_features();
    builder.scalar_functions().get_or_insert_default().extend(functions());
    builder.build()
});

/// Compiles a policy against a schema (bronze or silver: same names and types). `now()` in a rule means the record's
/// `event_time`, so that a verdict never depends on when it is computed.
pub fn compile(policy: &Policy, schema: &SchemaRef) -> Result<CompiledRule, PolicyError> {
    let fail = |message: String| PolicyError::new(&policy.id, message);
    if !policy.platforms.is_empty() && schema.field_with_name(PLATFORM_COLUMN).is_err() {
        return Err(fail(format!("platforms need the column '{PLATFORM_COLUMN}', which is not there")));
    }
    let planning = |error: DataFusionError| fail(explain(&policy.rule, schema, &error));
    let expression = logical(&policy.rule, schema).map_err(planning)?;
    if let Some(what) = forbidden(&expression) {
        return Err(fail(format!(
            "rule must not use {what}: it has to give the same verdict whenever it is computed"
        )));
    }
    let read: BTreeSet<&str> =
        expression.column_refs().into_iter().map(|column| column.name.as_str()).collect();
    if read.is_empty() {
        return Err(fail("rule reads no column: it would say the same of every computer".to_owned()));
    }
    let fields: Vec<_> =
        schema.fields().iter().filter(|field| read.contains(field.name().as_str())).cloned().collect();
    let columns = fields.iter().map(|field| field.name().clone()).collect();
    let input = Arc::new(Schema::new(fields));
    let expression = physical(expression, &input).map_err(planning)?;
    match expression.data_type(&input) {
        Ok(DataType::Boolean) => probe(&expression, &input).map_err(planning)?,
        Ok(other) => {
            return Err(fail(format!("rule must be a boolean (true is compliant), but it is {other}")));
        }
        Err(error) => return Err(planning(error)),
    }
    Ok(CompiledRule {
        policy: policy.clone(),
        revision: revision(policy),
        columns,
        schema: input,
        expression,
    })
}

fn logical(rule: &str, schema: &SchemaRef) -> DataFusionResult<Expr> {
    let columns = DFSchema::try_from(Schema::clone(schema))?;
    let expression = PLANNER.create_logical_expr(rule, &columns)?;
    let expression = expression.transform_up(|node| {
        Ok(match &node {
            Expr::ScalarFunction(call) if call.func.name() == "now" => {
                Transformed::yes(Expr::Column(Column::new_unqualified(EVENT_TIME)))
            }
            _ => Transformed::no(node),
        })
    })?;
    Ok(expression.data.unalias())
}

fn physical(expression: Expr, input: &SchemaRef) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    let columns = Arc::new(DFSchema::try_from(Schema::clone(input))?);
    // Types first, then simplification, which is not only for speed: `coalesce` runs as what it is simplified to.
    let context = SimplifyContext::builder().with_schema(Arc::clone(&columns)).build();
    let simplifier = ExprSimplifier::new(context);
    let expression = simplifier.simplify(simplifier.coerce(expression, &columns)?)?;
    create_physical_expr(&expression, &columns, PLANNER.execution_props())
}

/// Runs the rule on a record of which nothing is known: what fails there (a text that is no number, say) fails always.
fn probe(expression: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> DataFusionResult<()> {
    let fields: Vec<Field> =
        input.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let nothing = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    let unknown = RecordBatch::try_new(Arc::new(Schema::new(fields)), nothing)?;
    expression.evaluate(&unknown).map(|_| ())
}

/// What a rule may not hold, in words: all that isn't a pure function of one record.
fn forbidden(expression: &Expr) -> Option<String> {
    let mut found = None;
    let walked = expression.exists(|node| {
        found = match node {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                Some(format!("the function {}()", call.func.name()))
            }
            Expr::AggregateFunction(_) => Some("aggregates".to_owned()),
            Expr::WindowFunction(_) => Some("window functions".to_owned()),
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
                Some("subqueries".to_owned())
            }
            Expr::Placeholder(_) => Some("placeholders".to_owned()),
            _ => None,
        };
        Ok(found.is_some())
    });
    match walked {
        Ok(_) => found,
        Err(error) => Some(error.strip_backtrace()),
    }
}

/// The planner's error in the rule's terms: an unknown column with its place and what may have been meant.
fn explain(rule: &str, schema: &SchemaRef, error: &DataFusionError) -> String {
    let root = error.find_root();
    let DataFusionError::SchemaError(schema_error, _) = root else {
        return format!("rule is refused: {}", root.strip_backtrace());
    };
    let SchemaError::FieldNotFound { field, .. } = schema_error.as_ref() else {
        return format!("rule is refused: {}", root.strip_backtrace());
    };
    let name = &field.name;
    let place = match position_of(rule, name) {
        Some((line, column)) => format!(" at line {line}, column {column}"),
        // `now()` stands for it, so it need not be in the text.
        None => String::new(),
    };
    let suggestion = match nearest(name, schema.fields().iter().map(|field| field.name().as_str())) {
        Some(near) => format!("; did you mean '{near}'?"),
        None => String::new(),
    };
    format!("rule reads the unknown column '{name}'{place}{suggestion}")
}

/// Changes of words don't make a revision: it is what verdicts and findings follow from.
fn revision(policy: &Policy) -> String {
    let parts = (&policy.id, &policy.rule, &policy.platforms, policy.grace_s);
    let text = serde_json::json!(parts).to_string();
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::parse;

    fn schema() -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("event_time", utc.clone(), false),
            Field::new("os_type", DataType::Utf8, true),
            Field::new("disk_encrypted", DataType::Boolean, true),
            Field::new("disk_free_bytes", DataType::Int64, true),
            Field::new("patched_at", utc, true),
        ]))
    }

    fn policy(rule: &str) -> Policy {
        let toml = format!("id = 'p'\ntitle = 'P'\nseverity = 'low'\nrule = \"\"\"{rule}\"\"\"");
        parse(&toml, "p.toml").unwrap()
    }

    fn refusal(rule: &str) -> String {
        compile(&policy(rule), &schema()).unwrap_err().message
    }

    #[test]
    fn unknown_column_is_refused_with_position_and_suggestion() {
        let message = refusal("disk_encrypted\n AND disk_fre_bytes > 3");
        assert_eq!(
            message,
            "rule reads the unknown column 'disk_fre_bytes' at line 2, column 6; did you mean 'disk_free_bytes'?"
        );
    }

    #[test]
    fn rules_that_are_no_function_of_one_record_are_refused() {
        assert!(refusal("disk_free_bytes + 1").contains("must be a boolean"));
        assert!(refusal("random() < 0.5 AND disk_encrypted").contains("random()"));
        assert!(refusal("patched_at > current_date").contains("current_date()"));
        assert!(refusal("avg(disk_free_bytes) > 5").contains("aggregates"));
        assert!(refusal("1 = 1").contains("reads no column"));
        assert!(refusal("disk_encrypted = (SELECT true FROM t)").contains("refused"));
        assert!(refusal("no_such_function(disk_encrypted)").contains("no_such_function"));
        assert!(refusal("disk_free_bytes > 'many'").contains("'many'"));
        assert!(refusal("disk_encrypted AND AND").contains("unknown column"));
    }

    #[test]
    fn now_reads_the_event_time() {
        let rule = compile(&policy("patched_at >= now() - INTERVAL '30 days'"), &schema()).unwrap();
        assert_eq!(rule.columns, ["event_time", "patched_at"]);
    }

    #[test]
    fn revision_follows_the_rule_and_not_the_words() {
        let base = policy("disk_encrypted");
        let words = Policy { title: "Other".to_owned(), ..base.clone() };
        let grace = Policy { grace_s: 60, ..base.clone() };
        assert_eq!(revision(&base), revision(&words));
        assert_ne!(revision(&base), revision(&grace));
        assert_eq!(revision(&base).len(), 16);
    }
}
