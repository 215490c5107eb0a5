//! `[stream]`: which log, and how Kafka's brokers are reached.

use std::time::Duration;

use anyhow::Result;
use firn_runtime::config::SecretRef;
use firn_stream::{BrokerTls, Compression, Sasl, ScramHash, Security};
use serde::Deserialize;

use crate::{duration, failure::usage};

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
    /// How records are compressed.
    pub(crate) compression: Compression,
    /// Whether the brokers speak TLS.
    pub(crate) tls: bool,
    /// Authorities of the brokers' certificates.
    pub(crate) ca: Option<SecretRef>,
    /// What brokers that ask are shown.
    pub(crate) client_certificate: Option<SecretRef>,
    /// The key to it.
    pub(crate) client_key: Option<SecretRef>,
    /// Who this is, to brokers that ask by SASL.
    pub(crate) sasl: Option<SaslSection>,
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
            compression: Compression::default(),
            tls: false,
            ca: None,
            client_certificate: None,
            client_key: None,
            sasl: None,
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

/// `[stream.sasl]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaslSection {
    mechanism: Mechanism,
    username: Option<String>,
    password: Option<SecretRef>,
    token: Option<SecretRef>,
}

/// By its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

impl StreamSection {
    /// What no type can say.
    pub(super) fn check(&self) -> Result<()> {
        if self.backend == Backend::Kafka && self.bootstrap_servers.is_none() {
            return Err(usage("stream.bootstrap_servers: needed when stream.backend is 'kafka'"));
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return Err(usage("stream: set both client_certificate and client_key, or none"));
        }
        if !self.tls && (self.ca.is_some() || self.client_certificate.is_some()) {
            return Err(usage("stream.ca, stream.client_certificate: they mean nothing without stream.tls"));
        }
        let Some(sasl) = &self.sasl else { return Ok(()) };
        let by_token = sasl.mechanism == Mechanism::OAuthBearer;
        if by_token != sasl.token.is_some()
            || by_token == (sasl.username.is_some() || sasl.password.is_some())
        {
            return Err(usage("stream.sasl: OAUTHBEARER needs a token, the others username and password"));
        }
        if sasl.username.is_some() != sasl.password.is_some() {
            return Err(usage("stream.sasl: set both username and password"));
        }
        if !self.tls && matches!(sasl.mechanism, Mechanism::Plain | Mechanism::OAuthBearer) {
            return Err(usage("stream.sasl.mechanism: it sends the secret itself, so set stream.tls"));
        }
        Ok(())
    }

    /// What the brokers are told, read from where it is kept. `process_ca` is trusted where there is no authority for brokers.
    pub(super) fn security(&self, process_ca: Option<&SecretRef>) -> Result<Security> {
        let tls = if self.tls {
            let authorities = read("ca", self.ca.as_ref().or(process_ca))?;
            let certificate = read("client_certificate", self.client_certificate.as_ref())?;
            let key = read("client_key", self.client_key.as_ref())?;
            Some(BrokerTls { authorities, identity: certificate.zip(key) })
        } else {
            None
        };
        Ok(Security { tls, sasl: self.sasl.as_ref().map(SaslSection::resolve).transpose()? })
    }

    /// What that is read from.
    pub(super) fn references<'a>(&'a self, process_ca: Option<&'a SecretRef>) -> Vec<Option<&'a SecretRef>> {
        let ca = self.ca.as_ref().or(process_ca).filter(|_| self.tls);
        let sasl = self.sasl.as_ref();
        vec![
            ca,
            self.client_certificate.as_ref(),
            self.client_key.as_ref(),
            sasl.and_then(|sasl| sasl.password.as_ref()),
            sasl.and_then(|sasl| sasl.token.as_ref()),
        ]
    }
}

impl SaslSection {
    fn resolve(&self) -> Result<Sasl> {
        let username = self.username.clone().unwrap_or_default();
        let password = read("sasl.password", self.password.as_ref())?.unwrap_or_default();
        Ok(match self.mechanism {
            Mechanism::Plain => Sasl::Plain { username, password },
            Mechanism::ScramSha256 => Sasl::Scram { hash: ScramHash::Sha256, username, password },
            Mechanism::ScramSha512 => Sasl::Scram { hash: ScramHash::Sha512, username, password },
            Mechanism::OAuthBearer => {
                let token = read("sasl.token", self.token.as_ref())?.unwrap_or_default();
                Sasl::OAuthBearer { token }
            }
        })
    }
}

fn read(key: &str, reference: Option<&SecretRef>) -> Result<Option<String>> {
    let text = reference.map(SecretRef::resolve).transpose();
    text.map_err(|error| usage(format!("stream.{key}: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{data_dir::DataDir, settings::Settings};

    fn section(text: &str) -> Result<StreamSection, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("firn.toml"), format!("[stream]\n{text}")).unwrap();
        let settings = Settings::load(None, &DataDir::new(folder.path()));
        settings.map(|settings| settings.stream).map_err(|error| error.to_string())
    }

    #[test]
    fn brokers_are_told_what_the_references_hold() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        let (ca, password) = (file("ca", "CA"), file("password", "hunter2\n"));
        let text = format!(
            "tls = true\nca = '{ca}'\n[stream.sasl]\nmechanism = 'SCRAM-SHA-512'\nusername = 'firn'\npassword = '{password}'"
        );
        let read = section(&text).unwrap();
        let security = read.security(None).unwrap();
        let tls = BrokerTls { authorities: Some("CA".to_owned()), identity: None };
        let (username, password) = ("firn".to_owned(), "hunter2".to_owned());
        let sasl = Sasl::Scram { hash: ScramHash::Sha512, username, password };
        assert_eq!(security, Security { tls: Some(tls), sasl: Some(sasl) });
        assert_eq!(read.references(None).into_iter().flatten().count(), 2);

        let other: SecretRef = file("other", "OTHER").try_into().unwrap();
        let tls = section("tls = true").unwrap().security(Some(&other)).unwrap().tls.unwrap();
        assert_eq!(tls.authorities.as_deref(), Some("OTHER"), "the process's");
        assert_eq!(section("").unwrap().security(Some(&other)).unwrap(), Security::default());
        assert_eq!(section("").unwrap().references(Some(&other)).into_iter().flatten().count(), 0);
    }

    #[test]
    fn what_would_not_work_or_give_secrets_away_is_refused() {
        let sasl = |text: &str| format!("tls = true\n[stream.sasl]\n{text}");
        for (text, want) in [
            ("backend = 'kafka'".to_owned(), "stream.bootstrap_servers"),
            ("ca = 'env:CA'".to_owned(), "without stream.tls"),
            ("tls = true\nclient_key = 'env:KEY'".to_owned(), "both client_certificate and client_key"),
            (sasl("mechanism = 'GSSAPI'"), "GSSAPI"),
            (sasl("mechanism = 'OAUTHBEARER'"), "needs a token"),
            (sasl("mechanism = 'PLAIN'\ntoken = 'env:T'"), "username and password"),
            (sasl("mechanism = 'PLAIN'\nusername = 'u'"), "both username and password"),
            (sasl("mechanism = 'PLAIN'\nusername = 'u'\npassword = 'hunter2'"), "not the secret itself"),
            ("[stream.sasl]\nmechanism = 'OAUTHBEARER'\ntoken = 'env:T'".to_owned(), "set stream.tls"),
            ("compression = 'brotli'".to_owned(), "brotli"),
        ] {
            let error = section(&text).unwrap_err();
            assert!(error.contains(want) && !error.contains("hunter2"), "{text}: {error}");
        }
        let missing = section(&sasl("mechanism = 'OAUTHBEARER'\ntoken = 'env:FIRN_TEST_NOT_SET'")).unwrap();
        let error = missing.security(None).unwrap_err().to_string();
        assert!(error.contains("stream.sasl.token: the variable FIRN_TEST_NOT_SET"), "{error}");
    }
}
