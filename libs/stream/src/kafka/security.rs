//! How clients reach the brokers, and prove who they are.

use std::{fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use firn_runtime::{reload::Live, tls};
use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    consumer::{BaseConsumer, ConsumerContext},
};

use crate::{StreamError, StreamErrorKind};

/// How long a token counts as good that doesn't say so itself.
const OPAQUE_TOKEN_MS: u128 = 60_000;

/// What every client of a cluster uses. Certificates, keys and secrets themselves, not references to them; `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS, if the brokers speak it.
    pub tls: Option<BrokerTls>,
    /// Who this is, if the brokers ask by SASL.
    pub sasl: Option<Sasl>,
}

/// TLS to the brokers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BrokerTls {
    /// PEM of the authorities that alone are trusted; the system's if `None`.
    pub authorities: Option<String>,
    /// PEM of a certificate with its chain, and of its key, for brokers that ask for one.
    pub identity: Option<(String, String)>,
}

/// A SASL mechanism and what it needs.
#[derive(Clone, PartialEq, Eq)]
pub enum Sasl {
    /// Name and password as they are: with TLS only.
    Plain {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// A proof of the password.
    Scram {
        /// Which hash.
        hash: ScramHash,
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// A bearer token, such as one of an OpenID Connect provider.
    OAuthBearer {
        /// The token.
        token: String,
    },
}

/// The hash of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("tls", &self.tls.is_some())
            .field("sasl", &self.sasl.as_ref().map(Sasl::mechanism))
            .finish_non_exhaustive()
    }
}

impl Sasl {
    /// The mechanism's registered name.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash: ScramHash::Sha256, .. } => "SCRAM-SHA-256",
            Self::Scram { hash: ScramHash::Sha512, .. } => "SCRAM-SHA-512",
            Self::OAuthBearer { .. } => "OAUTHBEARER",
        }
    }
}

impl Security {
    /// Whether the certificates can be used at all: librdkafka would say so without a reason.
    pub(super) fn check(&self) -> Result<(), StreamError> {
        self.client_tls().map(drop)
    }

    /// TLS for connections of our own.
    pub(super) fn client_tls(&self) -> Result<Option<rustls::ClientConfig>, StreamError> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let identity = tls.identity.as_ref().map(|(chain, key)| (chain.as_str(), key.as_str()));
        let config = tls::client_config(tls.authorities.as_deref(), identity);
        config.map(Some).map_err(|reason| {
            StreamError::new(StreamErrorKind::Config, format!("TLS to Kafka's brokers: {reason}"))
        })
    }

    /// Whether clients with `self` would go on with what is no longer true; tokens they ask for anew by themselves.
    pub(super) fn is_stale_beside(&self, now: &Self) -> bool {
        match (&self.sasl, &now.sasl) {
            (Some(Sasl::OAuthBearer { .. }), Some(Sasl::OAuthBearer { .. })) => self.tls != now.tls,
            _ => self != now,
        }
    }

    /// As librdkafka takes it.
    pub(super) fn apply(&self, client: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            match &tls.authorities {
                Some(authorities) => client.set("ssl.ca.pem", authorities),
                // Wherever this system has them.
                None => client.set("ssl.ca.location", "probe"),
            };
            if let Some((chain, key)) = &tls.identity {
                client.set("ssl.certificate.pem", chain).set("ssl.key.pem", key);
            }
        }
        let Some(sasl) = &self.sasl else { return };
        client.set("sasl.mechanism", sasl.mechanism());
        if let Sasl::Plain { username, password } | Sasl::Scram { username, password, .. } = sasl {
            client.set("sasl.username", username).set("sasl.password", password);
        }
    }
}

/// Answers librdkafka when it wants a token: the one of the moment.
#[derive(Clone)]
pub(super) struct Identity(pub(super) Live<Security>);

impl ClientContext for Identity {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let security = self.0.get();
        let Some(Sasl::OAuthBearer { token }) = &security.sasl else {
            return Err("no token is configured".into());
        };
        let claims = claims(token);
        let text = |name: &str| Some(claims.as_ref()?.get(name)?.as_str()?.to_owned());
        let expires_s = claims.as_ref().and_then(|claims| claims.get("exp")?.as_i64());
        let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() + OPAQUE_TOKEN_MS;
        Ok(OAuthToken {
            token: token.clone(),
            // For librdkafka's log alone; the broker reads the token.
            principal_name: text("sub").unwrap_or_else(|| "firn".to_owned()),
            lifetime_ms: expires_s.map_or(i64::try_from(soon)?, |seconds| seconds.saturating_mul(1000)),
        })
    }
}

impl ConsumerContext for Identity {}

/// What a JSON Web Token says; nobody here trusts it.
fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

/// Lets librdkafka say what it has to say, such as that it wants a token: only who polls hears it.
pub(super) fn heed<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    while consumer.poll(std::time::Duration::ZERO).is_some() {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bearer(token: &str) -> Security {
        Security { tls: None, sasl: Some(Sasl::OAuthBearer { token: token.to_owned() }) }
    }

    #[test]
    fn tokens_are_given_as_they_are_now_and_say_how_long_they_last() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"svc","exp":4102444800}"#);
        let live = Live::new(bearer(&format!("e30.{payload}.x")));
        let identity = Identity(live.clone());
        let token = identity.generate_oauth_token(None).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("svc", 4_102_444_800_000));
        live.set(bearer("opaque"));
        let token = identity.generate_oauth_token(None).unwrap();
        assert_eq!((token.token.as_str(), token.principal_name.as_str()), ("opaque", "firn"));
        live.set(Security::default());
        assert!(identity.generate_oauth_token(None).is_err());
    }

    #[test]
    fn new_tokens_need_no_new_clients_and_new_passwords_do() {
        let plain = |password: &str| Security {
            sasl: Some(Sasl::Plain { username: "u".to_owned(), password: password.to_owned() }),
            ..Security::default()
        };
        assert!(!bearer("a").is_stale_beside(&bearer("b")));
        assert!(plain("a").is_stale_beside(&plain("b")));
        assert!(bearer("a").is_stale_beside(&plain("a")));
        assert!(!format!("{:?}", plain("hunter2")).contains("hunter2"));
    }

    #[test]
    fn certificates_that_are_none_are_said_so() {
        let tls = BrokerTls { authorities: Some("nonsense".to_owned()), identity: None };
        let error = Security { tls: Some(tls), sasl: None }.check().unwrap_err();
        assert_eq!(error.kind, StreamErrorKind::Config);
        assert!(error.message.contains("PEM"), "{error}");
    }
}
