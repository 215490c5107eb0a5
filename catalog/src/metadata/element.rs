//! An element of a document's list.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Value, value::RawValue};

/// A schema, a snapshot, an entry of a log. It never changes, so that its JSON is made once for all files that it's written to.
#[derive(Debug)]
pub(crate) struct Element {
    value: Value,
    json: OnceLock<Box<RawValue>>,
}

impl Element {
    pub(super) fn new(value: Value) -> Arc<Self> {
        Arc::new(Self { value, json: OnceLock::new() })
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }
}

impl Deref for Element {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.value == other.value
    }
}

impl Serialize for Element {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(json) = self.json.get() {
            return json.serialize(serializer);
        }
        let json = serde_json::value::to_raw_value(&self.value).map_err(S::Error::custom)?;
        self.json.get_or_init(|| json).serialize(serializer)
    }
}
