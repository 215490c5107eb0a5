//! One bulk request and its answer.

use elasticsearch::{BulkOperation, BulkParts, Elasticsearch, params::VersionType};
use serde_json::Value;

use super::{
    SinkError,
    document::{Action, Document},
    outcome::{Rejected, read},
};

/// Sends documents; answers those that the server can never take. An error (also: no room for one of them) leaves all to
/// be sent again, which does no harm: what is in already is a 409.
pub(super) async fn send(client: &Elasticsearch, documents: &[Document]) -> Result<Vec<Rejected>, SinkError> {
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let operations: Vec<BulkOperation<&Value>> = documents.iter().map(operation).collect();
    let response = client.bulk(BulkParts::None).body(operations).send().await;
    let response =
        response.map_err(|error| SinkError::Server(format!("the bulk request failed: {error}")))?;
    let status = response.status_code();
    let body = response
        .text()
        .await
        .map_err(|error| SinkError::Server(format!("the bulk answer broke off: {error}")))?;
    if !status.is_success() {
        let body: String = body.chars().take(300).collect();
        return Err(SinkError::Server(format!("the bulk request was answered {status}: {body}")));
    }
    read(&body, documents).map_err(SinkError::Server)
}

fn operation(document: &Document) -> BulkOperation<&Value> {
    match document.action {
        Action::Index(version) => BulkOperation::index(&document.source)
            .index(&document.index)
            .id(&document.id)
            .version(version)
            .version_type(VersionType::External)
            .into(),
        Action::Create => {
            BulkOperation::create(&document.source).index(&document.index).id(&document.id).into()
        }
    }
}
