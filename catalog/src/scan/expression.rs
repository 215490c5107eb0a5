//! Filters: as requests write them, bound to a schema's columns.
//!
//! Negations are pushed down to the tests, so that "and", "or" and tests are all that has to be judged. A test keeps the JSON that
//! it came as: what is left of a filter for a file's rows is then spelled as the client spelled it.

mod parse;
mod value;

use serde_json::{Value, json};

use super::{
    columns::Columns,
    judge::{Rows, Test},
    primitive::Primitive,
    transform::Transform,
};

/// A filter.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Constant(bool),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Leaf(Leaf),
}

/// A test of a column's values.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// As the client wrote it.
    source: Value,
    /// Made of its opposite, by a "not" around it.
    pub(crate) turned: bool,
    /// `None` for what this server can't judge, such as a comparison of two columns. Any row may pass it.
    pub(crate) judged: Option<Judged>,
}

/// A test that statistics can be asked about.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) column: i64,
    /// Type of the column.
    pub(crate) kind: Primitive,
    /// What is applied to the column's value before it is tested.
    pub(crate) transform: Transform,
    pub(crate) test: Test,
}

impl Expression {
    /// Reads a predicate; the text says where in the request it is wrong, and why.
    pub(crate) fn parse(predicate: &Value, columns: &Columns) -> Result<Self, String> {
        parse::predicate(predicate, "$.filter", false, columns)
    }

    /// Judges the whole by its tests.
    pub(crate) fn judge(&self, of_leaf: &impl Fn(&Leaf) -> Rows) -> Rows {
        match self {
            Self::Constant(true) => Rows::All,
            Self::Constant(false) => Rows::None,
            Self::And(left, right) => left.judge(of_leaf).min(right.judge(of_leaf)),
            Self::Or(left, right) => left.judge(of_leaf).max(right.judge(of_leaf)),
            Self::Leaf(leaf) => of_leaf(leaf),
        }
    }

    /// What is still to be tested of rows about which the tests' verdicts are known.
    pub(crate) fn residual(&self, of_leaf: &impl Fn(&Leaf) -> Rows) -> Value {
        let join =
            |name: &str, left: Value, right: Value| json!({"type": name, "left": left, "right": right});
        match self {
            Self::Constant(constant) => json!(constant),
            Self::And(left, right) => match (left.residual(of_leaf), right.residual(of_leaf)) {
                (Value::Bool(false), _) | (_, Value::Bool(false)) => json!(false),
                (Value::Bool(true), rest) | (rest, Value::Bool(true)) => rest,
                (left, right) => join("and", left, right),
            },
            Self::Or(left, right) => match (left.residual(of_leaf), right.residual(of_leaf)) {
                (Value::Bool(true), _) | (_, Value::Bool(true)) => json!(true),
                (Value::Bool(false), rest) | (rest, Value::Bool(false)) => rest,
                (left, right) => join("or", left, right),
            },
            Self::Leaf(leaf) => match of_leaf(leaf) {
                Rows::None => json!(false),
                Rows::All => json!(true),
                Rows::Some if leaf.turned => json!({"type": "not", "child": leaf.source}),
                Rows::Some => leaf.source.clone(),
            },
        }
    }

    /// Calls `each` with every column that is tested.
    pub(crate) fn columns(&self, each: &mut impl FnMut(i64)) {
        match self {
            Self::Constant(_) => {}
            Self::And(left, right) | Self::Or(left, right) => {
                left.columns(each);
                right.columns(each);
            }
            Self::Leaf(leaf) => {
                if let Some(judged) = &leaf.judged {
                    each(judged.column);
                }
            }
        }
    }
}
