//! Every route of the server, asked by everybody who could ask: the answer is what the table says. Routes are taken from the
//! router itself, so one that isn't in the table fails the test.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::Router;
use firn_auth::{Action, Claims, Role, SigningKey};
use firn_runtime::{health::Readiness, metrics, tls::Tls};
use reqwest::{Client, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{Plan, Service, listen, open, router, stages::Services};
use crate::{data_dir::DataDir, settings::Settings};

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Anybody, with or without a token.
    Anybody,
    /// Whoever has a valid token.
    Token,
    /// Operators.
    Operator,
    /// Whoever may do this in the tenant.
    Tenant(Action),
    /// Whoever has the console's cookie: bearer tokens make no difference.
    Console,
}

use Rule::{Anybody, Console, Operator, Tenant, Token};

const READ: Rule = Tenant(Action::Read);
const WRITE: Rule = Tenant(Action::Write);
const MERGE: Rule = Tenant(Action::Merge);
const MAINTAIN: Rule = Tenant(Action::Maintain);
const ADMINISTER: Rule = Tenant(Action::Administer);
const UPLOAD: Rule = Tenant(Action::Upload);
const VISIT: Rule = Tenant(Action::Visit);

#[rustfmt::skip]
const TABLE: &[(&str, &str, Rule)] = &[
    ("GET", "/health/live", Anybody),
    ("GET", "/health/ready", Anybody),
    ("GET", "/metrics", Anybody),
    ("GET", "/openapi.json", Anybody),
    ("GET", "/console", Console),
    ("POST", "/console/login", Console),
    ("POST", "/console/logout", Console),
    ("GET", "/console/style.css", Anybody),
    ("GET", "/v1/status", Token),

    ("GET", "/v1/tenants", Token),
    ("POST", "/v1/tenants", Operator),
    ("GET", "/v1/tenants/{tenant}", VISIT),
    ("PATCH", "/v1/tenants/{tenant}", Operator),
    ("DELETE", "/v1/tenants/{tenant}", Operator),
    ("POST", "/v1/tenants/{tenant}/suspend", Operator),
    ("POST", "/v1/tenants/{tenant}/resume", Operator),
    ("POST", "/v1/tenants/{tenant}/restore", Operator),
    ("POST", "/v1/tenants/{tenant}/purge", Operator),
    ("POST", "/v1/tenants/{tenant}/provision", Operator),
    ("POST", "/v1/tenants/{tenant}/leases/{name}", MAINTAIN),
    ("DELETE", "/v1/tenants/{tenant}/leases/{name}", MAINTAIN),
    ("GET", "/v1/tenants/{tenant}/clients", ADMINISTER),
    ("POST", "/v1/tenants/{tenant}/clients", ADMINISTER),
    ("DELETE", "/v1/tenants/{tenant}/clients/{name}", ADMINISTER),
    ("POST", "/v1/tenants/{tenant}/clients/{name}/rotate", ADMINISTER),
    ("POST", "/v1/tenants/{tenant}/tokens", ADMINISTER),
    ("GET", "/v1/tenants/{tenant}/access", ADMINISTER),
    ("PUT", "/v1/tenants/{tenant}/access", ADMINISTER),
    ("GET", "/v1/tenants/{tenant}/policy", Operator),
    ("POST", "/v1/tenants/{tenant}/revocations", ADMINISTER),
    ("POST", "/v1/revocations", Operator),
    ("POST", "/v1/refusals", Operator),
    ("GET", "/v1/tenants/{tenant}/audit", ADMINISTER),
    ("GET", "/v1/tenants/{tenant}/events", READ),
    ("GET", "/v1/events", Operator),
    ("GET", "/v1/suspensions", Token),
    ("POST", "/v1/tenants/{tenant}/suspensions/{stage}", MAINTAIN),
    ("DELETE", "/v1/tenants/{tenant}/suspensions/{stage}", MAINTAIN),
    ("GET", "/v1/tenants/{tenant}/gc", READ),
    ("POST", "/v1/tenants/{tenant}/gc", MAINTAIN),
    ("GET", "/v1/tenants/{tenant}/expiries", READ),
    ("POST", "/v1/tenants/{tenant}/expiries", MAINTAIN),
    ("PUT", "/v1/tenants/{tenant}/expiries/{ref}", Tenant(Action::DeleteReference)),
    ("DELETE", "/v1/tenants/{tenant}/expiries/{ref}", Tenant(Action::DeleteReference)),
    ("GET", "/v1/tenants/{tenant}/metrics-reports", READ),
    ("GET", "/v1/keys", Anybody),
    ("GET", "/v1/erasures", Operator),
    ("GET", "/v1/tenants/{tenant}/erasures", ADMINISTER),
    ("POST", "/v1/tenants/{tenant}/erasures", ADMINISTER),
    ("GET", "/v1/tenants/{tenant}/erasures/{id}", ADMINISTER),
    ("PUT", "/v1/tenants/{tenant}/erasures/{id}", Operator),
    ("GET", "/v1/tenants/{tenant}/holds", ADMINISTER),
    ("POST", "/v1/tenants/{tenant}/holds", ADMINISTER),
    ("DELETE", "/v1/tenants/{tenant}/holds/{id}", ADMINISTER),

    ("POST", "/v1/tenants/{tenant}/inventory", UPLOAD),
    ("POST", "/v1/tenants/{tenant}/agents/ocs", UPLOAD),
    ("POST", "/v1/tenants/{tenant}/agents/glpi", UPLOAD),
    ("GET", "/v1/tenants/{tenant}/ingest/positions", READ),
    ("POST", "/v1/tenants/{tenant}/ingest/positions/forget", MAINTAIN),
    ("POST", "/v1/tenants/{tenant}/ingest/replay", MAINTAIN),
    ("GET", "/v1/tenants/{tenant}/promotions", READ),
    ("GET", "/v1/tenants/{tenant}/models", READ),
    ("GET", "/v1/tenants/{tenant}/findings", READ),
    ("GET", "/v1/tenants/{tenant}/findings/{id}", READ),
    ("POST", "/v1/tenants/{tenant}/findings/{id}/acknowledge", MAINTAIN),
    ("POST", "/v1/tenants/{tenant}/findings/{id}/snooze", MAINTAIN),
    ("POST", "/v1/tenants/{tenant}/findings/{id}/comment", MAINTAIN),
    ("POST", "/v1/tenants/{tenant}/findings/{id}/assign", MAINTAIN),
    ("POST", "/v1/tenants/{tenant}/hosts/{host}/retire", MAINTAIN),

    ("GET", "/iceberg/v1/config", READ),
    ("POST", "/iceberg/v1/oauth/tokens", Anybody),
    ("ANY", "/iceberg/{*rest}", Anybody),
    ("GET", "/iceberg/v1/{prefix}/namespaces", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces", WRITE),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}", READ),
    ("DELETE", "/iceberg/v1/{prefix}/namespaces/{namespace}", WRITE),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/properties", WRITE),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables", WRITE),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/register", WRITE),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}", WRITE),
    ("DELETE", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}", WRITE),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister", WRITE),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", READ),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/sign", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", READ),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", READ),
    ("DELETE", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks", READ),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/functions", READ),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/functions/{function}", READ),
    ("POST", "/iceberg/v1/{prefix}/tables/rename", WRITE),
    ("POST", "/iceberg/v1/{prefix}/transactions/commit", WRITE),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/views", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/views", WRITE),
    ("GET", "/iceberg/v1/{prefix}/namespaces/{namespace}/views/{view}", READ),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/views/{view}", WRITE),
    ("DELETE", "/iceberg/v1/{prefix}/namespaces/{namespace}/views/{view}", WRITE),
    ("POST", "/iceberg/v1/{prefix}/views/rename", WRITE),
    ("POST", "/iceberg/v1/{prefix}/namespaces/{namespace}/register-view", WRITE),

    ("GET", "/nessie/{tenant}/api/v2/config", READ),
    ("GET", "/nessie/{tenant}/api/v2/trees", READ),
    ("POST", "/nessie/{tenant}/api/v2/trees", Tenant(Action::CreateReference)),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}", READ),
    ("PUT", "/nessie/{tenant}/api/v2/trees/{ref}", Tenant(Action::AssignReference)),
    ("DELETE", "/nessie/{tenant}/api/v2/trees/{ref}", Tenant(Action::DeleteReference)),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/entries", READ),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/contents", READ),
    ("POST", "/nessie/{tenant}/api/v2/trees/{ref}/contents", READ),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/contents/{key}", READ),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/history", READ),
    ("POST", "/nessie/{tenant}/api/v2/trees/{ref}/history/commit", WRITE),
    ("POST", "/nessie/{tenant}/api/v2/trees/{ref}/history/merge", MERGE),
    ("POST", "/nessie/{tenant}/api/v2/trees/{ref}/history/transplant", MERGE),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/recent-changes", READ),
    ("GET", "/nessie/{tenant}/api/v2/trees/{ref}/diff/{to}", READ),
];

/// Methods and paths of all routes.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().map(|(method, path, _)| (*method, *path))
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    /// With a token of another key.
    Forger,
    /// An administrator of another tenant.
    Stranger,
    Member(Role),
    Operator,
}

const CALLERS: [Caller; 9] = [
    Caller::Nobody,
    Caller::Forger,
    Caller::Stranger,
    Caller::Member(Role::Agent),
    Caller::Member(Role::Reader),
    Caller::Member(Role::Writer),
    Caller::Member(Role::Maintainer),
    Caller::Member(Role::Admin),
    Caller::Operator,
];

impl Caller {
    fn token(self, key: &SigningKey, tenant: &str) -> Option<String> {
        let mut claims = Claims::new("caller", Duration::from_secs(600));
        match self {
            Self::Nobody => return None,
            Self::Forger => return Some(SigningKey::generate().sign(&Claims { operator: true, ..claims })),
            Self::Stranger => drop(claims.tenants.insert("stranger".parse().unwrap(), Role::Admin)),
            Self::Member(role) => drop(claims.tenants.insert(tenant.parse().unwrap(), role)),
            Self::Operator => claims.operator = true,
        }
        Some(key.sign(&claims))
    }

    /// The refusal that the caller gets, or `None` if the request goes on to what it is about.
    fn refusal(self, rule: Rule) -> Option<StatusCode> {
        match (rule, self) {
            (Rule::Anybody | Rule::Console, _) => None,
            (_, Self::Nobody | Self::Forger) => Some(StatusCode::UNAUTHORIZED),
            (Rule::Token, _) | (_, Self::Operator) => None,
            (Rule::Tenant(action), Self::Member(role)) if role >= action.role() => None,
            _ => Some(StatusCode::FORBIDDEN),
        }
    }
}

/// Paths as they were registered. The router tells them to nobody but who prints it.
fn paths(router: &Router) -> BTreeSet<String> {
    let printed = format!("{router:?}");
    let printed = printed.split("fallback_router").next().unwrap();
    let entries = printed.split("RouteId(").filter_map(|rest| {
        let (_, rest) = rest.split_once("): \"")?;
        let (path, _) = rest.split_once('"')?;
        Some(path.to_owned())
    });
    entries.filter(|path| path.starts_with('/') && !path.contains("__private")).collect()
}

fn filled(path: &str, tenant: &str) -> String {
    let part = |part: &str| match part {
        "{tenant}" | "{prefix}" => tenant.to_owned(),
        "{ref}" | "{to}" => "main".to_owned(),
        "{stage}" => "ingest".to_owned(),
        part if part.starts_with('{') => "x".to_owned(),
        part => part.to_owned(),
    };
    let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
    match path.as_str() {
        "/iceberg/v1/config" => format!("{path}?warehouse={tenant}"),
        _ => path,
    }
}

struct Bench {
    url: String,
    http: Client,
    key: SigningKey,
}

impl Bench {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        tenant: &str,
        token: Option<String>,
    ) -> (StatusCode, String) {
        let method: Method = if method == "ANY" { Method::GET } else { method.parse().unwrap() };
        let mut request = self.http.request(method.clone(), format!("{}{}", self.url, filled(path, tenant)));
        if method != Method::GET {
            request = request.header("content-type", "application/json").body("{}");
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_the_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let locked = DataDir::new(folder.path()).lock().unwrap();
    let (listener, address) = listen::bind("127.0.0.1:0", false).await.unwrap();
    let url = listen::url_of(address, false);
    let key = locked.signing_key_or_new(None).unwrap();
    let (settings, dir) = (Settings::default(), locked.dir.clone());
    let plan = Plan { services: Service::ALL, settings, tls: Tls::default(), dir, key, patient: false };
    let (readiness, signal) = (Readiness::waiting_for("the test"), CancellationToken::new());
    let server = open::server(plan, address, readiness, metrics::install().unwrap(), &signal).await.unwrap();
    let router = router::of(&server, &Services::new(&server).unwrap(), &signal).unwrap();
    let catalog = server.catalog.clone().unwrap();
    let known = paths(&router);
    assert!(known.len() > 50, "the router prints itself otherwise than it did: {router:?}");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let bench = Bench { url, http: Client::new(), key: server.key.clone() };

    // The methods of each path: the router names them when it is asked for another one.
    let mut routes = BTreeSet::new();
    for path in &known {
        let address = format!("{}{}", bench.url, filled(path, "stranger"));
        let answer = bench.http.request(Method::OPTIONS, address).send().await.unwrap();
        match answer.headers().get("allow").and_then(|allow| allow.to_str().ok()) {
            Some(allow) => {
                let methods = allow.split(',').map(str::trim).filter(|method| *method != "HEAD");
                routes.extend(methods.map(|method| (method.to_owned(), path.clone())));
            }
            None => drop(routes.insert(("ANY".to_owned(), path.clone()))),
        }
    }
    let table: BTreeMap<(String, String), Rule> = TABLE
        .iter()
        .map(|(method, path, rule)| (((*method).to_owned(), (*path).to_owned()), *rule))
        .collect();
    let listed: BTreeSet<_> = table.keys().cloned().collect();
    let unlisted: Vec<_> = routes.difference(&listed).collect();
    assert!(unlisted.is_empty(), "say in the table who may: {unlisted:?}");
    let gone: Vec<_> = listed.difference(&routes).collect();
    assert!(gone.is_empty(), "the table has routes that are not there: {gone:?}");

    let mut wrong = Vec::new();
    // Each route has a tenant of its own, since some of them end one.
    for (number, ((method, path), rule)) in table.iter().enumerate() {
        let tenant = format!("t-{number}");
        for name in [tenant.as_str(), "stranger"] {
            let request = firn_catalog_client::TenantCreate { name: name.to_owned(), ..Default::default() };
            catalog.ensure_tenant(&request).await.unwrap();
        }
        for caller in CALLERS {
            let token = caller.token(&bench.key, &tenant);
            let (status, body) = bench.ask(method, path, &tenant, token).await;
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let fits = match caller.refusal(*rule) {
                Some(refusal) => status == refusal,
                None if *rule == Rule::Console => true,
                None => !refused,
            };
            if !fits {
                wrong.push(format!("{method} {path}, asked by {caller:?}: {status} {body}"));
            }
        }
        // Another tenant can't be told from none, nor from a name that can't be.
        if let Rule::Tenant(_) = rule {
            let ask = |name: &'static str| {
                bench.ask(method, path, name, Caller::Stranger.token(&bench.key, "stranger"))
            };
            let there =
                bench.ask(method, path, &tenant, Caller::Stranger.token(&bench.key, "stranger")).await;
            let nowhere = ask("nobody").await;
            let same = there.1.replace(&tenant, "nobody") == nowhere.1 && there.0 == nowhere.0;
            if !same {
                wrong.push(format!("{method} {path} tells tenants apart: {there:?}, {nowhere:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serving.abort();
}
