//! Cases that show what a model makes: a file `NAME.test.toml` beside `NAME.sql`.
//!
//! ```toml
//! [[case]]
//! name = "computers are counted per operating system"
//! output = [{ os_type = "linux", hosts = 2 }]
//!
//! [case.input]
//! "silver.device" = [{ host_id = "h1", os_type = "linux" }, { host_id = "h2", os_type = "linux" }]
//! ```
//!
//! Rows are given by their columns, in any order; a column that isn't named is null, and an input that isn't named has no rows.
//! Of the output those columns are compared that the expected rows name. Rules that a model judges by are those that come with
//! Firn.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ModelError;

/// Ends the names of files with cases for a model.
pub const TEST_SUFFIX: &str = ".test.toml";

/// A row as it is written.
pub(super) type Row = Map<String, Value>;

/// One case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What it shows.
    pub(super) name: String,
    /// Rows by table.
    #[serde(default)]
    pub(super) input: BTreeMap<String, Vec<Row>>,
    /// The output's rows.
    #[serde(default)]
    pub(super) output: Option<Vec<Row>>,
    /// SQL boolean: only rows of the output for which it is true are compared.
    #[serde(default, rename = "where")]
    pub(super) filter: Option<String>,
    /// Checks that rows break, of any severity.
    #[serde(default)]
    pub(super) breaks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Case>,
}

/// A file of cases, to point at places in it.
#[derive(Clone, Debug)]
pub(super) struct CaseText {
    pub(super) file: String,
    text: Arc<str>,
}

impl CaseText {
    pub(super) fn new(file: String, text: &str) -> Self {
        Self { file, text: text.into() }
    }

    /// The cases.
    pub(super) fn parse(&self) -> Result<Vec<Case>, ModelError> {
        let parsed: CaseFile = toml::from_str(&self.text).map_err(|error| {
            let place = error.span().map_or((1, 1), |span| self.place(span.start));
            self.error(place, error.message())
        })?;
        for case in &parsed.case {
            if case.output.is_none() && case.breaks.is_empty() {
                let text = "it expects nothing: give it an output, or the checks that it breaks";
                return Err(self.error_of(case, text));
            }
        }
        Ok(parsed.case)
    }

    /// What is wrong with a case.
    pub(super) fn error_of(&self, case: &Case, message: &str) -> ModelError {
        let quoted = ['"', '\''].map(|quote| format!("{quote}{}{quote}", case.name));
        let found = quoted.iter().find_map(|name| self.text.find(name));
        let place = found.map_or((1, 1), |at| self.place(at));
        self.error(place, &format!("case '{}': {message}", case.name))
    }

    fn error(&self, (line, column): (u64, u64), message: &str) -> ModelError {
        ModelError { file: self.file.clone(), line, column, message: message.to_owned() }
    }

    fn place(&self, at: usize) -> (u64, u64) {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() as u64 + 1, before[line_start..].chars().count() as u64 + 1)
    }
}

/// Lines that one side has and the other lacks: `-` expected and missing, `+` there and not expected.
pub(super) fn differences(expected: &[Value], found: &[Value]) -> Vec<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (rows, step) in [(expected, 1), (found, -1)] {
        for row in rows {
            *counts.entry(rounded(row).to_string()).or_default() += step;
        }
    }
    let line = |(row, count): (String, i64)| {
        let sign = if count > 0 { '-' } else { '+' };
        vec![format!("{sign} {row}"); usize::try_from(count.unsigned_abs()).unwrap_or_default()]
    };
    counts.into_iter().flat_map(line).collect()
}

/// The same with fractions to nine digits, so that the order in which numbers were added up doesn't show.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or_default();
            Value::from((exact * 1e9).round() / 1e9)
        }
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), rounded(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_in_a_file_is_pointed_at() {
        let refusal =
            |text: &str| CaseText::new("m.test.toml".to_owned(), text).parse().unwrap_err().to_string();
        let nothing = refusal("[[case]]\nname = 'n'\n");
        assert!(nothing.starts_with("m.test.toml:2:8: case 'n': it expects nothing"), "{nothing}");
        let unknown = refusal("[[case]]\nname = 'n'\noutputs = []\n");
        assert!(unknown.starts_with("m.test.toml:3:1: ") && unknown.contains("outputs"), "{unknown}");
    }

    #[test]
    fn differences_count_rows_and_pass_over_the_last_digits() {
        let (a, b) = (json!({"v": 1}), json!({"v": 2}));
        assert_eq!(differences(&[a.clone(), b.clone()], &[b.clone(), a.clone()]), [""; 0]);
        assert_eq!(
            differences(&[a.clone(), a.clone(), b], &[a, json!({"v": 3})]),
            [r#"- {"v":1}"#, r#"- {"v":2}"#, r#"+ {"v":3}"#]
        );
        assert_eq!(differences(&[json!(0.3)], &[json!(0.1 + 0.2)]), [""; 0]);
        assert_eq!(differences(&[json!(0.3)], &[json!(0.300_001)]).len(), 2);
    }
}
