//! Settings of the catalog, already resolved.

use firn_auth::SigningKey;

/// Settings of the catalog.
#[derive(Clone)]
pub struct CatalogConfig {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// Root of all tenants' tables: `file:///…` or `s3://bucket/prefix`.
    pub warehouse: String,
    /// S3 endpoint, region, path style; credentials come resolved.
    pub s3: S3Config,
    /// The deployment's region, given to tenants that name none.
    pub region: String,
    /// Bytes of memory for immutable objects and metadata documents.
    pub cache_bytes: u64,
    /// The built-in issuer's key.
    pub signing_key: SigningKey,
    /// Where clients reach this server, for answers that hold URLs.
    pub public_url: String,
}

/// How to reach S3.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// Endpoint, or AWS's own.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Path-style requests.
    pub path_style: bool,
    /// Access key id and secret.
    pub credentials: Option<(String, String)>,
}
