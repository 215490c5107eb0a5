//! A filter over manifests and files.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    columns::{Column, Columns},
    datum::Datum,
    expression::{Expression, Judged, Leaf},
    file::ScanFile,
    judge::{Bounds, Facts, Rows, judge},
    layout::{Layout, PartitionField, PartitionValue, may_hold_values, summary_bound},
    primitive::Primitive,
    transform::Transform,
};
use crate::manifests::{ColumnMetrics, ManifestFile};

/// A bound filter with what it is judged by.
pub(crate) struct Filter<'a> {
    pub(crate) expression: &'a Expression,
    pub(crate) columns: &'a Columns,
    pub(crate) layout: &'a Layout,
}

impl Filter<'_> {
    /// Columns whose statistics are needed.
    pub(crate) fn tested(&self) -> BTreeSet<i64> {
        let mut tested = BTreeSet::new();
        self.expression.columns(&mut |id| {
            tested.insert(id);
        });
        tested
    }

    /// Whether a manifest may hold a file with a row that passes.
    pub(crate) fn may_match(&self, manifest: &ManifestFile) -> bool {
        let (Some(summaries), Ok(fields)) = (&manifest.partitions, self.layout.fields(manifest.spec_id))
        else {
            return true;
        };
        let facts = |field: &PartitionField, index: usize| {
            let (summary, kind) = (summaries.get(index)?, field.result?);
            let bounds = || Bounds {
                lower: summary_bound(summary.lower.as_ref(), kind),
                upper: summary_bound(summary.upper.as_ref(), kind),
            };
            Some(Facts {
                nulls: summary.contains_null,
                nans: kind.is_floating() && summary.contains_nan != Some(false),
                values: may_hold_values(summary).then(bounds),
            })
        };
        let of_leaf = |leaf: &Leaf| match &leaf.judged {
            None => Rows::Some,
            Some(judged) => by_partition(judged, leaf.turned, fields, facts).unwrap_or(Rows::Some),
        };
        self.expression.judge(&of_leaf) != Rows::None
    }

    /// How many rows of a data file may pass.
    pub(crate) fn rows(&self, file: &ScanFile) -> Rows {
        if file.records == 0 {
            return Rows::None;
        }
        self.expression.judge(&|leaf| self.of_leaf(leaf, file))
    }

    /// What is still to be tested of the rows of a data file.
    pub(crate) fn residual(&self, file: &ScanFile) -> Value {
        self.expression.residual(&|leaf| self.of_leaf(leaf, file))
    }

    fn of_leaf(&self, leaf: &Leaf, file: &ScanFile) -> Rows {
        let Some(judged) = &leaf.judged else { return Rows::Some };
        let by_statistics = self.columns.by_id(judged.column).and_then(|column| {
            let facts = column_facts(column, judged.kind, file.metrics.get(&column.id)?, file.records);
            by_column(judged, leaf.turned, facts)
        });
        if let Some(certain) = by_statistics.filter(|rows| *rows != Rows::Some) {
            return certain;
        }
        let fields = self.layout.fields(file.spec_id).unwrap_or_default();
        let facts = |_: &PartitionField, index: usize| value_facts(file.partition.get(index)?);
        by_partition(judged, leaf.turned, fields, facts).unwrap_or(Rows::Some)
    }
}

/// A verdict by what is known of the column itself.
fn by_column(judged: &Judged, turned: bool, facts: Facts) -> Option<Rows> {
    if judged.transform == Transform::Identity {
        return Some(judge(&judged.test, turned, &facts, Transform::Identity, judged.kind));
    }
    let result = judged.transform.result(judged.kind)?;
    let values = facts.values.map(|Bounds { lower, upper }| {
        let is_one = lower.is_some() && lower == upper;
        let apply = |bound: Option<Datum>| {
            let kept = bound.filter(|_| is_one || judged.transform.keeps_order());
            kept.and_then(|bound| judged.transform.apply(&bound, judged.kind))
        };
        Bounds { lower: apply(lower), upper: apply(upper) }
    });
    Some(judge(&judged.test, turned, &Facts { values, ..facts }, Transform::Identity, result))
}

/// The first certain verdict by a partition field.
fn by_partition(
    judged: &Judged,
    turned: bool,
    fields: &[PartitionField],
    facts: impl Fn(&PartitionField, usize) -> Option<Facts>,
) -> Option<Rows> {
    let fields = fields.iter().enumerate().filter(|(_, field)| field.source == judged.column);
    let verdicts = fields.filter_map(|(index, field)| {
        let transform = field.transform.filter(|transform| *transform != Transform::Void)?;
        let facts = facts(field, index)?;
        if judged.transform == Transform::Identity {
            Some(judge(&judged.test, turned, &facts, transform, field.kind?))
        } else if judged.transform == transform {
            Some(judge(&judged.test, turned, &facts, Transform::Identity, field.result?))
        } else if transform == Transform::Identity {
            by_column(judged, turned, facts)
        } else {
            None
        }
    });
    let mut verdict = None;
    for rows in verdicts {
        if rows != Rows::Some {
            return Some(rows);
        }
        verdict = Some(rows);
    }
    verdict
}

/// What a file's partition value says; nothing if it isn't known.
fn value_facts(value: &PartitionValue) -> Option<Facts> {
    match value {
        PartitionValue::Null => Some(Facts { nulls: true, nans: false, values: None }),
        PartitionValue::Known(datum) if datum.is_nan() => {
            Some(Facts { nulls: false, nans: true, values: None })
        }
        PartitionValue::Known(datum) => {
            let bounds = Bounds { lower: Some(datum.clone()), upper: Some(datum.clone()) };
            Some(Facts { nulls: false, nans: false, values: Some(bounds) })
        }
        PartitionValue::Unknown(_) => None,
    }
}

/// What a file's statistics say of a column.
fn column_facts(column: &Column, kind: Primitive, metrics: &ColumnMetrics, records: i64) -> Facts {
    let (nulls, nans) = (metrics.nulls, metrics.nans);
    let values = metrics.values.unwrap_or(records);
    let others = values - nulls.unwrap_or_default() - nans.unwrap_or_default();
    let bound =
        |bytes: &Option<Vec<u8>>| Datum::from_bound(bytes.as_deref()?, kind).filter(|datum| !datum.is_nan());
    let bounds = || Bounds { lower: bound(&metrics.lower), upper: bound(&metrics.upper) };
    Facts {
        nulls: !column.required && nulls != Some(0),
        nans: kind.is_floating() && nans != Some(0) && nulls != Some(values),
        values: (others > 0).then(bounds),
    }
}
