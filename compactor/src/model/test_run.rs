//! Running models' cases: without a server, by the engine that runs use.

use std::collections::BTreeMap;

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    error::{DataFusionError, Result as QueryResult},
};
use firn_catalog_client::iceberg::TableIdent;
use firn_policy::shipped;
use serde::Serialize;

use super::{
    Model, ModelError, ModelFiles, ModelKind,
    cases::{Case, CaseText, Row, TEST_SUFFIX, differences},
    own::graph_with,
    sources::SourceTables,
};
use crate::{
    CompactorConfig, FailingCheck, check_models,
    engine::{Engine, RuleSet, Trial, as_columns, lake_schema, matching, rows_as_json, rows_from_json},
};

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseOutcome {
    /// The model's file.
    pub model_file: String,
    /// The file that the case stands in.
    pub file: String,
    /// The case.
    pub case: String,
    /// What differs from what it expects, a line each: `-` is missing, `+` is too much. None if it holds.
    pub differences: Vec<String>,
}

/// Runs cases of models, of the shipped ones and those of `own`. `cases` are files of cases by the name of their model's file.
pub async fn test_models(
    own: &ModelFiles,
    cases: &ModelFiles,
    sources: &SourceTables,
) -> Result<Vec<CaseOutcome>, ModelError> {
    let graph = graph_with(own)?;
    let schemas = check_models(&graph, sources.schemas()).await?;
    let mut outcomes = Vec::new();
    for model in graph.models() {
        let Some(text) = cases.get(&model.file) else { continue };
        let name = model.file.strip_suffix(".sql").unwrap_or(&model.file);
        let text = CaseText::new(format!("{name}{TEST_SUFFIX}"), text);
        for case in text.parse()? {
            let tester = Tester { model, schemas: &schemas, text: &text, case: &case };
            outcomes.push(CaseOutcome {
                model_file: model.file.clone(),
                file: text.file.clone(),
                case: case.name.clone(),
                differences: tester.differences().await?,
            });
        }
    }
    Ok(outcomes)
}

/// One case of one model.
struct Tester<'a> {
    model: &'a Model,
    schemas: &'a BTreeMap<TableIdent, SchemaRef>,
    text: &'a CaseText,
    case: &'a Case,
}

impl Tester<'_> {
    async fn differences(&self) -> Result<Vec<String>, ModelError> {
        let (inputs, output) = (self.inputs()?, lake_schema(&self.schemas[&self.model.table]));
        let engine =
            Engine::new(&CompactorConfig::default()).map_err(|error| self.error(&error.to_string()))?;
        let judges = self.model.kind == ModelKind::Rules || self.model.judged.is_some();
        let policies = if judges { shipped() } else { Vec::new() };
        let records = inputs[self.model.driving_input()].schema();
        let rules = RuleSet::compile(&policies, Vec::new(), &records);
        let trial = Trial { engine: &engine, model: self.model, inputs, rules, schema: output.clone() };
        let (found, broken) = trial.compute().await.map_err(|error| self.failed("the query", &error))?;
        let mut lines = self.breaks(&broken);
        if let Some(expected) = &self.case.output {
            let columns = self.columns(&output, expected)?;
            let found = match &self.case.filter {
                Some(filter) => {
                    matching(&engine, found, filter).await.map_err(|error| self.failed("where", &error))?
                }
                None => found,
            };
            let compared = || -> QueryResult<Vec<String>> {
                let expected = rows_as_json(&[rows_from_json(&columns, expected)?])?;
                Ok(differences(&expected, &rows_as_json(&as_columns(&found, &columns)?)?))
            };
            lines.extend(compared().map_err(|error| self.failed("output", &error))?);
        }
        Ok(lines)
    }

    /// The rows of each input.
    fn inputs(&self) -> Result<BTreeMap<TableIdent, RecordBatch>, ModelError> {
        let is_input = |name: &String| self.model.inputs.iter().any(|input| input.to_string() == *name);
        if let Some(name) = self.case.input.keys().find(|name| !is_input(name)) {
            let known: Vec<_> = self.model.inputs.iter().map(ToString::to_string).collect();
            return Err(self.error(&format!(
                "{} doesn't read '{name}', but {}",
                self.model.table,
                known.join(", ")
            )));
        }
        let mut inputs = BTreeMap::new();
        for input in &self.model.inputs {
            let rows = self.case.input.get(&input.to_string()).map_or(&[][..], Vec::as_slice);
            let schema = self.schemas.get(input).map(|schema| lake_schema(schema));
            let schema =
                schema.ok_or_else(|| self.error(&format!("the columns of {input} are not known")))?;
            let rows =
                rows_from_json(&schema, rows).map_err(|error| self.failed(&input.to_string(), &error))?;
            inputs.insert(input.clone(), rows);
        }
        Ok(inputs)
    }

    /// The output's columns that expected rows name; all of them if there are no rows.
    fn columns(&self, output: &SchemaRef, expected: &[Row]) -> Result<SchemaRef, ModelError> {
        if expected.is_empty() {
            return Ok(output.clone());
        }
        let names: Vec<_> = output.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some(name) = expected.iter().flat_map(Row::keys).find(|name| !names.contains(&name.as_str())) {
            return Err(
                self.error(&format!("the output has no column '{name}': it has {}", names.join(", ")))
            );
        }
        let is_named = |name: &String| expected.iter().any(|row| row.contains_key(name));
        let named = output.fields().iter().filter(|field| is_named(field.name())).cloned();
        Ok(SchemaRef::new(Schema::new(named.collect::<Vec<_>>())))
    }

    /// How the broken checks differ from those that are to be.
    fn breaks(&self, broken: &[FailingCheck]) -> Vec<String> {
        let expected = &self.case.breaks;
        let held = expected.iter().filter(|name| !broken.iter().any(|check| check.check == **name));
        let held = held.map(|name| format!("- check '{name}' is broken"));
        let unexpected = broken.iter().filter(|check| !expected.contains(&check.check));
        let unexpected = unexpected.map(|check| {
            let row = check.rows.first().map(ToString::to_string).unwrap_or_default();
            format!("+ check '{}' is broken by {} row(s), such as {row}", check.check, check.violations)
        });
        held.chain(unexpected).collect()
    }

    fn error(&self, message: &str) -> ModelError {
        self.text.error_of(self.case, message)
    }

    fn failed(&self, what: &str, error: &DataFusionError) -> ModelError {
        self.error(&format!("{what}: {}", error.strip_backtrace()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use expect_test::expect;

    use super::*;
    use crate::{model::shipped_cases, models};

    #[tokio::test]
    async fn shipped_models_make_what_their_cases_say() {
        let outcomes =
            test_models(&ModelFiles::new(), &shipped_cases(), &SourceTables::shipped()).await.unwrap();
        let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        for model in models().unwrap().models() {
            let of_model = outcomes.iter().filter(|outcome| outcome.model_file == model.file);
            assert!(of_model.count() > 0, "{} has no case", model.file);
        }
    }

    async fn run(cases: &str) -> Result<Vec<String>, ModelError> {
        let model = "-- model: gold.by_type\n-- kind: aggregate\n-- check: few warn hosts < 3\n\
                     SELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type";
        let files = |text: &str| ModelFiles::from([("by_type.sql".to_owned(), text.to_owned())]);
        let outcomes = test_models(&files(model), &files(cases), &SourceTables::shipped()).await?;
        Ok(outcomes.into_iter().flat_map(|outcome| outcome.differences).collect())
    }

    const THREE: &str = "[case.input]\n'silver.device' = [{host_id = 'a', os_type = 'linux'}, {host_id = 'b', os_type = 'linux'}, \
                         {host_id = 'c', os_type = 'linux'}, {host_id = 'd'}]\n";

    #[tokio::test]
    async fn a_case_that_does_not_hold_shows_what_differs() {
        let case = |rest: &str| format!("[[case]]\nname = 'n'\n{rest}\n{THREE}");
        let right = "breaks = ['few']\noutput = [{os_type = 'linux', hosts = 3}, {hosts = 1}]";
        assert!(run(&case(right)).await.unwrap().is_empty());
        let some = "breaks = ['few']\nwhere = \"os_type = 'linux'\"\noutput = [{hosts = 3}]";
        assert!(run(&case(some)).await.unwrap().is_empty());
        let wrong = run(&case("output = [{os_type = 'linux', hosts = 4}, {hosts = 1}]")).await.unwrap();
        expect![[r#"
            + check 'few' is broken by 1 row(s), such as {"hosts":3,"os_type":"linux"}
            + {"hosts":3,"os_type":"linux"}
            - {"hosts":4,"os_type":"linux"}"#]]
        .assert_eq(&wrong.join("\n"));
    }

    #[tokio::test]
    async fn what_no_table_has_is_named() {
        let refusal =
            async |rest: &str| run(&format!("[[case]]\nname = 'n'\n{rest}")).await.unwrap_err().to_string();
        let column = refusal("output = [{host = 1}]").await;
        assert!(
            column.starts_with("by_type.test.toml:2:8: case 'n': the output has no column 'host'"),
            "{column}"
        );
        let table = refusal("output = []\n[case.input]\n'silver.software' = []").await;
        assert!(table.contains("doesn't read 'silver.software', but silver.device"), "{table}");
        let input = refusal("output = []\n[case.input]\n'silver.device' = [{hostid = 'a'}]").await;
        assert!(input.contains("silver.device: ") && input.contains("hostid"), "{input}");
    }
}
