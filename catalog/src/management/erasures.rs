//! Erasures: asked for here, carried out by the compactor, and signed here once they are done.
//!
//! The document of an erasure holds the subject's value only while it is carried out. What stays is a keyed hash: it tells which
//! records are dropped when they come in again, and to who has neither key nor value it tells nothing.

mod copies;

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use firn_auth::Action;
use firn_catalog_client::{
    Erasure, ErasureJob, ErasureRequest, ErasureState, RECEIPT_TYPE, Subject, subject_hash,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    AppState,
    answer::Refused,
    change::{Change, actor},
    holds, tenants, tokens,
};
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentPut, DocumentRow, DocumentSelection, Write},
    version::Actor,
};

pub(crate) use copies::recover_erasures;

const KIND: &str = "erasure";
/// Kind of the one document per tenant that holds the key of its subjects' hashes. Its version is the generation of the tenant's
/// files: it is put again whenever some may have been replaced.
pub(super) const KEY_KIND: &str = "erasure-key";
const MAX_TEXT_BYTES: usize = 2_000;
/// A record names events and files, of which there may be many.
pub(super) const MAX_JOB_BYTES: usize = 64 << 20;

/// `GET /v1/keys`: the public keys with which receipts can be checked, by anybody.
pub(super) async fn keys(State(state): State<AppState>) -> Json<Value> {
    Json(state.config.signing_key.public_keys())
}

/// `POST /v1/tenants/{tenant}/erasures`.
pub(super) async fn request(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Erasure>), Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let request: ErasureRequest = super::parse(&body)?;
    check(&request)?;
    tenants::require(&state, &tenant).await?;
    if !request.dry_run {
        holds::held_subject(&state, &tenant, &request.subject).await?;
    }
    let key = key(&state, &tenant).await?;
    let Subject { column, value } = request.subject;
    let hash = subject_hash(&key, &column, &value);
    let erasure = Erasure {
        id: Uuid::new_v4().simple().to_string(),
        tenant: tenant.clone(),
        column: column.clone(),
        subject_hash: hash.clone(),
        with_hosts: request.with_hosts,
        dry_run: request.dry_run,
        reason: request.reason,
        requested_by: access.principal().name().to_owned(),
        requested_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        message: "waiting for the compactor".to_owned(),
        ..Erasure::default()
    };
    let job = ErasureJob {
        erasure: erasure.clone(),
        value: Some(value),
        listed: BTreeMap::from([(column, BTreeSet::from([hash]))]),
        key,
        ..ErasureJob::default()
    };
    let change = Change::new(&tenant, &actor(&access), "erasure-requested", &details(&erasure));
    change.put(KIND, &erasure.id, Some(0), &job)?.make(&state).await?;
    if let Err(error) = copies::write(&state, &tenant, &job).await {
        // Whoever carries it out keeps how it stands, and with it the copy.
        tracing::warn!(tenant, %error, "an erasure is not copied into the object store yet");
    }
    Ok((StatusCode::ACCEPTED, Json(erasure)))
}

/// `GET /v1/tenants/{tenant}/erasures`.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let jobs = load(&state, DocumentSelection::Tenant(&tenant)).await?;
    let mut erasures: Vec<Erasure> = jobs.into_iter().map(|job| job.erasure).collect();
    erasures.sort_by(|a, b| a.requested_at.cmp(&b.requested_at));
    Ok(Json(json!({ "erasures": erasures })))
}

/// `GET /v1/tenants/{tenant}/erasures/{id}`.
pub(super) async fn show(
    State(state): State<AppState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Erasure>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    Ok(Json(one(&state, &tenant, &id).await?.erasure))
}

/// `GET /v1/erasures`: all that services need to carry them out, and to know listed subjects.
pub(super) async fn jobs(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, Refused> {
    state.guard.operator(&headers).await?;
    let mut jobs = load(&state, DocumentSelection::All).await?;
    for job in jobs.iter_mut().filter(|job| job.erasure.state == ErasureState::Done) {
        // What is over is asked for each second, for its list alone.
        job.erasure.removed.clear();
        job.erasure.receipt = None;
    }
    Ok(Json(json!({ "erasures": jobs })))
}

/// `PUT /v1/tenants/{tenant}/erasures/{id}`: how it stands, by who carries it out; also of one that was done, if its subject's rows
/// are there again. All replicas forget what they read of the
/// tenant's metadata, which may have been replaced. The end of it is signed, and then nothing of the subject is kept.
pub(super) async fn keep(
    State(state): State<AppState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ErasureJob>, Refused> {
    let principal = state.guard.operator(&headers).await?;
    let mut job: ErasureJob = super::parse(&body)?;
    let before = one(&state, &tenant, &id).await?;
    let reopened = reopens(&before, &job);
    if (before.erasure.state == ErasureState::Done && !reopened) || before.version != job.version {
        let text = format!("the erasure {id} was changed meanwhile: load it again");
        return Err(CatalogError::ReferenceConflict(text).into());
    }
    let (erasure, known) = (&mut job.erasure, &before.erasure);
    // What was asked for stays as it was asked for.
    (erasure.id, erasure.tenant) = (id.clone(), tenant.clone());
    erasure.column.clone_from(&known.column);
    erasure.subject_hash.clone_from(&known.subject_hash);
    erasure.requested_by.clone_from(&known.requested_by);
    erasure.requested_at.clone_from(&known.requested_at);
    (job.key, job.root) = (before.key, String::new());
    let actor = tokens::actor(&principal, &headers);
    let version = job.version;
    let kind = match job.erasure.state {
        ErasureState::Done => {
            finish(&state, &mut job);
            "erasure-done"
        }
        _ if reopened => "erasure-reopened",
        _ => "erasure-progress",
    };
    copies::write(&state, &tenant, &job).await?;
    let kept = put(&state, &tenant, &actor, kind, &job, version).await?;
    if !kept {
        let text = format!("the erasure {id} was changed meanwhile: load it again");
        return Err(CatalogError::ReferenceConflict(text).into());
    }
    (job.version, job.root) = (version + 1, root(&state, &tenant));
    Ok(Json(job))
}

/// Whether one that was done goes on: files that it removed are there again, and with them its subject's value.
fn reopens(before: &ErasureJob, job: &ErasureJob) -> bool {
    let Erasure { state, dry_run, column, subject_hash: hash, .. } = &before.erasure;
    let value = job.value.as_deref().unwrap_or_default();
    *state == ErasureState::Done
        && !dry_run
        && job.erasure.state != ErasureState::Done
        && subject_hash(&before.key, column, value) == *hash
}

/// The keyed hash of a subject.
pub(super) async fn hash(state: &AppState, tenant: &str, subject: &Subject) -> Result<String, CatalogError> {
    Ok(subject_hash(&key(state, tenant).await?, &subject.column, &subject.value))
}

async fn put(
    state: &AppState,
    tenant: &str,
    actor: &Actor,
    kind: &'static str,
    job: &ErasureJob,
    version: i64,
) -> Result<bool, CatalogError> {
    let change = Change::new(tenant, actor, kind, &details(&job.erasure));
    let change = change.put(KIND, &job.erasure.id, Some(version), job)?;
    change.put(KEY_KIND, "", None, &job.key)?.make(state).await
}

/// The receipt tells what was asked for and what was done, and nothing of whom.
fn finish(state: &AppState, job: &mut ErasureJob) {
    job.value = None;
    job.events.clear();
    job.unfenced.clear();
    let erasure = &mut job.erasure;
    erasure.finished_at = Some(Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true));
    erasure.receipt = None;
    if !erasure.dry_run {
        erasure.receipt = Some(state.config.signing_key.sign_document(RECEIPT_TYPE, &*erasure));
    }
}

/// For the audit log.
fn details(erasure: &Erasure) -> Value {
    json!({
        "id": erasure.id, "column": erasure.column, "subject_hash": erasure.subject_hash,
        "dry_run": erasure.dry_run, "reason": erasure.reason, "state": erasure.state,
        "message": erasure.message,
    })
}

fn check(request: &ErasureRequest) -> Result<(), CatalogError> {
    let Subject { column, value } = &request.subject;
    let text = [column, value, &request.reason];
    let problem = if column.is_empty() || value.trim().is_empty() {
        "an erasure needs a subject: a column, and the value that it has there"
    } else if text.iter().any(|text| text.len() > MAX_TEXT_BYTES) {
        "column, value and reason have at most 2,000 bytes each"
    } else if request.reason.contains(value.as_str()) {
        "the reason names the subject, and would stay after it: put it in other words"
    } else {
        return Ok(());
    };
    Err(CatalogError::Invalid(problem.to_owned()))
}

async fn one(state: &AppState, tenant: &str, id: &str) -> Result<ErasureJob, CatalogError> {
    let missing =
        || CatalogError::NotFound { what: Missing::Erasure, name: id.to_owned(), hint: String::new() };
    let mut found = load(state, DocumentSelection::One { tenant, key: id }).await?;
    found.pop().ok_or_else(missing)
}

async fn load(state: &AppState, selection: DocumentSelection<'_>) -> Result<Vec<ErasureJob>, CatalogError> {
    let rows = state.store.documents(KIND, selection).await?;
    let decode = |row: &DocumentRow| {
        let mut job: ErasureJob = serde_json::from_slice(&row.body).map_err(|error| {
            CatalogError::Internal(format!("an erasure of tenant '{}' can't be read: {error}", row.tenant))
        })?;
        (job.version, job.root) = (row.version, root(state, &row.tenant));
        Ok(job)
    };
    rows.iter().map(decode).collect()
}

fn root(state: &AppState, tenant: &str) -> String {
    state.storage.tenant_root(tenant).to_string()
}

/// The tenant's key, made when it is needed first.
async fn key(state: &AppState, tenant: &str) -> Result<String, CatalogError> {
    if let Some(key) = stored_key(state, tenant).await? {
        return Ok(key);
    }
    let fresh = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let put = DocumentPut {
        kind: KEY_KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: String::new(),
        expected_version: Some(0),
        body: Some(Bytes::from(json!(fresh).to_string())),
    };
    let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
    // Refused if another request was faster, whose key it is then.
    state.store.write(&write).await?;
    let lost = || CatalogError::Internal("a key that was stored is gone".to_owned());
    stored_key(state, tenant).await?.ok_or_else(lost)
}

async fn stored_key(state: &AppState, tenant: &str) -> Result<Option<String>, CatalogError> {
    let rows = state.store.documents(KEY_KIND, DocumentSelection::One { tenant, key: "" }).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    serde_json::from_slice(&row.body).map(Some).map_err(|error| {
        CatalogError::Internal(format!("the erasure key of tenant '{tenant}' can't be read: {error}"))
    })
}
