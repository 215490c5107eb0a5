//! What differs between two references.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::DiffEntry;
use serde_json::{Value, json};

use super::{call::Call, effective, error::NessieError, filter, text};
use crate::{
    CatalogError,
    version::{Content, EntryRange, Key, named_reference},
};

/// Differences that a filter is applied to for one page, which may stay short; its token leads on.
const MAX_LOOKED_AT: usize = 10_000;

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
    let kept = |key: &Key| filter.as_ref().map_or(Ok(true), |filter| filter.keeps_key(key));
    let mut keys: Vec<Key> = call.parameters("key").map(text::key).collect();
    let (mut diffs, mut last) = (Vec::new(), None);
    if keys.is_empty() {
        let (prefix, min, max) = (call.key("prefix-key"), call.key("min-key"), call.key("max-key"));
        let mut range = EntryRange { prefix, min, max, after, limit };
        let mut looked_at = 0;
        while looked_at < MAX_LOOKED_AT {
            let (found, has_more) = repository.diff_page(from.hash, to.hash, &range).await?;
            looked_at += found.len();
            let end = found.len();
            last = None;
            for (at, (key, old, new)) in found.into_iter().enumerate() {
                if kept(&key)? {
                    diffs.push(entry(&key, old, new));
                }
                last = Some(key).filter(|_| has_more || at + 1 < end);
                if diffs.len() == limit {
                    break;
                }
            }
            if diffs.len() == limit || last.is_none() {
                break;
            }
            range.after.clone_from(&last);
        }
    } else {
        keys.sort();
        keys.dedup();
        let old = repository.get(from.hash, &keys).await?;
        let new = repository.get(to.hash, &keys).await?;
        for ((key, old), new) in keys.iter().zip(old).zip(new) {
            if old != new && kept(key)? {
                diffs.push(entry(key, old, new));
            }
        }
    }
    let token = last.map(|key| format!("{}/{}/{}", from.hash, to.hash, text::key_text(&key)));
    Ok(Json(json!({
        "hasMore": token.is_some(),
        "token": token,
        "diffs": diffs,
        "effectiveFromReference": effective(&from),
        "effectiveToReference": effective(&to),
    })))
}

fn entry(key: &Key, from: Option<Content>, to: Option<Content>) -> DiffEntry {
    let json_of = |content: Option<Content>| content.map(|content| (*content.0).clone());
    DiffEntry { key: text::wire_key(key), from: json_of(from), to: json_of(to) }
}
