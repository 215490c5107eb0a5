//! The configuration: `firn.toml` and `FIRN_SECTION__KEY`, resolved once. docs/CONFIGURATION.md lists the same keys.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use firn_alerts::WebhookFormat;
use firn_catalog::{CatalogConfig, DelegationConfig, ProvisioningConfig};
use firn_runtime::{
    config::{self, SecretRef},
    telemetry::{LogConfig, TraceConfig},
};
use firn_table::StorageConfig;
use serde::{Deserialize, Deserializer, de::Error};
use url::Url;

use crate::{data_dir::DataDir, duration, failure::usage, server::Service};

/// What STS allows; sessions of a role that was itself assumed end after an hour.
const MIN_KEY_TTL: Duration = Duration::from_secs(15 * 60);
const MAX_KEY_TTL: Duration = Duration::from_secs(12 * 3_600);

/// All sections.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) server: ServerSection,
    pub(crate) auth: AuthSection,
    pub(crate) catalog: CatalogSection,
    pub(crate) storage: StorageSection,
    pub(crate) provisioning: ProvisioningSection,
    pub(crate) stream: StreamSection,
    pub(crate) ingest: IngestSection,
    pub(crate) promotion: PromotionSection,
    pub(crate) alerts: AlertsSection,
    pub(crate) log: LogConfig,
    pub(crate) trace: TraceConfig,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    /// HOST:PORT.
    pub(crate) listen: String,
    /// Where clients reach the server, if not at `listen`.
    pub(crate) public_url: Option<String>,
    /// The region that this deployment serves.
    pub(crate) region: String,
    /// How long a drain may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) drain: Duration,
    /// How long requests are still taken after the process said that it stops, so that load balancers can see it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) linger: Duration,
    /// Name of this process among its replicas, the same after a restart.
    pub(crate) instance: String,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8181".into(),
            public_url: None,
            region: "local".into(),
            drain: Duration::from_secs(25),
            linger: Duration::ZERO,
            instance: "0".into(),
        }
    }
}

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSection {
    /// The built-in issuer's Ed25519 key, PKCS#8 PEM.
    pub(crate) signing_key: Option<SecretRef>,
}

/// `[catalog]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CatalogSection {
    /// `sqlite:PATH` or `postgres://…`.
    pub(crate) database_url: Option<String>,
    /// Memory for immutable objects and metadata documents, bytes.
    pub(crate) cache_bytes: u64,
    /// Where services of other processes reach the catalog.
    pub(crate) url: Option<String>,
}

impl Default for CatalogSection {
    fn default() -> Self {
        Self { database_url: None, cache_bytes: 32 << 20, url: None }
    }
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StorageSection {
    /// `file:///…` or `s3://bucket/prefix`; with `{tenant}` in the bucket's name, each tenant has one of its own.
    pub(crate) warehouse: Option<String>,
    /// Endpoint of an S3-compatible server.
    pub(crate) endpoint: Option<String>,
    /// Region of the bucket.
    pub(crate) region: Option<String>,
    /// Path-style requests.
    pub(crate) path_style: bool,
    /// Access key id.
    pub(crate) access_key_id: Option<SecretRef>,
    /// Secret access key.
    pub(crate) secret_access_key: Option<SecretRef>,
    /// Role whose temporary keys clients get.
    pub(crate) role_arn: Option<String>,
    /// Endpoint of STS.
    pub(crate) sts_endpoint: Option<String>,
    /// How long those keys are valid.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) key_ttl: Duration,
    /// Key that the buckets are encrypted with.
    pub(crate) kms_key_arn: Option<String>,
    /// Sign requests for clients that ask for it.
    pub(crate) remote_signing: Option<bool>,
    /// Give clients the server's own keys where there is no role.
    pub(crate) static_keys: bool,
}

impl Default for StorageSection {
    fn default() -> Self {
        let DelegationConfig { role_arn, sts_endpoint, key_ttl, kms_key_arn, remote_signing, static_keys } =
            DelegationConfig::default();
        Self {
            warehouse: None,
            endpoint: None,
            region: None,
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            role_arn,
            sts_endpoint,
            key_ttl,
            kms_key_arn,
            remote_signing,
            static_keys,
        }
    }
}

/// `[provisioning]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProvisioningSection {
    /// VPC endpoints through which alone data is reached.
    pub(crate) vpc_endpoint_ids: Vec<String>,
    /// Refuse requests that don't come over TLS.
    pub(crate) require_tls: Option<bool>,
    /// Role that the server runs as.
    pub(crate) service_role_arn: Option<String>,
    /// More tags of each bucket.
    pub(crate) tags: BTreeMap<String, String>,
}

/// `[stream]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StreamSection {
    /// Which log.
    pub(crate) backend: Backend,
    /// `host:port`, comma-separated.
    pub(crate) bootstrap_servers: Option<String>,
    /// Replication factor of topics that Firn creates.
    pub(crate) replication: i32,
    /// How long the embedded log keeps records.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) retention: Duration,
    /// How large the embedded log may grow, bytes.
    pub(crate) max_bytes: u64,
}

impl Default for StreamSection {
    fn default() -> Self {
        Self {
            backend: Backend::Embedded,
            bootstrap_servers: None,
            replication: 3,
            retention: Duration::from_secs(7 * 86_400),
            max_bytes: 10 << 30,
        }
    }
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// A file of the data directory.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// `[ingest]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IngestSection {
    /// At most this long between two commits of a tenant with input.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) commit_interval: Duration,
    /// A tenant's batch is committed at this size, bytes.
    pub(crate) commit_bytes: u64,
    /// Where a gateway of its own reaches the ingest workers.
    pub(crate) url: Option<String>,
}

impl Default for IngestSection {
    fn default() -> Self {
        Self { commit_interval: Duration::from_secs(5), commit_bytes: 128 << 20, url: None }
    }
}

/// `[promotion]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PromotionSection {
    /// At least this long between two runs of a tenant.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) interval: Duration,
    /// Where a gateway of its own reaches the compactor.
    pub(crate) url: Option<String>,
}

impl Default for PromotionSection {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), url: None }
    }
}

/// `[alerts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertsSection {
    /// A computer that is silent for so long is retired.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) retire_after: Duration,
    /// Elasticsearch or OpenSearch; no sink if absent.
    #[serde(deserialize_with = "url")]
    pub(crate) elasticsearch_url: Option<Url>,
    /// Each transition is posted there; a reference, since such URLs are secrets.
    pub(crate) webhook_url: Option<SecretRef>,
    /// `json` or `slack`.
    pub(crate) webhook_format: WebhookFormat,
    /// Where a gateway of its own reaches the alerts workers: a name with the addresses of all.
    pub(crate) url: Option<String>,
}

impl Default for AlertsSection {
    fn default() -> Self {
        Self {
            retire_after: Duration::from_secs(90 * 24 * 3_600),
            elasticsearch_url: None,
            webhook_url: None,
            webhook_format: WebhookFormat::default(),
            url: None,
        }
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The text isn't shown: it may hold a password.
    Url::parse(&text).map(Some).map_err(|error| D::Error::custom(format!("not a URL: {error}")))
}

impl Settings {
    /// Reads `file` (or `firn.toml` of the data directory, if there is one) and the environment.
    pub(crate) fn load(file: Option<&Path>, dir: &DataDir) -> Result<Self> {
        let default = Some(dir.config_file()).filter(|path| path.exists());
        let file: Option<PathBuf> = file.map(Path::to_owned).or(default);
        let settings: Self = config::load(file.as_deref(), std::env::vars())?;
        settings.check()?;
        Ok(settings)
    }

    /// The webhook's URL, out of what refers to it.
    pub(crate) fn webhook_url(&self) -> Result<Option<Url>> {
        let Some(reference) = &self.alerts.webhook_url else { return Ok(None) };
        let url = reference.resolve().map_err(|error| usage(format!("alerts.webhook_url: {error}")))?;
        // The URL isn't shown: it is a secret.
        let url = Url::parse(url.trim())
            .map_err(|error| usage(format!("alerts.webhook_url is no URL: {error}")))?;
        Ok(Some(url))
    }

    /// What no type can say.
    fn check(&self) -> Result<()> {
        if self.stream.backend == Backend::Kafka && self.stream.bootstrap_servers.is_none() {
            return Err(usage("stream.bootstrap_servers: needed when stream.backend is 'kafka'"));
        }
        if self.storage.access_key_id.is_some() != self.storage.secret_access_key.is_some() {
            return Err(usage("storage: set both access_key_id and secret_access_key, or none"));
        }
        if !(MIN_KEY_TTL..=MAX_KEY_TTL).contains(&self.storage.key_ttl) {
            return Err(usage("storage.key_ttl: STS gives keys for 15m to 12h"));
        }
        if self.storage.role_arn.as_ref().is_some_and(|arn| !arn.starts_with("arn:")) {
            return Err(usage("storage.role_arn: expected arn:aws:iam::ACCOUNT:role/NAME"));
        }
        if self.storage.role_arn.is_some() && self.storage.static_keys {
            return Err(usage(
                "storage: set role_arn or static_keys; with a role, clients get temporary keys",
            ));
        }
        if !(0.0..=1.0).contains(&self.trace.sample) {
            return Err(usage("trace.sample: a share from 0 to 1"));
        }
        if let Some(url) = &self.catalog.database_url
            && !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err(usage("catalog.database_url: expected sqlite:PATH or postgres://…"));
        }
        if let Some(warehouse) = &self.storage.warehouse
            && !["file:/", "s3://"].iter().any(|scheme| warehouse.starts_with(scheme))
        {
            return Err(usage("storage.warehouse: expected file:///… or s3://bucket/prefix"));
        }
        Ok(())
    }

    /// What a service needs that runs by itself: nothing of one machine, since the others would not see it.
    pub(crate) fn check_service(&self, service: Service) -> Result<()> {
        let missing =
            |key: &str, why: &str| usage(format!("{key}: needed by a service that runs by itself: {why}"));
        if self.auth.signing_key.is_none() {
            return Err(missing("auth.signing_key", "all services sign and verify tokens with the same key"));
        }
        if service == Service::Catalog && self.catalog.database_url.is_none() {
            return Err(missing("catalog.database_url", "name the PostgreSQL database, postgres://…"));
        }
        if service != Service::Catalog && self.catalog.url.is_none() {
            return Err(missing("catalog.url", "where the catalog is, such as http://firn-catalog:8181"));
        }
        if service.needs_storage() && self.storage.warehouse.is_none() {
            return Err(missing("storage.warehouse", "where the tables' files are, s3://bucket/prefix"));
        }
        if service.needs_log() && self.stream.backend != Backend::Kafka {
            return Err(missing("stream.backend", "the embedded log belongs to one process; set 'kafka'"));
        }
        Ok(())
    }

    /// Where the database is, as far as it may be shown.
    pub(crate) fn database_place(&self, dir: &DataDir) -> String {
        let url = self.database_url(dir);
        let Some(parsed) = url.starts_with("postgres").then(|| Url::parse(&url).ok()).flatten() else {
            return url.strip_prefix("sqlite:").unwrap_or("the configured URL").to_owned();
        };
        format!("{}:{}", parsed.host_str().unwrap_or("localhost"), parsed.port().unwrap_or(5432))
    }

    /// Root of all tables, without trailing slash.
    pub(crate) fn warehouse(&self, dir: &DataDir) -> String {
        let own = || format!("file://{}", dir.warehouse().display());
        self.storage.warehouse.clone().unwrap_or_else(own).trim_end_matches('/').to_owned()
    }

    /// URL of the catalog's database.
    pub(crate) fn database_url(&self, dir: &DataDir) -> String {
        let own = || format!("sqlite:{}", dir.catalog_file().display());
        self.catalog.database_url.clone().unwrap_or_else(own)
    }

    /// How files are reached, secrets resolved.
    pub(crate) fn storage_config(&self) -> Result<StorageConfig> {
        let resolve = |name: &str, reference: &Option<SecretRef>| -> Result<Option<String>> {
            let secret = reference.as_ref().map(SecretRef::resolve).transpose();
            secret.with_context(|| format!("storage.{name}"))
        };
        let id = resolve("access_key_id", &self.storage.access_key_id)?;
        let secret = resolve("secret_access_key", &self.storage.secret_access_key)?;
        Ok(StorageConfig {
            endpoint: self.storage.endpoint.clone(),
            region: self.storage.region.clone(),
            path_style: self.storage.path_style,
            credentials: id.zip(secret),
        })
    }

    /// Settings of the catalog.
    pub(crate) fn catalog_config(
        &self,
        dir: &DataDir,
        signing_key: firn_auth::SigningKey,
        public_url: &str,
    ) -> Result<CatalogConfig> {
        let storage = self.storage_config()?;
        Ok(CatalogConfig {
            database_url: self.database_url(dir),
            warehouse: self.warehouse(dir),
            s3: firn_catalog::S3Config {
                endpoint: storage.endpoint,
                region: storage.region,
                path_style: storage.path_style,
                credentials: storage.credentials,
                delegation: self.delegation_config(),
                provisioning: ProvisioningConfig {
                    vpc_endpoint_ids: self.provisioning.vpc_endpoint_ids.clone(),
                    require_tls: self.provisioning.require_tls,
                    service_role_arn: self.provisioning.service_role_arn.clone(),
                    tags: self.provisioning.tags.clone(),
                },
            },
            region: self.server.region.clone(),
            cache_bytes: self.catalog.cache_bytes,
            signing_key,
            public_url: public_url.to_owned(),
        })
    }
}

impl Settings {
    /// What clients are given to reach their tables' files.
    fn delegation_config(&self) -> DelegationConfig {
        let storage = &self.storage;
        DelegationConfig {
            role_arn: storage.role_arn.clone(),
            sts_endpoint: storage.sts_endpoint.clone(),
            key_ttl: storage.key_ttl,
            kms_key_arn: storage.kms_key_arn.clone(),
            remote_signing: storage.remote_signing,
            static_keys: storage.static_keys,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("firn.toml"), text).unwrap();
        Settings::load(None, &DataDir::new(folder.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_local_files_below_the_data_directory() {
        let dir = DataDir::new(Path::new("/d"));
        let settings = load("").unwrap();
        assert_eq!(settings.warehouse(&dir), "file:///d/warehouse");
        assert_eq!(settings.database_url(&dir), "sqlite:/d/catalog.sqlite");
        assert_eq!(settings.server.listen, "127.0.0.1:8181");
    }

    #[test]
    fn service_by_itself_says_what_it_lacks() {
        let settings = |text: &str| load(&format!("auth.signing_key = 'env:K'\n{text}")).unwrap();
        let url = "catalog.url = 'http://c'\nstorage.warehouse = 's3://b'\n";
        let lacks = |settings: &Settings, service| settings.check_service(service).unwrap_err().to_string();
        assert!(lacks(&load("").unwrap(), Service::Catalog).starts_with("auth.signing_key"));
        assert!(lacks(&settings(""), Service::Catalog).starts_with("catalog.database_url"));
        assert!(lacks(&settings(""), Service::Gateway).starts_with("catalog.url"));
        assert!(
            lacks(&settings("catalog.url = 'http://c'"), Service::Compactor).starts_with("storage.warehouse")
        );
        assert!(lacks(&settings(url), Service::Ingest).starts_with("stream.backend"));
        settings(url).check_service(Service::Compactor).unwrap();
    }

    #[test]
    fn place_of_the_database_holds_no_password() {
        let place = |url: &str| {
            let settings = load(&format!("catalog.database_url = '{url}'")).unwrap();
            settings.database_place(&DataDir::new(Path::new("/d")))
        };
        assert_eq!(place("postgres://u:hunter2@db.example/firn"), "db.example:5432");
        assert_eq!(place("sqlite:/x/c.sqlite"), "/x/c.sqlite");
    }

    #[test]
    fn contradictions_name_their_keys() {
        for (text, want) in [
            ("stream.backend = 'kafka'", "stream.bootstrap_servers"),
            ("storage.access_key_id = 'env:X'", "secret_access_key"),
            ("storage.secret_access_key = 'hunter2'", "not the secret itself"),
            ("catalog.database_url = 'mysql://x'", "catalog.database_url"),
            ("storage.warehouse = '/tmp/x'", "storage.warehouse"),
            ("storage.key_ttl = '1m'", "storage.key_ttl"),
            ("storage.role_arn = 'firn'", "storage.role_arn"),
            ("[storage]\nrole_arn = 'arn:aws:iam::1:role/x'\nstatic_keys = true", "role_arn or static_keys"),
            ("ingest.commit_interval = '5 years'", "'years' is no unit"),
            ("[alerts]\nelasticsearch_uri = 'x'", "did you mean 'elasticsearch_url'?"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(want) && !error.contains("hunter2"), "{error}");
        }
    }
}
