//! One growing column of a field of the record.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayBuilder, ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
        StructBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, Fields},
};
use chrono::DateTime;

use super::instant_type;
use crate::{Inventory, Software, fields::Slot};

/// A builder for a field's type.
pub(super) enum Column {
    Text(StringBuilder),
    Instant(TimestampMicrosecondBuilder),
    Flag(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Texts(ListBuilder<StringBuilder>),
    Software(ListBuilder<StructBuilder>),
}

/// The Arrow type of a field.
pub(super) fn data_type(slot: &Slot) -> DataType {
    match slot {
        Slot::HostId | Slot::Text(_) => DataType::Utf8,
        Slot::Instant(_) => instant_type(),
        Slot::Flag(_) => DataType::Boolean,
        Slot::Int(..) => DataType::Int32,
        Slot::Long(..) => DataType::Int64,
        Slot::Texts(_) => DataType::List(Arc::new(text_element())),
        Slot::Software => DataType::List(Arc::new(software_element())),
    }
}

/// Microseconds since the epoch of an RFC 3339 instant, if it is one.
pub(super) fn micros(instant: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(instant).ok().map(|instant| instant.timestamp_micros())
}

// Iceberg's name for a list's element, so that no reader has to rename it.
fn text_element() -> Field {
    Field::new("element", DataType::Utf8, true)
}

fn software_element() -> Field {
    Field::new("element", DataType::Struct(software_fields()), true)
}

fn software_fields() -> Fields {
    let column = |name| Field::new(name, DataType::Utf8, true);
    Fields::from(vec![column("name"), column("version"), column("vendor")])
}

impl Column {
    pub(super) fn new(slot: &Slot) -> Self {
        match slot {
            Slot::HostId | Slot::Text(_) => Self::Text(StringBuilder::new()),
            Slot::Instant(_) => {
                Self::Instant(TimestampMicrosecondBuilder::new().with_data_type(instant_type()))
            }
            Slot::Flag(_) => Self::Flag(BooleanBuilder::new()),
            Slot::Int(..) => Self::Int(Int32Builder::new()),
            Slot::Long(..) => Self::Long(Int64Builder::new()),
            Slot::Texts(_) => Self::Texts(ListBuilder::new(StringBuilder::new()).with_field(text_element())),
            Slot::Software => {
                let columns =
                    (0..3).map(|_| Box::new(StringBuilder::new()) as Box<dyn ArrayBuilder>).collect();
                let packages = StructBuilder::new(software_fields(), columns);
                Self::Software(ListBuilder::new(packages).with_field(software_element()))
            }
        }
    }

    /// Appends the field's value; answers the bytes it took.
    pub(super) fn push(&mut self, slot: &Slot, record: &Inventory) -> usize {
        match (self, slot) {
            (Self::Text(column), Slot::HostId) => {
                column.append_value(&record.host_id);
                record.host_id.len() + 4
            }
            (Self::Text(column), Slot::Text(access)) => {
                let text = (access.get)(record).as_deref();
                column.append_option(text);
                text.map_or(0, str::len) + 4
            }
            (Self::Instant(column), Slot::Instant(access)) => {
                column.append_option((access.get)(record).as_deref().and_then(micros));
                8
            }
            (Self::Flag(column), Slot::Flag(access)) => {
                column.append_option(*(access.get)(record));
                1
            }
            (Self::Int(column), Slot::Int(access, _)) => {
                column.append_option(*(access.get)(record));
                4
            }
            (Self::Long(column), Slot::Long(access, _)) => {
                column.append_option(*(access.get)(record));
                8
            }
            (Self::Texts(column), Slot::Texts(access)) => push_texts(column, (access.get)(record).as_deref()),
            (Self::Software(column), Slot::Software) => push_software(column, record.software.as_deref()),
            // Invariant: a column is only ever given the slot that it was made for.
            _ => unreachable!("a column was given another field's slot"),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) => Arc::new(column.finish()),
            Self::Instant(column) => Arc::new(column.finish()),
            Self::Flag(column) => Arc::new(column.finish()),
            Self::Int(column) => Arc::new(column.finish()),
            Self::Long(column) => Arc::new(column.finish()),
            Self::Texts(column) => Arc::new(column.finish()),
            Self::Software(column) => Arc::new(column.finish()),
        }
    }
}

fn push_texts(column: &mut ListBuilder<StringBuilder>, texts: Option<&[String]>) -> usize {
    for text in texts.unwrap_or_default() {
        column.values().append_value(text);
    }
    column.append(texts.is_some());
    texts.unwrap_or_default().iter().map(|text| text.len() + 4).sum::<usize>() + 4
}

fn push_software(column: &mut ListBuilder<StructBuilder>, packages: Option<&[Software]>) -> usize {
    let mut bytes = 4;
    for package in packages.unwrap_or_default() {
        let values = [Some(package.name.as_str()), package.version.as_deref(), package.vendor.as_deref()];
        for (builder, value) in column.values().field_builders_mut().iter_mut().zip(values) {
            // Invariant: all three columns of a package are text, as made in `new`.
            if let Some(builder) = builder.as_any_mut().downcast_mut::<StringBuilder>() {
                builder.append_option(value);
            }
            bytes += value.map_or(0, str::len) + 4;
        }
        column.values().append(true);
    }
    column.append(packages.is_some());
    bytes
}
