//! Encryption keys: `add-encryption-key`, `remove-encryption-key`.

use serde_json::Value;

use super::{MetadataError, element::Element, error::invalid, update::Change};

const KEYS: &str = "encryption-keys";

impl Change {
    /// `add-encryption-key`: replaces one of the same id.
    pub(super) fn add_encryption_key(&mut self, update: &Value) -> Result<(), MetadataError> {
        let key = &update["encryption-key"];
        if !key["key-id"].is_string() || !key["encrypted-key-metadata"].is_string() {
            return invalid("'encryption-key' has no 'key-id' or no 'encrypted-key-metadata'");
        }
        let keys = self.document.list_mut(KEYS);
        keys.retain(|known| known["key-id"] != key["key-id"]);
        keys.push(Element::new(key.clone()));
        Ok(())
    }

    /// `remove-encryption-key`: one that doesn't exist is no error.
    pub(super) fn remove_encryption_key(&mut self, update: &Value) -> Result<(), MetadataError> {
        if !update["key-id"].is_string() {
            return invalid("'key-id' is missing or not a text");
        }
        if self.document.0.contains_key(KEYS) {
            self.document.list_mut(KEYS).retain(|known| known["key-id"] != update["key-id"]);
        }
        Ok(())
    }
}
