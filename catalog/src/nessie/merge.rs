//! Merge and transplant.

use std::collections::BTreeMap;

use axum::{Json, body::Bytes};
use firn_auth::Action;
use firn_catalog_client::nessie::{self as wire, ContentKey, MergeResponse, TableMerge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    error::{NessieError, conflict_json},
    text,
};
use crate::{
    CatalogError, replay,
    version::{Hash, Key, MergeDetail, MergeMode, MergeRequest, MergeSource, Merged, Meta},
};

/// What merge and transplant have in common.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Behavior {
    default_key_merge_mode: Option<Mode>,
    key_merge_modes: Vec<KeyMode>,
    return_conflict_as_result: bool,
    /// Firn's own: which tables that both sides changed are merged.
    table_merge: TableMerge,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMode {
    key: ContentKey,
    merge_behavior: Mode,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Mode {
    Normal,
    Force,
    Drop,
}

impl From<Mode> for MergeMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Normal => Self::Normal,
            Mode::Force => Self::Force,
            Mode::Drop => Self::Drop,
        }
    }
}

#[derive(Deserialize)]
struct MergeBody {
    #[serde(flatten)]
    merge: wire::MergeRequest,
    #[serde(flatten)]
    behavior: Behavior,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransplantBody {
    from_ref_name: String,
    hashes_to_transplant: Vec<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(flatten)]
    behavior: Behavior,
}

pub(super) async fn merge(call: Call, bytes: Bytes) -> Result<Json<MergeResponse>, NessieError> {
    let reached = call.reach(Action::Merge).await?;
    let principal = reached.access.principal();
    let MergeBody { merge: body, behavior } = call::body(&bytes)?;
    // Both structs know this field, and the first one takes it.
    let behavior = Behavior { table_merge: body.table_merge, ..behavior };
    let from = on_reference(&reached, &body.from_ref_name, &body.from_hash).await?;
    let mut meta = match body.commit_meta {
        Some(meta) => text::own_meta(meta, principal.name())?,
        None => Meta { committer: principal.name().to_owned(), ..Meta::default() },
    };
    if meta.message.is_empty() {
        let (name, target) = (&body.from_ref_name, call.target()?.0);
        meta.message = body.message.unwrap_or_else(|| format!("Merge {name} at {from} into {target}"));
    }
    run(&call, &reached, MergeSource::Merge(from), meta, body.dry_run, behavior).await
}

pub(super) async fn transplant(call: Call, bytes: Bytes) -> Result<Json<MergeResponse>, NessieError> {
    let reached = call.reach(Action::Merge).await?;
    let principal = reached.access.principal();
    let body: TransplantBody = call::body(&bytes)?;
    let mut commits = Vec::with_capacity(body.hashes_to_transplant.len());
    for hash in &body.hashes_to_transplant {
        commits.push(on_reference(&reached, &body.from_ref_name, hash).await?);
    }
    if commits.is_empty() {
        return Err(CatalogError::Invalid("'hashesToTransplant' names at least one commit".to_owned()).into());
    }
    let message = body.message.unwrap_or_default();
    let meta = Meta { committer: principal.name().to_owned(), message, ..Meta::default() };
    run(&call, &reached, MergeSource::Transplant(commits), meta, body.dry_run, body.behavior).await
}

/// A commit that must be in a reference's history.
async fn on_reference(reached: &Reached, name: &str, hash: &str) -> Result<Hash, CatalogError> {
    let name = if name == "DETACHED" { "" } else { name };
    // What is merged can be read where it comes to.
    Ok(reached.read_all(&format!("{name}@{hash}")).await?.hash)
}

async fn run(
    call: &Call,
    reached: &Reached,
    source: MergeSource,
    meta: Meta,
    dry_run: bool,
    behavior: Behavior,
) -> Result<Json<MergeResponse>, NessieError> {
    let (branch, expected_head) = call.target()?;
    reached.access.require_all(Action::Merge, Some(&branch))?;
    let _place = reached.access.begin_change()?;
    let modes: BTreeMap<Key, MergeMode> = behavior
        .key_merge_modes
        .into_iter()
        .map(|mode| (text::own_key(mode.key), mode.merge_behavior.into()))
        .collect();
    let default_mode = behavior.default_key_merge_mode.map_or(MergeMode::Normal, MergeMode::from);
    let request = MergeRequest {
        branch: branch.clone(),
        expected_head,
        source,
        meta,
        default_mode,
        modes,
        reconciled: Vec::new(),
        dry_run,
        idempotency: None,
    };
    let (state, tenant) = (call.state(), call.path("tenant"));
    let merged = replay::merge(state, tenant, &reached.repository, request, behavior.table_merge).await?;
    if !merged.successful() && !behavior.return_conflict_as_result {
        return Err(merged.into_error(&branch).into());
    }
    Ok(Json(response(branch, &merged)))
}

fn response(target_branch: String, merged: &Merged) -> MergeResponse {
    MergeResponse {
        resultant_target_hash: Some(merged.hash.to_string()),
        common_ancestor: merged.base.map(|base| base.to_string()),
        target_branch,
        was_applied: merged.applied,
        was_successful: merged.successful(),
        details: merged.details.iter().map(detail_json).collect(),
    }
}

fn detail_json(detail: &MergeDetail) -> Value {
    let mode = match detail.mode {
        MergeMode::Normal => "NORMAL",
        MergeMode::Force => "FORCE",
        MergeMode::Drop => "DROP",
    };
    json!({
        "key": text::wire_key(&detail.key),
        "mergeBehavior": mode,
        "conflict": detail.conflict.as_ref().map(conflict_json),
    })
}
