//! The sections of the configuration, with their defaults.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use anyhow::Result;
use firn_alerts::WebhookFormat;
use firn_catalog::DelegationConfig;
use firn_compactor::{CompactorConfig, ErasureConfig, MaintenanceConfig};
use firn_runtime::config::SecretRef;
use serde::Deserialize;

use super::{SecretUrl, ballista::BallistaSection};
use crate::duration;

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
    /// Other issuers that are trusted.
    pub(crate) issuers: Vec<IssuerSection>,
}

/// `[[auth.issuers]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerSection {
    /// Prefix of its principals' names.
    pub(crate) name: String,
    /// Its `iss`, below which its discovery document lies.
    pub(crate) issuer: String,
    /// The `aud` of its tokens.
    #[serde(default = "audience")]
    pub(crate) audience: String,
    /// A JSON Web Key Set instead of discovery.
    pub(crate) key_set: Option<SecretRef>,
    /// The claim that holds roles by tenant.
    #[serde(default = "tenants_claim")]
    pub(crate) tenants_claim: String,
    /// Subjects that are operators.
    #[serde(default)]
    pub(crate) operators: Vec<String>,
    /// How old keys may get before they are fetched anew.
    #[serde(default = "refresh", deserialize_with = "duration::deserialize")]
    pub(crate) refresh: Duration,
    /// At least this long between two fetches.
    #[serde(default = "refetch", deserialize_with = "duration::deserialize")]
    pub(crate) refetch: Duration,
}

fn audience() -> String {
    "firn".to_owned()
}

fn tenants_claim() -> String {
    "firn_tenants".to_owned()
}

fn refresh() -> Duration {
    Duration::from_secs(300)
}

fn refetch() -> Duration {
    Duration::from_secs(10)
}

/// `[catalog]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CatalogSection {
    /// `sqlite:PATH`, `postgres://…`, or a reference to it.
    pub(crate) database_url: Option<SecretUrl>,
    /// Memory for immutable objects and metadata documents, bytes.
    pub(crate) cache_bytes: u64,
    /// Where services of other processes reach the catalog.
    pub(crate) url: Option<String>,
    /// Topic that what happens in tenants' catalogs is published to; none if absent.
    pub(crate) events_topic: Option<String>,
}

impl Default for CatalogSection {
    fn default() -> Self {
        Self { database_url: None, cache_bytes: 32 << 20, url: None, events_topic: None }
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
    /// VPCs from which alone data is reached.
    pub(crate) vpc_ids: Vec<String>,
    /// Refuse requests that don't come over TLS.
    pub(crate) require_tls: Option<bool>,
    /// Role that the server runs as.
    pub(crate) service_role_arn: Option<String>,
    /// More tags of each bucket.
    pub(crate) tags: BTreeMap<String, String>,
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
    /// Fixed name of this worker in its group.
    pub(crate) instance: Option<String>,
}

impl Default for IngestSection {
    fn default() -> Self {
        Self { commit_interval: Duration::from_secs(5), commit_bytes: 128 << 20, url: None, instance: None }
    }
}

/// `[promotion]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PromotionSection {
    /// At least this long between two runs of a tenant.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) interval: Duration,
    /// Models of a run at work at the same time.
    pub(crate) parallel_models: usize,
    /// Memory for all queries together, bytes; what does not fit spills to disk.
    pub(crate) memory_bytes: usize,
    /// Most bytes of spilled data.
    pub(crate) spill_bytes: u64,
    /// Where a gateway of its own reaches the compactor.
    pub(crate) url: Option<String>,
}

impl Default for PromotionSection {
    fn default() -> Self {
        let CompactorConfig { interval, parallel_models, memory_bytes, spill_bytes, .. } =
            CompactorConfig::default();
        Self { interval, parallel_models, memory_bytes, spill_bytes, url: None }
    }
}

/// `[maintenance]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MaintenanceSection {
    /// How often a tenant's tables are looked at.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) interval: Duration,
    /// Age after which a snapshot may go from a table's log.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) snapshot_age: Duration,
    /// Snapshots that stay whatever their age.
    pub(crate) min_snapshots: usize,
    /// Rewrites at work at the same time.
    pub(crate) parallel_rewrites: usize,
    /// Bytes a second that they read and write; as fast as it goes if absent.
    pub(crate) max_bytes_per_s: Option<NonZeroU64>,
    /// How long rewrites of one tenant begin before all else has its turn again.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) time_slice: Duration,
    /// The cluster where rewrites are sorted that are too large for one machine.
    pub(crate) ballista: Option<BallistaSection>,
    /// Rewrites wait while ingest is further behind than this.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) pause_behind: Duration,
    /// Longest time that they wait.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) longest_pause: Duration,
    /// Whether what no reference needs is removed by schedule.
    pub(crate) remove_orphans: bool,
    /// How long after one removal the next one is due.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) orphan_interval: Duration,
    /// What is younger is not looked at.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) orphan_age: Duration,
}

impl Default for MaintenanceSection {
    fn default() -> Self {
        let MaintenanceConfig {
            interval,
            snapshot_age,
            min_snapshots,
            parallel_rewrites,
            max_bytes_per_s,
            time_slice,
            pause_behind,
            longest_pause,
            remove_orphans,
            orphan_interval,
            orphan_age,
            ..
        } = MaintenanceConfig::default();
        Self {
            interval,
            snapshot_age,
            min_snapshots,
            parallel_rewrites,
            max_bytes_per_s,
            time_slice,
            ballista: None,
            pause_behind,
            longest_pause,
            remove_orphans,
            orphan_interval,
            orphan_age,
        }
    }
}

impl MaintenanceSection {
    /// With the defaults of what isn't configured here.
    pub(crate) fn config(&self) -> Result<MaintenanceConfig> {
        Ok(MaintenanceConfig {
            interval: self.interval,
            snapshot_age: self.snapshot_age,
            min_snapshots: self.min_snapshots,
            parallel_rewrites: self.parallel_rewrites,
            max_bytes_per_s: self.max_bytes_per_s,
            time_slice: self.time_slice,
            cluster: self.ballista.as_ref().map(BallistaSection::cluster).transpose()?,
            pause_behind: self.pause_behind,
            longest_pause: self.longest_pause,
            remove_orphans: self.remove_orphans,
            orphan_interval: self.orphan_interval,
            orphan_age: self.orphan_age,
            ..MaintenanceConfig::default()
        })
    }
}

/// `[erasure]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ErasureSection {
    /// How long after a subject was listed records of it may still come into the tables.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) settle: Duration,
    /// How often it is looked whether files that erasures removed are there again.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) recheck: Duration,
}

impl Default for ErasureSection {
    fn default() -> Self {
        let ErasureConfig { settle, recheck, .. } = ErasureConfig::default();
        Self { settle, recheck }
    }
}

/// `[alerts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertsSection {
    /// A computer that is silent for so long is retired.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) retire_after: Duration,
    /// Elasticsearch or OpenSearch, or a reference to its URL; no sink if absent.
    pub(crate) elasticsearch_url: Option<SecretUrl>,
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
