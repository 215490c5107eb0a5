//! Taking a window rule apart: its aggregates, and the boolean over what they come to.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    common::{
        Column,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    error::Result as DataFusionResult,
    logical_expr::{Expr, expr::AggregateFunction},
};

use super::physical;
use crate::window::{Aggregate, Function};

/// Aggregates, the schema of their results (named as they are written), and the boolean over that schema.
type Parts = (Vec<Aggregate>, SchemaRef, Expr);

/// Whether the expression aggregates anything.
pub(super) fn has_any(expression: &Expr) -> bool {
    expression.exists(|node| Ok(matches!(node, Expr::AggregateFunction(_)))).unwrap_or(true)
}

/// Splits a rule over windows; the inner error says what it may not hold.
pub(super) fn split(rule: Expr, input: &SchemaRef) -> DataFusionResult<Result<Parts, String>> {
    let mut found: BTreeMap<String, Aggregate> = BTreeMap::new();
    let mut refusal = None;
    let verdict = rule.transform_down(|node| {
        let Expr::AggregateFunction(call) = &node else { return Ok(Transformed::no(node)) };
        let name = node.to_string();
        if !found.contains_key(&name) {
            match aggregate(&name, call, input)? {
                Ok(aggregate) => _ = found.insert(name.clone(), aggregate),
                Err(message) => refusal = Some(message),
            }
        }
        let total = Expr::Column(Column::new_unqualified(name));
        Ok(Transformed::new(total, true, TreeNodeRecursion::Jump))
    })?;
    if let Some(message) = refusal {
        return Ok(Err(message));
    }
    let outside = verdict.data.column_refs().into_iter().find(|column| !found.contains_key(&column.name));
    if let Some(column) = outside {
        let name = &column.name;
        return Ok(Err(format!(
            "column '{name}' stands outside of an aggregate: a rule over windows compares avg({name}), max({name}) and the like"
        )));
    }
    if found.is_empty() {
        return Ok(Err("a rule over windows needs an aggregate such as avg(cpu_usage)".to_owned()));
    }
    let fields: Vec<Field> = found.values().map(Aggregate::field).collect();
    Ok(Ok((found.into_values().collect(), Arc::new(Schema::new(fields)), verdict.data)))
}

fn aggregate(
    name: &str,
    call: &AggregateFunction,
    input: &SchemaRef,
) -> DataFusionResult<Result<Aggregate, String>> {
    let Some(function) = Function::from_word(call.func.name()) else {
        return Ok(Err(format!("{name}: a rule over windows knows avg, sum, min, max and count")));
    };
    let params = &call.params;
    let plain = !params.distinct && params.filter.is_none() && params.order_by.is_empty();
    let [argument] = params.args.as_slice() else {
        return Ok(Err(format!("{name}: an aggregate takes one argument")));
    };
    if !plain {
        return Ok(Err(format!("{name}: only plain aggregates, without DISTINCT, FILTER or ORDER BY")));
    }
    // count(*) has come to count a constant.
    let every_row = argument.column_refs().is_empty();
    if every_row && function != Function::Count {
        return Ok(Err(format!("{name} reads no column: it would say the same of every computer")));
    }
    if every_row {
        return Ok(Ok(Aggregate { name: name.to_owned(), function, argument: None }));
    }
    let argument = physical(argument.clone(), input)?;
    let data_type = argument.data_type(input)?;
    if function != Function::Count && !(data_type.is_integer() || data_type == DataType::Null) {
        return Ok(Err(format!("{name}: sums stay exact only over integers, and this is {data_type}")));
    }
    Ok(Ok(Aggregate { name: name.to_owned(), function, argument: Some(argument) }))
}
