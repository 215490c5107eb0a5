//! One growing column of a field of the record.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        ArrayBuilder, ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
        StructBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, Fields},
};

use super::instant_type;
use crate::{
    decode::{Package, Value},
    fields::Slot,
};

/// Bytes of a text for which there is room at first.
const TEXT_BYTES: usize = 16;

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
    /// With room for so many rows.
    pub(super) fn new(slot: &Slot, rows: usize) -> Self {
        match slot {
            Slot::HostId | Slot::Text(_) => Self::Text(StringBuilder::with_capacity(rows, rows * TEXT_BYTES)),
            Slot::Instant(_) => {
                Self::Instant(TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(instant_type()))
            }
            Slot::Flag(_) => Self::Flag(BooleanBuilder::with_capacity(rows)),
            Slot::Int(..) => Self::Int(Int32Builder::with_capacity(rows)),
            Slot::Long(..) => Self::Long(Int64Builder::with_capacity(rows)),
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
    pub(super) fn push(&mut self, value: &Value<'_>) -> usize {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => {
                column.append_value(text);
                text.len() + 4
            }
            (Self::Instant(column), Value::Instant(_, us)) => {
                column.append_value(*us);
                8
            }
            (Self::Flag(column), Value::Flag(flag)) => {
                column.append_value(*flag);
                1
            }
            (Self::Int(column), Value::Int(number)) => {
                column.append_value(*number);
                4
            }
            (Self::Long(column), Value::Long(number)) => {
                column.append_value(*number);
                8
            }
            (Self::Texts(column), Value::Texts(texts)) => push_texts(column, texts),
            (Self::Software(column), Value::Software(packages)) => push_software(column, packages),
            (column, Value::Absent) => column.push_null(),
            // Invariant: a column is only ever given values of the slot that it was made for.
            _ => unreachable!("a column was given another field's value"),
        }
    }

    fn push_null(&mut self) -> usize {
        match self {
            Self::Text(column) => column.append_null(),
            Self::Instant(column) => column.append_null(),
            Self::Flag(column) => column.append_null(),
            Self::Int(column) => column.append_null(),
            Self::Long(column) => column.append_null(),
            Self::Texts(column) => column.append_null(),
            Self::Software(column) => column.append_null(),
        }
        4
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

fn push_texts(column: &mut ListBuilder<StringBuilder>, texts: &[Cow<'_, str>]) -> usize {
    for text in texts {
        column.values().append_value(text);
    }
    column.append(true);
    texts.iter().map(|text| text.len() + 4).sum::<usize>() + 4
}

fn push_software(column: &mut ListBuilder<StructBuilder>, packages: &[Package<'_>]) -> usize {
    let mut bytes = 4;
    for package in packages {
        let values = [Some(&*package.name), package.version.as_deref(), package.vendor.as_deref()];
        for (builder, value) in column.values().field_builders_mut().iter_mut().zip(values) {
            // Invariant: all three columns of a package are text, as made in `new`.
            if let Some(builder) = builder.as_any_mut().downcast_mut::<StringBuilder>() {
                builder.append_option(value);
            }
            bytes += value.map_or(0, str::len) + 4;
        }
        column.values().append(true);
    }
    column.append(true);
    bytes
}
