//! `oidc-provider`, an OpenID Connect provider, with access tokens that are JWTs.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Authority, Process, cache, ports::free_ports, process::START_DEADLINE};

/// A provider. Dropping it kills it.
#[derive(Debug)]
pub struct OidcProvider {
    issuer: String,
    http: reqwest::Client,
    process: Process,
    _dir: TempDir,
}

impl OidcProvider {
    /// Starts a provider whose access tokens are for `audience`. Its clients are `reader` and `writer` (of the tenant
    /// `acme`, by the claim `firn_tenants`), `nobody` and `root`.
    ///
    /// # Errors
    /// If it isn't installed or doesn't start.
    pub async fn start(audience: &str) -> Result<Self> {
        Self::launch(audience, None).await
    }

    /// The same over HTTPS.
    ///
    /// # Errors
    /// See [`OidcProvider::start`].
    pub async fn start_secure(audience: &str, authority: &Authority) -> Result<Self> {
        Self::launch(audience, Some(authority)).await
    }

    async fn launch(audience: &str, authority: Option<&Authority>) -> Result<Self> {
        let program = cache::require("oidc/provider.js")?;
        let dir = TempDir::with_prefix("firn-oidc-")?;
        let [port] = free_ports()?;
        let mut command = Command::new("node");
        command.arg(program).args([&port.to_string(), audience]);
        let (mut scheme, mut http) = ("http", reqwest::Client::builder());
        if let Some(authority) = authority {
            let shown = authority.issue("oidc", &["IP:127.0.0.1"])?;
            command.args([shown.certificate, shown.key]);
            scheme = "https";
            let ca = reqwest::Certificate::from_pem(&std::fs::read(authority.file())?)?;
            http = http.add_root_certificate(ca);
        }
        let issuer = format!("{scheme}://127.0.0.1:{port}");
        let process = Process::start("oidc-provider", &mut command, &dir.path().join("oidc.log"))?;
        let mut provider = Self { issuer, http: http.build()?, process, _dir: dir };
        let address = format!("{}/.well-known/openid-configuration", provider.issuer);
        let http = provider.http.clone();
        let ready = async || {
            let status = http.get(&address).send().await?.status();
            ensure!(status.is_success(), "{address} answers {status}");
            Ok(())
        };
        provider.process.ready(START_DEADLINE, ready).await?;
        Ok(provider)
    }

    /// Its `iss`.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.issuer.clone()
    }

    /// An access token of a client.
    ///
    /// # Errors
    /// If the provider gives none.
    pub async fn token(&self, client: &str) -> Result<String> {
        let request = self
            .http
            .post(format!("{}/token", self.issuer()))
            .basic_auth(client, Some(format!("{client}-secret")))
            .form(&[("grant_type", "client_credentials")]);
        let answer: Value = request.send().await?.json().await?;
        answer["access_token"].as_str().map(str::to_owned).with_context(|| answer.to_string())
    }

    /// Its key set.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub async fn keys(&self) -> Result<Value> {
        Ok(self.http.get(format!("{}/jwks", self.issuer)).send().await?.json().await?)
    }

    /// Lets a new key sign; the old ones stay published. Answers once it does.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn rotate(&self) -> Result<()> {
        let before = self.key_count().await?;
        self.signal(Signal::HUP)?;
        self.published(before + 1).await
    }

    /// Withdraws all keys but the newest.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn withdraw_old_keys(&self) -> Result<()> {
        self.signal(Signal::USR2)?;
        self.published(1).await
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process(id, signal)?)
    }

    async fn key_count(&self) -> Result<usize> {
        Ok(self.keys().await?["keys"].as_array().map_or(0, Vec::len))
    }

    async fn published(&self, count: usize) -> Result<()> {
        crate::until("the keys are published", START_DEADLINE, async || {
            let found = self.key_count().await?;
            ensure!(found == count, "there are {found}");
            Ok(())
        })
        .await
    }
}
