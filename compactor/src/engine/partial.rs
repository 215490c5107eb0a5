//! Aggregates by parts: what is kept of each group so that rows can be added to it and taken off again.
//!
//! A partial is one row per group and counted distinct value, with the number of input rows and, for each aggregate, the
//! number of values and their sum. All of these are integers, so that taking a row off undoes adding it exactly, in any
//! order. What a group's rows come to follows from its partials.

use datafusion::{
    arrow::{array::RecordBatch, datatypes::DataType},
    common::{
        Column,
        tree_node::{Transformed, TreeNode},
    },
    dataframe::DataFrame,
    error::Result,
    execution::SessionState,
    functions_aggregate::expr_fn::{count, count_distinct, max, min, sum},
    logical_expr::{Aggregate, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, cast, lit, when},
    prelude::SessionContext,
};
use firn_table::{FILE_COLUMN, POSITION_COLUMN, PositionScan, RowPositions};

use super::{
    columns::integers,
    locate::{collect, join, named},
};

/// Number of input rows that a partial stands for.
pub(crate) const ROWS: &str = "rows";

/// How one aggregate follows from partials.
#[derive(Clone, Debug, PartialEq)]
enum Measure {
    /// `count(*)`.
    Rows,
    Count(Expr),
    Sum(Expr),
    /// Number of the distinct value.
    Distinct(usize),
    Least(Expr),
    Greatest(Expr),
}

/// A grouping query, taken apart.
pub(crate) struct Partials {
    state: SessionState,
    input: LogicalPlan,
    groups: Vec<Expr>,
    distincts: Vec<Expr>,
    measures: Vec<Measure>,
    /// The output's columns over groups and finished aggregates.
    columns: Vec<Expr>,
    /// The output's column of each group.
    pub(crate) output_key: Vec<String>,
}

/// Groups, and counted values, of one model that are looked for.
const MOST_REMEMBERED: usize = 16;

/// Columns of partials in which values of the input stand as they are: groups, and what is counted.
pub(crate) fn remembered_columns() -> impl Iterator<Item = String> {
    (0..MOST_REMEMBERED).flat_map(|index| [key(index), distinct(index)])
}

fn key(index: usize) -> String {
    format!("key_{}", index + 1)
}

fn distinct(index: usize) -> String {
    format!("distinct_{}", index + 1)
}

/// Column of a measure: its `what` is value, count, sum, least or greatest.
fn of(what: &str, index: usize) -> String {
    format!("{what}_{}", index + 1)
}

impl Partials {
    /// Takes a query apart, or says why its groups can't be kept by parts.
    pub(crate) fn of(query: DataFrame) -> Result<std::result::Result<Self, String>> {
        let (state, plan) = query.into_parts();
        let LogicalPlan::Projection(top) = &plan else {
            return Ok(Err("it is not one plain SELECT with GROUP BY".to_owned()));
        };
        let LogicalPlan::Aggregate(grouping) = top.input.as_ref() else {
            return Ok(Err("it is not one plain SELECT with GROUP BY".to_owned()));
        };
        if grouping.group_expr.is_empty()
            || grouping.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
        {
            return Ok(Err("it has no plain GROUP BY".to_owned()));
        }
        let (mut distincts, mut measures) = (Vec::new(), Vec::new());
        for (index, aggregate) in grouping.aggr_expr.iter().enumerate() {
            let field = grouping.schema.field(grouping.group_expr.len() + index);
            match measure(aggregate, field.data_type(), &mut distincts) {
                Ok(measure) => measures.push(measure),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let mut output_key = Vec::new();
        for group in 0..grouping.group_expr.len() {
            let is_group = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => grouping.schema.maybe_index_of_column(&column) == Some(group),
                _ => false,
            };
            let Some(at) = top.expr.iter().position(is_group) else {
                let group = grouping.group_expr[group].to_string();
                return Ok(Err(format!("it groups by {group}, which is no column of its output")));
            };
            output_key.push(top.schema.field(at).name().clone());
        }
        let mut columns = Vec::new();
        for (expr, field) in top.expr.iter().zip(top.schema.fields()) {
            let finished = expr.clone().transform_up(|expr| match &expr {
                Expr::Column(column) => finish(grouping, &measures, column).map(Transformed::yes),
                _ => Ok(Transformed::no(expr)),
            })?;
            columns.push(finished.data.unalias().alias(field.name()));
        }
        let input = grouping.input.as_ref().clone();
        let groups = grouping.group_expr.clone();
        Ok(Ok(Self { state, input, groups, distincts, measures, columns, output_key }))
    }

    /// Columns that identify a partial.
    pub(crate) fn identity(&self) -> Vec<String> {
        let keys = (0..self.groups.len()).map(key);
        keys.chain((0..self.distincts.len()).map(distinct)).collect()
    }

    /// Columns that identify a group.
    pub(crate) fn key(&self) -> Vec<String> {
        (0..self.groups.len()).map(key).collect()
    }

    /// What columns of the partials stand for, by name.
    pub(crate) fn docs(&self) -> Vec<(String, String)> {
        let text = |expr: &Expr| expr.clone().unalias().to_string();
        let mut docs = vec![(ROWS.to_owned(), "Input rows.".to_owned())];
        docs.extend(self.groups.iter().enumerate().map(|(i, expr)| (key(i), text(expr))));
        docs.extend(self.distincts.iter().enumerate().map(|(i, expr)| (distinct(i), text(expr))));
        for (index, measure) in self.measures.iter().enumerate() {
            let mut doc = |what: &str, expr: &Expr| {
                docs.push((of(what, index), format!("{what} of {}", text(expr))));
            };
            match measure {
                Measure::Rows | Measure::Distinct(_) => {}
                Measure::Count(expr) => doc("count", expr),
                Measure::Sum(expr) => {
                    doc("sum", expr);
                    doc("count", expr);
                }
                Measure::Least(expr) => doc("least", expr),
                Measure::Greatest(expr) => doc("greatest", expr),
            }
        }
        docs
    }

    /// Names of the columns that add up.
    fn sums(&self) -> Vec<String> {
        let mut names = vec![ROWS.to_owned()];
        for (index, measure) in self.measures.iter().enumerate() {
            match measure {
                Measure::Count(_) => names.push(of("count", index)),
                Measure::Sum(_) => names.extend([of("sum", index), of("count", index)]),
                _ => {}
            }
        }
        names
    }

    /// Names of the columns of which the least (`true`) or greatest is kept.
    fn extremes(&self) -> Vec<(String, bool)> {
        let extreme = |(index, measure): (usize, &Measure)| match measure {
            Measure::Least(_) => Some((of("least", index), true)),
            Measure::Greatest(_) => Some((of("greatest", index), false)),
            _ => None,
        };
        self.measures.iter().enumerate().filter_map(extreme).collect()
    }

    /// Why rows can't be taken off, if they can't.
    pub(crate) fn adds_only(&self) -> Option<String> {
        let (name, _) = self.extremes().into_iter().next()?;
        let what = if name.starts_with("least") { "min" } else { "max" };
        Some(format!("rows were removed, and a {what} does not tell what it was before them"))
    }

    /// The partials of the query's own rows.
    pub(crate) fn partials(&self) -> Result<DataFrame> {
        let mut columns = Vec::new();
        columns.extend(self.groups.iter().enumerate().map(|(i, expr)| expr.clone().unalias().alias(key(i))));
        columns.extend(
            self.distincts.iter().enumerate().map(|(i, expr)| expr.clone().unalias().alias(distinct(i))),
        );
        let mut wanted = vec![count(lit(1_i64)).alias(ROWS)];
        for (index, measure) in self.measures.iter().enumerate() {
            let value = of("value", index);
            let mut column = |expr: &Expr| columns.push(expr.clone().alias(&value));
            match measure {
                Measure::Rows | Measure::Distinct(_) => {}
                Measure::Count(expr) => {
                    column(expr);
                    wanted.push(count(named(&value)).alias(of("count", index)));
                }
                Measure::Sum(expr) => {
                    column(&cast(expr.clone(), DataType::Int64));
                    let total = zero_if_null(sum(named(&value)));
                    wanted.push(total.alias(of("sum", index)));
                    wanted.push(count(named(&value)).alias(of("count", index)));
                }
                Measure::Least(expr) => {
                    column(expr);
                    wanted.push(min(named(&value)).alias(of("least", index)));
                }
                Measure::Greatest(expr) => {
                    column(expr);
                    wanted.push(max(named(&value)).alias(of("greatest", index)));
                }
            }
        }
        let rows = DataFrame::new(self.state.clone(), self.input.clone()).select(columns)?;
        grouped(rows, &self.identity(), wanted)
    }

    /// The same partials with their rows taken off instead of added.
    pub(crate) fn negated(&self, partials: DataFrame) -> Result<DataFrame> {
        let mut columns: Vec<_> = self.identity().iter().map(|name| named(name)).collect();
        columns.extend(self.sums().iter().map(|name| (lit(0_i64) - named(name)).alias(name)));
        partials.select(columns)
    }

    /// What adds partials up.
    fn totals(&self) -> Vec<Expr> {
        let mut totals: Vec<_> = self.sums().iter().map(|name| sum(named(name)).alias(name)).collect();
        totals.extend(self.extremes().iter().map(|(name, least)| {
            let value = named(name);
            if *least { min(value).alias(name) } else { max(value).alias(name) }
        }));
        totals
    }

    /// One partial per group and distinct value.
    pub(crate) fn added_up(&self, partials: DataFrame) -> Result<DataFrame> {
        grouped(partials, &self.identity(), self.totals())
    }

    /// The output rows of all groups in `partials`.
    pub(crate) fn finished(&self, partials: DataFrame) -> Result<DataFrame> {
        let mut wanted = self.totals();
        match self.distincts.len() {
            // A group has one partial for each value, so that counting them counts the values.
            1 => wanted.push(count(named(&distinct(0))).alias(distinct(0))),
            several => wanted.extend(
                (0..several).map(|index| count_distinct(named(&distinct(index))).alias(distinct(index))),
            ),
        }
        grouped(partials, &self.key(), wanted)?.select(self.columns.clone())
    }
}

/// Groups without the columns that DataFusion would add, because they depend on the key of an earlier grouping.
fn grouped(rows: DataFrame, key: &[String], wanted: Vec<Expr>) -> Result<DataFrame> {
    let (state, plan) = rows.into_parts();
    let key = key.iter().map(|name| named(name)).collect::<Vec<_>>();
    Ok(DataFrame::new(state, LogicalPlanBuilder::from(plan).aggregate(key, wanted)?.build()?))
}

fn zero_if_null(value: Expr) -> Expr {
    datafusion::functions::expr_fn::coalesce(vec![value, lit(0_i64)])
}

/// How an aggregate of `data_type` is kept by parts.
fn measure(
    aggregate: &Expr,
    data_type: &DataType,
    distincts: &mut Vec<Expr>,
) -> std::result::Result<Measure, String> {
    let aggregate = aggregate.clone().unalias();
    let Expr::AggregateFunction(call) = &aggregate else {
        return Err(format!("{aggregate} can't be kept by parts"));
    };
    let params = &call.params;
    if params.filter.is_some() || !params.order_by.is_empty() || params.args.len() != 1 {
        return Err(format!("{aggregate} can't be kept by parts: write FILTER as CASE"));
    }
    let argument = params.args[0].clone();
    match (call.func.name(), params.distinct) {
        ("count", false) if !matches!(argument, Expr::Column(_)) && is_never_null(&argument) => {
            Ok(Measure::Rows)
        }
        ("count", false) => Ok(Measure::Count(argument)),
        ("count", true) => {
            let index = distincts.iter().position(|known| *known == argument).unwrap_or_else(|| {
                distincts.push(argument);
                distincts.len() - 1
            });
            Ok(Measure::Distinct(index))
        }
        ("sum", false) if data_type == &DataType::Int64 => Ok(Measure::Sum(argument)),
        ("sum", false) => Err(format!(
            "{aggregate} is of type {data_type}, and only sums of integers can be taken back exactly"
        )),
        ("min", _) => Ok(Measure::Least(argument)),
        ("max", _) => Ok(Measure::Greatest(argument)),
        _ => Err(format!("{aggregate} can't be kept by parts: count, sum, min and max can")),
    }
}

fn is_never_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => !value.is_null(),
        #[allow(deprecated)]
        Expr::Wildcard { .. } => true,
        _ => false,
    }
}

/// A column of the grouping, over aggregated partials.
fn finish(grouping: &Aggregate, measures: &[Measure], column: &Column) -> Result<Expr> {
    let at = grouping.schema.index_of_column(column)?;
    let groups = grouping.group_expr.len();
    if at < groups {
        return Ok(named(&key(at)));
    }
    let index = at - groups;
    Ok(match &measures[index] {
        Measure::Rows => named(ROWS),
        Measure::Count(_) => named(&of("count", index)),
        Measure::Sum(_) => when(named(&of("count", index)).gt(lit(0_i64)), named(&of("sum", index))).end()?,
        Measure::Distinct(value) => named(&distinct(*value)),
        Measure::Least(_) => named(&of("least", index)),
        Measure::Greatest(_) => named(&of("greatest", index)),
    })
}

/// Adds `delta` to the partials before it: the rows that replace those at the answered places. `None` if more was taken
/// off than there was.
pub(crate) async fn merge_partials(
    session: &SessionContext,
    partials: &Partials,
    delta: DataFrame,
    prior: &PositionScan,
) -> Result<Option<(Vec<RecordBatch>, RowPositions)>> {
    let identity = partials.identity();
    let old_name = |name: &str| format!("old_{name}");
    let prior_rows = session.read_table(prior.provider()?)?;
    let is_place = |name: &str| [FILE_COLUMN, POSITION_COLUMN].contains(&name);
    let prior_columns: Vec<_> = prior_rows
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .map(|name| if is_place(name) { named(name) } else { named(name).alias(old_name(name)) })
        .collect();
    let prior_rows = prior_rows.select(prior_columns)?;
    let old_identity: Vec<_> = identity.iter().map(|name| old_name(name)).collect();
    let joined = join(delta, prior_rows, JoinType::Left, (&identity, &old_identity))?;
    let mut columns: Vec<_> = identity.iter().map(|name| named(name)).collect();
    columns.extend(
        partials.sums().iter().map(|name| (named(name) + zero_if_null(named(&old_name(name)))).alias(name)),
    );
    for (name, least) in partials.extremes() {
        let (new, old) = (named(&name), named(&old_name(&name)));
        let better = if least { old.clone().lt(new.clone()) } else { old.clone().gt(new.clone()) };
        let takes_old = new.clone().is_null().or(better);
        columns.push(when(takes_old, old).otherwise(new)?.alias(&name));
    }
    columns.extend([FILE_COLUMN, POSITION_COLUMN].map(named));
    let (mut kept, mut places) = (Vec::new(), RowPositions::default());
    for batch in joined.select(columns)?.collect().await? {
        collect(&batch, prior, &mut places)?;
        let rows = integers(batch.column(batch.schema().index_of(ROWS)?))?;
        if rows.values().iter().any(|rows| *rows < 0) {
            return Ok(None);
        }
        let some = rows.iter().map(|rows| rows.map(|rows| rows > 0)).collect();
        let batch = datafusion::arrow::compute::filter_record_batch(&batch, &some)?;
        // The places are the last two.
        kept.push(batch.project(&(0..batch.num_columns() - 2).collect::<Vec<_>>())?);
    }
    Ok(Some((kept, places)))
}
