//! Each tenant's view of the documents, by filtered aliases: tenants share the indices.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use elasticsearch::Elasticsearch;
use serde_json::json;

use super::{
    SinkError,
    document::{Document, STATE_INDEX},
};

/// Which aliases there are, as far as this process knows.
#[derive(Default)]
pub(super) struct Aliases {
    /// Index and tenant.
    made: Mutex<BTreeSet<(String, String)>>,
}

impl Aliases {
    /// Gives the tenants of documents that the server took their aliases on the indices where these are. Repeating it does no harm.
    pub(super) async fn ensure<'a>(
        &self,
        client: &Elasticsearch,
        documents: impl Iterator<Item = &'a Document>,
    ) -> Result<(), SinkError> {
        let missing: BTreeSet<(String, String)> = {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = documents.map(|document| (document.index.clone(), document.tenant().to_owned()));
            wanted.filter(|place| !made.contains(place)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let add = |(index, tenant): &(String, String)| {
            let filter = json!({ "term": { "firn.tenant": tenant } });
            json!({ "add": { "index": index, "alias": alias(index, tenant), "filter": filter } })
        };
        let actions: Vec<_> = missing.iter().map(add).collect();
        let response = client.indices().update_aliases().body(json!({ "actions": actions })).send().await;
        let failed = |error: &dyn std::fmt::Display| {
            SinkError::Server(format!("tenants' aliases were not made: {error}"))
        };
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status_code();
        if !status.is_success() {
            let body: String = response.text().await.unwrap_or_default().chars().take(300).collect();
            return Err(failed(&format!("status {status}: {body}")));
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend(missing);
        Ok(())
    }
}

/// Its kind stands last, so that no two tenants' aliases are the same, and no pattern of the shared indices fits it.
fn alias(index: &str, tenant: &str) -> String {
    let kind = if index == STATE_INDEX { "findings" } else { "transitions" };
    format!("firn-tenant-{tenant}-{kind}")
}
