//! Records as Arrow columns of `bronze.inventory` and `bronze.quarantine`.

mod added;
mod bronze;
mod column;
mod quarantine;

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::fields::field_class;

pub use added::ORGANIZATION_COLUMNS;
pub use bronze::{BronzeBuilder, bronze_schema};
pub use quarantine::{QuarantineBuilder, quarantine_schema};

/// Where a record came from and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Id of the topic (not its name).
    pub topic_id: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When the gateway took it, microseconds since the epoch.
    pub received_at_us: i64,
    /// Adapter that took it (`native` …).
    pub source: String,
}

/// Microseconds in UTC.
fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column with its documentation: description, unit if it has one, class.
fn documented(
    name: &str,
    data_type: DataType,
    nullable: bool,
    description: &str,
    unit: Option<&str>,
) -> Field {
    let description = description.trim_end_matches('.');
    let unit = unit.map(|unit| format!(" Unit: {unit}.")).unwrap_or_default();
    let doc = format!("{description}.{unit} Class: {}.", field_class(name).as_str());
    Field::new(name, data_type, nullable).with_metadata(HashMap::from([("doc".to_owned(), doc)]))
}

/// The columns that say where in the log a row came from; both tables have them.
fn position_columns() -> [Field; 4] {
    let column = |name, data_type, description| documented(name, data_type, false, description, None);
    [
        column("source", DataType::Utf8, "Adapter that took the record"),
        column(
            "log_topic_id",
            DataType::Utf8,
            "Id of the log's topic; another one means that it was recreated",
        ),
        column("log_partition", DataType::Int32, "Partition of the topic"),
        column("log_offset", DataType::Int64, "Offset in the partition"),
    ]
}

#[cfg(test)]
mod tests;
