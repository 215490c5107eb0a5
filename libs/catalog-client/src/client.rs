//! The HTTP client.

use std::sync::Arc;

use crate::{
    ClientError, Lease, LeaseRequest, Tenant, TenantCreate,
    iceberg::{CommitTransactionRequest, CreateTableRequest, LoadTableResult, TableChange, TableIdent},
    nessie::{ContentKey, DiffEntry, Entry, LogEntry, MergeRequest, MergeResponse, Reference},
};

/// Where bearer tokens come from; asked before each request, so that it can renew them.
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    fn token(&self) -> String;
}

/// A token that never changes.
pub struct StaticToken(pub String);

impl TokenSource for StaticToken {
    fn token(&self) -> String {
        self.0.clone()
    }
}

/// A client of one Firn server. Cheap to clone; connections are pooled.
#[derive(Clone)]
pub struct CatalogClient {}

/// A client of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct TenantClient {}

impl CatalogClient {
    /// A client of the server at `url` (no trailing slash needed).
    pub fn new(_url: &str, _tokens: Arc<dyn TokenSource>) -> Result<Self, ClientError> {
        todo!()
    }

    /// The client of `tenant`; asks the server nothing.
    #[must_use]
    pub fn tenant(&self, _tenant: &str) -> TenantClient {
        todo!()
    }

    /// All tenants the token reaches: `GET /v1/tenants`.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        todo!()
    }

    /// Creates a tenant, or answers it if it exists.
    pub async fn create_tenant(&self, _request: &TenantCreate) -> Result<Tenant, ClientError> {
        todo!()
    }
}

/// References (`reference` below) are a branch's or tag's name, or any of Nessie's reference syntax (`dev@hash`, `dev*instant`, `dev~2`).
impl TenantClient {
    /// The tenant's name.
    #[must_use]
    pub fn name(&self) -> &str {
        todo!()
    }

    /// The server's URL, without trailing slash.
    #[must_use]
    pub fn server_url(&self) -> &str {
        todo!()
    }

    // --- Iceberg REST ---

    /// Namespaces below `parent` (all of the first level if empty), all pages.
    pub async fn list_namespaces(&self, _reference: &str, _parent: &[String]) -> Result<Vec<Vec<String>>, ClientError> {
        todo!()
    }

    /// Creates a namespace; one that exists is no error.
    pub async fn ensure_namespace(&self, _reference: &str, _namespace: &[String]) -> Result<(), ClientError> {
        todo!()
    }

    /// Tables of a namespace, all pages.
    pub async fn list_tables(&self, _reference: &str, _namespace: &[String]) -> Result<Vec<TableIdent>, ClientError> {
        todo!()
    }

    /// Loads a table.
    pub async fn load_table(&self, _reference: &str, _table: &TableIdent) -> Result<LoadTableResult, ClientError> {
        todo!()
    }

    /// Creates a table; one that exists is a conflict.
    pub async fn create_table(&self, _reference: &str, _namespace: &[String], _request: &CreateTableRequest) -> Result<LoadTableResult, ClientError> {
        todo!()
    }

    /// Commits to one table. Give the same `idempotency_key` (a UUID) when trying again after an unknown outcome.
    pub async fn commit_table(&self, _reference: &str, _table: &TableIdent, _change: &TableChange, _idempotency_key: &str) -> Result<LoadTableResult, ClientError> {
        todo!()
    }

    /// Commits to several tables at once, all or none.
    pub async fn commit_transaction(&self, _reference: &str, _request: &CommitTransactionRequest, _idempotency_key: &str) -> Result<(), ClientError> {
        todo!()
    }

    /// Drops a table, keeping its files.
    pub async fn drop_table(&self, _reference: &str, _table: &TableIdent) -> Result<(), ClientError> {
        todo!()
    }

    // --- Nessie REST v2 ---

    /// All references.
    pub async fn references(&self) -> Result<Vec<Reference>, ClientError> {
        todo!()
    }

    /// One reference.
    pub async fn reference(&self, _reference: &str) -> Result<Reference, ClientError> {
        todo!()
    }

    /// Creates a branch at `from` (a reference).
    pub async fn create_branch(&self, _name: &str, _from: &str) -> Result<Reference, ClientError> {
        todo!()
    }

    /// Creates a tag at `from` (a reference).
    pub async fn create_tag(&self, _name: &str, _from: &str) -> Result<Reference, ClientError> {
        todo!()
    }

    /// Deletes a branch or tag, whatever its head.
    pub async fn delete_reference(&self, _name: &str) -> Result<(), ClientError> {
        todo!()
    }

    /// The newest `limit` commits of a reference, with operations if `with_operations`.
    pub async fn log(&self, _reference: &str, _limit: usize, _with_operations: bool) -> Result<Vec<LogEntry>, ClientError> {
        todo!()
    }

    /// All keys of a state whose key starts with `prefix`, with content if `with_content`, all pages.
    pub async fn entries(&self, _reference: &str, _prefix: Option<&ContentKey>, _with_content: bool) -> Result<Vec<Entry>, ClientError> {
        todo!()
    }

    /// What differs between two references, all pages.
    pub async fn diff(&self, _from: &str, _to: &str) -> Result<Vec<DiffEntry>, ClientError> {
        todo!()
    }

    /// Merges into `target`. A conflict is `ClientErrorKind::Conflict` whose message names the keys.
    pub async fn merge(&self, _target: &str, _request: &MergeRequest) -> Result<MergeResponse, ClientError> {
        todo!()
    }

    // --- Firn ---

    /// Acquires or renews a lease; one held by another is a conflict.
    pub async fn lease(&self, _name: &str, _request: &LeaseRequest) -> Result<Lease, ClientError> {
        todo!()
    }

    /// Gives a lease back.
    pub async fn release_lease(&self, _name: &str, _holder: &str) -> Result<(), ClientError> {
        todo!()
    }
}
