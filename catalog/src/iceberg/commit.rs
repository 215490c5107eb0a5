//! Commits to tables: requirements, updates, and what the server insists on beside them.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use bytes::Bytes;
use firn_auth::{Action, Scope as TokenScope};
use firn_catalog_client::iceberg::{TableChange, TableIdent};
use serde_json::json;
use uuid::Uuid;

use super::{
    answer::{at_commit, metadata_answer},
    call::{Call, Scope, parse_body, sized_work, writable},
    content::{Found, Kind, taken},
    error::ApiError,
    idempotency::once,
    names::ident_key,
    recent::SizedTable,
    write::{Put, describe, write_and_commit},
};
use crate::{
    delegation::TableFiles,
    error::Missing,
    management::{AppState, forbid_held},
    metadata::{ApplyContext, Document, apply_updates, check_requirements, requires_create},
    storage::Location,
    store::Hash,
    version::{IdempotencyRecord, Key, Resolved},
};

/// Properties that say what the ingest worker took from the log.
pub(crate) const POSITION_PREFIX: &str = "firn.position.";

/// `POST …/tables/{table}`.
pub(super) async fn commit(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let (ident, body) = (call.ident()?, body?);
    let change: TableChange = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "updateTable", &body)?;
    let change = TableChange { identifier: Some(ident.clone()), ..change };
    let run = commit_tables(&scope, vec![change], record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    let (location, metadata) = at_commit(&scope, Kind::Table, hash, &ident).await?;
    Ok(metadata_answer(Some(&location), &metadata, None))
}

/// Where a change goes: an existing table, or the name of one to be created.
struct Target {
    ident: TableIdent,
    key: Key,
    branch: String,
    resolved: Resolved,
    found: Option<Found>,
}

impl Target {
    async fn find(
        scope: &Scope,
        ident: &TableIdent,
        requirements: &[serde_json::Value],
    ) -> Result<Self, ApiError> {
        let found = if requires_create(requirements) {
            scope.find_literal(Kind::Table, ident).await?
        } else {
            Some(scope.need(Kind::Table, ident).await?)
        };
        match found {
            Some(found) => {
                let (branch, resolved) = writable(&found.spec, found.resolved.clone())?;
                let (ident, key) = (found.ident.clone(), found.key.clone());
                Ok(Self { ident, key, branch, resolved, found: Some(found) })
            }
            None => {
                let (branch, resolved) = scope.resolve_branch().await?;
                Ok(Self { ident: ident.clone(), key: ident_key(ident)?, branch, resolved, found: None })
            }
        }
    }
}

/// Commits changes of several tables at once, all or none.
///
/// First on the branch's state that is known here, without asking whether it still is that: a commit insists on the contents
/// that it replaces. Only a refusal needs the present state, since what is wrong on an older one may be right now.
pub(super) async fn commit_tables(
    scope: &Scope,
    changes: Vec<TableChange>,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let changes: Vec<Arc<TableChange>> = changes.into_iter().map(Arc::new).collect();
    let idents = changes.iter().map(|change| identifier(change)).collect::<Result<Vec<_>, _>>()?;
    let places = idents.iter().map(|ident| ident_key(ident)).collect::<Result<_, _>>()?;
    // By name as it was written: two spellings of one table race each other, which costs a conflict and nothing else.
    let _turn = scope.state.turns.take(&scope.tenant, &scope.spec, places).await?;
    if let Some(recent) = scope.recent() {
        match commit_on(&recent, &changes, record.clone()).await {
            Ok(Some(hash)) => return Ok(hash),
            Err(error) if !error.is_final() => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    match commit_on(scope, &changes, record).await? {
        Some(hash) => Ok(hash),
        None => Ok(scope.resolve().await?.hash),
    }
}

/// Commits on the state of `scope`; `None` if nothing changes.
async fn commit_on(
    scope: &Scope,
    changes: &[Arc<TableChange>],
    record: Option<IdempotencyRecord>,
) -> Result<Option<Hash>, ApiError> {
    let mut branch: Option<String> = None;
    let mut keys = BTreeSet::new();
    let mut puts = Vec::with_capacity(changes.len());
    let mut messages = Vec::with_capacity(changes.len());
    for change in changes {
        let target = Target::find(scope, identifier(change)?, &change.requirements).await?;
        if branch.get_or_insert_with(|| target.branch.clone()) != &target.branch {
            return Err(ApiError::invalid("a transaction has one branch: its tables name several"));
        }
        if !keys.insert(target.key.clone()) {
            return Err(ApiError::invalid(format!("the transaction changes '{}' twice", target.ident)));
        }
        messages.push(describe(Kind::Table, &target.ident, &change.updates));
        puts.push(plan(scope, target, change).await?);
    }
    let Some(branch) = branch else {
        return Err(ApiError::invalid("the transaction changes no table"));
    };
    if puts.iter().all(|put| put.document.is_none()) {
        return Ok(None);
    }
    write_and_commit(scope, &branch, messages.join("; "), puts, record).await.map(Some)
}

fn identifier(change: &TableChange) -> Result<&TableIdent, ApiError> {
    change.identifier.as_ref().ok_or_else(|| ApiError::invalid("a change of the transaction names no table"))
}

/// Checks one table's change and works out its new document.
async fn plan(scope: &Scope, target: Target, change: &Arc<TableChange>) -> Result<Put, ApiError> {
    let Target { ident, key, found, resolved, .. } = target;
    let Some(found) = found else {
        return plan_create(scope, ident, key, &resolved, change).await;
    };
    if let Some(end) = change.updates.iter().find_map(ends_data) {
        forbid_held(&scope.state, &scope.tenant, end).await?;
    }
    let former_location = found.metadata_location()?.to_owned();
    let SizedTable { document: base, bytes } = scope.table_at(&former_location).await?;
    let (known, change) = (Arc::clone(&base), Arc::clone(change));
    let (former, named, now_ms) = (former_location.clone(), ident.to_string(), scope.now_ms());
    let document = sized_work(bytes, move || {
        check_requirements(Some(&known), &change.requirements).map_err(|error| error.within(&named))?;
        let context = context(now_ms, Some(&former), "", "");
        apply_updates(Some(&known), &change.updates, &context).map_err(|error| error.within(&named).into())
    })
    .await?;
    let mut takes = None;
    if let Some(document) = &document {
        check_positions(scope, &ident, Some(&base), document)?;
        if document.location() != base.location() {
            takes = check_table_location(scope, document, Some(&base)).await?;
        }
    }
    let (document, former_location) = (document.map(Arc::new), Some(former_location));
    Ok(Put { kind: Kind::Table, key, ident, former: Some(found.content), former_location, document, takes })
}

/// What an update does, if a legal hold forbids it.
fn ends_data(update: &serde_json::Value) -> Option<&'static str> {
    match update["action"].as_str() {
        Some("remove-snapshots") => Some("the expiry of snapshots"),
        Some("add-snapshot") if update["snapshot"]["summary"]["firn.reason"] == "retention" => {
            Some("the removal of rows beyond the retention")
        }
        _ => None,
    }
}

async fn plan_create(
    scope: &Scope,
    ident: TableIdent,
    key: Key,
    resolved: &Resolved,
    change: &TableChange,
) -> Result<Put, ApiError> {
    scope.permit(&key)?;
    check_requirements(None, &change.requirements)?;
    let namespace = Key(ident.namespace.clone());
    let present = scope.repository.get(resolved.hash, &[namespace, key.clone()]).await?;
    if present.first().is_none_or(Option::is_none) {
        return Err(ApiError::missing(Missing::Namespace, &ident.namespace.join(".")));
    }
    if let Some(Some(content)) = present.get(1) {
        return Err(taken(&ident, content));
    }
    let location = scope.state.storage.new_location(&scope.tenant, &ident.namespace, &ident.name);
    let mut updates = change.updates.clone();
    // After the client's updates, so that errors count those alone.
    let missing: serde_json::Map<_, _> =
        default_properties().into_iter().filter(|(name, _)| !sets_property(&updates, name)).collect();
    if !missing.is_empty() {
        updates.push(json!({"action": "set-properties", "updates": missing}));
    }
    let uuid = Uuid::new_v4().to_string();
    let document = apply_updates(None, &updates, &context(scope.now_ms(), None, &location, &uuid))?;
    let mut takes = None;
    if let Some(document) = &document {
        check_positions(scope, &ident, None, document)?;
        takes = check_table_location(scope, document, None).await?;
    }
    let document = document.map(Arc::new);
    Ok(Put { kind: Kind::Table, key, ident, former: None, former_location: None, document, takes })
}

/// Properties of every new table that the client doesn't set otherwise: engines don't see other references, so they
/// must not delete files that look unused.
pub(super) fn default_properties() -> serde_json::Map<String, serde_json::Value> {
    [("gc.enabled".to_owned(), json!("false"))].into_iter().collect()
}

/// Whether a commit says what a property is to be, or that it is not to be.
fn sets_property(updates: &[serde_json::Value], name: &str) -> bool {
    updates.iter().any(|update| {
        let removed = update["removals"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        removed || update["updates"].get(name).is_some()
    })
}

/// Time and defaults for applying updates.
pub(super) fn context<'a>(
    now_ms: i64,
    previous: Option<&'a str>,
    location: &'a str,
    uuid: &'a str,
) -> ApplyContext<'a> {
    ApplyContext { now_ms, previous_location: previous, default_location: location, fresh_uuid: uuid }
}

/// Refuses a location outside the tenant's storage.
pub(super) fn check_location(scope: &Scope, document: &Document) -> Result<(), ApiError> {
    scope.state.storage.check(&scope.tenant, document.location().unwrap_or_default())?;
    Ok(())
}

/// The same for a table that gets a new location: it must be no other table's, nor above or below one. Answers the place, if
/// it is one that the table doesn't have yet.
pub(super) async fn check_table_location(
    scope: &Scope,
    document: &Document,
    base: Option<&Document>,
) -> Result<Option<Location>, ApiError> {
    let storage = &scope.state.storage;
    let files = TableFiles::in_document(storage, &scope.tenant, document)?;
    if base.is_some_and(|base| {
        TableFiles::in_document(storage, &scope.tenant, base).is_ok_and(|old| old == files)
    }) {
        // The same place in other words.
        return Ok(None);
    }
    let place = files.place().clone();
    refuse_occupied(scope, &place, None).await?;
    Ok(Some(place))
}

/// Refuses a place where there is a table's metadata other than its `own`.
pub(super) async fn refuse_occupied(
    scope: &Scope,
    place: &Location,
    own: Option<&Location>,
) -> Result<(), ApiError> {
    match scope.state.storage.occupant(&scope.tenant, place, own).await? {
        None => Ok(()),
        Some(other) => Err(ApiError::invalid(format!(
            "the location '{place}' overlaps with that of another table, whose metadata is '{other}': leave it out, or \
             choose a folder of its own"
        ))),
    }
}

/// Whether a table says what was taken from the log, so that only the ingest role or a maintainer may replace it.
pub(super) fn has_positions(document: &Document) -> bool {
    document.properties().any(|(key, _)| key.starts_with(POSITION_PREFIX))
}

/// Only the ingest role may change positions, or move a table that has them back to an older snapshot.
fn check_positions(
    scope: &Scope,
    ident: &TableIdent,
    base: Option<&Document>,
    document: &Document,
) -> Result<(), ApiError> {
    if scope.principal().has_scope(TokenScope::ServiceIngest) {
        return Ok(());
    }
    let positions = |document: &Document| -> Vec<(String, serde_json::Value)> {
        let all = document.properties().filter(|(key, _)| key.starts_with(POSITION_PREFIX));
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let before = base.map(positions).unwrap_or_default();
    if before != positions(document) {
        let text = format!(
            "{ident}: only the ingest role may change properties that start with '{POSITION_PREFIX}'"
        );
        return Err(forbidden(text));
    }
    let current = document.current_snapshot_id();
    let went_back = base.is_some_and(|base| {
        let known = |id: i64| base.list("snapshots").iter().any(|snapshot| snapshot["snapshot-id"] == id);
        current != base.current_snapshot_id() && current.is_none_or(known)
    });
    if !before.is_empty() && went_back {
        let text = format!(
            "{ident} says what was taken from the log, so its snapshots can't be rolled back alone: \
             make a branch of an earlier commit, which has rows and positions as they were"
        );
        return Err(forbidden(text));
    }
    Ok(())
}

fn forbidden(text: String) -> ApiError {
    crate::CatalogError::Forbidden(text).into()
}
