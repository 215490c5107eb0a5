//! Settings of the catalog, already resolved.

use std::{collections::BTreeMap, time::Duration};

use firn_auth::SigningKey;
use firn_runtime::reload::Live;

/// Settings of the catalog.
#[derive(Clone)]
pub struct CatalogConfig {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// Root of all tenants' tables: `file:///…` or `s3://bucket/prefix`. With `{tenant}` in the bucket's name, each tenant
    /// has a bucket of its own.
    pub warehouse: String,
    /// S3 endpoint, region, path style, credentials.
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
    /// Access key id and secret, as they are at the time; from the environment if absent.
    pub credentials: Option<Live<(String, String)>>,
    /// What clients are given to reach their tables' files.
    pub delegation: DelegationConfig,
    /// What tenants' buckets are to be like.
    pub provisioning: ProvisioningConfig,
}

/// What tenants' buckets are to be like, beside what is the same for all.
#[derive(Clone, Debug, Default)]
pub struct ProvisioningConfig {
    /// VPC endpoints through which alone the data is reached; empty: any way.
    pub vpc_endpoint_ids: Vec<String>,
    /// VPCs from which alone the data is reached, through whichever endpoint; empty: from anywhere.
    pub vpc_ids: Vec<String>,
    /// Whether requests that don't come over TLS are refused; if nobody says, unless the endpoint itself is plain HTTP.
    pub require_tls: Option<bool>,
    /// Role that Firn's own services run as. With a role for clients, these two alone reach the data.
    pub service_role_arn: Option<String>,
    /// More tags of each bucket.
    pub tags: BTreeMap<String, String>,
}

/// What clients are given to reach a table's files.
#[derive(Clone, Debug)]
pub struct DelegationConfig {
    /// Role whose temporary keys clients get, cut down to one table; `{tenant}` stands for the tenant's name. Without one,
    /// nothing is vended.
    pub role_arn: Option<String>,
    /// Endpoint of STS; if absent, the endpoint of S3, or AWS's own in the region.
    pub sts_endpoint: Option<String>,
    /// How long vended keys are valid: 15 minutes to 12 hours.
    pub key_ttl: Duration,
    /// Key that the buckets are encrypted with, which vended keys must be able to use.
    pub kms_key_arn: Option<String>,
    /// Sign single requests for clients that ask for it. If nobody says: with a role, whose keys then sign, or on AWS, which
    /// refuses what was added to a request after it was signed. Not every server does.
    pub remote_signing: Option<bool>,
    /// Without a role, give clients that ask for vended keys the catalog's own: whoever reads one table then reaches all.
    pub static_keys: bool,
}

impl Default for DelegationConfig {
    fn default() -> Self {
        Self {
            role_arn: None,
            sts_endpoint: None,
            key_ttl: Duration::from_secs(3600),
            kms_key_arn: None,
            remote_signing: None,
            static_keys: false,
        }
    }
}
