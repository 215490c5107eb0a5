//! What the server has beside indices: it is asked, since neither its name nor its version tells. What it lacks is left out and said.

use std::collections::BTreeMap;

use elasticsearch::{Elasticsearch, http::Method, http::headers::HeaderMap};
use serde_json::{Value, json};

use super::{SinkError, document::TRANSITIONS_PREFIX};

/// The policy by which indices of transitions end; also that of their template.
pub(super) const POLICY: &str = "firn-transitions";
/// `gold.transitions` keeps them all.
const KEPT: &str = "400d";

/// Whether the server has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    Yes,
    No,
    /// It may have it, and this user may not look.
    Refused,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Index lifecycle management, of Elasticsearch.
    pub(super) ilm: Has,
    /// Index state management, of OpenSearch.
    pub(super) ism: Has,
    pub(super) api_keys: Has,
}

impl Abilities {
    /// Asks.
    pub(super) async fn of(client: &Elasticsearch) -> Result<Self, SinkError> {
        Ok(Self {
            ilm: ask(client, "/_ilm/policy").await?,
            ism: ask(client, "/_plugins/_ism/policies").await?,
            api_keys: ask(client, "/_security/api_key?owner=true").await?,
        })
    }

    /// What is left out for want of it, for people; `unended` are indices that this user may not give a policy to.
    pub(super) fn left_out(self, policy: Has, unended: &[String]) -> String {
        let all = format!("indices {TRANSITIONS_PREFIX}*");
        let kept = "are kept until somebody deletes them";
        let mut parts = Vec::new();
        match (self.ilm, self.ism) {
            (Has::Yes, _) if policy == Has::Yes => {}
            (Has::Yes | Has::Refused, _) => parts.push(format!(
                "its user may not manage index lifecycles (manage_ilm): {all} end only by a policy that somebody else gave them"
            )),
            (Has::No, Has::Yes) => parts.push(format!("it has ISM, whose policies Firn leaves to you: {all} {kept}")),
            (Has::No, _) => parts.push(format!("it has neither ILM nor ISM: {all} {kept}")),
        }
        if !unended.is_empty() {
            parts.push(format!(
                "its user may not give indices a lifecycle (manage): {} {kept}",
                unended.join(", ")
            ));
        }
        if self.api_keys == Has::No {
            parts.push("it has no API keys: give Firn a user of its own".to_owned());
        }
        parts.join("; ")
    }
}

/// Whether the policy is there; it is made where it is missing, and what people made of it stays. `No` if it isn't and this user
/// may not make it, `Refused` if this user may not look.
///
/// Invariant: it comes before everything that names it, so that no index waits for a policy that isn't there. What a killed
/// process left undone behind it, the next one does.
pub(super) async fn ensure(client: &Elasticsearch) -> Result<Has, SinkError> {
    let path = format!("/_ilm/policy/{POLICY}");
    let (status, body) = call(client, Method::Get, &path, None).await?;
    match read(status) {
        Some(Has::No) => {}
        Some(known) => return Ok(known),
        None => return Err(failed("the lifecycle policy", status, &body)),
    }
    let (status, body) = call(client, Method::Put, &path, Some(policy())).await?;
    match status {
        200..=299 => Ok(Has::Yes),
        401 | 403 => Ok(Has::No),
        _ => Err(failed("the lifecycle policy", status, &body)),
    }
}

/// The policy that the template of transitions has to name. Whoever may not look leaves it as it is: somebody who may has seen to it.
pub(super) async fn of_template(client: &Elasticsearch, policy: Has) -> Result<Option<String>, SinkError> {
    match policy {
        Has::Yes => Ok(Some(POLICY.to_owned())),
        Has::No => Ok(None),
        Has::Refused => {
            let path = format!("/_index_template/{POLICY}");
            let (status, body) = call(client, Method::Get, &path, None).await?;
            match read(status) {
                Some(Has::Yes) => Ok(named(&body)),
                Some(_) => Ok(None),
                None => Err(failed("the index template", status, &body)),
            }
        }
    }
}

fn named(templates: &str) -> Option<String> {
    let templates: Value = serde_json::from_str(templates).ok()?;
    let settings = &templates["index_templates"][0]["index_template"]["template"]["settings"];
    settings["index"]["lifecycle"]["name"].as_str().map(ToOwned::to_owned)
}

/// Gives the policy to indices of transitions that have none, such as those made before there was one; another that people gave
/// them stays. Answers those that this user may not change.
pub(super) async fn give_to_present(client: &Elasticsearch) -> Result<Vec<String>, SinkError> {
    let path = format!("/{TRANSITIONS_PREFIX}*/_settings?allow_no_indices=true&flat_settings=true");
    let (status, body) = call(client, Method::Get, &path, None).await?;
    match status {
        200..=299 => {}
        401 | 403 => return Ok(vec![format!("{TRANSITIONS_PREFIX}*")]),
        _ => return Err(failed("the lifecycles of present indices", status, &body)),
    }
    let mut refused = Vec::new();
    for index in without_policy(&body) {
        let settings = json!({ "index.lifecycle.name": POLICY });
        let path = format!("/{index}/_settings");
        let (status, body) = call(client, Method::Put, &path, Some(settings)).await?;
        match status {
            // Deleted meanwhile.
            200..=299 | 404 => {}
            401 | 403 => refused.push(index),
            _ => return Err(failed("the lifecycle of a present index", status, &body)),
        }
    }
    Ok(refused)
}

fn without_policy(settings: &str) -> Vec<String> {
    let indices: BTreeMap<String, Value> = serde_json::from_str(settings).unwrap_or_default();
    let has_none = |(_, index): &(String, Value)| index["settings"]["index.lifecycle.name"].is_null();
    indices.into_iter().filter(has_none).map(|(name, _)| name).collect()
}

fn policy() -> Value {
    let delete = json!({ "min_age": KEPT, "actions": { "delete": {} } });
    json!({ "policy": { "phases": { "hot": { "actions": {} }, "delete": delete } } })
}

async fn ask(client: &Elasticsearch, path: &str) -> Result<Has, SinkError> {
    let (status, body) = call(client, Method::Get, path, None).await?;
    read(status).ok_or_else(|| failed(path, status, &body))
}

/// What an answer says; none if it has to be asked again. A path that nobody serves is answered in many ways.
fn read(status: u16) -> Option<Has> {
    match status {
        200..=299 => Some(Has::Yes),
        401 | 403 => Some(Has::Refused),
        400 | 404 | 405 | 410 | 501 => Some(Has::No),
        _ => None,
    }
}

fn failed(what: &str, status: u16, body: &str) -> SinkError {
    let body: String = body.chars().take(300).collect();
    SinkError::Server(format!("{what}: the server answered {status}: {body}"))
}

async fn call(
    client: &Elasticsearch,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(u16, String), SinkError> {
    let body = body.map(|body| body.to_string());
    let sent = client.send::<_, ()>(method, path, HeaderMap::new(), None, body, None).await;
    let unreachable = |error| SinkError::Server(format!("the server could not be asked for {path}: {error}"));
    let answer = sent.map_err(unreachable)?;
    let status = answer.status_code().as_u16();
    Ok((status, answer.text().await.map_err(unreachable)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lacks_is_said_and_what_it_refuses_too() {
        let has = |ilm, ism, api_keys| Abilities { ilm, ism, api_keys }.left_out(ilm, &[]);
        assert_eq!(has(Has::Yes, Has::No, Has::Yes), "");
        let open_search = has(Has::No, Has::Yes, Has::No);
        assert!(open_search.contains("ISM, whose policies") && open_search.contains("; it has no API keys"));
        assert!(has(Has::No, Has::No, Has::Yes).starts_with("it has neither ILM nor ISM"));
        assert!(has(Has::Refused, Has::No, Has::Refused).starts_with("its user may not manage"));
        let all = Abilities { ilm: Has::Yes, ism: Has::No, api_keys: Has::Yes };
        assert!(all.left_out(Has::No, &[]).starts_with("its user may not manage"));
        let unended = all.left_out(Has::Yes, &["firn-transitions-2026.01".to_owned()]);
        assert!(unended.contains("(manage): firn-transitions-2026.01 are kept"), "{unended}");
        assert_eq!(
            [200, 403, 400, 404, 503].map(read),
            [Some(Has::Yes), Some(Has::Refused), Some(Has::No), Some(Has::No), None]
        );
    }

    #[test]
    fn lifecycles_that_are_there_are_seen() {
        let template = |index: Value| {
            let template = json!({ "template": { "settings": { "index": index } } });
            json!({ "index_templates": [{ "name": POLICY, "index_template": template }] }).to_string()
        };
        assert_eq!(named(&template(json!({ "lifecycle": { "name": "mine" } }))).as_deref(), Some("mine"));
        assert_eq!(named(&template(json!({ "refresh_interval": "1s" }))), None);
        let settings = json!({
            "firn-transitions-2026.01": { "settings": { "index.number_of_shards": "1" } },
            "firn-transitions-2026.02": { "settings": { "index.lifecycle.name": "mine" } },
        });
        assert_eq!(without_policy(&settings.to_string()), ["firn-transitions-2026.01"]);
    }
}
