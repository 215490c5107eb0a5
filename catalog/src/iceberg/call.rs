//! One request's path, query and headers, and the state it means.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{HeaderMap, Method, request::Parts},
};
use firn_auth::{Access, Action, Principal};
use firn_catalog_client::iceberg::TableIdent;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{
    error::ApiError,
    names::{Warehouse, decode_segment, split_namespace},
};
use crate::{
    CatalogError,
    management::{AppState, actor, check_tables},
    off_thread::off_thread,
    version::{CommitRequest, Committed, Key, Op, Repository, Resolved, named_reference},
};

/// A request without its body. Segments are taken from the raw path, since a router that decodes them can no longer tell
/// a plus from an encoded one.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) path_and_query: String,
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

/// A tenant's repository at a reference, and who asks.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) state: AppState,
    pub(super) tenant: String,
    /// Nessie's syntax; empty for `main`.
    pub(super) spec: String,
    /// The branch or tag that `spec` names; `None` for a bare commit.
    pub(super) reference: Option<String>,
    pub(super) repository: Repository,
    pub(super) access: Access,
    /// What the request does, which every key that it touches must allow.
    pub(super) action: Action,
    /// The state that `spec` meant when it was first asked for.
    state_at: Arc<OnceCell<Resolved>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let uri = match OriginalUri::from_request_parts(parts, state).await {
            Ok(OriginalUri(uri)) => uri,
            Err(never) => match never {},
        };
        let rest = uri.path().strip_prefix("/iceberg/v1/").unwrap_or_default();
        let segments = rest.split('/').map(decode_segment).collect::<Result<_, _>>()?;
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Ok(Self {
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            path_and_query: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            segments,
            query: query.into_owned().collect(),
        })
    }
}

impl Call {
    /// Authorizes the caller for the prefix's tenant and reference.
    pub(super) async fn open(&self, state: &AppState, action: Action) -> Result<Scope, ApiError> {
        let warehouse = Warehouse::parse_prefix(self.segment(0)?)?;
        let tenant = String::from(warehouse.tenant);
        let access = state.guard.authorize(&self.headers, &tenant, action).await?;
        let reference = named_reference(&warehouse.spec)?;
        let repository = state.versions.repository(&tenant).by(actor(&access));
        Ok(Scope {
            state: state.clone(),
            tenant,
            spec: warehouse.spec,
            reference,
            repository,
            access,
            action,
            state_at: Arc::default(),
        })
    }

    /// `{namespace}` of the path.
    pub(super) fn namespace(&self) -> Result<Vec<String>, ApiError> {
        Ok(split_namespace(self.segment(2)?))
    }

    /// `{namespace}` and `{table}` or `{view}` of the path.
    pub(super) fn ident(&self) -> Result<TableIdent, ApiError> {
        Ok(TableIdent { namespace: self.namespace()?, name: self.segment(4)?.to_owned() })
    }

    /// A query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn segment(&self, index: usize) -> Result<&str, ApiError> {
        let segment = self.segments.get(index).filter(|segment| !segment.is_empty());
        segment.map(String::as_str).ok_or_else(|| ApiError::invalid("the path has an empty part"))
    }
}

impl Scope {
    /// Who asks.
    pub(super) fn principal(&self) -> &Principal {
        self.access.principal()
    }

    /// The time that metadata gets.
    pub(super) fn now_ms(&self) -> i64 {
        self.state.versions.clock().now().timestamp_millis()
    }

    /// The same request on another reference.
    pub(super) fn elsewhere(&self, spec: &str) -> Result<Self, ApiError> {
        let (spec, reference) = (spec.to_owned(), named_reference(spec)?);
        Ok(Self { spec, reference, state_at: Arc::default(), ..self.clone() })
    }

    /// Refuses a key that the caller may not touch, before anybody looks whether it is there.
    pub(super) fn permit(&self, key: &Key) -> Result<(), ApiError> {
        Ok(self.access.require_key(self.action, self.reference.as_deref(), &key.0)?)
    }

    /// The state that the prefix means: read once after the request came, so that all of it sees the same one.
    pub(super) async fn resolve(&self) -> Result<Resolved, ApiError> {
        self.access.require(self.action, self.reference.as_deref())?;
        Ok(self.state_at.get_or_try_init(|| self.repository.resolve(&self.spec)).await?.clone())
    }

    /// The same request on the state that a branch had a moment ago, if `spec` is one and this process knows.
    pub(super) fn recent(&self) -> Option<Self> {
        let branch = self.reference.as_deref()?;
        let plain = self.spec == branch || self.spec.is_empty();
        let recent = self.repository.recent(branch).filter(|_| plain)?;
        Some(Self { state_at: Arc::new(OnceCell::new_with(Some(recent))), ..self.clone() })
    }

    /// The same, for a change: only a branch can be changed.
    pub(super) async fn resolve_branch(&self) -> Result<(String, Resolved), ApiError> {
        writable(&self.spec, self.resolve().await?)
    }

    /// Commits, if every key of it may be touched. Every change of the Iceberg API comes through here.
    pub(super) async fn commit(&self, request: CommitRequest) -> Result<Committed, CatalogError> {
        let branch = Some(request.branch.as_str());
        for operation in &request.operations {
            let (Op::Put { key, .. } | Op::Delete { key, .. } | Op::Unchanged { key }) = operation;
            self.access.require_key(Action::Write, branch, &key.0)?;
        }
        let _place = self.access.begin_change()?;
        check_tables(&self.repository, &self.access, &request).await?;
        self.repository.commit(request).await
    }
}

/// The branch of a resolved reference, or why nothing can be committed there.
pub(super) fn writable(spec: &str, resolved: Resolved) -> Result<(String, Resolved), ApiError> {
    let branch = resolved.reference.as_ref().filter(|_| resolved.writable).map(|branch| branch.name.clone());
    match branch {
        Some(branch) => Ok((branch, resolved)),
        None => {
            Err(ApiError::invalid(format!("'{spec}' is read-only: changes need a branch, by its plain name")))
        }
    }
}

/// Reads a JSON body. Fields that are null count as absent, and unknown ones are ignored.
pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not JSON: {error}")))?;
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            whole if whole == "." => "$".to_owned(),
            path => format!("$.{path}"),
        };
        ApiError::invalid(format!("the body is not as specified: {path}: {}", error.inner()))
    })
}

/// Runs work whose cost grows with `bytes`: off the thread once it could hold up other requests.
pub(super) async fn sized_work<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    const INLINE_BYTES: usize = 128 * 1024;
    if bytes <= INLINE_BYTES {
        return work();
    }
    off_thread(work).await?
}
