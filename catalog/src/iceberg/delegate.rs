//! What a client is given to reach a table's files, as answers carry it; and the endpoints that give it again.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use firn_auth::Action;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    call::{Call, Scope, parse_body},
    content::{Found, Kind},
    error::ApiError,
};
use crate::{
    delegation::{Access, Grant, SignRequest, TableFiles},
    management::{AppState, Given},
    version::Key,
};

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Settings and credentials of a table's answer.
pub(super) struct TableAccess {
    pub(super) config: BTreeMap<String, String>,
    pub(super) credentials: Vec<Value>,
    /// Differs whenever the credentials differ.
    pub(super) tag: String,
}

impl TableAccess {
    /// How to reach the storage, for clients that bring their own keys.
    pub(super) fn plain(state: &AppState) -> Self {
        let config = state.storage.table_config().clone();
        Self { config, credentials: Vec::new(), tag: String::new() }
    }
}

/// `GET …/tables/{table}/credentials`.
pub(super) async fn load_credentials(
    State(state): State<AppState>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let found = scope.need(Kind::Table, &call.ident()?).await?;
    let grant = scope.grant(&found.key, found.files(&scope).await?, found.resolved.writable);
    let credentials = match state.delegation.vend(&grant).await? {
        Some(keys) => {
            scope.note_read(&found, Given::Credentials);
            vec![credential(&grant, &keys.config)]
        }
        None => Vec::new(),
    };
    Ok(Json(json!({"storage-credentials": credentials})))
}

/// `POST …/tables/{table}/sign`.
pub(super) async fn sign(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let request: SignRequest = parse_body(&body?)?;
    let found = scope.need(Kind::Table, &call.ident()?).await?;
    let grant = scope.grant(&found.key, found.files(&scope).await?, found.resolved.writable);
    let signed = state.delegation.sign(&grant, request).await?;
    scope.note_read(&found, Given::Signature);
    let keep = if signed.repeatable { "private" } else { "no-cache" };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static(keep))], Json(signed)).into_response())
}

impl Call {
    /// What this request's answer about a table carries. `name` is the table's if it can be asked about from now on.
    pub(super) async fn delegate(
        &self,
        scope: &Scope,
        key: &Key,
        files: impl AsyncFnOnce() -> Result<TableFiles, ApiError>,
        writable: bool,
        name: Option<&str>,
    ) -> Result<TableAccess, ApiError> {
        let mut access = TableAccess::plain(&scope.state);
        let delegation = &scope.state.delegation;
        if self.asks_for("vended-credentials") {
            let grant = scope.grant(key, files().await?, writable);
            if let Some(keys) = delegation.vend(&grant).await? {
                access.credentials = vec![credential(&grant, &keys.config)];
                // Clients that don't know credentials read them among the settings.
                access.config.extend(keys.config);
                if let Some(name) = name {
                    let endpoint = format!("{}/credentials", self.table_path(name)?);
                    access.config.insert("client.refresh-credentials-endpoint".to_owned(), endpoint);
                }
                access.tag = keys.tag;
                return Ok(access);
            }
        }
        if let Some(name) = name
            && self.asks_for("remote-signing")
            && delegation.signs()
        {
            let endpoint = format!("{}/sign", self.table_path(name)?);
            let settings = [
                ("s3.remote-signing-enabled", "true"),
                ("s3.signer", "S3V4RestSigner"),
                ("s3.signer.endpoint", &endpoint),
                ("signer.endpoint", &endpoint),
            ];
            access.config.extend(settings.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        Ok(access)
    }

    fn asks_for(&self, mechanism: &str) -> bool {
        let asked = self.header("x-iceberg-access-delegation").unwrap_or_default();
        asked.split(',').any(|asked| asked.trim().eq_ignore_ascii_case(mechanism))
    }

    /// A table of the request's namespace, as clients append it to the catalog's URL.
    fn table_path(&self, name: &str) -> Result<String, ApiError> {
        let encoded = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let (prefix, namespace) = (encoded(self.segment(0)?), encoded(self.segment(2)?));
        Ok(format!("v1/{prefix}/namespaces/{namespace}/tables/{}", encoded(name)))
    }
}

impl Found {
    /// The table's files.
    pub(super) async fn files(&self, scope: &Scope) -> Result<TableFiles, ApiError> {
        let location = self.metadata_location()?;
        let (storage, tenant) = (&scope.state.storage, scope.tenant.as_str());
        let bytes = storage.read_metadata(tenant, location).await?;
        Ok(scope.state.delegation.files_of(location, || TableFiles::in_metadata(storage, tenant, &bytes))?)
    }
}

impl Scope {
    /// What the caller may do with the files of a table here.
    fn grant(&self, key: &Key, files: TableFiles, writable: bool) -> Grant {
        let may = |action| self.access.may(action, self.reference.as_deref(), &key.0);
        let access = match (writable && may(Action::Write), may(Action::Maintain)) {
            (true, true) => Access::Maintain,
            (true, false) => Access::Write,
            (false, _) => Access::Read,
        };
        Grant { tenant: self.tenant.clone(), principal: self.principal().name().to_owned(), access, files }
    }
}

/// Keys for a table's place, as the specification writes them.
fn credential(grant: &Grant, config: &BTreeMap<String, String>) -> Value {
    json!({"prefix": format!("{}/", grant.files.place()), "config": config})
}
