//! Schemas: Iceberg's own, and what they are in Arrow.
//!
//! Arrow fields carry their Iceberg id in the metadata key `PARQUET:field_id` at every level, so that files and tables are
//! matched by id and never by name.

mod from_arrow;
mod name_ids;
mod to_arrow;

use arrow::datatypes::Field;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

pub(crate) use from_arrow::{FieldIds, iceberg_schema, optional_field};
pub(crate) use name_ids::NameIds;
pub(crate) use to_arrow::{arrow_field, arrow_schema};

/// Arrow metadata key of a column's documentation.
pub(crate) const DOC_KEY: &str = "doc";

/// The Iceberg id of an Arrow field, if it has one.
pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{collections::HashMap, sync::Arc};

    use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
    use iceberg::spec::Schema as IcebergSchema;

    use super::*;

    fn nested() -> Schema {
        let package = DataType::Struct(Fields::from(vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("version", DataType::Utf8, true),
        ]));
        let entries = DataType::Struct(Fields::from(vec![
            Field::new("keys", DataType::Utf8, false),
            Field::new("values", DataType::Int64, true),
        ]));
        Schema::new(vec![
            Field::new("host_id", DataType::Utf8, false)
                .with_metadata(HashMap::from([("doc".to_owned(), "who".to_owned())])),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("software", DataType::List(Arc::new(Field::new("item", package, true))), true),
            Field::new("tags", DataType::Map(Arc::new(Field::new("entries", entries, false)), false), true),
            Field::new("cores", DataType::Int16, true),
            Field::new("raw", DataType::LargeBinary, true),
            Field::new("amount", DataType::Decimal128(12, 2), true),
        ])
    }

    #[test]
    fn arrow_schemas_become_iceberg_schemas_with_ids_of_siblings_first() {
        let json = iceberg_schema(&nested(), &mut FieldIds::starting_at(1)).unwrap();
        expect_test::expect![[r#"{"fields":[{"doc":"who","id":1,"name":"host_id","required":true,"type":"string"},{"id":2,"name":"at","required":true,"type":"timestamptz"},{"id":3,"name":"local","required":false,"type":"timestamp"},{"id":4,"name":"software","required":false,"type":{"element":{"fields":[{"id":10,"name":"name","required":true,"type":"string"},{"id":11,"name":"version","required":false,"type":"string"}],"type":"struct"},"element-id":9,"element-required":false,"type":"list"}},{"id":5,"name":"tags","required":false,"type":{"key":"string","key-id":12,"type":"map","value":"long","value-id":13,"value-required":false}},{"id":6,"name":"cores","required":false,"type":"int"},{"id":7,"name":"raw","required":false,"type":"binary"},{"id":8,"name":"amount","required":false,"type":"decimal(12, 2)"}],"schema-id":0,"type":"struct"}"#]]
            .assert_eq(&json.to_string());
    }

    #[test]
    fn iceberg_schemas_become_arrow_schemas_with_field_ids_at_every_level() {
        let json = iceberg_schema(&nested(), &mut FieldIds::starting_at(1)).unwrap();
        let iceberg: IcebergSchema = serde_json::from_value(json).unwrap();
        let arrow = arrow_schema(&iceberg).unwrap();

        assert_eq!(
            arrow.fields().iter().map(|f| field_id(f).unwrap()).collect::<Vec<_>>(),
            (1..=8).collect::<Vec<_>>()
        );
        assert_eq!(arrow.field(0).metadata()["doc"], "who");
        assert_eq!(arrow.field(1).data_type(), nested().field(1).data_type());
        let DataType::List(element) = arrow.field(3).data_type() else { panic!("{arrow:?}") };
        assert_eq!(field_id(element), Some(9));
        let DataType::Struct(package) = element.data_type() else { panic!("{arrow:?}") };
        assert_eq!(field_id(&package[1]), Some(11));
        let DataType::Map(entries, _) = arrow.field(4).data_type() else { panic!("{arrow:?}") };
        let DataType::Struct(entries) = entries.data_type() else { panic!("{arrow:?}") };
        assert_eq!((field_id(&entries[0]), field_id(&entries[1])), (Some(12), Some(13)));
        assert_eq!(arrow.field(6).data_type(), &DataType::Binary);
    }

    #[test]
    fn types_iceberg_lacks_are_refused_by_column() {
        let schema = Schema::new(vec![Field::new("wait", DataType::Duration(TimeUnit::Second), true)]);
        let error = iceberg_schema(&schema, &mut FieldIds::starting_at(1)).unwrap_err();
        assert!(error.context.contains("wait"), "{error}");
    }
}
