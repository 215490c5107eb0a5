//! Elasticsearch or OpenSearch.

use std::collections::BTreeMap;

use async_trait::async_trait;
use elasticsearch::{
    Elasticsearch,
    auth::Credentials,
    cert::{Certificate, CertificateValidation},
    http::transport::{SingleNodeConnectionPool, TransportBuilder},
};
use firn_policy::TransitionRecord;
use firn_runtime::tls;
use firn_stream::Record;
use url::Url;

use super::{
    Delivered, Destination, REQUEST_TIMEOUT, RETRIES, SinkError,
    aliases::Aliases,
    bulk::send,
    document::{self, Document},
    erase::erase,
    lifecycle::{self, Abilities, Has},
    outcome::Rejected,
    template,
};
use crate::{AlertsError, host::HostKey};

/// The user's name in a URL whose password is an API key.
const API_KEY: &str = "api-key";
/// A person waits for a reindex: after so many tries it is better to say what is wrong.
const REINDEX_RETRIES: u32 = 8;

/// The server.
pub(crate) struct Search {
    client: Elasticsearch,
    aliases: Aliases,
}

impl Search {
    /// User and password, or `api-key` and an encoded API key, may stand in the URL.
    pub(crate) fn new(url: &Url) -> Result<Self, SinkError> {
        let mut url = url.clone();
        let credentials = credentials(&url);
        // Errors and logs show the URL: without what it keeps secret.
        let plain = url.set_username("").and_then(|()| url.set_password(None));
        plain.map_err(|()| SinkError::Server(format!("'{url}' is no HTTP URL")))?;
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url)).timeout(REQUEST_TIMEOUT);
        if let Some(credentials) = credentials {
            builder = builder.auth(credentials);
        }
        if let Some(pem) = tls::process().authorities() {
            let authorities = Certificate::from_pem(pem.as_bytes());
            let authorities = authorities.map_err(|error| SinkError::Server(format!("tls.ca: {error}")))?;
            builder = builder.cert_validation(CertificateValidation::Full(authorities));
        }
        let transport = builder.build().map_err(|error| SinkError::Server(error.to_string()))?;
        Ok(Self { client: Elasticsearch::new(transport), aliases: Aliases::default() })
    }
}

fn credentials(url: &Url) -> Option<Credentials> {
    let text = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (text(url.username()), text(url.password()?));
    Some(if user == API_KEY {
        Credentials::EncodedApiKey(password)
    } else {
        Credentials::Basic(user, password)
    })
}

#[async_trait]
impl Destination for Search {
    fn stage(&self) -> &'static str {
        "elasticsearch"
    }

    async fn prepare(&self) -> Result<String, SinkError> {
        let abilities = Abilities::of(&self.client).await?;
        let policy = match abilities.ilm {
            Has::Yes => lifecycle::ensure(&self.client).await?,
            other => other,
        };
        let ends_by = lifecycle::of_template(&self.client, policy).await?;
        template::prepare(&self.client, ends_by.as_deref()).await?;
        // Those made from now on have it from the template.
        let unended = match policy {
            Has::Yes => lifecycle::give_to_present(&self.client).await?,
            _ => Vec::new(),
        };
        Ok(abilities.left_out(policy, &unended))
    }

    async fn deliver(&self, records: &[Record]) -> Result<Delivered, SinkError> {
        let mut rejected = BTreeMap::new();
        let mut documents: Vec<Document> = Vec::new();
        let mut erased: Vec<HostKey> = Vec::new();
        for (at, record) in records.iter().enumerate() {
            if record.value.is_none()
                && let Some(key) = record.key.as_deref().and_then(HostKey::parse)
            {
                erased.push(key);
                continue;
            }
            match document::of(at, record) {
                Ok(two) => documents.extend(two),
                Err(reason) => {
                    rejected.insert(at, reason);
                }
            }
        }
        for Rejected { at, reason } in send(&self.client, &documents).await? {
            rejected.insert(at, reason);
        }
        let taken = documents.iter().filter(|document| !rejected.contains_key(&document.record));
        self.aliases.ensure(&self.client, taken).await?;
        // Behind what was sent of them before; nothing comes after.
        for key in &erased {
            erase(&self.client, key).await?;
        }
        Ok(Delivered { done: records.len(), rejected })
    }
}

/// Fills Elasticsearch anew from transitions that were kept elsewhere. Repeating it does no harm.
pub struct Reindex {
    search: Search,
    left_out: String,
}

impl Reindex {
    /// Prepares the server: templates, and the index of the present state.
    pub async fn begin(url: &Url) -> Result<Self, AlertsError> {
        let failed = |error: SinkError| AlertsError::Config(error.to_string());
        let search = Search::new(url).map_err(failed)?;
        let left_out = search.prepare().await.map_err(failed)?;
        Ok(Self { search, left_out })
    }

    /// What could not be set up for want of something that the server lacks; empty if nothing.
    #[must_use]
    pub fn left_out(&self) -> &str {
        &self.left_out
    }

    /// Sends transitions, each with when it was published (microseconds since the epoch); answers how many the server can
    /// never take, and why the first of them.
    pub async fn send(
        &self,
        transitions: &[(TransitionRecord, i64)],
    ) -> Result<(usize, Option<String>), AlertsError> {
        let record = |(transition, published_us): &(TransitionRecord, i64)| Record {
            partition: 0,
            offset: 0,
            timestamp_ms: published_us / 1_000,
            key: None,
            // Plain data with text keys: serializing it can't fail.
            value: Some(serde_json::to_vec(transition).unwrap_or_default().into()),
            headers: Vec::new(),
        };
        let records: Vec<Record> = transitions.iter().map(record).collect();
        let mut failures = 0;
        loop {
            match self.search.deliver(&records).await {
                Ok(Delivered { rejected, .. }) => return Ok((rejected.len(), rejected.into_values().next())),
                Err(error) if failures >= REINDEX_RETRIES => {
                    return Err(AlertsError::Config(error.to_string()));
                }
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(RETRIES.delay(failures)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_and_passwords_are_taken_from_the_url_as_they_were_meant() {
        let of = |url: &str| credentials(&url.parse().unwrap());
        let basic = of("https://firn:p%40ss@es:9200");
        assert!(matches!(basic, Some(Credentials::Basic(user, word)) if user == "firn" && word == "p@ss"));
        let key = of("https://api-key:VuaCfGcB==@es:9200");
        assert!(matches!(key, Some(Credentials::EncodedApiKey(key)) if key == "VuaCfGcB=="));
        assert!(of("https://es:9200").is_none());
    }
}
