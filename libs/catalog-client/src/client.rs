//! The HTTP client: one type per scope (a server, a tenant), one file per API.

mod firn;
mod iceberg;
mod nessie;
mod path;
mod transport;

use std::sync::Arc;

use crate::ClientError;
use path::Path;
use transport::Transport;

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
pub struct CatalogClient {
    transport: Arc<Transport>,
}

/// A client of one tenant. Cheap to clone.
///
/// References (`reference` below) are a branch's or tag's name, or any of Nessie's reference syntax (`dev@hash`,
/// `dev*instant`, `dev~2`); empty means `main`.
#[derive(Clone)]
pub struct TenantClient {
    transport: Arc<Transport>,
    tenant: Arc<str>,
    asks_for_keys: bool,
}

impl CatalogClient {
    /// A client of the server at `url` (no trailing slash needed).
    pub fn new(url: &str, tokens: Arc<dyn TokenSource>) -> Result<Self, ClientError> {
        Ok(Self { transport: Arc::new(Transport::new(url, tokens)?) })
    }

    /// The client of `tenant`; asks the server nothing.
    #[must_use]
    pub fn tenant(&self, tenant: &str) -> TenantClient {
        let transport = Arc::clone(&self.transport);
        TenantClient { transport, tenant: Arc::from(tenant), asks_for_keys: false }
    }
}

impl TenantClient {
    /// The tenant's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tenant
    }

    /// The same, asking for keys with each table that is loaded: for who has none. They end within hours, so whoever keeps
    /// tables longer brings its own.
    #[must_use]
    pub fn asking_for_keys(self) -> Self {
        Self { asks_for_keys: true, ..self }
    }

    /// The server's URL, without trailing slash.
    #[must_use]
    pub fn server_url(&self) -> &str {
        self.transport.server_url()
    }
}
