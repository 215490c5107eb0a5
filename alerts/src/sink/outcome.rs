//! What a bulk answer says of each document. Pure.
//!
//! | status of an item | means |
//! |-|-|
//! | 200, 201 | in |
//! | 409 | a newer version, or the same, is in already: done |
//! | 400 | the document doesn't fit the mapping: never |
//! | 429, 5xx, 403 (index read-only), 404, anything else | not now |

use serde::Deserialize;
use serde_json::Value;

use super::document::Document;

/// A record that can never be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// The record's place.
    pub(super) at: usize,
    pub(super) reason: String,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Value>,
}

/// Reads an answer to `documents`. The error says why all of them should be sent again later.
pub(super) fn read(body: &str, documents: &[Document]) -> Result<Vec<Rejected>, String> {
    let answer: Answer =
        serde_json::from_str(body).map_err(|error| format!("the bulk answer is not understood: {error}"))?;
    if answer.items.len() != documents.len() {
        return Err(format!("{} documents were sent and {} answered", documents.len(), answer.items.len()));
    }
    let mut rejected = Vec::new();
    for (item, document) in answer.items.iter().zip(documents) {
        let Some(outcome) = item.as_object().and_then(|item| item.values().next()) else {
            return Err("the bulk answer has an empty item".to_owned());
        };
        let reason = || {
            let error = &outcome["error"];
            let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {} ({})", text("type"), text("reason"), document.index)
        };
        match outcome["status"].as_u64() {
            Some(200 | 201 | 409) => {}
            Some(400) => rejected.push(Rejected { at: document.record, reason: reason() }),
            other => {
                let status = other.map_or_else(|| "none".to_owned(), |status| status.to_string());
                return Err(format!("the server did not take a document now, status {status}: {}", reason()));
            }
        }
    }
    Ok(rejected)
}
