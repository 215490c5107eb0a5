//! How client commands find the server and prove who they are.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use firn_auth::{Claims, SigningKey};
use firn_catalog_client::{CatalogClient, StaticToken, TenantClient, TokenSource};
use firn_runtime::tls::{self, TlsConfig};
use serde::de::DeserializeOwned;

use crate::{
    data_dir::{self, DataDir, ServerFile},
    failure::usage,
    tls::TlsArgs,
};

/// The tenant that `firn up` creates.
pub(crate) const FIRST_TENANT: &str = "default";
/// Life of tokens that a command or a service mints for itself.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags of every client command.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ConnectionArgs {
    /// Data directory of a server on this machine (default: ./firn-data, unless FIRN_URL is set)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// URL of the server
    #[arg(long, value_name = "URL", env = "FIRN_URL")]
    pub(crate) url: Option<String>,
    /// Access token
    #[arg(long, value_name = "TOKEN", env = "FIRN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Tenant
    #[arg(long, value_name = "NAME", env = "FIRN_TENANT")]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// A server that answered, and tokens for it.
pub(crate) struct Connection {
    pub(crate) url: String,
    pub(crate) tenant: String,
    /// The issuer's key, if the server's data directory was read.
    pub(crate) signing_key: Option<SigningKey>,
    /// How it is spoken to.
    pub(crate) tls: TlsConfig,
    tokens: Arc<dyn TokenSource>,
    http: reqwest::Client,
}

impl ConnectionArgs {
    /// Whether they say which server, rather than leaving it to where the command runs.
    pub(crate) fn names_a_server(&self) -> bool {
        self.data_dir.is_some() || self.url.is_some()
    }

    /// Finds the server: `--data-dir`, else the URL, else `./firn-data`.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let tenant = self.tenant.clone().unwrap_or_else(|| FIRST_TENANT.to_owned());
        if let (None, Some(url)) = (&self.data_dir, &self.url) {
            let token = self.token.clone().ok_or_else(|| {
                usage("a token is needed beside the URL: set FIRN_TOKEN or --token ('firn env' prints one)")
            })?;
            let tls = self.tls.install(&TlsConfig::default())?;
            return Connection::new(url, tenant, Arc::new(StaticToken(token)), None, tls);
        }
        let root = self.data_dir.clone().unwrap_or_else(|| data_dir::DEFAULT.into());
        let dir = DataDir::new(&root);
        let Some(server) = dir.read_server_file()? else {
            bail!(
                "no firn server runs on {}: start one with 'firn up', or set FIRN_URL",
                dir.root().display()
            );
        };
        let key = dir.signing_key(server.signing_key.as_ref())?;
        let tokens: Arc<dyn TokenSource> = match &self.token {
            Some(token) if self.url.is_none() => Arc::new(StaticToken(token.clone())),
            _ => Arc::new(MintedTokens::operator(key.clone(), "local-operator")),
        };
        let tls = self.tls.install(&server.tls)?;
        let connection = Connection::new(&server.url, tenant, tokens, Some(key), tls)?;
        connection.probe(&dir, &server).await?;
        Ok(connection)
    }
}

impl Connection {
    /// A server elsewhere, of whom the issuer's key is known.
    pub(crate) fn with_key(url: &str, tenant: String, key: SigningKey, tls: TlsConfig) -> Result<Self> {
        let tokens = Arc::new(MintedTokens::operator(key.clone(), "operator"));
        Self::new(url, tenant, tokens, Some(key), tls)
    }

    fn new(
        url: &str,
        tenant: String,
        tokens: Arc<dyn TokenSource>,
        signing_key: Option<SigningKey>,
        tls: TlsConfig,
    ) -> Result<Self> {
        let http = tls::inside().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), tenant, signing_key, tls, tokens, http })
    }

    /// A file may outlive its server.
    async fn probe(&self, dir: &DataDir, server: &ServerFile) -> Result<()> {
        let live = format!("{}/health/live", self.url);
        let answer = self.http.get(live).timeout(PROBE_TIMEOUT).send().await;
        if let Err(error) = &answer
            && let Some(advice) = tls::advice(error)
        {
            bail!("{}: {advice}", self.url);
        }
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        let (root, pid) = (dir.root().display(), server.pid);
        bail!(
            "no firn server runs on {root}: {} doesn't answer (it was process {pid}); start one with 'firn up \
             --data-dir {root}'",
            self.url
        )
    }

    /// The same server and tokens, for another tenant.
    pub(crate) fn of_tenant(&self, tenant: &str) -> Self {
        Self {
            url: self.url.clone(),
            tenant: tenant.to_owned(),
            signing_key: self.signing_key.clone(),
            tls: self.tls.clone(),
            tokens: Arc::clone(&self.tokens),
            http: self.http.clone(),
        }
    }

    /// `GET /metrics`, as text.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let answer = self.http.get(format!("{}/metrics", self.url)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// A client of the whole server.
    pub(crate) fn catalog(&self) -> Result<CatalogClient> {
        Ok(CatalogClient::new(&self.url, self.tokens.clone())?)
    }

    /// A client of the chosen tenant.
    pub(crate) fn tenant_client(&self) -> Result<TenantClient> {
        Ok(self.catalog()?.tenant(&self.tenant))
    }

    /// The same for a command that reads tables' files itself: it is given keys where the server gives any.
    pub(crate) fn lake_client(&self) -> Result<TenantClient> {
        Ok(self.tenant_client()?.asking_for_keys())
    }

    /// A token that is valid now.
    pub(crate) fn token(&self) -> String {
        self.tokens.token()
    }

    /// `GET` of one of Firn's own endpoints.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(self.http.get(format!("{}{path}", self.url)), path).await
    }

    /// `POST` of JSON to one of Firn's own endpoints.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T> {
        self.send(self.http.post(format!("{}{path}", self.url)).json(body), path).await
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, path: &str) -> Result<T> {
        let answer = request.bearer_auth(self.token()).send().await;
        let answer = answer.map_err(|error| unanswered(&self.url, error))?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| format!("{path}: the answer broke off"))?;
        if !status.is_success() {
            let error = serde_json::from_slice::<firn_runtime::http::ErrorBody>(&body);
            let message =
                error.map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |e| e.error.message);
            bail!("{path}: {message} (HTTP {})", status.as_u16());
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{path}: an answer this firn doesn't understand"))
    }
}

/// A server that gave no answer, with what to do if TLS is why.
pub(crate) fn unanswered(url: &str, error: reqwest::Error) -> anyhow::Error {
    let advice = tls::advice(&error).map(|advice| format!(": {advice}")).unwrap_or_default();
    anyhow::Error::from(error).context(format!("{url} doesn't answer{advice}"))
}

type Mint = Box<dyn Fn(&SigningKey, Duration) -> String + Send + Sync>;

/// Tokens minted with the issuer's key, renewed at half their life, and when another key signs.
pub(crate) struct MintedTokens {
    key: SigningKey,
    mint: Mint,
    current: Mutex<Option<Minted>>,
}

struct Minted {
    token: String,
    at: Instant,
    /// The id of the key: once another one signs, that token may end at any time.
    by: String,
}

impl MintedTokens {
    /// Tokens by `mint`, which is given the key, and how long they are to be valid.
    pub(crate) fn new(
        key: SigningKey,
        mint: impl Fn(&SigningKey, Duration) -> String + Send + Sync + 'static,
    ) -> Self {
        Self { key, mint: Box::new(mint), current: Mutex::new(None) }
    }

    /// Tokens of an operator named `subject`.
    pub(crate) fn operator(key: SigningKey, subject: &'static str) -> Self {
        Self::new(key, move |key, ttl| key.sign(&Claims { operator: true, ..Claims::new(subject, ttl) }))
    }

    /// Tokens of a service of this process.
    pub(crate) fn service(key: SigningKey, name: &'static str) -> Self {
        Self::new(key, move |key, ttl| key.service_token(name, ttl))
    }
}

impl TokenSource for MintedTokens {
    fn token(&self) -> String {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(minted) if minted.at.elapsed() < TOKEN_TTL / 2 && minted.by == self.key.id() => {
                minted.token.clone()
            }
            _ => {
                let (by, token) = (self.key.id(), (self.mint)(&self.key, TOKEN_TTL));
                *current = Some(Minted { token: token.clone(), at: Instant::now(), by });
                token
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn absent_server_is_said_plainly() {
        let folder = tempfile::tempdir().unwrap();
        let args = ConnectionArgs { data_dir: Some(folder.path().to_owned()), ..Default::default() };
        let error = args.connect().await.err().unwrap().to_string();
        assert!(error.contains("no firn server runs on"), "{error}");
    }

    #[tokio::test]
    async fn url_without_token_is_wrong_usage() {
        let args = ConnectionArgs { url: Some("http://127.0.0.1:1/".into()), ..Default::default() };
        let error = args.connect().await.err().unwrap();
        assert!(error.is::<crate::failure::UsageError>(), "{error}");
    }

    #[test]
    fn minted_token_is_kept_while_fresh_and_its_key_signs() {
        let (key, next) = (SigningKey::generate(), SigningKey::generate());
        let tokens = MintedTokens::service(key.clone(), "ingest");
        let first = tokens.token();
        assert_eq!(tokens.token(), first);
        key.reload(&next.to_pem()).unwrap();
        next.verifier().verify(&tokens.token()).unwrap();
    }
}
