//! Partition specs: which columns partition values come from, and how.

use std::collections::BTreeMap;

use super::{datum::Datum, primitive::Primitive, transform::Transform};
use crate::{
    manifests::{Details, FieldSummary, ManifestError},
    metadata::{Document, schema_fields},
};

/// A field of a partition spec.
#[derive(Clone, Debug)]
pub(crate) struct PartitionField {
    /// Its own id.
    pub(crate) id: i64,
    /// The column it comes from.
    pub(crate) source: i64,
    /// `None` for a transform that isn't known here.
    pub(crate) transform: Option<Transform>,
    /// Type of the column; `None` if no schema has it any more.
    pub(crate) kind: Option<Primitive>,
    /// Type of the values.
    pub(crate) result: Option<Primitive>,
}

/// A table's partition specs by id.
pub(crate) struct Layout(BTreeMap<i64, Vec<PartitionField>>);

impl Layout {
    pub(crate) fn new(document: &Document) -> Self {
        // Types only ever widen, so that the newest schema with a column knows it best.
        let mut kinds: BTreeMap<i64, Primitive> = BTreeMap::new();
        for schema in
            document.list("schemas").iter().map(|schema| schema.value()).chain(document.current_schema())
        {
            for (id, field) in schema_fields(schema) {
                if let Some(kind) = field.kind.as_str().and_then(Primitive::parse) {
                    kinds.insert(id, kind);
                }
            }
        }
        let field = |field: &serde_json::Value| {
            let source = field["source-id"].as_i64();
            let kind = source.and_then(|source| kinds.get(&source).copied());
            let transform =
                field["transform"].as_str().and_then(Transform::parse).filter(|_| source.is_some());
            PartitionField {
                id: field["field-id"].as_i64().unwrap_or_default(),
                source: source.unwrap_or_default(),
                transform,
                kind,
                result: transform.zip(kind).and_then(|(transform, kind)| transform.result(kind)),
            }
        };
        let specs = document.list("partition-specs").iter().map(|spec| {
            let fields = spec["fields"].as_array().into_iter().flatten().map(field).collect();
            (spec["spec-id"].as_i64().unwrap_or_default(), fields)
        });
        Self(specs.collect())
    }

    /// The fields of a spec.
    pub(crate) fn fields(&self, spec_id: i64) -> Result<&[PartitionField], ManifestError> {
        match self.0.get(&spec_id) {
            Some(fields) => Ok(fields),
            None => Err(ManifestError::new(format!("the table has no partition spec {spec_id}"))),
        }
    }
}

/// A partition value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PartitionValue {
    Null,
    Known(Datum),
    /// Of a type that isn't known here, as it was printed: good to be compared for equality.
    Unknown(String),
}

/// The partition of a file.
pub(crate) fn partition_of(
    fields: &[PartitionField],
    details: &Details<'_>,
) -> Result<Vec<PartitionValue>, ManifestError> {
    let values = details.partition(fields.iter().map(|field| field.id))?;
    let value = |(field, value): (&PartitionField, Option<&apache_avro::types::Value>)| match value {
        None => PartitionValue::Null,
        Some(value) => match field.result.and_then(|kind| Datum::from_avro(value, kind)) {
            Some(datum) => PartitionValue::Known(datum),
            None => PartitionValue::Unknown(format!("{value:?}")),
        },
    };
    Ok(fields.iter().zip(values).map(value).collect())
}

/// Bound of a manifest's partition summary.
pub(crate) fn summary_bound(bytes: Option<&Vec<u8>>, kind: Primitive) -> Option<Datum> {
    Datum::from_bound(bytes?, kind).filter(|datum| !datum.is_nan())
}

/// Whether a manifest's summary says that its files have values in a field that are neither null nor NaN.
pub(crate) fn may_hold_values(summary: &FieldSummary) -> bool {
    summary.lower.is_some() || !(summary.contains_null || summary.contains_nan == Some(true))
}
