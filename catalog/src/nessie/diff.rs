//! What differs between two references.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::DiffEntry;
use serde_json::{Value, json};

use super::{call::Call, effective, error::NessieError, filter, text};
use crate::{
    CatalogError,
    version::{Content, Key, named_reference},
};

pub(super) async fn list(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let (limit, filter) = (call.page_size()?, call.filter(filter::DIFF)?);
    let mut from = reached.read_all(call.path("ref")).await?;
    let mut to = reached.read_all(call.path("to")).await?;
    let mut after = None;
    // A token holds both commits, so that all pages compare the same states.
    let token: Vec<&str> =
        call.parameter("page-token").map(|token| token.splitn(3, '/').collect()).unwrap_or_default();
    if let [left, right, key] = token.as_slice() {
        let within = |path: &str| {
            let name = named_reference(call.path(path))?.filter(|_| !reached.access.sees_all(None));
            Ok::<_, CatalogError>(name.unwrap_or_default())
        };
        from.hash = repository.resolve(&format!("{}@{left}", within("ref")?)).await?.hash;
        to.hash = repository.resolve(&format!("{}@{right}", within("to")?)).await?.hash;
        after = Some(text::key(key));
    }
    let (prefix, min, max) = (call.key("prefix-key"), call.key("min-key"), call.key("max-key"));
    let keys: Vec<Key> = call.parameters("key").map(text::key).collect();
    let wanted = |key: &Key| {
        (keys.is_empty() || keys.contains(key))
            && prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
            && min.as_ref().is_none_or(|min| key >= min)
            && max.as_ref().is_none_or(|max| key <= max)
            && after.as_ref().is_none_or(|after| key > after)
    };
    let mut rest = repository.diff(from.hash, to.hash).await?;
    rest.retain(|(key, ..)| wanted(key));
    if let Some(filter) = filter {
        let kept = rest.into_iter().map(|entry| Ok(filter.keeps_key(&entry.0)?.then_some(entry)));
        rest = kept.filter_map(Result::transpose).collect::<Result<_, CatalogError>>()?;
    }
    let has_more = rest.len() > limit;
    rest.truncate(limit);
    let token = rest
        .last()
        .filter(|_| has_more)
        .map(|(key, ..)| format!("{}/{}/{}", from.hash, to.hash, text::key_text(key)));
    let json_of = |content: Option<Content>| content.map(|content| (*content.0).clone());
    let diffs: Vec<DiffEntry> = rest
        .into_iter()
        .map(|(key, from, to)| DiffEntry { key: text::wire_key(&key), from: json_of(from), to: json_of(to) })
        .collect();
    Ok(Json(json!({
        "hasMore": has_more,
        "token": token,
        "diffs": diffs,
        "effectiveFromReference": effective(&from),
        "effectiveToReference": effective(&to),
    })))
}
