//! The order in which models run.

use std::collections::{BTreeMap, BTreeSet};

use firn_catalog_client::iceberg::TableIdent;

use super::{Model, ModelError, header::position_of};
use crate::promotion::PARTIALS_SUFFIX;

/// Namespaces whose tables are written by others than models.
const SOURCES: [&str; 2] = ["bronze", "policies"];

/// Models in an order where each comes after those it reads. Equal models give an equal order.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelGraph {
    models: Vec<Model>,
}

impl ModelGraph {
    /// Sorts the models; refuses two models of one table, and cycles. Whether tables are there that no model writes is seen when
    /// the models are planned ([`crate::check_models`]).
    pub fn new(models: Vec<Model>) -> Result<Self, ModelError> {
        let mut by_table: BTreeMap<TableIdent, Model> = BTreeMap::new();
        for model in models {
            let error = |message| fault(&model, (1, 1), message);
            if SOURCES.contains(&model.table.namespace[0].as_str()) {
                return Err(error(format!("'{}' belongs to a namespace that models only read", model.table)));
            }
            if model.table.name.ends_with(PARTIALS_SUFFIX) {
                let kept = model.table.name.trim_end_matches(PARTIALS_SUFFIX);
                let name = &model.table;
                return Err(error(format!(
                    "'{name}' is kept for what an aggregate named '{kept}' remembers"
                )));
            }
            if let Some(other) = by_table.get(&model.table) {
                return Err(error(format!("'{}' is already the output of {}", model.table, other.file)));
            }
            by_table.insert(model.table.clone(), model);
        }
        sort(by_table).map(|models| Self { models })
    }

    /// These models and others beside them.
    pub fn with(&self, others: Vec<Model>) -> Result<Self, ModelError> {
        Self::new(self.models.iter().cloned().chain(others).collect())
    }

    /// The models in the order they run.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Tables that models read and none of them writes.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<TableIdent> {
        let outputs: BTreeSet<_> = self.models.iter().map(|model| &model.table).collect();
        self.models
            .iter()
            .flat_map(|model| &model.inputs)
            .filter(|input| !outputs.contains(input))
            .cloned()
            .collect()
    }
}

fn fault(model: &Model, (line, column): (u64, u64), message: String) -> ModelError {
    ModelError { file: model.file.clone(), line, column, message }
}

/// Depth-first, by name.
fn sort(mut by_table: BTreeMap<TableIdent, Model>) -> Result<Vec<Model>, ModelError> {
    let mut sorted: Vec<Model> = Vec::with_capacity(by_table.len());
    while !by_table.is_empty() {
        let ready =
            by_table.values().find(|model| !model.inputs.iter().any(|input| by_table.contains_key(input)));
        let Some(table) = ready.map(|model| model.table.clone()) else {
            return Err(cycle(&by_table));
        };
        sorted.extend(by_table.remove(&table));
    }
    Ok(sorted)
}

/// Follows unready inputs until a table comes again.
fn cycle(unready: &BTreeMap<TableIdent, Model>) -> ModelError {
    let mut path: Vec<&TableIdent> = Vec::new();
    let mut next = unready.keys().next();
    while let Some(table) = next {
        if let Some(start) = path.iter().position(|seen| *seen == table) {
            let model = &unready[path[path.len() - 1]];
            let place = position_of(&model.sql, &table.to_string()).unwrap_or((1, 1));
            let names: Vec<_> =
                path[start..].iter().rev().chain([&path[path.len() - 1]]).map(ToString::to_string).collect();
            return fault(
                model,
                place,
                format!("the models read each other in a circle: {}", names.join(" -> ")),
            );
        }
        path.push(table);
        next = unready[table].inputs.iter().find(|input| unready.contains_key(input));
    }
    ModelError {
        file: String::new(),
        line: 1,
        column: 1,
        message: "the models read each other in a circle".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use expect_test::expect;

    use super::*;

    fn model(table: &str, inputs: &str) -> Model {
        let text = format!("-- model: {table}\n-- kind: full\nSELECT *\nFROM {inputs}");
        Model::parse(&format!("{}.sql", table.replace('.', "_")), &text).unwrap()
    }

    fn refused(models: Vec<Model>) -> String {
        ModelGraph::new(models).unwrap_err().to_string()
    }

    #[test]
    fn models_run_after_their_inputs_whatever_their_order() {
        let models = vec![
            model("gold.z", "silver.b, silver.a"),
            model("silver.a", "silver.b"),
            model("silver.b", "bronze.x"),
        ];
        let mut reversed = models.clone();
        reversed.reverse();
        let graph = ModelGraph::new(models).unwrap();
        let names: Vec<_> = graph.models().iter().map(|model| model.table.to_string()).collect();
        assert_eq!(names, ["silver.b", "silver.a", "gold.z"]);
        assert_eq!(ModelGraph::new(reversed).unwrap(), graph);
        assert_eq!(graph.sources(), BTreeSet::from([TableIdent::new("bronze", "x")]));
    }

    #[test]
    fn circles_and_doubles_are_refused() {
        let circle = vec![
            model("silver.a", "silver.c"),
            model("silver.b", "silver.a"),
            model("silver.c", "bronze.x, silver.b"),
            model("gold.z", "silver.a"),
        ];
        expect!["silver_b.sql:4:6: the models read each other in a circle: silver.b -> silver.c -> silver.a -> silver.b"]
            .assert_eq(&refused(circle));
        expect!["silver_a.sql:1:1: 'silver.a' is already the output of silver_a.sql"]
            .assert_eq(&refused(vec![model("silver.a", "bronze.x"), model("silver.a", "bronze.y")]));
        let foreign = ModelGraph::new(vec![model("silver.a", "ops.assets")]).unwrap();
        assert_eq!(foreign.sources(), BTreeSet::from([TableIdent::new("ops", "assets")]));
        expect!["bronze_a.sql:1:1: 'bronze.a' belongs to a namespace that models only read"]
            .assert_eq(&refused(vec![model("bronze.a", "bronze.x")]));
    }
}
