//! Policies as rows of the tenant's table `policies.rules`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        new_null_array,
    },
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};

use crate::{FlappingLimit, Policy, PolicyError, Severity, WindowSpec};

/// Property of `policies.rules` that says that rules were put in: the shipped ones come once, and never again after somebody
/// removed them.
pub const RULES_SEEDED_PROPERTY: &str = "firn.rules-seeded";

/// Columns that tables made before there were such rules lack.
const ABSENCE: &str = "absence_s";
const WINDOW_SIZE: &str = "window_size_s";
const WINDOW_SLIDE: &str = "window_slide_s";
const WINDOW_ROW: &str = "windows_in_a_row";
const WINDOW_LATENESS: &str = "window_lateness_s";
const FLAPPING_OPENINGS: &str = "flapping_openings";
const FLAPPING_WITHIN: &str = "flapping_within_s";

/// Schema of `policies.rules`. `standards` holds a policy's references (a reserved word in SQL); `labels` is a JSON object.
#[must_use]
pub fn rules_schema() -> SchemaRef {
    let text = |name: &str, doc: &str| field(name, DataType::Utf8, false, doc);
    let list = |name: &str, doc: &str| field(name, text_list(), true, doc);
    let count = |name: &str, doc: &str| field(name, DataType::Int64, true, doc);
    Arc::new(Schema::new(vec![
        text("id", "Unique id of the policy"),
        text("title", "One line"),
        text("severity", "low, medium, high or critical"),
        text("description", "What is checked"),
        text("rationale", "Why it matters"),
        text("remediation", "What to do about a breach"),
        list("standards", "Where it is written down, such as CIS 1.1.1"),
        list("platforms", "os_type values it applies to; all if empty"),
        text("rule", "SQL boolean over the inventory: true is compliant, false a breach, null no result"),
        field("grace_s", DataType::Int64, false, "Seconds a breach must last before a finding opens"),
        text("labels", "Free labels, a JSON object"),
        count(ABSENCE, "A breach is that nothing was received for so many seconds; the rule is empty then"),
        count(WINDOW_SIZE, "Seconds of the windows that the rule aggregates over; none if absent"),
        count(WINDOW_SLIDE, "Seconds from one window's start to the next one's; the size if absent"),
        count(WINDOW_ROW, "So many windows in a row must be in breach; 1 if absent"),
        count(WINDOW_LATENESS, "Seconds after a window's end that its samples may still be received"),
        count(FLAPPING_OPENINGS, "A finding that opened so many times stays open; no limit if absent"),
        count(
            FLAPPING_WITHIN,
            "Seconds that the openings are counted in, and that the computer must comply for",
        ),
    ]))
}

fn text_list() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)))
}

fn field(name: &str, data_type: DataType, nullable: bool, doc: &str) -> Field {
    Field::new(name, data_type, nullable).with_metadata([("doc".to_owned(), doc.to_owned())].into())
}

/// Policies as rows of `policies.rules`.
#[must_use]
pub fn rules_to_batch(policies: &[Policy]) -> RecordBatch {
    let text = |of: fn(&Policy) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(policies.iter().map(of)))
    };
    let columns: Vec<ArrayRef> = vec![
        text(|policy| &policy.id),
        text(|policy| &policy.title),
        text(|policy| policy.severity.as_str()),
        text(|policy| &policy.description),
        text(|policy| &policy.rationale),
        text(|policy| &policy.remediation),
        lists(policies.iter().map(|policy| policy.references.as_slice())),
        lists(policies.iter().map(|policy| policy.platforms.as_slice())),
        text(|policy| &policy.rule),
        Arc::new(Int64Array::from_iter_values(policies.iter().map(|policy| policy.grace_s.cast_signed()))),
        Arc::new(StringArray::from_iter_values(policies.iter().map(|policy| labels_json(&policy.labels)))),
        counts(policies, |policy| policy.absence_s),
        counts(policies, |policy| Some(policy.window.as_ref()?.size_s)),
        counts(policies, |policy| policy.window.as_ref()?.slide_s),
        counts(policies, |policy| Some(policy.window.as_ref()?.in_a_row.into())),
        counts(policies, |policy| Some(policy.window.as_ref()?.lateness_s)),
        counts(policies, |policy| Some(policy.flapping?.openings.into())),
        counts(policies, |policy| Some(policy.flapping?.within_s)),
    ];
    // The columns are built from the same list as the schema; a mismatch is a bug that every test would meet.
    RecordBatch::try_new(rules_schema(), columns).unwrap_or_else(|_| RecordBatch::new_empty(rules_schema()))
}

fn counts(policies: &[Policy], of: fn(&Policy) -> Option<u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(policies.iter().map(|policy| of(policy).map(u64::cast_signed))))
}

fn labels_json(labels: &BTreeMap<String, String>) -> String {
    let object = labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    serde_json::Value::Object(object).to_string()
}

fn lists<'a>(values: impl Iterator<Item = &'a [String]>) -> ArrayRef {
    let mut builder =
        ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for texts in values {
        for text in texts {
            builder.values().append_value(text);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Rows of `policies.rules` as policies; a broken row is an error of its own beside the others.
#[must_use]
pub fn rules_from_batches(batches: &[RecordBatch]) -> Vec<Result<Policy, PolicyError>> {
    let mut policies = Vec::new();
    for batch in batches {
        match RuleColumns::of(batch) {
            Ok(columns) => policies.extend((0..batch.num_rows()).map(|row| columns.policy(row))),
            Err(error) => policies.push(Err(error)),
        }
    }
    policies
}

/// The columns of a batch in the schema's order and types, whatever the engine that wrote the table made of them.
struct RuleColumns {
    columns: BTreeMap<String, ArrayRef>,
}

impl RuleColumns {
    fn of(batch: &RecordBatch) -> Result<Self, PolicyError> {
        let mut columns = BTreeMap::new();
        for field in rules_schema().fields() {
            let fail =
                |what: &str| PolicyError::new("policies.rules", format!("column '{}' {what}", field.name()));
            let column = match batch.column_by_name(field.name()) {
                Some(column) => column,
                None if field.data_type() == &DataType::Int64 && field.is_nullable() => {
                    &new_null_array(&DataType::Int64, batch.num_rows())
                }
                None => return Err(fail("is missing")),
            };
            let column = cast(column, field.data_type()).map_err(|error| fail(&error.to_string()))?;
            columns.insert(field.name().clone(), column);
        }
        Ok(Self { columns })
    }

    fn text(&self, name: &str, row: usize) -> String {
        let column = self.columns[name].as_string::<i32>();
        if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
    }

    fn texts(&self, name: &str, row: usize) -> Vec<String> {
        let column = self.columns[name].as_list::<i32>();
        if column.is_null(row) {
            return Vec::new();
        }
        column.value(row).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    }

    fn count(&self, name: &str, row: usize) -> Result<Option<u64>, String> {
        let column = self.columns[name].as_primitive::<Int64Type>();
        let value = column.is_valid(row).then(|| column.value(row));
        value
            .map(|value| u64::try_from(value).map_err(|_| format!("{name} is negative: {value}")))
            .transpose()
    }

    fn window(&self, row: usize) -> Result<Option<WindowSpec>, String> {
        let Some(size_s) = self.count(WINDOW_SIZE, row)? else { return Ok(None) };
        let in_a_row = self.count(WINDOW_ROW, row)?.unwrap_or(1);
        Ok(Some(WindowSpec {
            size_s,
            slide_s: self.count(WINDOW_SLIDE, row)?,
            in_a_row: u32::try_from(in_a_row).map_err(|_| format!("{WINDOW_ROW} is {in_a_row}"))?,
            lateness_s: self.count(WINDOW_LATENESS, row)?.unwrap_or_default(),
        }))
    }

    fn flapping(&self, row: usize) -> Result<Option<FlappingLimit>, String> {
        let Some(openings) = self.count(FLAPPING_OPENINGS, row)? else { return Ok(None) };
        Ok(Some(FlappingLimit {
            openings: u32::try_from(openings).map_err(|_| format!("{FLAPPING_OPENINGS} is {openings}"))?,
            within_s: self.count(FLAPPING_WITHIN, row)?.unwrap_or_default(),
        }))
    }

    fn policy(&self, row: usize) -> Result<Policy, PolicyError> {
        let id = self.text("id", row);
        let fail = |message: String| PolicyError::new(&id, message);
        let severity = self.text("severity", row);
        let labels = self.text("labels", row);
        let policy = Policy {
            title: self.text("title", row),
            severity: Severity::from_word(&severity).ok_or_else(|| {
                fail(format!("severity '{severity}' is none of low, medium, high, critical"))
            })?,
            description: self.text("description", row),
            rationale: self.text("rationale", row),
            remediation: self.text("remediation", row),
            references: self.texts("standards", row),
            platforms: self.texts("platforms", row),
            rule: self.text("rule", row),
            grace_s: self.count("grace_s", row).map_err(fail)?.unwrap_or_default(),
            absence_s: self.count(ABSENCE, row).map_err(fail)?,
            window: self.window(row).map_err(fail)?,
            flapping: self.flapping(row).map_err(fail)?,
            labels: if labels.is_empty() {
                BTreeMap::new()
            } else {
                serde_json::from_str(&labels)
                    .map_err(|error| fail(format!("labels are no JSON object of texts: {error}")))?
            },
            id: id.clone(),
        };
        policy.check()?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::shipped;

    #[test]
    fn shipped_policies_survive_the_table() {
        let mut policies = shipped();
        policies[0].flapping = Some(FlappingLimit { openings: 3, within_s: 3_600 });
        let back: Vec<Policy> =
            rules_from_batches(&[rules_to_batch(&policies)]).into_iter().map(Result::unwrap).collect();
        assert_eq!(back, policies);
    }

    #[test]
    fn broken_row_is_an_error_beside_the_others() {
        let mut policies = shipped();
        policies.truncate(2);
        policies[0].rule = "(".to_owned();
        let back = rules_from_batches(&[rules_to_batch(&policies)]);
        assert_eq!(back[0].as_ref().unwrap_err().policy, policies[0].id);
        assert_eq!(back[1].as_ref().unwrap(), &policies[1]);
    }

    #[test]
    fn missing_column_is_named() {
        let batch = rules_to_batch(&shipped()).project(&[0, 1]).unwrap();
        let errors = rules_from_batches(&[batch]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].as_ref().unwrap_err().message.contains("'severity' is missing"));
    }

    #[test]
    fn table_from_before_windows_and_absence_is_read() {
        let policies: Vec<Policy> = shipped().into_iter().filter(|policy| policy.is_per_record()).collect();
        let columns: Vec<usize> = (0..11).collect();
        let old = rules_to_batch(&policies).project(&columns).unwrap();
        let back: Vec<Policy> = rules_from_batches(&[old]).into_iter().map(Result::unwrap).collect();
        assert_eq!(back, policies);
    }
}
