//! A lake on an S3 server: tenants `default` and `other`, each with the tables `ns.mine` and `ns.theirs`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use firn_tests::{FirnProcess, MinIo, SeaweedFs, firn_stdout, free_port};
use object_store::{
    ObjectStoreExt as _, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
    signer::Signer as _,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "lake";
pub(crate) const REGION: &str = "us-east-1";

/// A server that gives out temporary keys.
pub(crate) enum S3 {
    SeaweedFs(SeaweedFs),
    MinIo(MinIo),
}

impl S3 {
    pub(crate) async fn seaweedfs() -> Result<Self> {
        let server = SeaweedFs::start().await?;
        server.create_bucket(BUCKET).await?;
        Ok(Self::SeaweedFs(server))
    }

    pub(crate) async fn minio() -> Result<Self> {
        let server = Self::MinIo(MinIo::start().await?);
        let minute = std::time::Duration::from_secs(60);
        let url = server.admin(BUCKET)?.signed_url(Method::PUT, &Path::default(), minute).await?;
        let answer = reqwest::Client::new().put(url).send().await?;
        ensure!(answer.status().is_success(), "creating the bucket: {answer:?}");
        Ok(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::SeaweedFs(server) => server.endpoint(),
            Self::MinIo(server) => server.endpoint(),
        }
    }

    pub(crate) fn keys(&self) -> (&'static str, &'static str) {
        match self {
            Self::SeaweedFs(_) => (SeaweedFs::ACCESS_KEY, SeaweedFs::SECRET_KEY),
            Self::MinIo(_) => (MinIo::ACCESS_KEY, MinIo::SECRET_KEY),
        }
    }

    fn role_arn(&self) -> &'static str {
        match self {
            Self::SeaweedFs(_) => SeaweedFs::ROLE_ARN,
            Self::MinIo(_) => MinIo::ROLE_ARN,
        }
    }

    /// A bucket with the administrator's keys.
    pub(crate) fn admin(&self, bucket: &str) -> Result<AmazonS3> {
        let (key, secret) = self.keys();
        Ok(self.bucket(bucket).with_access_key_id(key).with_secret_access_key(secret).build()?)
    }

    /// The lake's bucket with keys that a client was given.
    pub(crate) fn with_keys(&self, config: &Value) -> Result<AmazonS3> {
        let text = |key: &str| config[key].as_str().with_context(|| format!("no {key} in {config}"));
        let bucket = self
            .bucket(BUCKET)
            .with_access_key_id(text("s3.access-key-id")?)
            .with_secret_access_key(text("s3.secret-access-key")?)
            .with_token(text("s3.session-token")?);
        Ok(bucket.build()?)
    }

    fn bucket(&self, name: &str) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region(REGION)
            .with_bucket_name(name)
    }
}

/// A server over it.
pub(crate) struct Lake {
    pub(crate) s3: S3,
    pub(crate) firn: FirnProcess,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Lake {
    /// With `storage` as more settings of that section.
    pub(crate) async fn start(s3: S3, storage: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("firn.toml");
        let (key, secret) = s3.keys();
        let settings = format!(
            "[storage]\nwarehouse = \"s3://{BUCKET}/firn\"\nendpoint = \"{}\"\nregion = \"{REGION}\"\npath_style = true\n\
             access_key_id = \"env:LAKE_KEY\"\nsecret_access_key = \"env:LAKE_SECRET\"\n{storage}",
            s3.endpoint(),
        );
        std::fs::write(&config, settings)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let secrets = [("LAKE_KEY", key), ("LAKE_SECRET", secret)];
        let config = config.to_string_lossy();
        let firn =
            FirnProcess::up_at(&dir.path().join("data"), &listen, &["--config", &config], &secrets).await?;
        firn_stdout(firn.client(["tenant", "create", "other"]))?;
        let lake = Self { s3, firn, http: reqwest::Client::new(), _dir: dir };
        for tenant in ["default", "other"] {
            lake.ask(Method::POST, tenant, "/namespaces", &json!({"namespace": ["ns"]})).await?;
            for table in ["mine", "theirs"] {
                lake.create(tenant, table).await?;
            }
        }
        Ok(lake)
    }

    /// With keys by AssumeRole.
    pub(crate) async fn vending(s3: S3) -> Result<Self> {
        let role = format!("role_arn = \"{}\"\nkey_ttl = \"15m\"\n", s3.role_arn());
        Self::start(s3, &role).await
    }

    async fn create(&self, tenant: &str, table: &str) -> Result<Value> {
        let schema =
            json!({"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": false}]});
        self.ask(Method::POST, tenant, "/namespaces/ns/tables", &json!({"name": table, "schema": schema}))
            .await
    }

    /// A successful request of an operator.
    pub(crate) async fn ask(&self, method: Method, tenant: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.request(method, tenant, path, None).json(body).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {body}");
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }

    /// A request below a tenant's prefix; of an operator, unless a token is given.
    pub(crate) fn request(
        &self,
        method: Method,
        tenant: &str,
        path: &str,
        token: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}/iceberg/v1/{tenant}{path}", self.firn.url());
        self.http.request(method, url).bearer_auth(token.unwrap_or(&self.firn.env["FIRN_OPERATOR_TOKEN"]))
    }

    /// Id and secret of a new client of the tenant `default` with a role.
    pub(crate) async fn client(&self, role: &str) -> Result<(String, String)> {
        let clients = format!("{}/v1/tenants/default/clients", self.firn.url());
        let request = self.http.post(clients).bearer_auth(&self.firn.env["FIRN_OPERATOR_TOKEN"]);
        let client: Value = request.json(&json!({"name": role, "role": role})).send().await?.json().await?;
        let text = |key: &str| client[key].as_str().map(str::to_owned).with_context(|| client.to_string());
        Ok((text("client_id")?, text("client_secret")?))
    }

    /// A token of a new client of the tenant `default` with a role.
    pub(crate) async fn token(&self, role: &str) -> Result<String> {
        let (id, secret) = self.client(role).await?;
        let fields = BTreeMap::from([
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", id),
            ("client_secret", secret),
        ]);
        let url = format!("{}/iceberg/v1/oauth/tokens", self.firn.url());
        let token: Value = self.http.post(url).form(&fields).send().await?.json().await?;
        token["access_token"].as_str().map(str::to_owned).with_context(|| token.to_string())
    }

    /// A table of the tenant `default`, loaded by a client that asks for `delegation`.
    pub(crate) async fn load(&self, table: &str, delegation: &str, token: &str) -> Result<Response> {
        let path = format!("/namespaces/ns/tables/{table}");
        let request = self.request(Method::GET, "default", &path, Some(token));
        Ok(request.header("X-Iceberg-Access-Delegation", delegation).send().await?)
    }

    /// A place in a table's folder.
    pub(crate) async fn place(&self, tenant: &str, table: &str, file: &str) -> Result<Path> {
        let path = format!("/namespaces/ns/tables/{table}");
        let loaded = self.ask(Method::GET, tenant, &path, &json!({})).await?;
        let location = loaded["metadata"]["location"].as_str().context("a location")?;
        let folder = location.strip_prefix(&format!("s3://{BUCKET}/")).context("in the bucket")?;
        Ok(Path::parse(format!("{folder}/{file}"))?)
    }

    /// The same, with a file there.
    pub(crate) async fn file(&self, tenant: &str, table: &str, file: &str) -> Result<Path> {
        let path = self.place(tenant, table, file).await?;
        self.s3.admin(BUCKET)?.put(&path, PutPayload::from_static(b"theirs")).await?;
        Ok(path)
    }
}
