//! Columns of `bronze.inventory` that no record has as they are: what follows from its other fields, and places for what
//! follows from the tenant's table of organisations.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StringBuilder, new_null_array},
    datatypes::{DataType, Field},
};

use super::documented;
use crate::{
    fields::position,
    platform::{platform, platform_version},
};

/// Text columns of `bronze.inventory` that the ingest worker fills from the tenant's table `reference.organizations`, as it is when
/// a record is taken. Rules can't read them: in the stream there is no such table.
pub const ORGANIZATION_COLUMNS: [&str; 4] = ["org_id", "org_name", "org_unit", "org_attributes"];

/// How many columns there are.
pub(super) const COUNT: usize = 2 + ORGANIZATION_COLUMNS.len();
/// The fields that the first of them follow from.
pub(super) const SOURCES: [&str; 3] = ["os_type", "os_name", "os_version"];

/// In the order of the schema.
pub(super) fn columns() -> [Field; COUNT] {
    let text = |name, description| documented(name, DataType::Utf8, true, description, None);
    let [id, name, unit, attributes] = ORGANIZATION_COLUMNS;
    [
        text("platform", "linux, windows, macos or another word, from os_type or os_name"),
        text("platform_version", "The version in figures, such as 22.04.3, from os_version or os_name"),
        text(id, "Organisation of the computer, as reference.organizations says"),
        text(name, "Its name there"),
        text(unit, "Its unit there"),
        text(attributes, "All else that the table says of it, as one JSON object"),
    ]
}

/// The same as arrays, from those of the record's fields.
pub(super) fn arrays(fields: &[Option<ArrayRef>], rows: usize) -> [ArrayRef; COUNT] {
    let column = |name: &str| position(name).and_then(|at| fields.get(at)?.as_ref()?.as_string_opt::<i32>());
    let columns = SOURCES.map(column);
    let unknown = new_null_array(&DataType::Utf8, rows);
    let [id, name, unit, attributes] = ORGANIZATION_COLUMNS.map(|_| Arc::clone(&unknown));
    let (mut platforms, mut versions) = (StringBuilder::new(), StringBuilder::new());
    for row in 0..rows {
        let [os_type, os_name, os_version] = columns.map(|column| text(column, row));
        platforms.append_option(platform(os_type, os_name));
        versions.append_option(platform_version(os_version, os_name));
    }
    [Arc::new(platforms.finish()), Arc::new(versions.finish()), id, name, unit, attributes]
}

fn text(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}
