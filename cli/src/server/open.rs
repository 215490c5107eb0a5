//! Opening what a process needs: database, log, storage, catalog. What is away is waited for, and `/health/ready` names it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use firn_auth::Guard;
use firn_catalog::Catalog;
use firn_catalog_client::{CatalogClient, TenantCreate};
use firn_runtime::{StatusBoard, health::Readiness, metrics::Metrics, retry::Backoff, tls};
use firn_stream::{EmbeddedConfig, EmbeddedLog, KafkaConfig, KafkaLog, Log};
use firn_table::{FileIo, StorageConfig};
use tokio_util::sync::CancellationToken;

use super::{Plan, Server, Service, listen, policies::RemotePolicies, secrets::Secrets};
use crate::{
    connection::{MintedTokens, unanswered},
    console::OneTimeCodes,
    settings::{Backend, Settings},
};

/// The tenant that holds what belongs to no other, such as records of unknown tenants.
const BUILT_IN_TENANT: &str = "firn";
/// How long object store and catalog may take to answer; the clients of database and broker have deadlines of their own.
const ANSWER: Duration = Duration::from_secs(20);
/// Never gives up: who waits costs nothing, and who ends in a loop hides the reason.
const ATTEMPTS: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(10), attempts: u32::MAX };

/// Opens all that the plan's services need.
pub(super) async fn server(
    plan: Plan,
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    signal: &CancellationToken,
) -> Result<Server> {
    let Plan { services, settings, tls, dir, key, patient } = plan;
    let own_url = listen::url_of(address, tls.serves());
    let public_url = settings.server.public_url.clone().unwrap_or_else(|| own_url.clone());
    let verifier = key.verifier_with(settings.issuers()?);
    let secrets = Secrets::of(&settings)?;
    let wait = Waiting { readiness: &readiness, signal, patient };
    let needed = |need: fn(Service) -> bool| services.iter().copied().any(need);

    let catalog = if services.contains(&Service::Catalog) {
        let config = settings.catalog_config(&dir, key.clone(), &public_url, secrets.storage_keys.clone())?;
        let place = settings.database_place(&dir);
        let open = async || {
            let opened = Catalog::open_for(config.clone(), verifier.clone()).await;
            opened.context("can't open the catalog")
        };
        let catalog = wait.until(&format!("the catalog's database at {place}"), open).await?;
        create_tenant(&catalog, BUILT_IN_TENANT).await?;
        for (tenant, erasures) in catalog.recover_erasures().await.context("can't look for erasures")? {
            tracing::warn!(%tenant, erasures, "erasures that the database had forgotten are in force again");
        }
        Some(catalog)
    } else {
        None
    };
    let log = if needed(Service::needs_log) {
        let open = async || open_log(&settings, &secrets, &dir).await;
        Some(wait.until(&log_place(&settings), open).await?)
    } else {
        None
    };
    let storage = StorageConfig { credentials: None, ..settings.storage_config()? };
    let file_io = FileIo::new(storage).with_keys(secrets.storage_keys.clone());
    let warehouse = settings.warehouse(&dir);
    // Buckets of tenants are made while the server runs, so there is none that must be there.
    let shared_bucket = warehouse.starts_with("s3://") && !warehouse.contains("{tenant}");
    if needed(Service::needs_storage) && shared_bucket {
        let list = async || {
            let listed = tokio::time::timeout(ANSWER, file_io.list(&format!("{warehouse}/.firn"))).await;
            let listed = listed.with_context(|| format!("no answer within {} s", ANSWER.as_secs()))?;
            listed.map(drop).context("check [storage] and the bucket's policy")
        };
        wait.until(&format!("the object store at {warehouse}"), list).await?;
    }
    let catalog_url = match (&catalog, &settings.catalog.url) {
        (None, Some(url)) => url.trim_end_matches('/').to_owned(),
        _ => own_url.clone(),
    };
    let guard = match &catalog {
        Some(catalog) => catalog.guard(),
        None => {
            let tokens = Arc::new(MintedTokens::service(key.clone(), "access"));
            Guard::new(verifier, RemotePolicies::of(CatalogClient::new(&catalog_url, tokens)?))
        }
    };
    if catalog.is_none() && needed(Service::needs_catalog) {
        let ask = async || catalog_ready(&catalog_url).await;
        wait.until(&format!("the catalog at {catalog_url}"), ask).await?;
    }
    Ok(Server {
        services,
        settings: Arc::new(settings),
        catalog,
        log,
        file_io,
        key,
        guard,
        board: StatusBoard::default(),
        readiness,
        metrics,
        tls,
        secrets,
        dir,
        codes: OneTimeCodes::default(),
        own_url,
        public_url,
        catalog_url,
        draining: CancellationToken::new(),
    })
}

/// Creates a tenant if there is none of the name.
pub(crate) async fn create_tenant(catalog: &Catalog, name: &str) -> Result<()> {
    let request = TenantCreate { name: name.to_owned(), ..TenantCreate::default() };
    catalog.ensure_tenant(&request).await.with_context(|| format!("can't create the tenant '{name}'"))?;
    Ok(())
}

/// Waits for one thing after the other.
pub(crate) struct Waiting<'a> {
    pub(crate) readiness: &'a Readiness,
    pub(crate) signal: &'a CancellationToken,
    pub(crate) patient: bool,
}

impl Waiting<'_> {
    /// Tries until `open` succeeds; `what` and the reason are what the process waits for meanwhile.
    pub(crate) async fn until<T>(&self, what: &str, mut open: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        self.readiness.set_waiting(what);
        let mut failures = 0;
        loop {
            let error = match self.signal.run_until_cancelled(open()).await {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(error)) if !self.patient => return Err(error),
                Some(Err(error)) => error,
                None => break,
            };
            failures += 1;
            let delay = ATTEMPTS.delay(failures);
            let reason = format!("{error:#}");
            tracing::warn!(what, reason, ?delay, "not there; trying again");
            self.readiness.set_waiting(&format!("{what}: {reason}"));
            if self.signal.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                break;
            }
        }
        bail!("stopped while waiting for {what}")
    }
}

fn log_place(settings: &Settings) -> String {
    match &settings.stream.bootstrap_servers {
        Some(servers) if settings.stream.backend == Backend::Kafka => format!("Kafka at {servers}"),
        _ => "the log".to_owned(),
    }
}

/// The log, with the topic that uploads go to: the gateway may be asked before a worker has begun.
async fn open_log(
    settings: &Settings,
    secrets: &Secrets,
    dir: &crate::data_dir::DataDir,
) -> Result<Arc<dyn Log>> {
    let stream = &settings.stream;
    let log: Arc<dyn Log> = match (stream.backend, &stream.bootstrap_servers) {
        (Backend::Kafka, Some(servers)) => {
            let config = KafkaConfig {
                bootstrap_servers: servers.clone(),
                replication: stream.replication,
                compression: stream.compression,
                security: secrets.kafka.clone(),
            };
            KafkaLog::connect(config).await.context("can't open the log")?
        }
        _ => {
            let config = EmbeddedConfig {
                path: dir.log_file(),
                retention_s: stream.retention.as_secs(),
                max_bytes: stream.max_bytes,
            };
            tokio::task::spawn_blocking(|| EmbeddedLog::open(config)).await?.context("can't open the log")?
        }
    };
    let topic = firn_ingest::ensure_inventory_topic(log.as_ref()).await;
    topic.context("can't create the topic of inventories")?;
    Ok(log)
}

async fn catalog_ready(url: &str) -> Result<()> {
    let client = tls::inside().timeout(ANSWER).build()?;
    let answer = client.get(format!("{url}/health/ready")).send().await;
    let answer = answer.map_err(|error| unanswered(url, error))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    ensure!(status.is_success(), "not ready: {body}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_is_away_is_waited_for_and_named() {
        let (readiness, signal) = (Readiness::waiting_for("x"), CancellationToken::new());
        let wait = Waiting { readiness: &readiness, signal: &signal, patient: true };
        let mut tries = 0;
        let opened = wait.until("the broker at b:9092", async || {
            tries += 1;
            match tries {
                1 => bail!("connection refused"),
                _ => {
                    assert_eq!(
                        readiness.reason().as_deref(),
                        Some("the broker at b:9092: connection refused")
                    );
                    Ok(7)
                }
            }
        });
        assert_eq!(opened.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn who_is_not_patient_ends_with_the_reason_and_a_signal_ends_any_wait() {
        let (readiness, signal) = (Readiness::waiting_for("x"), CancellationToken::new());
        let away = async || -> Result<()> { bail!("connection refused") };
        let hasty = Waiting { readiness: &readiness, signal: &signal, patient: false };
        let error = format!("{:#}", hasty.until("the broker", away).await.unwrap_err());
        assert_eq!(error, "connection refused");
        signal.cancel();
        let patient = Waiting { patient: true, ..hasty };
        let error = patient.until("the broker", away).await.unwrap_err().to_string();
        assert_eq!(error, "stopped while waiting for the broker");
    }
}
