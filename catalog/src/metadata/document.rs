//! A metadata document with typed edges.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{MetadataError, element::Element, error::invalid, history, partition, schema};

/// A table's or view's metadata. All fields are kept, known or not. A copy shares the fields that it doesn't change.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Document(pub(super) BTreeMap<String, Field>);

/// A field of a document. A list that changes shares its elements with the list that it was: there can be thousands of snapshots
/// and former metadata files, and each commit adds one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Field {
    List(Vec<Arc<Element>>),
    Other(Arc<Value>),
}

impl From<Value> for Field {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(elements) => Self::List(elements.into_iter().map(Element::new).collect()),
            other => Self::Other(Arc::new(other)),
        }
    }
}

impl Field {
    /// What it is, unless it's a list.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Other(value) => Some(value),
            Self::List(_) => None,
        }
    }
}

/// Lists whose elements are objects with an integer id.
const IDENTIFIED_LISTS: [(&str, &str); 4] = [
    ("schemas", "schema-id"),
    ("partition-specs", "spec-id"),
    ("sort-orders", "order-id"),
    ("snapshots", "snapshot-id"),
];

impl Document {
    /// Reads a table's metadata file, bringing a version 1 document without lists of schemas and specs into today's shape.
    pub(crate) fn parse_table(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut document = Self::parse(bytes)?;
        let version = document.int("format-version").unwrap_or_default();
        if !(1..=3).contains(&version) {
            return invalid(format!("format-version {version} is not supported: 1, 2 and 3 are"));
        }
        schema::adopt_single(&mut document);
        partition::adopt_single(&mut document);
        history::adopt_main(&mut document);
        document.check_shape()?;
        Ok(document)
    }

    /// Reads a view's metadata file.
    pub(crate) fn parse_view(bytes: &[u8]) -> Result<Self, MetadataError> {
        let document = Self::parse(bytes)?;
        match document.text("view-uuid") {
            Some(_) => Ok(document),
            None => invalid("the document is no view metadata: it has no view-uuid"),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => {
                Ok(Self(fields.into_iter().map(|(name, value)| (name, Field::from(value))).collect()))
            }
            Ok(_) => invalid("the document is not a JSON object"),
            Err(error) => invalid(format!("the document is not JSON: {error}")),
        }
    }

    /// The document as the bytes of a metadata file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a map with text keys is always JSON")
    }

    /// `table-uuid` or `view-uuid`.
    pub(crate) fn uuid(&self) -> Option<&str> {
        self.text("table-uuid").or_else(|| self.text("view-uuid"))
    }

    /// Root folder of the table's or view's files.
    pub(crate) fn location(&self) -> Option<&str> {
        self.text("location")
    }

    /// A property.
    pub(crate) fn property(&self, key: &str) -> Option<&str> {
        self.value("properties")?.get(key)?.as_str()
    }

    /// All properties.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.object("properties").into_iter().flatten()
    }

    /// Drops the snapshots that no branch or tag points to, for clients that load the others when they need them.
    pub(crate) fn keep_referenced_snapshots(&mut self) {
        let current = self.current_snapshot_id();
        let referenced: BTreeSet<i64> = self
            .object("refs")
            .into_iter()
            .flatten()
            .filter_map(|(_, reference)| reference["snapshot-id"].as_i64())
            .chain(current)
            .collect();
        let kept =
            |snapshot: &Value| snapshot["snapshot-id"].as_i64().is_some_and(|id| referenced.contains(&id));
        self.list_mut("snapshots").retain(|snapshot| kept(snapshot));
    }

    /// Schema of a view's current version.
    pub(crate) fn current_view_schema_id(&self) -> i64 {
        let version = self.int("current-version-id").and_then(|id| self.find("versions", "version-id", id));
        version.and_then(|version| version["schema-id"].as_i64()).unwrap_or_default()
    }

    /// Format version; 2 while it isn't set.
    pub(crate) fn format_version(&self) -> i64 {
        self.int("format-version").unwrap_or(2)
    }

    /// Current snapshot of `main`.
    pub(crate) fn current_snapshot_id(&self) -> Option<i64> {
        self.int("current-snapshot-id").filter(|id| *id != -1)
    }

    /// An integer field.
    pub(crate) fn int(&self, field: &str) -> Option<i64> {
        self.value(field)?.as_i64()
    }

    /// A text field.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.value(field)?.as_str()
    }

    /// A list field; empty if absent.
    pub(crate) fn list(&self, field: &str) -> &[Arc<Element>] {
        match self.0.get(field) {
            Some(Field::List(elements)) => elements,
            _ => &[],
        }
    }

    /// A list field, made if absent.
    pub(super) fn list_mut(&mut self, field: &str) -> &mut Vec<Arc<Element>> {
        let made = self.0.entry(field.to_owned()).or_insert_with(|| Field::List(Vec::new()));
        if !matches!(made, Field::List(_)) {
            *made = Field::List(Vec::new());
        }
        let Field::List(elements) = made else { unreachable!("made a list above") };
        elements
    }

    /// Adds an element to a list field, made if absent.
    pub(super) fn push(&mut self, field: &str, element: Value) {
        self.list_mut(field).push(Element::new(element));
    }

    /// An object field, made if absent.
    pub(super) fn object_mut(&mut self, field: &str) -> &mut Map<String, Value> {
        let new = || Field::from(Value::Object(Map::new()));
        let made = self.0.entry(field.to_owned()).or_insert_with(new);
        if !made.value().is_some_and(Value::is_object) {
            *made = new();
        }
        let Field::Other(value) = made else { unreachable!("made an object above") };
        Arc::make_mut(value).as_object_mut().expect("made an object above")
    }

    /// An object field.
    pub(crate) fn object(&self, field: &str) -> Option<&Map<String, Value>> {
        self.value(field)?.as_object()
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.0.insert(field.to_owned(), Field::from(value.into()));
    }

    /// Sets a field that is absent.
    pub(super) fn set_default(&mut self, field: &str, value: Value) {
        self.0.entry(field.to_owned()).or_insert_with(|| Field::from(value));
    }

    /// A field as it is.
    pub(crate) fn field(&self, field: &str) -> Option<&Field> {
        self.0.get(field)
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.field(field)?.value()
    }

    /// A snapshot.
    pub(crate) fn snapshot(&self, id: i64) -> Option<&Value> {
        self.find("snapshots", "snapshot-id", id)
    }

    /// The element of a list whose `id_field` is `id`.
    pub(super) fn find(&self, list: &str, id_field: &str, id: i64) -> Option<&Value> {
        self.list(list)
            .iter()
            .map(|element| element.value())
            .find(|element| element[id_field].as_i64() == Some(id))
    }

    /// Highest id in a list, -1 if there is none.
    pub(super) fn highest(&self, list: &str, id_field: &str) -> i64 {
        self.list(list).iter().filter_map(|element| element[id_field].as_i64()).max().unwrap_or(-1)
    }

    /// The current schema.
    pub(crate) fn current_schema(&self) -> Option<&Value> {
        self.find("schemas", "schema-id", self.int("current-schema-id")?)
    }

    fn check_shape(&self) -> Result<(), MetadataError> {
        for (list, id) in IDENTIFIED_LISTS {
            let fits = match self.field(list) {
                None => true,
                Some(Field::List(all)) => all.iter().all(|element| element[id].is_i64()),
                Some(Field::Other(_)) => false,
            };
            if !fits {
                return invalid(format!("'{list}' is not a list of objects with an integer '{id}'"));
            }
        }
        for field in ["table-uuid", "location"] {
            if self.text(field).is_none() {
                return invalid(format!("'{field}' is missing or not a text"));
            }
        }
        if self.current_schema().is_none() {
            return invalid("'current-schema-id' names no schema of the document");
        }
        Ok(())
    }
}
