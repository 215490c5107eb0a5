//! Secrets that are taken anew when their files change.
//!
//! Whoever uses one asks for it each time, or is told that it changed. What can't be read leaves everything as it is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use firn_runtime::{
    config::SecretRef,
    reload::{Live, Watch},
    with_causes,
};
use firn_stream::Security;
use url::Url;

use super::Server;
use crate::settings::{SecretUrl, Settings};

/// Those that the process's parts share.
#[derive(Clone, Debug)]
pub(super) struct Secrets {
    /// Access key id and secret.
    pub(super) storage_keys: Option<Live<(String, String)>>,
    pub(super) elasticsearch_url: Option<Live<Url>>,
    pub(super) webhook_url: Option<Live<Url>>,
    /// Certificates, passwords and tokens for Kafka's brokers.
    pub(super) kafka: Live<Security>,
}

impl Secrets {
    pub(super) fn of(settings: &Settings) -> Result<Self> {
        Ok(Self {
            storage_keys: settings.storage_keys()?,
            elasticsearch_url: settings.elasticsearch_url()?.map(Live::new),
            webhook_url: settings.webhook_url()?.map(Live::new),
            kafka: Live::new(settings.kafka_security()?),
        })
    }
}

type Reload = Box<dyn FnMut(&Server) -> Result<()> + Send>;

/// Looks after all that are in files, the signing key and the database's URL among them.
pub(super) fn watch(server: &Server) -> Watch {
    let mut watch = Watch::default();
    let settings = &server.settings;
    let mut add = |name: &'static str, references: &[Option<&SecretRef>], mut reload: Reload| {
        let files = files(references);
        let server = server.clone();
        watch.add(name, files, move || reload(&server).map_err(|error| with_causes(error.as_ref())));
    };
    let own_key = SecretRef::File(server.dir.signing_key_file());
    let signing_key = settings.auth.signing_key.clone().unwrap_or(own_key);
    add(
        "auth.signing_key",
        &[Some(&signing_key.clone())],
        Box::new(move |server| Ok(server.key.reload(&signing_key.resolve()?)?)),
    );
    add(
        "storage.access_key_id, storage.secret_access_key",
        &[settings.storage.access_key_id.as_ref(), settings.storage.secret_access_key.as_ref()],
        Box::new(|server| set(&server.secrets.storage_keys, server.settings.storage_config()?.credentials)),
    );
    add(
        "alerts.elasticsearch_url",
        // Its client keeps the authorities that it was made with: what is set again makes another one.
        &[
            settings.alerts.elasticsearch_url.as_ref().and_then(SecretUrl::reference),
            settings.tls.ca.as_ref(),
        ],
        Box::new(|server| {
            server.tls.reload()?;
            set(&server.secrets.elasticsearch_url, server.settings.elasticsearch_url()?)
        }),
    );
    add(
        "alerts.webhook_url",
        &[settings.alerts.webhook_url.as_ref()],
        Box::new(|server| set(&server.secrets.webhook_url, server.settings.webhook_url()?)),
    );
    if server.log.is_some() {
        add(
            "stream",
            &settings.kafka_references(),
            Box::new(|server| {
                server.secrets.kafka.set(server.settings.kafka_security()?);
                Ok(())
            }),
        );
    }
    for issuer in &settings.auth.issuers {
        let (name, key_set) = (issuer.name.clone(), issuer.key_set.clone());
        add(
            "auth.issuers.key_set",
            &[issuer.key_set.as_ref()],
            Box::new(move |server| match &key_set {
                Some(key_set) => Ok(server.guard.verifier().set_keys(&name, &key_set.resolve()?)?),
                None => Ok(()),
            }),
        );
    }
    if server.catalog.is_some() {
        add(
            "catalog.database_url",
            &[settings.catalog.database_url.as_ref().and_then(SecretUrl::reference)],
            Box::new(|server| {
                let catalog = server.catalog.as_ref().context("the catalog runs elsewhere")?;
                Ok(catalog.reconnect(&server.settings.database_url(&server.dir)?)?)
            }),
        );
    }
    watch
}

fn set<T>(live: &Option<Live<T>>, value: Option<T>) -> Result<()> {
    if let (Some(live), Some(value)) = (live, value) {
        live.set(value);
    }
    Ok(())
}

fn files(references: &[Option<&SecretRef>]) -> Vec<PathBuf> {
    references.iter().flatten().filter_map(|reference| reference.file()).map(Into::into).collect()
}
