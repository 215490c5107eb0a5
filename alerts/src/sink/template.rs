//! Index templates and the state index behind its alias.

use elasticsearch::{Elasticsearch, http::response::Response, indices};
use serde_json::{Value, json};

use super::{
    SinkError,
    document::{STATE_ALIAS, STATE_INDEX, TRANSITIONS_PREFIX},
    lifecycle,
};

/// Puts templates and, if it is missing, the state index. Done at each start: templates follow this version. Indices of transitions
/// end by the policy `ends_by`.
pub(super) async fn prepare(client: &Elasticsearch, ends_by: Option<&str>) -> Result<(), SinkError> {
    let patterns =
        [(STATE_ALIAS, "firn-findings-*".to_owned()), (lifecycle::POLICY, format!("{TRANSITIONS_PREFIX}*"))];
    for (name, pattern) in patterns {
        let body = template(&pattern, ends_by.filter(|_| name == lifecycle::POLICY));
        let parts = indices::IndicesPutIndexTemplateParts::Name(name);
        let response = client.indices().put_index_template(parts).body(body).send().await;
        check("the index template", response).await?;
    }
    let exists = client.indices().exists(indices::IndicesExistsParts::Index(&[STATE_INDEX])).send().await;
    let exists = exists.map_err(|error| unreachable("the state index", &error))?.status_code();
    if exists.as_u16() == 404 {
        let body = json!({ "aliases": { STATE_ALIAS: { "is_write_index": true } } });
        let parts = indices::IndicesCreateParts::Index(STATE_INDEX);
        let created = client.indices().create(parts).body(body).send().await;
        check("the state index", created).await?;
    }
    Ok(())
}

async fn check(what: &str, response: Result<Response, elasticsearch::Error>) -> Result<(), SinkError> {
    let response = response.map_err(|error| unreachable(what, &error))?;
    let status = response.status_code();
    if status.is_success() {
        return Ok(());
    }
    let body = response.text().await.unwrap_or_default();
    // Another sink of the group was faster.
    if body.contains("resource_already_exists_exception") {
        return Ok(());
    }
    let body: String = body.chars().take(300).collect();
    Err(SinkError::Server(format!("{what} could not be made, status {status}: {body}")))
}

fn unreachable(what: &str, error: &elasticsearch::Error) -> SinkError {
    SinkError::Server(format!("the server could not be asked for {what}: {error}"))
}

/// `policy` ends its indices. `dynamic: false`: a field that isn't listed is kept and not indexed, so that no document can break the mapping.
fn template(pattern: &str, policy: Option<&str>) -> Value {
    let mut index = json!({ "number_of_shards": 1, "refresh_interval": "1s" });
    if let Some(policy) = policy {
        index["lifecycle"] = json!({ "name": policy });
    }
    let keyword = json!({ "type": "keyword", "ignore_above": 1024 });
    let long = json!({ "type": "long" });
    let object = |names: &[&str]| {
        let fields = names.iter().map(|name| ((*name).to_owned(), keyword.clone())).collect();
        json!({ "properties": Value::Object(fields) })
    };
    json!({
        "index_patterns": [pattern],
        "priority": 200,
        "template": {
            "settings": { "index": index },
            "mappings": {
                "dynamic": false,
                "properties": {
                    "@timestamp": { "type": "date_nanos" },
                    "event": { "properties": {
                        "kind": keyword, "category": keyword, "type": keyword, "action": keyword, "outcome": keyword,
                        "severity": long, "reason": { "type": "text" }, "created": { "type": "date" },
                    } },
                    "host": object(&["id", "hostname", "name"]),
                    "organization": object(&["id"]),
                    "rule": object(&["id", "name", "version"]),
                    "user": object(&["name"]),
                    "firn": { "properties": {
                        "tenant": keyword, "finding_id": keyword, "severity": keyword, "status": keyword,
                        "previous_status": keyword, "cause": keyword, "catalog_commit": keyword, "topic": keyword,
                        "version": long, "partition": long, "offset": long,
                        "assignee": keyword, "delay_ms": long,
                        "evidence": { "type": "text" },
                    } },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_end_by_a_policy_only_where_there_is_one() {
        let index = |policy| template("t-*", policy)["template"]["settings"]["index"].clone();
        assert_eq!(index(None)["lifecycle"], Value::Null);
        assert_eq!(index(Some("p"))["lifecycle"]["name"], "p");
    }
}
