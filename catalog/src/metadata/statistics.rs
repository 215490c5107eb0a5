//! Statistics files: `set-statistics`, `remove-statistics`, and the same for partition statistics. One per snapshot.

use serde_json::Value;

use super::{MetadataError, element::Element, error::invalid, update::Change};

impl Change {
    /// Sets the file of `update[field]` in `list`, replacing that of the same snapshot.
    pub(super) fn set_statistics(
        &mut self,
        update: &Value,
        field: &str,
        list: &str,
    ) -> Result<(), MetadataError> {
        let file = &update[field];
        let Some(id) = file["snapshot-id"].as_i64().filter(|_| file["statistics-path"].is_string()) else {
            return invalid(format!("'{field}' has no 'snapshot-id' or no 'statistics-path'"));
        };
        let files = self.document.list_mut(list);
        files.retain(|known| known["snapshot-id"].as_i64() != Some(id));
        files.push(Element::new(file.clone()));
        Ok(())
    }

    /// Removes a snapshot's file from `list`; one that doesn't exist is no error.
    pub(super) fn remove_statistics(&mut self, update: &Value, list: &str) -> Result<(), MetadataError> {
        let Some(id) = update["snapshot-id"].as_i64() else {
            return invalid("'snapshot-id' is missing or not an integer");
        };
        if self.document.0.contains_key(list) {
            self.document.list_mut(list).retain(|known| known["snapshot-id"].as_i64() != Some(id));
        }
        Ok(())
    }
}
