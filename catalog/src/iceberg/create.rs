//! New tables: create, staged create, register.

use std::sync::Arc;

use axum::{
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use bytes::Bytes;
use firn_auth::{Action, Role};
use firn_catalog_client::iceberg::{CreateTableRequest, TableIdent};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    answer::{at_commit, metadata_answer},
    call::{Call, Scope, parse_body},
    commit::{check_location, check_table_location, context, default_properties, has_positions},
    content::{Kind, metadata_location, taken},
    error::ApiError,
    idempotency::once,
    names::ident_key,
    write::{Put, meta, write_and_commit},
};
use crate::{
    CatalogError,
    delegation::TableFiles,
    error::Missing,
    management::AppState,
    metadata::{Document, NewTable, new_table},
    storage::Location,
    store::Hash,
    version::{CommitRequest, IdempotencyRecord, Key, Op},
};

/// `POST …/tables`.
pub(super) async fn create(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: CreateTableRequest = parse_body(&body)?;
    let ident = TableIdent { namespace: call.namespace()?, name: request.name.clone() };
    if request.stage_create {
        let Plan { key, document, .. } = plan(&scope, &ident, request).await?;
        let files = async || Ok(TableFiles::in_document(&state.storage, &scope.tenant, &document)?);
        // Nobody finds the table by its name before it is committed.
        let access = call.delegate(&scope, &key, files, true, None).await?;
        return Ok(metadata_answer(None, &document.to_bytes(), Some(&access)));
    }
    let record = call.idempotency(scope.principal(), "createTable", &body)?;
    let run = run_create(&scope, ident.clone(), request, record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    created(&call, &scope, hash, &ident).await
}

/// The answer to a table's creation.
async fn created(call: &Call, scope: &Scope, hash: Hash, ident: &TableIdent) -> Result<Response, ApiError> {
    let (location, metadata) = at_commit(scope, Kind::Table, hash, ident).await?;
    let files = async || Ok(TableFiles::in_metadata(&scope.state.storage, &scope.tenant, &metadata)?);
    let access = call.delegate(scope, &ident_key(ident)?, files, true, Some(&ident.name)).await;
    Ok(metadata_answer(Some(&location), &metadata, Some(&access.map_err(ApiError::after_commit)?)))
}

async fn run_create(
    scope: &Scope,
    ident: TableIdent,
    request: CreateTableRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let Plan { branch, key, document, takes } = plan(scope, &ident, request).await?;
    let message = format!("create table {ident}");
    let document = Some(Arc::new(document));
    let put = Put { kind: Kind::Table, key, ident, former: None, former_location: None, document, takes };
    write_and_commit(scope, &branch, message, vec![put], record).await
}

/// A table to be.
struct Plan {
    branch: String,
    key: Key,
    document: Document,
    /// Where it will lie.
    takes: Option<Location>,
}

async fn plan(scope: &Scope, ident: &TableIdent, request: CreateTableRequest) -> Result<Plan, ApiError> {
    let (branch, resolved) = scope.resolve_branch().await?;
    scope.need_namespace(&resolved, &ident.namespace).await?;
    let key = scope.refuse_taken(&resolved, ident).await?;
    let fresh = scope.state.storage.new_location(&scope.tenant, &ident.namespace, &ident.name);
    let location = request.location.unwrap_or(fresh);
    let mut properties: Map<String, Value> = default_properties();
    properties.extend(request.properties.into_iter().map(|(key, value)| (key, Value::from(value))));
    let table = NewTable {
        schema: request.schema,
        partition_spec: request.partition_spec,
        write_order: request.write_order,
        properties,
    };
    let document = new_table(table, &context(scope.now_ms(), None, &location, &Uuid::new_v4().to_string()))?;
    let takes = check_table_location(scope, &document, None).await?;
    Ok(Plan { branch, key, document, takes })
}

#[derive(Deserialize)]
struct RegisterRequest {
    name: String,
    #[serde(rename = "metadata-location")]
    metadata_location: String,
    #[serde(default)]
    overwrite: bool,
}

/// `POST …/register`: takes over a metadata file as it is.
pub(super) async fn register(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: RegisterRequest = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "registerTable", &body)?;
    let ident = TableIdent { namespace: call.namespace()?, name: request.name.clone() };
    let key = ident_key(&ident)?;
    let run = run_register(&scope, &ident, &key, request, record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    created(&call, &scope, hash, &ident).await
}

async fn run_register(
    scope: &Scope,
    ident: &TableIdent,
    key: &Key,
    request: RegisterRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    scope.permit(key)?;
    scope.permit_any_file()?;
    let (branch, resolved) = scope.resolve_branch().await?;
    scope.need_namespace(&resolved, &ident.namespace).await?;
    let former = scope.repository.get(resolved.hash, std::slice::from_ref(key)).await?.pop().flatten();
    if let Some(former) = &former {
        if !request.overwrite || !Kind::Table.is_kind_of(former) {
            return Err(taken(ident, former));
        }
        let location = metadata_location(key, former)?;
        let bytes = scope.state.storage.read_metadata(&scope.tenant, location).await?;
        scope.guard_positions(&Document::parse_table(&bytes)?, ident)?;
    }
    let bytes = scope.state.storage.read_metadata(&scope.tenant, &request.metadata_location).await?;
    let document = Document::parse_table(&bytes)?;
    check_location(scope, &document)?;
    let content = Kind::Table.content(None, &request.metadata_location, &document);
    let put = Op::Put { key: key.clone(), content, expected: Some(former) };
    let commit = CommitRequest {
        branch,
        expected_head: None,
        operations: vec![put],
        meta: meta(scope, format!("register table {ident}")),
        idempotency: record,
    };
    Ok(scope.commit(commit).await?.hash)
}

impl Scope {
    /// Whose metadata file it is that a request names, nobody knows: whoever takes it over must be allowed to read all there
    /// is, or a grant on one table would open the others.
    pub(super) fn permit_any_file(&self) -> Result<(), ApiError> {
        Ok(self.access.require_all(Action::Read, None)?)
    }

    /// Refuses a namespace that doesn't exist.
    pub(super) async fn need_namespace(
        &self,
        resolved: &crate::version::Resolved,
        levels: &[String],
    ) -> Result<crate::version::Content, ApiError> {
        let key = super::names::namespace_key(levels)?;
        self.access.require_within(self.action, self.reference.as_deref(), &key.0)?;
        let content = self.repository.get(resolved.hash, &[key]).await?.pop().flatten();
        let content = content.filter(crate::version::Content::is_namespace);
        content.ok_or_else(|| ApiError::missing(Missing::Namespace, &levels.join(".")))
    }

    /// Dropping or replacing a table that says what was taken from the log needs a maintainer.
    pub(super) fn guard_positions(&self, document: &Document, ident: &TableIdent) -> Result<(), ApiError> {
        let tenant = self.tenant.parse().ok();
        let is_maintainer = tenant.is_some_and(|tenant| self.principal().may(&tenant, Role::Maintainer));
        if is_maintainer || !has_positions(document) {
            return Ok(());
        }
        let text =
            format!("{ident} says what was taken from the log: dropping or replacing it needs a maintainer");
        Err(CatalogError::Forbidden(text).into())
    }
}
