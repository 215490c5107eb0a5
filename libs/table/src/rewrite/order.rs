//! The order of rewritten rows. In order, each file covers a small range of values, so that a query by them reads few files.

mod curve;

use std::fmt;

use serde_json::Value;

use crate::Table;
pub(super) use curve::ZCurve;

/// Table property that says in which order its rows are rewritten: `sort(host_id, at desc)`, `zorder(host_id, at)` or `none`.
const PROPERTY: &str = "firn.maintenance.order";

/// Columns of a Z-curve: with more, each has so few bits that none tells files apart.
const MAX_ZORDERED: usize = 4;

/// How rewritten rows are ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RowOrder {
    /// As they are: old files one after the other.
    #[default]
    Kept,
    /// By columns, the first of them most.
    Sorted(Vec<SortColumn>),
    /// Along a Z-curve through two to four columns: near in each of them, so that a condition on any one leaves files out.
    ZOrdered(Vec<String>),
}

/// A column to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortColumn {
    /// Its name, top level.
    pub name: String,
    /// Largest first.
    pub descending: bool,
    /// Rows without a value come first.
    pub nulls_first: bool,
}

impl RowOrder {
    /// What the table's property `firn.maintenance.order` says; without it, the table's own sort order, if that is by columns
    /// as they are. The error says what is wrong with the property.
    pub fn of(table: &Table) -> Result<Self, String> {
        match table.properties().get(PROPERTY) {
            Some(text) => Self::parse(text).map_err(|error| format!("property '{PROPERTY}': {error}")),
            None => Ok(Self::of_metadata(table.metadata()).unwrap_or_default()),
        }
    }

    /// Reads `sort(a, b desc nulls last)`, `zorder(a, b)` or `none`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self::Kept);
        }
        let columns = |name: &str| {
            let inside = text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')')?;
            Some(inside.split(',').map(str::trim).collect::<Vec<_>>())
        };
        if let Some(columns) = columns("sort") {
            return Ok(Self::Sorted(columns.into_iter().map(SortColumn::parse).collect::<Result<_, _>>()?));
        }
        let Some(columns) = columns("zorder") else {
            return Err(format!("'{text}' is no order: write sort(a, b desc), zorder(a, b) or none"));
        };
        if !(2..=MAX_ZORDERED).contains(&columns.len()) || columns.iter().any(|name| name.is_empty()) {
            return Err(format!("'{text}': a Z-order is by two to {MAX_ZORDERED} columns"));
        }
        Ok(Self::ZOrdered(columns.into_iter().map(str::to_owned).collect()))
    }

    fn of_metadata(metadata: &Value) -> Option<Self> {
        let current = |list: &str, id: &str, wanted: &str| {
            metadata[list].as_array()?.iter().find(|one| one[id] == metadata[wanted])
        };
        let order = current("sort-orders", "order-id", "default-sort-order-id")?["fields"].as_array()?;
        let schema = current("schemas", "schema-id", "current-schema-id")?["fields"].as_array()?;
        let column = |field: &Value| {
            let column = schema.iter().find(|column| column["id"] == field["source-id"])?;
            Some(SortColumn {
                name: column["name"].as_str().filter(|_| field["transform"] == "identity")?.to_owned(),
                descending: field["direction"] == "desc",
                nulls_first: field["null-order"] == "nulls-first",
            })
        };
        let columns = order.iter().map(column).collect::<Option<Vec<_>>>()?;
        (!columns.is_empty()).then_some(Self::Sorted(columns))
    }

    /// Whether rows move between files, so that many files are better rewritten together.
    #[must_use]
    pub fn moves_rows(&self) -> bool {
        *self != Self::Kept
    }
}

impl SortColumn {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("a column without a name")?.to_owned();
        let rest = words.map(str::to_ascii_lowercase).collect::<Vec<_>>();
        let (descending, nulls) = match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["asc"] => (false, None),
            ["desc"] => (true, None),
            ["nulls", place @ ("first" | "last")] | ["asc", "nulls", place @ ("first" | "last")] => {
                (false, Some(place == "first"))
            }
            ["desc", "nulls", place @ ("first" | "last")] => (true, Some(place == "first")),
            _ => return Err(format!("'{text}' is no column to sort by: write 'name desc nulls last'")),
        };
        // Iceberg's own defaults.
        Ok(Self { name, descending, nulls_first: nulls.unwrap_or(!descending) })
    }
}

impl fmt::Display for RowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("none"),
            Self::ZOrdered(columns) => write!(f, "zorder({})", columns.join(", ")),
            Self::Sorted(columns) => {
                let column = |column: &SortColumn| {
                    let direction = if column.descending { "desc" } else { "asc" };
                    let nulls = if column.nulls_first { "first" } else { "last" };
                    format!("{} {direction} nulls {nulls}", column.name)
                };
                write!(f, "sort({})", columns.iter().map(column).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn orders_are_as_people_write_them() {
        for (text, order) in [
            ("none", "none"),
            ("sort(a)", "sort(a asc nulls first)"),
            (" sort (a, b DESC)", "sort(a asc nulls first, b desc nulls last)"),
            ("sort(a nulls last, b desc nulls first)", "sort(a asc nulls last, b desc nulls first)"),
            ("zorder(a, b)", "zorder(a, b)"),
        ] {
            let parsed = RowOrder::parse(text).unwrap();
            assert_eq!(parsed.to_string(), order);
            assert_eq!(RowOrder::parse(order).unwrap(), parsed);
        }
        for wrong in [
            "",
            "a",
            "sort()",
            "sort(a up)",
            "sort(a nulls)",
            "zorder(a)",
            "zorder(a,b,c,d,e)",
            "zorder(a,)",
            "sort(a",
        ] {
            assert!(RowOrder::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tables_own_order_counts_where_it_is_by_plain_columns() {
        let metadata = |transform: &str| {
            json!({
                "current-schema-id": 0, "default-sort-order-id": 1,
                "schemas": [{"schema-id": 0, "fields": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}],
                "sort-orders": [{"order-id": 0, "fields": []}, {"order-id": 1, "fields": [
                    {"source-id": 2, "transform": transform, "direction": "desc", "null-order": "nulls-last"}]}],
            })
        };
        let order = RowOrder::of_metadata(&metadata("identity")).unwrap();
        assert_eq!(order.to_string(), "sort(b desc nulls last)");
        assert_eq!(RowOrder::of_metadata(&metadata("bucket[4]")), None);
        let mut unsorted = metadata("identity");
        unsorted["default-sort-order-id"] = json!(0);
        assert_eq!(RowOrder::of_metadata(&unsorted), None);
    }
}
