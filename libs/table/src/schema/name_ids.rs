//! Field ids for files that have none: what other tools wrote before a table adopted it (specification, "Name Mapping").

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use iceberg::spec::{MappedField, NameMapping};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::field_id;
use crate::reshape::MatchBy;

/// A table's name mapping.
#[derive(Debug)]
pub(crate) struct NameIds(NameMapping);

impl NameIds {
    /// From the table property `schema.name-mapping.default`.
    pub(crate) fn parse(property: &str) -> serde_json::Result<Self> {
        serde_json::from_str(property).map(Self)
    }

    /// A file's columns with ids as far as they are known, and how to match them with a table's. Without ids in the file and
    /// without a mapping the names themselves have to do.
    pub(crate) fn label(names: Option<&Self>, fields: &Fields) -> (Fields, MatchBy) {
        if fields.iter().any(has_ids) {
            return (fields.clone(), MatchBy::FieldId);
        }
        match names {
            Some(Self(mapping)) => {
                let mapped = mapping.fields().iter().collect::<Vec<_>>();
                (labelled(fields, &mapped), MatchBy::FieldId)
            }
            None => (fields.clone(), MatchBy::Name),
        }
    }
}

fn has_ids(field: &FieldRef) -> bool {
    let nested = |fields: &Fields| fields.iter().any(has_ids);
    field_id(field).is_some()
        || match field.data_type() {
            DataType::Struct(fields) => nested(fields),
            DataType::List(child) | DataType::LargeList(child) | DataType::Map(child, _) => has_ids(child),
            _ => false,
        }
}

fn labelled(fields: &Fields, mapped: &[&MappedField]) -> Fields {
    let label = |field: &FieldRef| {
        let known = mapped.iter().find(|known| known.names().contains(field.name()));
        known.map_or_else(|| Arc::clone(field), |known| Arc::new(label_field(field, known)))
    };
    fields.iter().map(label).collect()
}

fn label_field(field: &Field, mapped: &MappedField) -> Field {
    let children = mapped.fields().iter().map(|child| child.as_ref()).collect::<Vec<&MappedField>>();
    // Elements of lists, keys and values are known by their place: their names differ between writers.
    let child = |name: &str, child: &FieldRef| {
        let known = children.iter().find(|known| known.names().iter().any(|known| known == name));
        known.map_or_else(|| Arc::clone(child), |known| Arc::new(label_field(child, known)))
    };
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(labelled(fields, &children)),
        DataType::List(element) => DataType::List(child("element", element)),
        DataType::LargeList(element) => DataType::LargeList(child("element", element)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = Fields::from(vec![child("key", &pair[0]), child("value", &pair[1])]);
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        primitive => primitive.clone(),
    };
    let id = mapped.field_id().map(|id| (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string()));
    field.clone().with_data_type(data_type).with_metadata(HashMap::from_iter(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mapping() -> NameIds {
        let json = r#"[
            {"field-id": 1, "names": ["id", "record_id"]},
            {"field-id": 2, "names": ["tags"], "fields": [{"field-id": 3, "names": ["element"], "fields": [
                {"field-id": 4, "names": ["key"]}]}]}
        ]"#;
        NameIds::parse(json).unwrap()
    }

    #[test]
    fn names_give_ids_at_every_level() {
        let tag = DataType::Struct(Fields::from(vec![Field::new("key", DataType::Utf8, true)]));
        let fields = Fields::from(vec![
            Field::new("record_id", DataType::Int64, true),
            Field::new("tags", DataType::List(Arc::new(Field::new("array", tag, true))), true),
            Field::new("unknown", DataType::Int64, true),
        ]);
        let (labels, match_by) = NameIds::label(Some(&mapping()), &fields);
        assert_eq!(match_by, MatchBy::FieldId);
        assert_eq!(labels.iter().map(|field| field_id(field)).collect::<Vec<_>>(), [Some(1), Some(2), None]);
        let DataType::List(element) = labels[1].data_type() else { panic!("{labels:?}") };
        let DataType::Struct(tag) = element.data_type() else { panic!("{labels:?}") };
        assert_eq!((field_id(element), field_id(&tag[0])), (Some(3), Some(4)));
    }

    #[test]
    fn files_with_ids_keep_them() {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), "9".to_owned())]);
        let fields = Fields::from(vec![Field::new("id", DataType::Int64, true).with_metadata(id)]);
        let (labels, match_by) = NameIds::label(Some(&mapping()), &fields);
        assert_eq!((field_id(&labels[0]), match_by), (Some(9), MatchBy::FieldId));
    }
}
