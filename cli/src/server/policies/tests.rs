#![allow(clippy::unwrap_used)]
use axum::http::{HeaderMap, header::AUTHORIZATION};
use firn_auth::{Claims, Grant, Guard, Role, SigningKey};
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{AccessRules, AuditEntry, TenantClient, TenantCreate};
use firn_runtime::http::REQUEST_ID;
use firn_tests::until;
use tokio::runtime::Runtime;

use super::*;
use crate::connection::MintedTokens;

const SOON: Duration = Duration::from_secs(30);

/// A catalog over HTTP, and another service's guard that asks it.
struct Pair {
    key: SigningKey,
    guard: Guard,
    /// An operator.
    catalog: CatalogClient,
    /// The catalog's own, so that it ends with all its connections.
    serving: Option<Runtime>,
    _folder: tempfile::TempDir,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop_catalog();
    }
}

impl Pair {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        };
        let serving = Runtime::new().unwrap();
        serving.spawn(async move {
            let catalog = Catalog::open(config).await.unwrap();
            let acme = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
            catalog.ensure_tenant(&acme).await.unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, catalog.router()).await.unwrap();
        });
        let client = |name| {
            let tokens = Arc::new(MintedTokens::service(key.clone(), name));
            CatalogClient::new(&url, tokens).unwrap()
        };
        let guard = Guard::new(key.verifier(), RemotePolicies::of(client("access")));
        Self { catalog: client("test"), guard, key, serving: Some(serving), _folder: folder }
    }

    fn stop_catalog(&mut self) {
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_background();
        }
    }

    async fn ask(&self, tenant: &str, action: Action, reference: &str) -> Result<(), Denied> {
        let tenants = [(tenant.parse().unwrap(), Role::Reader)].into();
        let token = self.key.sign(&Claims { tenants, ..Claims::new("acme/ann", Duration::from_secs(60)) });
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers.insert(REQUEST_ID, "request-7".parse().unwrap());
        let access = self.guard.authorize(&headers, tenant, action).await?;
        access.require_all(action, Some(reference))
    }

    fn acme(&self) -> TenantClient {
        self.catalog.tenant("acme")
    }

    async fn denied(&self) -> Vec<AuditEntry> {
        self.acme().audit(0, 100, &[("decision", "denied")]).await.unwrap().0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_of_the_catalog_hold_elsewhere_and_refusals_there_reach_its_audit_log() {
    let pair = Pair::start();
    pair.ask("acme", Action::Read, "main").await.unwrap();
    for _ in 0..3 {
        pair.ask("acme", Action::Write, "main").await.unwrap_err();
    }
    until("three refusals are in the audit log", SOON, async || {
        let entries = pair.denied().await;
        let count: u64 = entries.iter().filter_map(|entry| entry.details["count"].as_u64()).sum();
        if count == 3 { Ok(()) } else { Err(entries) }
    })
    .await
    .unwrap();
    let entry = pair.denied().await.remove(0);
    assert_eq!((entry.principal.as_str(), entry.action.as_str()), ("acme/ann", "write"));
    assert_eq!((entry.tenant.as_str(), entry.request_id.as_deref()), ("acme", Some("request-7")));
    assert_eq!(entry.details["reportedBy"], "service:access");

    let grant = Grant {
        principal: "acme/ann".to_owned(),
        actions: vec![Action::Write],
        reference: "etl/*".to_owned(),
        key: "**".to_owned(),
    };
    let version = pair.acme().access_rules().await.unwrap().version;
    let rules = AccessRules { version, grants: vec![grant], ..AccessRules::default() };
    pair.acme().set_access_rules(&rules).await.unwrap();
    until("the grant is known", SOON, || pair.ask("acme", Action::Write, "etl/x")).await.unwrap();
    pair.ask("acme", Action::Write, "main").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_catalog_what_was_known_holds_and_else_the_token_alone_decides() {
    let mut pair = Pair::start();
    pair.acme().suspend_tenant("unpaid").await.unwrap();
    let refused = pair.ask("acme", Action::Read, "main").await.unwrap_err();
    assert!(matches!(refused, Denied::Suspended(_)), "{refused}");
    pair.stop_catalog();
    // Known policies are asked for again after a second: then the catalog is away.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let refused = pair.ask("acme", Action::Read, "main").await.unwrap_err();
    assert!(matches!(refused, Denied::Suspended(_)), "{refused}");
    pair.ask("beta", Action::Read, "main").await.unwrap();
    pair.ask("beta", Action::Write, "main").await.unwrap_err();
}
