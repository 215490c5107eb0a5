//! What the server has beside indices: it is asked, since neither its name nor its version tells. What it lacks is left out and said.

use std::fmt::Write as _;

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

    /// What is left out for want of it, for people.
    pub(super) fn left_out(self) -> String {
        let mut text = String::new();
        let kept = format!("indices {TRANSITIONS_PREFIX}* are kept until somebody deletes them");
        match (self.ilm, self.ism) {
            (Has::Yes, _) => {}
            (Has::Refused, _) => {
                _ = write!(text, "its user may not manage index lifecycles (manage_ilm): {kept}");
            }
            (Has::No, Has::Yes) => _ = write!(text, "it has ISM, whose policies Firn leaves to you: {kept}"),
            (Has::No, _) => _ = write!(text, "it has neither ILM nor ISM: {kept}"),
        }
        if self.api_keys == Has::No {
            let separator = if text.is_empty() { "" } else { "; " };
            _ = write!(text, "{separator}it has no API keys: give Firn a user of its own");
        }
        text
    }
}

/// Where there is no policy, gives it to the indices that are there, and then makes it; what people changed since stays. `Refused`
/// if this user may look, and no more.
pub(super) async fn prepare(client: &Elasticsearch) -> Result<Has, SinkError> {
    let policy_path = format!("/_ilm/policy/{POLICY}");
    let (status, body) = call(client, Method::Get, &policy_path, None).await?;
    match status {
        200..=299 => return Ok(Has::Yes),
        404 => {}
        _ => return Err(failed("the lifecycle policy", status, &body)),
    }
    let present = format!("/{TRANSITIONS_PREFIX}*/_settings?allow_no_indices=true");
    let settings = json!({ "index.lifecycle.name": POLICY });
    for (path, body, what) in [
        (present, settings, "the lifecycle of present indices"),
        (policy_path, policy(), "the lifecycle policy"),
    ] {
        let (status, answer) = call(client, Method::Put, &path, Some(body)).await?;
        match status {
            200..=299 => {}
            401 | 403 => return Ok(Has::Refused),
            _ => return Err(failed(what, status, &answer)),
        }
    }
    Ok(Has::Yes)
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
        let has = |ilm, ism, api_keys| Abilities { ilm, ism, api_keys }.left_out();
        assert_eq!(has(Has::Yes, Has::No, Has::Yes), "");
        let open_search = has(Has::No, Has::Yes, Has::No);
        assert!(open_search.contains("ISM, whose policies") && open_search.contains("; it has no API keys"));
        assert!(has(Has::No, Has::No, Has::Yes).starts_with("it has neither ILM nor ISM"));
        assert!(has(Has::Refused, Has::No, Has::Refused).starts_with("its user may not manage"));
        assert_eq!(
            [200, 403, 400, 404, 503].map(read),
            [Some(Has::Yes), Some(Has::Refused), Some(Has::No), Some(Has::No), None]
        );
    }
}
