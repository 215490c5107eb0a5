//! Lists in pages. A token holds the commit, so that all pages of a list are of one state.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    call::{Call, Scope},
    error::ApiError,
};
use crate::{
    store::Hash,
    version::{Content, EntryRange, Key},
};

const DEFAULT_SIZE: usize = 1000;
const MAX_SIZE: usize = 10_000;
/// Entries read at once while looking for children.
const CHUNK: usize = 256;
/// Entries looked at for one page. A page of views in a namespace of a million tables may be short or empty, and has a token.
const MAX_LOOKED_AT: usize = 20_000;

/// What a list request asks for.
pub(super) struct Page {
    /// The state to list, if it isn't the first page.
    at: Option<Hash>,
    /// Name of the last child of the page before.
    after: Option<String>,
    limit: usize,
}

impl Page {
    /// Reads `pageToken` and `pageSize`. An empty token only says that the client can page; without either there is one
    /// page with everything.
    pub(super) fn of(call: &Call) -> Result<Self, ApiError> {
        let size = match call.query("pageSize").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match text.parse::<usize>() {
                Ok(size) if size > 0 => Some(size.min(MAX_SIZE)),
                _ => return Err(ApiError::invalid(format!("pageSize '{text}' is not a positive number"))),
            },
        };
        let token = call.query("pageToken");
        let limit = match (token, size) {
            (_, Some(size)) => size,
            (Some(_), None) => DEFAULT_SIZE,
            (None, None) => usize::MAX,
        };
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Ok(Self { at: None, after: None, limit });
        };
        let unknown = || ApiError::invalid(format!("the page token '{token}' is not one of this server's"));
        let (hash, name) = token.split_once('.').ok_or_else(unknown)?;
        let name = URL_SAFE_NO_PAD.decode(name).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(Self {
            at: Some(hash.parse().map_err(|_| unknown())?),
            after: Some(name.ok_or_else(unknown)?),
            limit,
        })
    }
}

/// One page of children, and the token of the next.
pub(super) struct Children {
    pub(super) keys: Vec<Key>,
    pub(super) next: Option<String>,
}

/// Direct children of a namespace (of the root if empty) that `wanted` takes.
pub(super) async fn children(
    scope: &Scope,
    parent: &[String],
    page: Page,
    wanted: impl Fn(&Content) -> bool,
) -> Result<Children, ApiError> {
    let reference = scope.reference.as_deref();
    let sees_all = scope.access.sees_all(reference);
    let at = match (page.at, reference) {
        // A token is what the caller says: it leads nowhere outside the reference's history.
        (Some(at), Some(name)) if !sees_all => scope.repository.resolve(&format!("{name}@{at}")).await?.hash,
        (Some(at), _) => at,
        (None, _) => scope.resolve().await?.hash,
    };
    let seen = |key: &Key, content: &Content| {
        sees_all || scope.access.sees_key(reference, &key.0, content.is_namespace())
    };
    let child = |name: &str| Key([parent, &[name.to_owned()]].concat());
    let depth = parent.len() + 1;
    let mut range = EntryRange {
        prefix: (!parent.is_empty()).then(|| Key(parent.to_vec())),
        min: page.after.as_deref().map(|name| after_subtree(&child(name))),
        limit: CHUNK,
        ..EntryRange::default()
    };
    let token =
        |last: &Key| last.0.get(depth - 1).map(|name| format!("{at}.{}", URL_SAFE_NO_PAD.encode(name)));
    let mut keys: Vec<Key> = Vec::new();
    let mut looked_at = 0;
    loop {
        let (entries, more) = scope.repository.entries(at, &range).await?;
        let last = entries.last().map(|(key, _)| key.clone());
        looked_at += entries.len();
        for (key, content) in entries {
            if key.0.len() != depth || !wanted(&content) || !seen(&key, &content) {
                continue;
            }
            if keys.len() == page.limit {
                let next = keys.last().and_then(token);
                return Ok(Children { keys, next });
            }
            keys.push(key);
        }
        match last.filter(|_| more) {
            None => return Ok(Children { keys, next: None }),
            Some(last) if looked_at >= MAX_LOOKED_AT && page.limit < usize::MAX => {
                let next = token(&last);
                return Ok(Children { keys, next });
            }
            // A child may hold a million keys: go on after it, not through it.
            Some(last) if last.0.len() > depth => {
                range.after = None;
                range.min = Some(after_subtree(&Key(last.0[..depth].to_vec())));
            }
            Some(last) => range.after = Some(last),
        }
    }
}

/// The least key that is neither `key` nor below it. It ends in a control character, so it is a bound and never a key.
fn after_subtree(key: &Key) -> Key {
    let mut elements = key.0.clone();
    if let Some(last) = elements.last_mut() {
        last.push('\0');
    }
    Key(elements)
}
