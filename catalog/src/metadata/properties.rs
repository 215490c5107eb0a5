//! Properties and location: `set-properties`, `remove-properties`, `set-location`.

use serde_json::Value;

use super::{Document, MetadataError, error::invalid, update::Change};

/// Keys that describe the table rather than configure it; never stored as properties.
pub(super) const RESERVED: [&str; 9] = [
    "format-version",
    "uuid",
    "snapshot-count",
    "current-snapshot-id",
    "current-snapshot-summary",
    "current-snapshot-timestamp-ms",
    "current-schema",
    "default-partition-spec",
    "default-sort-order",
];

/// Names the compression of metadata files, which the catalog writes.
const METADATA_CODEC: &str = "write.metadata.compression-codec";

impl Document {
    /// The property that names the compression of the document's files.
    pub(crate) fn metadata_codec(&self) -> Option<&str> {
        self.property(METADATA_CODEC)
    }
}

impl Change {
    /// `set-properties`. `format-version` among them asks for an upgrade, as engines write it.
    pub(super) fn set_properties(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(updates) = update["updates"].as_object() else {
            return invalid("'updates' is missing or not an object");
        };
        for (key, value) in updates {
            let Some(text) = value.as_str() else {
                return invalid(format!("the property '{key}' is not a text"));
            };
            if key == METADATA_CODEC && !["none", "gzip"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
                return invalid(format!("the property '{key}' is 'none' or 'gzip', not '{text}'"));
            }
            if key == "format-version" {
                let Ok(version) = text.parse() else {
                    return invalid(format!("the property 'format-version' is not a number: '{text}'"));
                };
                self.upgrade_to(version)?;
            } else if !RESERVED.contains(&key.as_str()) {
                self.document.object_mut("properties").insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }

    /// `remove-properties`: keys that don't exist are no error.
    pub(super) fn remove_properties(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(removals) = update["removals"].as_array() else {
            return invalid("'removals' is missing or not a list");
        };
        for key in removals {
            let Some(key) = key.as_str() else {
                return invalid("'removals' holds something that is no text");
            };
            self.document.object_mut("properties").remove(key);
        }
        Ok(())
    }

    /// `set-location`. Whether the location is allowed is the caller's question.
    pub(super) fn set_location(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(location) = update["location"].as_str().filter(|location| !location.is_empty()) else {
            return invalid("'location' is missing or empty");
        };
        self.document.set("location", location.trim_end_matches('/'));
        Ok(())
    }
}
