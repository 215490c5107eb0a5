//! From a rule's text to an expression over Arrow batches. The same compiled rule serves the stream, gold and backtests.

mod aggregates;

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
use firn_inventory::ORGANIZATION_COLUMNS;
use sha2::{Digest, Sha256};

use crate::{
    Policy, PolicyError, WindowRule, functions,
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
    /// First 16 hex digits of SHA-256 over all that verdicts and findings follow from: the revision.
    pub revision: String,
    /// Columns it reads: the evidence.
    pub columns: Vec<String>,
    /// Invariant: the expression's column indexes point into this schema, whose fields are `columns`.
    pub(crate) schema: SchemaRef,
    pub(crate) body: Body,
}

/// What a rule looks at.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// One record.
    Record(Arc<dyn PhysicalExpr>),
    /// The records of a window.
    Window(WindowRule),
    /// That no record came for so many microseconds.
    Absence(i64),
}

impl CompiledRule {
    /// The rule's windows, if it is a rule over windows.
    #[must_use]
    pub fn window(&self) -> Option<&WindowRule> {
        match &self.body {
            Body::Window(window) => Some(window),
            _ => None,
        }
    }

    /// How long a computer may be silent, microseconds, if the rule is about that.
    #[must_use]
    pub fn absence_us(&self) -> Option<i64> {
        match &self.body {
            Body::Absence(after_us) => Some(*after_us),
            _ => None,
        }
    }

    /// How far the rule's findings stay behind time, microseconds: a window is judged once its lateness has passed, and
    /// nothing may happen to the finding before that.
    #[must_use]
    pub fn delay_us(&self) -> i64 {
        self.window().map_or(0, WindowRule::lateness_us)
    }
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
    let rule = |columns, schema, body| CompiledRule {
        policy: policy.clone(),
        revision: revision(policy),
        columns,
        schema,
        body,
    };
    if let Some(absence_s) = policy.absence_s {
        let after_us = i64::try_from(absence_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        return Ok(rule(Vec::new(), Arc::new(Schema::empty()), Body::Absence(after_us)));
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
    if read.is_empty() && policy.window.is_none() {
        return Err(fail("rule reads no column: it would say the same of every computer".to_owned()));
    }
    // Only the lake has them, and as they were when a record was taken: stream and gold would differ.
    if let Some(column) = ORGANIZATION_COLUMNS.into_iter().find(|column| read.contains(column)) {
        return Err(fail(format!(
            "rule must not read '{column}', which ingest adds from reference.organizations: rules judge what a computer says of \
             itself"
        )));
    }
    let fields: Vec<_> =
        schema.fields().iter().filter(|field| read.contains(field.name().as_str())).cloned().collect();
    let columns: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    let input = Arc::new(Schema::new(fields));
    let Some(spec) = &policy.window else {
        if aggregates::has_any(&expression) {
            return Err(fail(
                "rule must not use aggregates without [window]: it judges one record".to_owned(),
            ));
        }
        let expression = boolean(expression, &input).map_err(planning)?.map_err(fail)?;
        return Ok(rule(columns, input, Body::Record(expression)));
    };
    let (aggregates, totals, expression) =
        aggregates::split(expression, &input).map_err(planning)?.map_err(fail)?;
    let verdict = boolean(expression, &totals).map_err(planning)?.map_err(fail)?;
    let window = WindowRule::new(spec, &revision(policy), aggregates, totals, verdict);
    Ok(rule(columns, input, Body::Window(window)))
}

/// The expression, if it is a boolean; the inner error says what else it is.
fn boolean(expression: Expr, input: &SchemaRef) -> DataFusionResult<Result<Arc<dyn PhysicalExpr>, String>> {
    let expression = physical(expression, input)?;
    match expression.data_type(input)? {
        DataType::Boolean => {
            probe(&expression, input)?;
            Ok(Ok(expression))
        }
        other => Ok(Err(format!("rule must be a boolean (true is compliant), but it is {other}"))),
    }
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
    let mut text = serde_json::json!(parts).to_string();
    if !policy.is_per_record() {
        text.push_str(&serde_json::json!((policy.absence_s, &policy.window)).to_string());
    }
    if policy.flapping.is_some() {
        text.push_str(&serde_json::json!(policy.flapping).to_string());
    }
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::{FlappingLimit, parse};

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
    fn what_only_the_lake_knows_is_refused_and_what_follows_from_the_record_is_not() {
        let refused =
            compile(&policy("org_unit = 'EMEA'"), &firn_inventory::bronze_schema()).unwrap_err().message;
        assert!(refused.contains("'org_unit'") && refused.contains("reference.organizations"), "{refused}");
        let rule = "version_at_least(platform_version, '22.04') OR platform <> 'linux'";
        let columns = compile(&policy(rule), &firn_inventory::bronze_schema()).unwrap().columns;
        assert_eq!(columns, ["platform", "platform_version"]);
    }

    #[test]
    fn now_reads_the_event_time() {
        let rule = compile(&policy("patched_at >= now() - INTERVAL '30 days'"), &schema()).unwrap();
        assert_eq!(rule.columns, ["event_time", "patched_at"]);
    }

    fn windowed(rule: &str) -> Result<CompiledRule, PolicyError> {
        let window = crate::WindowSpec { size_s: 300, slide_s: None, in_a_row: 3, lateness_s: 60 };
        compile(&Policy { window: Some(window), ..policy(rule) }, &schema())
    }

    #[test]
    fn window_rules_are_booleans_over_plain_aggregates_of_integers() {
        let rule =
            windowed("avg(disk_free_bytes) > 5 AND count(*) >= 2 AND max(disk_free_bytes) < 9").unwrap();
        assert_eq!(rule.columns, ["disk_free_bytes"]);
        assert_eq!((rule.delay_us(), rule.absence_us()), (60_000_000, None));
        let refusal = |rule: &str| windowed(rule).unwrap_err().message;
        assert!(
            refusal("disk_encrypted").contains("'disk_encrypted' stands outside"),
            "{}",
            refusal("disk_encrypted")
        );
        assert!(refusal("avg(disk_free_bytes) + 1").contains("must be a boolean"));
        assert!(
            refusal("stddev(disk_free_bytes) > 1").contains("stddev"),
            "{}",
            refusal("stddev(disk_free_bytes) > 1")
        );
        assert!(
            refusal("avg(patched_at) > 1").contains("avg(patched_at)"),
            "{}",
            refusal("avg(patched_at) > 1")
        );
        assert!(refusal("sum(DISTINCT disk_free_bytes) > 1").contains("plain"));
        assert!(refusal("avg(disk_fre_bytes) > 5").contains("did you mean 'disk_free_bytes'?"));
        assert!(refusal("sum(random()) > 5").contains("random()"));
        assert!(refusal("1 = 1").contains("aggregate"));
    }

    #[test]
    fn absence_reads_no_column() {
        let rule = Policy { rule: String::new(), absence_s: Some(60), ..policy("x") };
        let rule = compile(&rule, &schema()).unwrap();
        assert_eq!((rule.columns.len(), rule.absence_us(), rule.delay_us()), (0, Some(60_000_000), 0));
    }

    #[test]
    fn revision_follows_the_rule_and_not_the_words() {
        let base = policy("disk_encrypted");
        let words = Policy { title: "Other".to_owned(), ..base.clone() };
        let grace = Policy { grace_s: 60, ..base.clone() };
        assert_eq!(revision(&base), revision(&words));
        assert_ne!(revision(&base), revision(&grace));
        let flapping = Some(FlappingLimit { openings: 3, within_s: 60 });
        assert_ne!(revision(&base), revision(&Policy { flapping, ..base.clone() }));
        assert_eq!(revision(&base).len(), 16);
    }
}
