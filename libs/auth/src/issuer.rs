//! Issuers beside the built-in one: OpenID Connect providers by discovery, or keys that are configured.
//!
//! Fetched keys are cached. A key id that isn't known makes the set be fetched again, at most every so often whatever tokens come;
//! while the provider is away, known keys go on and unknown ones are refused.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{
    Claims, Role, TenantName,
    jwks::{self, PublicKey},
};

/// Larger discovery documents and key sets are not read.
const MAX_BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys that could not be fetched anew for so long are no longer trusted.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// An issuer that is trusted, and what its tokens may claim.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Prefix of its principals' names, `NAME:SUBJECT`: `[a-z0-9-]`, not `service`.
    pub name: String,
    /// Its `iss`, to the letter; below it lies `.well-known/openid-configuration`.
    pub issuer: String,
    /// The `aud` that its tokens must have.
    pub audience: String,
    /// A JSON Web Key Set to use instead of discovery.
    pub key_set: Option<String>,
    /// The claim that holds roles by tenant: `{"acme": "reader"}` or `["acme:reader"]`.
    pub tenants_claim: String,
    /// Subjects that are operators.
    pub operators: Vec<String>,
    /// How old keys may get before they are fetched anew.
    pub refresh: Duration,
    /// At least this long between two fetches.
    pub refetch: Duration,
}

/// Why an issuer can't be used, or its keys can't be fetched.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("issuer '{issuer}': {reason}")]
pub struct IssuerError {
    /// Its name.
    pub issuer: String,
    /// What is wrong.
    pub reason: String,
}

/// A trusted issuer and the keys it has now.
pub struct Issuer {
    config: IssuerConfig,
    http: reqwest::Client,
    keys: RwLock<Keys>,
    /// Held while keys are fetched; when that was last tried.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Keys {
    all: Vec<PublicKey>,
    /// When they were fetched; `None` until they are. Configured ones never age.
    fetched: Option<Instant>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Checks a configuration; asks the provider nothing yet.
    pub fn new(config: IssuerConfig) -> Result<Self, IssuerError> {
        let wrong = |reason: String| IssuerError { issuer: config.name.clone(), reason };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if config.name.is_empty() || !config.name.chars().all(plain) || config.name == "service" {
            return Err(wrong("its name has 1 or more of a-z, 0-9 and '-', and isn't 'service'".to_owned()));
        }
        if config.issuer == crate::ISSUER || config.audience.is_empty() {
            return Err(wrong("it needs an issuer of its own and an audience".to_owned()));
        }
        let keys = match &config.key_set {
            Some(set) => Keys { all: jwks::parse(set.as_bytes()).map_err(&wrong)?, fetched: None },
            None => {
                secure(&config.issuer).map_err(&wrong)?;
                Keys::default()
            }
        };
        let http = firn_runtime::tls::outside()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { config, http, keys: RwLock::new(keys), fetching: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &IssuerConfig {
        &self.config
    }

    /// Replaces the configured keys. From here on tokens of keys that are gone are refused, those that were found good before too.
    pub(crate) fn set_keys(&self, set: &str) -> Result<(), IssuerError> {
        let all = jwks::parse(set.as_bytes())
            .map_err(|reason| IssuerError { issuer: self.config.name.clone(), reason })?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).all = all;
        Ok(())
    }

    /// Keys that a token with this key id may have been signed with. Without one, the set's only key is meant.
    pub(crate) fn candidates(&self, id: Option<&str>) -> Vec<PublicKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        match (id, self.trusted(&keys)) {
            (None, [only]) => vec![only.clone()],
            (None, _) => Vec::new(),
            (Some(id), all) => all.iter().filter(|key| key.id.as_deref() == Some(id)).cloned().collect(),
        }
    }

    /// Whether a key is one of the issuer's now.
    pub(crate) fn has(&self, thumbprint: &str) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        self.trusted(&keys).iter().any(|key| key.thumbprint == thumbprint)
    }

    /// Whether the keys are old enough to ask for them again.
    pub(crate) fn is_stale(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        self.config.key_set.is_none() && keys.fetched.is_none_or(|at| at.elapsed() > self.config.refresh)
    }

    fn trusted<'a>(&self, keys: &'a Keys) -> &'a [PublicKey] {
        if self.config.key_set.is_none() && keys.fetched.is_none_or(|at| at.elapsed() > MAX_STALE) {
            return &[];
        }
        &keys.all
    }

    /// Fetches the keys, unless that was tried a moment ago. With `wait`, a fetch that runs is waited for. Answers whether
    /// keys were fetched meanwhile.
    pub(crate) async fn refresh(&self, wait: bool) -> bool {
        if self.config.key_set.is_some() {
            return false;
        }
        let asked = Instant::now();
        let mut tried = match self.fetching.try_lock() {
            Ok(tried) => tried,
            Err(_) if !wait => return false,
            Err(_) => self.fetching.lock().await,
        };
        if tried.is_some_and(|at| at > asked) {
            return true;
        }
        if tried.is_some_and(|at| at.elapsed() < self.config.refetch) {
            return false;
        }
        let fetched = self.fetch().await;
        *tried = Some(Instant::now());
        match fetched {
            Ok(all) => {
                tracing::debug!(issuer = self.config.name, keys = all.len(), "fetched an issuer's keys");
                let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *keys = Keys { all, fetched: Some(Instant::now()) };
                true
            }
            Err(reason) => {
                tracing::warn!(issuer = self.config.name, reason, "an issuer's keys can't be fetched");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<PublicKey>, String> {
        let issuer = &self.config.issuer;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery: Discovery = serde_json::from_slice(&self.get(&address).await?)
            .map_err(|error| format!("{address} is no discovery document: {error}"))?;
        if discovery.issuer != *issuer {
            return Err(format!("{address} speaks for '{}'", discovery.issuer));
        }
        secure(&discovery.jwks_uri)?;
        jwks::parse(&self.get(&discovery.jwks_uri).await?)
    }

    async fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| format!("{address}: {error}");
        let mut answer = self.http.get(address).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("{address} answers {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("{address} answers more than {MAX_BYTES} bytes"));
            }
        }
        Ok(body)
    }

    /// What a token of this issuer may claim, as claims of the built-in one. Firn's own scopes are not its to give.
    pub(crate) fn translate(&self, fields: &Map<String, Value>) -> Option<Claims> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let time = |name: &str| match fields.get(name) {
            None => Some(None),
            // Times may have a fraction.
            Some(value) => value.as_i64().or_else(|| value.as_f64().map(|time| time as i64)).map(Some),
        };
        let subject = text("sub")?;
        let exp = time("exp")??;
        let issued = time("iat")?;
        let begins = time("nbf")?.unwrap_or(i64::MIN);
        Some(Claims {
            iss: self.config.issuer.clone(),
            sub: format!("{}:{subject}", self.config.name),
            aud: self.config.audience.clone(),
            iat: issued.unwrap_or(begins),
            nbf: begins,
            exp,
            jti: text("jti").map(|id| format!("{}:{id}", self.config.name)).unwrap_or_default(),
            origin: None,
            auth_time: time("auth_time")?,
            tenants: fields.get(&self.config.tenants_claim).map(roles).unwrap_or_default(),
            operator: self.config.operators.iter().any(|operator| operator == subject),
            scopes: scopes(fields),
            host: None,
        })
    }
}

/// Roles by tenant; what names no tenant or role gives nothing. Of several roles in one tenant the highest counts.
fn roles(claim: &Value) -> BTreeMap<TenantName, Role> {
    let pairs: Vec<(&str, &str)> = match claim {
        Value::Object(fields) => {
            fields.iter().filter_map(|(tenant, role)| Some((tenant.as_str(), role.as_str()?))).collect()
        }
        Value::Array(items) => items.iter().filter_map(|item| item.as_str()?.split_once(':')).collect(),
        _ => Vec::new(),
    };
    let mut roles = BTreeMap::new();
    for (tenant, role) in pairs {
        let (Ok(tenant), Ok(role)) = (tenant.parse::<TenantName>(), role.parse::<Role>()) else { continue };
        let given = roles.entry(tenant).or_insert(role);
        *given = role.max(*given);
    }
    roles
}

fn scopes(fields: &Map<String, Value>) -> Vec<crate::Scope> {
    let words = fields.get("scope").and_then(Value::as_str).unwrap_or_default();
    let uploads = words.split(' ').any(|word| word == "inventory:write");
    if uploads { vec![crate::Scope::InventoryWrite] } else { Vec::new() }
}

/// Keys that come over a line that anybody can change are nobody's.
fn secure(address: &str) -> Result<(), String> {
    let url: reqwest::Url = address.parse().map_err(|error| format!("'{address}' is no URL: {error}"))?;
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(()),
        "http" if here => Ok(()),
        _ => Err(format!("'{address}' must be https")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn config() -> IssuerConfig {
        IssuerConfig {
            name: "corp".to_owned(),
            issuer: "https://id.example.org".to_owned(),
            audience: "firn".to_owned(),
            key_set: None,
            tenants_claim: "firn_tenants".to_owned(),
            operators: vec!["root".to_owned()],
            refresh: Duration::from_secs(300),
            refetch: Duration::from_secs(10),
        }
    }

    #[test]
    fn what_can_not_be_trusted_is_refused_at_once() {
        for (name, issuer) in [
            ("service", "https://x"),
            ("", "https://x"),
            ("Corp", "https://x"),
            ("corp", "http://id.example.org"),
            ("corp", "firn"),
            ("corp", "nonsense"),
        ] {
            let config = IssuerConfig { name: name.to_owned(), issuer: issuer.to_owned(), ..config() };
            assert!(Issuer::new(config).is_err(), "{name} {issuer}");
        }
        let local = IssuerConfig { issuer: "http://127.0.0.1:1/oidc".to_owned(), ..config() };
        assert!(Issuer::new(local).is_ok());
    }

    #[test]
    fn claims_give_roles_and_nothing_that_is_firns_own() {
        let issuer = Issuer::new(config()).unwrap();
        let claims = |fields: Value| issuer.translate(fields.as_object().unwrap());
        let found = claims(json!({
            "sub": "service:ingest", "exp": 5, "operator": true, "scopes": ["service:ingest"],
            "scope": "openid inventory:write service:ingest", "tenants": {"other": "admin"},
            "firn_tenants": ["acme:reader", "acme:writer", "acme:reader", "../x:admin", "b:king", 7],
        }))
        .unwrap();
        assert_eq!((found.sub.as_str(), found.operator), ("corp:service:ingest", false));
        assert_eq!(found.scopes, [crate::Scope::InventoryWrite]);
        assert_eq!(found.tenants, BTreeMap::from([("acme".parse().unwrap(), Role::Writer)]));
        assert!(claims(json!({"sub": "root", "exp": 5.5})).unwrap().operator);
        assert!(claims(json!({"sub": "", "exp": 5})).is_none());
        assert!(claims(json!({"sub": "a"})).is_none());
        assert!(claims(json!({"sub": "a", "exp": "soon"})).is_none());
    }
}
