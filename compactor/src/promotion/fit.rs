//! Whether a model's table can still take what the model makes.
//!
//! Columns that a model makes beyond those of its table are added to it. One that it makes in another type, or no longer, is a
//! decision about what readers of the table see: the model rests until somebody asks for the table to be made anew.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firn_catalog_client::iceberg::TableIdent;

use super::{plan::Action, state::Loaded};
use crate::{
    CompactorError, Model,
    engine::{lake_schema, output_schema},
};

/// What the model has to do, given what its table can take: nothing without leave where it doesn't fit. An error of its SQL over
/// its inputs as they are names file, line and column.
pub(super) async fn assess(model: &Model, loaded: &Loaded, action: Action) -> Result<Action, CompactorError> {
    if !action.is_work() {
        return Ok(action);
    }
    let Some(wanted) = planned(model, loaded).await? else { return Ok(action) };
    let Some(output) = loaded.output.as_ref().filter(|output| output.current_snapshot().is_some()) else {
        return Ok(action);
    };
    let found = output.arrow_schema()?;
    Ok(misfit(&found, &wanted).map_or(action, Action::Rebuild))
}

/// What to do about a model that rests, for people.
pub(super) fn way_out(model: &str, misfit: &str) -> String {
    format!("{misfit}; 'firn model run {model} --rebuild' makes the table anew, in full")
}

/// The columns that the model makes of its inputs; none while one of them is missing.
async fn planned(model: &Model, loaded: &Loaded) -> Result<Option<SchemaRef>, CompactorError> {
    let mut known: BTreeMap<TableIdent, SchemaRef> = BTreeMap::new();
    for (ident, table) in loaded.inputs.iter().filter(|(ident, _)| model.current.as_ref() != Some(*ident)) {
        let Some(table) = table else { return Ok(None) };
        known.insert(ident.clone(), table.arrow_schema()?);
    }
    Ok(Some(output_schema(model, &known).await?))
}

/// What of a table's columns the model's don't fit into.
fn misfit(table: &Schema, model: &Schema) -> Option<String> {
    // Without metadata, in which field ids stand.
    let (found, wanted) = (lake_schema(table), lake_schema(model));
    found.fields().iter().zip(table.fields()).find_map(|(column, in_table)| {
        let name = column.name();
        let Ok(made) = wanted.field_with_name(name) else {
            return Some(format!("its table has a column '{name}', which the model no longer makes"));
        };
        if !takes(column.data_type(), made.data_type()) {
            let (old, new) = (column.data_type(), made.data_type());
            return Some(format!("its table's column '{name}' is of type {old}, and the model makes {new}"));
        }
        let may_be_null = model.field_with_name(name).is_ok_and(Field::is_nullable);
        (!in_table.is_nullable() && may_be_null)
            .then(|| format!("its table's column '{name}' is required, and the model's key no longer has it"))
    })
}

/// Whether each value of a type is one of a column's, too.
fn takes(column: &DataType, value: &DataType) -> bool {
    match (column, value) {
        (DataType::Int64, DataType::Int32) | (DataType::Float64, DataType::Float32) => true,
        (DataType::Struct(columns), DataType::Struct(values)) => columns.iter().all(|column| {
            let value = values.iter().find(|value| value.name() == column.name());
            value.is_some_and(|value| takes(column.data_type(), value.data_type()))
        }),
        (DataType::List(column), DataType::List(value)) => takes(column.data_type(), value.data_type()),
        (column, value) => column == value,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn schema(columns: &[(&str, DataType, bool)]) -> Schema {
        let field = |(name, data_type, required): &(&str, DataType, bool)| {
            Field::new(*name, data_type.clone(), !required)
        };
        Schema::new(columns.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn added_and_narrower_columns_fit_and_others_are_named() {
        use DataType::{Int32, Int64, Utf8};
        let table = schema(&[("host_id", Utf8, true), ("hosts", Int64, false)]);
        let fits = |columns: &[(&str, DataType, bool)]| misfit(&table, &schema(columns));
        assert_eq!(fits(&[("host_id", Utf8, true), ("hosts", Int64, false)]), None);
        assert_eq!(fits(&[("more", Utf8, false), ("hosts", Int32, false), ("host_id", Utf8, true)]), None);
        let told = |columns: &[(&str, DataType, bool)]| fits(columns).unwrap_or_default();
        let gone = told(&[("host_id", Utf8, true)]);
        assert_eq!(gone, "its table has a column 'hosts', which the model no longer makes");
        let other = told(&[("host_id", Utf8, true), ("hosts", Utf8, false)]);
        assert_eq!(other, "its table's column 'hosts' is of type Int64, and the model makes Utf8");
        let key = told(&[("host_id", Utf8, false), ("hosts", Int64, false)]);
        assert_eq!(key, "its table's column 'host_id' is required, and the model's key no longer has it");
    }

    #[test]
    fn nested_columns_are_looked_into() {
        let list = |fields: Vec<Field>| {
            let item = Field::new("item", DataType::Struct(fields.into()), true);
            schema(&[("software", DataType::List(Arc::new(item)), false)])
        };
        let (name, size) =
            (Field::new("name", DataType::Utf8, true), Field::new("size", DataType::Int64, true));
        let (one, both) = (list(vec![name.clone()]), list(vec![name, size]));
        assert_eq!(misfit(&one, &both), None, "a field that is added");
        assert!(misfit(&both, &one).is_some(), "a field that is gone");
    }
}
