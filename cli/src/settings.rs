//! The configuration: `firn.toml` and `FIRN_SECTION__KEY`, resolved once. docs/CONFIGURATION.md lists the same keys.

mod ballista;
mod secret_url;
mod sections;
mod stream;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use firn_auth::{Issuer, IssuerConfig};
use firn_catalog::{CatalogConfig, DelegationConfig, ProvisioningConfig};
use firn_runtime::{
    config::{self, SecretRef, SecretRefError},
    reload::Live,
    telemetry::{LogConfig, TraceConfig},
    tls::TlsConfig,
};
use firn_stream::Security;
use firn_table::StorageConfig;
use serde::Deserialize;
use url::Url;

use crate::{data_dir::DataDir, failure::usage, server::Service};
pub(crate) use secret_url::SecretUrl;
use sections::{
    AlertsSection, AuthSection, CatalogSection, ErasureSection, IngestSection, MaintenanceSection,
    PromotionSection, ProvisioningSection, ServerSection, StorageSection,
};
pub(crate) use stream::Backend;
use stream::StreamSection;

/// What STS allows; sessions of a role that was itself assumed end after an hour.
const MIN_KEY_TTL: Duration = Duration::from_secs(15 * 60);
const MAX_KEY_TTL: Duration = Duration::from_secs(12 * 3_600);

/// All sections.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) server: ServerSection,
    pub(crate) tls: TlsConfig,
    pub(crate) auth: AuthSection,
    pub(crate) catalog: CatalogSection,
    pub(crate) storage: StorageSection,
    pub(crate) provisioning: ProvisioningSection,
    pub(crate) stream: StreamSection,
    pub(crate) ingest: IngestSection,
    pub(crate) promotion: PromotionSection,
    pub(crate) maintenance: MaintenanceSection,
    pub(crate) erasure: ErasureSection,
    pub(crate) alerts: AlertsSection,
    pub(crate) log: LogConfig,
    pub(crate) trace: TraceConfig,
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

    /// The issuers that are trusted beside the built-in one.
    pub(crate) fn issuers(&self) -> Result<Vec<Issuer>> {
        let issuers = self.auth.issuers.iter().map(|section| {
            let key_set = section.key_set.as_ref().map(SecretRef::resolve).transpose();
            let key_set = key_set.map_err(|error| usage(format!("auth.issuers.key_set: {error}")))?;
            let config = IssuerConfig {
                name: section.name.clone(),
                issuer: section.issuer.clone(),
                audience: section.audience.clone(),
                key_set,
                tenants_claim: section.tenants_claim.clone(),
                operators: section.operators.clone(),
                refresh: section.refresh,
                refetch: section.refetch,
            };
            Issuer::new(config).map_err(|error| usage(format!("auth.issuers: {error}")))
        });
        let issuers: Vec<Issuer> = issuers.collect::<Result<_>>()?;
        let names = self.auth.issuers.iter().map(|section| &section.name);
        if names.collect::<std::collections::BTreeSet<_>>().len() < issuers.len() {
            return Err(usage(
                "auth.issuers: each needs a name of its own, since it begins its principals' names",
            ));
        }
        Ok(issuers)
    }

    /// The webhook's URL, out of what refers to it.
    pub(crate) fn webhook_url(&self) -> Result<Option<Url>> {
        let url = self.alerts.webhook_url.as_ref().map(SecretRef::resolve);
        url.map(|url| secret_url("alerts.webhook_url", url)).transpose()
    }

    /// Elasticsearch's URL, with user and password.
    pub(crate) fn elasticsearch_url(&self) -> Result<Option<Url>> {
        let url = self.alerts.elasticsearch_url.as_ref().map(SecretUrl::resolve);
        url.map(|url| secret_url("alerts.elasticsearch_url", url)).transpose()
    }

    /// What no type can say.
    fn check(&self) -> Result<()> {
        self.stream.check()?;
        self.maintenance.config()?;
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
        if let Some(url) = self.catalog.database_url.as_ref().and_then(SecretUrl::plain)
            && !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err(usage("catalog.database_url: expected sqlite:PATH or postgres://…"));
        }
        if let Some(url) = self.alerts.elasticsearch_url.as_ref().and_then(SecretUrl::plain) {
            secret_url("alerts.elasticsearch_url", Ok(url.to_owned()))?;
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
        let Ok(url) = self.database_url(dir) else { return "the configured URL".to_owned() };
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
    pub(crate) fn database_url(&self, dir: &DataDir) -> Result<String> {
        match &self.catalog.database_url {
            Some(url) => url.resolve().map_err(|error| usage(format!("catalog.database_url: {error}"))),
            None => Ok(format!("sqlite:{}", dir.catalog_file().display())),
        }
    }

    /// How Kafka's brokers are reached, to be replaced when the files change.
    pub(crate) fn kafka_security(&self) -> Result<Security> {
        self.stream.security(self.tls.ca.as_ref())
    }

    /// What that is read from.
    pub(crate) fn kafka_references(&self) -> Vec<Option<&SecretRef>> {
        self.stream.references(self.tls.ca.as_ref())
    }

    /// The process's own keys to S3, to be replaced when their files change.
    pub(crate) fn storage_keys(&self) -> Result<Option<Live<(String, String)>>> {
        Ok(self.storage_config()?.credentials.map(Live::new))
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
        keys: Option<Live<(String, String)>>,
    ) -> Result<CatalogConfig> {
        let storage = &self.storage;
        Ok(CatalogConfig {
            database_url: self.database_url(dir)?,
            warehouse: self.warehouse(dir),
            s3: firn_catalog::S3Config {
                endpoint: storage.endpoint.clone(),
                region: storage.region.clone(),
                path_style: storage.path_style,
                credentials: keys,
                delegation: self.delegation_config(),
                provisioning: ProvisioningConfig {
                    vpc_endpoint_ids: self.provisioning.vpc_endpoint_ids.clone(),
                    vpc_ids: self.provisioning.vpc_ids.clone(),
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

/// The URL isn't shown: it is a secret.
fn secret_url(key: &str, text: Result<String, SecretRefError>) -> Result<Url> {
    let text = text.map_err(|error| usage(format!("{key}: {error}")))?;
    Url::parse(text.trim()).map_err(|error| usage(format!("{key} is no URL: {error}")))
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

    fn write(file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
    }

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
        assert_eq!(settings.database_url(&dir).unwrap(), "sqlite:/d/catalog.sqlite");
        assert_eq!(settings.server.listen, "127.0.0.1:8181");
    }

    #[test]
    fn settings_of_the_compose_file_are_understood() {
        let settings = load(include_str!("../../deploy/compose/firn.toml")).unwrap();
        assert_eq!(settings.stream.bootstrap_servers.as_deref(), Some("kafka:9092"));
    }

    #[test]
    fn issuers_are_read_and_those_that_can_not_be_trusted_are_refused() {
        let one = "[[auth.issuers]]\nname = 'corp'\nissuer = 'https://id.example.org'\n";
        let settings = load(&format!("{one}operators = ['root']\nrefresh = '1m'\n")).unwrap();
        assert_eq!(settings.issuers().unwrap().len(), 1);
        assert_eq!(
            (settings.auth.issuers[0].audience.as_str(), settings.auth.issuers[0].refresh.as_secs()),
            ("firn", 60)
        );
        for (text, want) in [
            (one.replace("https", "http"), "must be https"),
            (one.replace("corp", "service"), "isn't 'service'"),
            (format!("{one}{one}"), "a name of its own"),
            (format!("{one}key_set = 'env:FIRN_TEST_NOT_SET'\n"), "FIRN_TEST_NOT_SET is not set"),
        ] {
            let error = load(&text).unwrap().issuers().err().unwrap();
            assert!(error.is::<crate::failure::UsageError>() && error.to_string().contains(want), "{error}");
        }
        assert!(load("[[auth.issuers]]\nname = 'corp'\n").unwrap_err().contains("issuer"));
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
    fn urls_with_passwords_may_be_references() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        write(&file, "postgres://u:hunter2@db.example/firn\n");
        let reference = |key: &str| format!("{key} = 'file:{}'", file.display());
        let settings = load(&reference("catalog.database_url")).unwrap();
        let dir = DataDir::new(Path::new("/d"));
        assert_eq!(settings.database_url(&dir).unwrap(), "postgres://u:hunter2@db.example/firn");
        assert_eq!(settings.database_place(&dir), "db.example:5432");
        write(&file, "https://u:hunter2@search.example\n");
        let settings = load(&reference("alerts.elasticsearch_url")).unwrap();
        assert_eq!(settings.elasticsearch_url().unwrap().unwrap().host_str(), Some("search.example"));
        write(&file, "hunter2");
        let error = settings.elasticsearch_url().unwrap_err().to_string();
        assert!(error.starts_with("alerts.elasticsearch_url") && !error.contains("hunter2"), "{error}");
        let error =
            load("catalog.database_url = 'env:FIRN_TEST_NOT_SET'").unwrap().database_url(&dir).unwrap_err();
        assert!(
            error.to_string().contains("catalog.database_url: the variable FIRN_TEST_NOT_SET"),
            "{error}"
        );
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
            ("stream.sasl.mechanisms = 'PLAIN'", "did you mean 'mechanism'?"),
            ("storage.access_key_id = 'env:X'", "secret_access_key"),
            ("storage.secret_access_key = 'hunter2'", "not the secret itself"),
            ("catalog.database_url = 'mysql://x'", "catalog.database_url"),
            ("alerts.elasticsearch_url = 'hunter2'", "alerts.elasticsearch_url"),
            ("tls.key = 'hunter2'", "tls.key"),
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
