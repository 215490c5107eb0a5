//! Tenants: created and changed by an operator, seen by those who reach them. The end of one is in `lifecycle`.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use firn_auth::{Action, Standing, TenantName};
use firn_catalog_client::{LayerRetention, Tenant, TenantCreate, TenantUpdate};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AppState, answer::Refused, change::Change, tokens};
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentPut, DocumentSelection, Write},
    version::Actor,
};

pub(super) const KIND: &str = "tenant";

const MAX_CLASSIFICATIONS: usize = 20;
/// What retention may be said of: layers, and classes of columns, as their documentation has them.
const LAYERS: [&str; 3] = ["bronze", "silver", "gold"];
const CLASSES: [&str; 3] = ["public", "internal", "personal"];
/// As many, and as long, as S3 takes.
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
const MAX_RETENTION_DAYS: u32 = 36_500;
/// Tries against others who change the same tenant.
const ATTEMPTS: usize = 5;

#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct Listing {
    /// Whether those that were deleted are listed, too; for operators.
    #[serde(default)]
    deleted: bool,
}

/// `GET /v1/tenants`: those that the token reaches.
pub(super) async fn list(
    State(state): State<AppState>,
    Query(Listing { deleted }): Query<Listing>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    let principal = state.guard.authenticate(&headers).await?;
    let mut tenants = Vec::new();
    for tenant in all(&state).await? {
        let is_there = matches!(tenant.state.as_str(), "active" | "suspended");
        let Ok(name) = tenant.name.parse::<TenantName>() else { continue };
        let seen = if principal.claims.operator {
            is_there || deleted
        } else {
            is_there && state.guard.reaches(&principal, &name).await
        };
        if seen {
            tenants.push(tenant);
        }
    }
    Ok(Json(json!({ "tenants": tenants })))
}

/// `POST /v1/tenants`: operators only.
pub(super) async fn create(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Tenant>, Refused> {
    let principal = state.guard.operator(&headers).await?;
    let request: TenantCreate = super::parse(&body)?;
    Ok(Json(create_tenant(&state, &request, &tokens::actor(&principal, &headers)).await?))
}

/// `GET /v1/tenants/{tenant}`.
pub(super) async fn show(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Visit).await?;
    Ok(Json(require(&state, &tenant).await?))
}

/// `PATCH /v1/tenants/{tenant}`: operators only.
pub(super) async fn update(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Tenant>, Refused> {
    let principal = state.guard.operator(&headers).await?;
    let wanted: TenantUpdate = super::parse(&body)?;
    let actor = tokens::actor(&principal, &headers);
    let details = json!(wanted);
    let changed = change(&state, &tenant, &actor, "tenant-updated", &details, |tenant| {
        if !matches!(tenant.state.as_str(), "active" | "suspended") {
            return Err(gone(tenant));
        }
        let wanted = wanted.clone();
        tenant.classifications = wanted.classifications.unwrap_or_else(|| tenant.classifications.clone());
        tenant.tags = wanted.tags.unwrap_or_else(|| tenant.tags.clone());
        tenant.storage_profile = wanted.storage_profile.or_else(|| tenant.storage_profile.clone());
        tenant.retention = wanted.retention.unwrap_or_else(|| tenant.retention.clone());
        tenant.limits = wanted.limits.unwrap_or(tenant.limits);
        check(tenant)
    });
    Ok(Json(changed.await?))
}

/// The tenant, or the error that there is none.
pub(crate) async fn require(state: &AppState, name: &str) -> Result<Tenant, CatalogError> {
    Ok(load(state, name).await?.ok_or_else(|| missing(name))?.0)
}

/// Changes a tenant's document as `edit` says.
pub(super) async fn change(
    state: &AppState,
    name: &str,
    actor: &Actor,
    kind: &'static str,
    details: &Value,
    edit: impl Fn(&mut Tenant) -> Result<(), CatalogError>,
) -> Result<Tenant, CatalogError> {
    for _ in 0..ATTEMPTS {
        let (mut tenant, version) = load(state, name).await?.ok_or_else(|| missing(name))?;
        edit(&mut tenant)?;
        let change = Change::new(name, actor, kind, details);
        if change.put(KIND, "", Some(version), &tenant)?.make(state).await? {
            return Ok(tenant);
        }
    }
    Err(CatalogError::Unavailable(format!("the tenant '{name}' is being changed by others: try again")))
}

/// Creates a tenant with its repository, or answers the one that exists, whatever else the request says. The name of a
/// deleted one is not given to anybody else.
pub(crate) async fn create_tenant(
    state: &AppState,
    request: &TenantCreate,
    actor: &Actor,
) -> Result<Tenant, CatalogError> {
    let name: TenantName = request.name.parse().map_err(|error| CatalogError::Invalid(format!("{error}")))?;
    let name = name.as_str();
    if let Some((tenant, _)) = load(state, name).await? {
        return if tenant.deleted_at.is_some() { Err(gone(&tenant)) } else { Ok(tenant) };
    }
    let tenant = Tenant {
        name: name.to_owned(),
        region: request.region.clone().unwrap_or_else(|| state.config.region.clone()),
        classifications: request.classifications.clone(),
        state: "active".to_owned(),
        location: state.storage.tenant_root(name).to_string(),
        created_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        tags: request.tags.clone(),
        storage_profile: request.storage_profile.clone(),
        retention: request.retention.clone(),
        limits: request.limits,
        reason: String::new(),
        deleted_at: None,
        purge_after: None,
    };
    check(&tenant)?;
    // The repository first: a tenant that can be seen can be used.
    state.versions.create(name).await?;
    let change = Change::new(name, actor, "tenant-created", &json!(request));
    // Refused means that another request created it just now.
    change.put(KIND, "", Some(0), &tenant)?.make(state).await?;
    let missing = || CatalogError::Internal(format!("tenant '{name}' vanished while it was created"));
    Ok(load(state, name).await?.ok_or_else(missing)?.0)
}

/// Puts back a tenant's record, whatever is there.
pub(crate) async fn put_tenant(state: &AppState, name: &str, record: &Value) -> Result<(), CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: name.to_owned(),
        key: String::new(),
        expected_version: None,
        body: Some(Bytes::from(record.to_string())),
    };
    let write = Write { repository: name.to_owned(), documents: vec![put], ..Write::default() };
    state.store.write(&write).await?;
    Ok(())
}

/// Names of the tenants that are in use.
pub(crate) async fn tenant_names(state: &AppState) -> Result<Vec<TenantName>, CatalogError> {
    let tenants = all(state).await?.into_iter().filter(|tenant| tenant.deleted_at.is_none());
    Ok(tenants.filter_map(|tenant| tenant.name.parse().ok()).collect())
}

/// What a tenant's document says of its use.
pub(super) fn standing(tenant: &Tenant) -> Standing {
    match tenant.state.as_str() {
        "active" => Standing::Active,
        "suspended" => Standing::Suspended(tenant.reason.clone()),
        "deleted" => {
            let until = tenant.purge_after.as_deref().unwrap_or("its purge");
            Standing::Deleted(format!(": an operator can restore it until {until}"))
        }
        _ => Standing::Deleted(" and its data is gone".to_owned()),
    }
}

fn check(tenant: &Tenant) -> Result<(), CatalogError> {
    let invalid = |text: String| Err(CatalogError::Invalid(text));
    let word = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (1..=63).contains(&text.len()) && text.chars().all(plain)
    };
    if !word(&tenant.region) {
        return invalid(format!("'{}' is no region: 1 to 63 of a-z, 0-9, '-', '_' and '.'", tenant.region));
    }
    if tenant.classifications.len() > MAX_CLASSIFICATIONS {
        return invalid(format!("a tenant has at most {MAX_CLASSIFICATIONS} classifications"));
    }
    if let Some(odd) = tenant.classifications.iter().find(|text| !word(text)) {
        return invalid(format!("'{odd}' is no classification: 1 to 63 letters, digits, '-', '_' and '.'"));
    }
    if let Some(odd) = tenant.storage_profile.as_deref().filter(|name| name.parse::<TenantName>().is_err()) {
        return invalid(format!("'{odd}' is no storage profile: 1 to 63 of a-z, 0-9 and '-'"));
    }
    if tenant.tags.len() > MAX_TAGS {
        return invalid(format!("a tenant has at most {MAX_TAGS} tags"));
    }
    for (key, value) in &tenant.tags {
        let plain = !key.chars().chain(value.chars()).any(char::is_control);
        let fits = (1..=MAX_TAG_KEY).contains(&key.chars().count()) && value.chars().count() <= MAX_TAG_VALUE;
        if !plain || !fits || key.starts_with("aws:") {
            let text = format!(
                "the tag '{}' doesn't fit: its key has 1 to {MAX_TAG_KEY} characters and doesn't start with \
                 'aws:', its value has at most {MAX_TAG_VALUE}",
                key.escape_debug()
            );
            return invalid(text);
        }
    }
    let LayerRetention { bronze_days, silver_days, gold_days, classes } = &tenant.retention;
    let mut days = [bronze_days, silver_days, gold_days].into_iter().flatten().chain(classes.values());
    if days.any(|days| !(1..=MAX_RETENTION_DAYS).contains(days)) {
        return invalid(format!("a layer is retained for 1 to {MAX_RETENTION_DAYS} days"));
    }
    let is_class = |name: &str| {
        let parts = name.split_once('.');
        parts.is_some_and(|(layer, class)| LAYERS.contains(&layer) && CLASSES.contains(&class))
    };
    if let Some(odd) = classes.keys().find(|name| !is_class(name)) {
        return invalid(format!(
            "'{odd}' is no class of a layer: one of {}, a dot, and one of {}",
            LAYERS.join(", "),
            CLASSES.join(", ")
        ));
    }
    Ok(())
}

pub(super) fn gone(tenant: &Tenant) -> CatalogError {
    let (name, when) = (&tenant.name, tenant.deleted_at.as_deref().unwrap_or("an earlier day"));
    let way_out =
        if tenant.state == "deleted" { "restore it, or choose another name" } else { "choose another name" };
    CatalogError::AlreadyExists(format!(
        "the tenant '{name}' was deleted on {when}, and names aren't reused: {way_out}"
    ))
}

pub(super) fn missing(name: &str) -> CatalogError {
    CatalogError::NotFound { what: Missing::Tenant, name: name.to_owned(), hint: String::new() }
}

pub(super) async fn all(state: &AppState) -> Result<Vec<Tenant>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::All).await?;
    rows.iter().map(|row| decode(&row.tenant, &row.body)).collect()
}

pub(super) async fn load(state: &AppState, name: &str) -> Result<Option<(Tenant, i64)>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::One { tenant: name, key: "" }).await?;
    rows.first().map(|row| Ok((decode(name, &row.body)?, row.version))).transpose()
}

pub(super) fn decode(name: &str, body: &[u8]) -> Result<Tenant, CatalogError> {
    serde_json::from_slice(body).map_err(|error| {
        CatalogError::Internal(format!("the record of tenant '{name}' can't be read: {error}"))
    })
}
