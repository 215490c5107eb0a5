//! Changes of what principals may do: the documents, the access epoch and the audit log in one transaction.

use bytes::Bytes;
use firn_auth::Access;
use serde::Serialize;
use serde_json::Value;

use super::AppState;
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentPut, NewEvent, Refusal, Write, Written},
    version::{Actor, audit_event},
};

/// The tenant whose rules hold for all: its revocations are looked at for every token.
pub(crate) const SYSTEM: &str = "firn";

/// What is to be changed in a tenant.
pub(super) struct Change<'a> {
    tenant: &'a str,
    documents: Vec<DocumentPut>,
    events: Vec<NewEvent>,
}

impl<'a> Change<'a> {
    /// Of a tenant, by somebody; `kind` and `details` are for the audit log and hold no secret.
    pub(super) fn new(tenant: &'a str, actor: &Actor, kind: &'static str, details: &Value) -> Self {
        Self { tenant, documents: Vec::new(), events: vec![audit_event(kind, actor, details)] }
    }

    /// Puts a document, if it has the version that is expected (0: none, `None`: whatever is there).
    pub(super) fn put(
        mut self,
        kind: &str,
        key: &str,
        expected_version: Option<i64>,
        body: &impl Serialize,
    ) -> Result<Self, CatalogError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CatalogError::Internal(format!("a document can't be written: {error}")))?;
        self.documents.push(document(self.tenant, kind, key, expected_version, Some(Bytes::from(body))));
        Ok(self)
    }

    /// Removes a document, if it has the version that is expected.
    pub(super) fn remove(mut self, kind: &str, key: &str, expected_version: Option<i64>) -> Self {
        self.documents.push(document(self.tenant, kind, key, expected_version, None));
        self
    }

    /// Makes the change; answers `false` if a document had another version. Its own process knows at once.
    pub(super) async fn make(self, state: &AppState) -> Result<bool, CatalogError> {
        let Self { tenant, documents, events } = self;
        let write = Write {
            repository: tenant.to_owned(),
            create_repository: tenant == SYSTEM,
            raise_access_epoch: true,
            documents,
            events,
            ..Write::default()
        };
        let written = state.store.write(&write).await;
        state.versions.forget_epoch(tenant);
        match written? {
            Written::Done => Ok(true),
            Written::Refused(Refusal::Document { .. }) => Ok(false),
            Written::Refused(_) => {
                let name = tenant.to_owned();
                Err(CatalogError::NotFound { what: Missing::Tenant, name, hint: String::new() })
            }
        }
    }
}

fn document(
    tenant: &str,
    kind: &str,
    key: &str,
    expected_version: Option<i64>,
    body: Option<Bytes>,
) -> DocumentPut {
    DocumentPut {
        kind: kind.to_owned(),
        tenant: tenant.to_owned(),
        key: key.to_owned(),
        expected_version,
        body,
    }
}

/// Who makes a change, for the audit log.
pub(crate) fn actor(access: &Access) -> Actor {
    Actor {
        principal: access.principal().name().to_owned(),
        request_id: access.request_id().map(str::to_owned),
    }
}
