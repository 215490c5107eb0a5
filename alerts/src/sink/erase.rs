//! Documents of an erased host: the one case in which guarded documents are deleted, since nothing of the host comes after.

use elasticsearch::{
    DeleteByQueryParts, Elasticsearch, http::response::Response, indices::IndicesRefreshParts,
    params::Conflicts,
};
use serde_json::json;

use super::{
    SinkError,
    document::{STATE_ALIAS, TRANSITIONS_PREFIX},
};
use crate::host::HostKey;

/// Deletes all documents of a host. Repeating it does no harm.
pub(super) async fn erase(client: &Elasticsearch, key: &HostKey) -> Result<(), SinkError> {
    let transitions = format!("{TRANSITIONS_PREFIX}*");
    let indices = [STATE_ALIAS, transitions.as_str()];
    // A query sees only what was made visible.
    let api = client.indices();
    let refresh = api.refresh(IndicesRefreshParts::Index(&indices)).ignore_unavailable(true);
    check(refresh.send().await).await?;
    let of_host = json!({"query": {"bool": {"filter": [
        {"term": {"firn.tenant": key.tenant}},
        {"term": {"host.id": key.host_id}},
    ]}}});
    let delete = client
        .delete_by_query(DeleteByQueryParts::Index(&indices))
        .ignore_unavailable(true)
        .conflicts(Conflicts::Proceed)
        .refresh(true)
        .body(of_host);
    let answer = check(delete.send().await).await?;
    match answer["version_conflicts"].as_u64() {
        // Another sink wrote one meanwhile: once more.
        Some(conflicts) if conflicts > 0 => {
            Err(SinkError::Server(format!("{conflicts} documents of an erased host changed meanwhile")))
        }
        _ => Ok(()),
    }
}

async fn check(response: Result<Response, elasticsearch::Error>) -> Result<serde_json::Value, SinkError> {
    let failed = |error: elasticsearch::Error| {
        SinkError::Server(format!("an erased host's documents could not be deleted: {error}"))
    };
    let response = response.map_err(failed)?;
    let status = response.status_code();
    let body = response.text().await.map_err(failed)?;
    if !status.is_success() {
        let body: String = body.chars().take(300).collect();
        return Err(SinkError::Server(format!(
            "an erased host's documents were not deleted, status {status}: {body}"
        )));
    }
    Ok(serde_json::from_str(&body).unwrap_or_default())
}
