//! Agents of OCS Inventory's protocol, with the id and secret of a client of a real catalog.

use std::io::{Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::TenantCreate;
use serde_json::{Value, json};

use super::*;

const PROLOG: &str = "<REQUEST><DEVICEID>pc-1</DEVICEID><QUERY>PROLOG</QUERY></REQUEST>";
const INVENTORY: &str = "<REQUEST><CONTENT><HARDWARE><NAME>pc</NAME></HARDWARE><SOFTWARES><NAME>a</NAME></SOFTWARES>\
    <VERSIONCLIENT>FusionInventory-Agent_v2.6</VERSIONCLIENT></CONTENT><DEVICEID>pc-1</DEVICEID>\
    <QUERY>INVENTORY</QUERY></REQUEST>";

/// A gateway beside a catalog.
struct Agents {
    bench: Bench,
    url: String,
    _folder: TempDir,
}

impl Agents {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate();
        let catalog = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        })
        .await
        .unwrap();
        let request = TenantCreate { name: "acme".into(), ..TenantCreate::default() };
        catalog.ensure_tenant(&request).await.unwrap();
        let router = catalog.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let bench = Bench::over(GatewayConfig::default(), &url, key);
        ensure_inventory_topic(bench.log.as_ref()).await.unwrap();
        Self { bench, url, _folder: folder }
    }

    /// Makes a client, and answers its `Authorization` header.
    async fn client(&self, name: &str, role: &str, host: Option<&str>) -> String {
        let body = json!({"name": name, "role": role, "scopes": ["inventory:write"], "host": host});
        let token = self.bench.key.service_token("test", HOUR);
        let url = format!("{}/v1/tenants/acme/clients", self.url);
        let http = reqwest::Client::new();
        let answer = http.post(url).bearer_auth(token).json(&body).send().await.unwrap();
        let client: Value = answer.json().await.unwrap();
        let (id, secret) = (client["client_id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());
        basic(id, secret)
    }

    async fn remove(&self, name: &str) {
        let token = self.bench.key.service_token("test", HOUR);
        let url = format!("{}/v1/tenants/acme/clients/{name}", self.url);
        assert_eq!(reqwest::Client::new().delete(url).bearer_auth(token).send().await.unwrap().status(), 204);
    }

    async fn send(&self, authorization: &str, body: impl Into<Body>) -> Reply {
        self.send_to("ocs", authorization, body).await
    }

    async fn send_to(&self, protocol: &str, authorization: &str, body: impl Into<Body>) -> Reply {
        let mut request = Request::post(format!("/v1/tenants/acme/agents/{protocol}"));
        if !authorization.is_empty() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.bench.gateway.router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Reply { status, headers, body: body.to_vec() }
    }
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn unzlib(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn agent_is_asked_who_it_is_then_told_to_send_then_heard() {
    let agents = Agents::new().await;
    let secret = agents.client("agent", "agent", None).await;
    let asked = agents.send("", zlib(PROLOG)).await;
    assert_eq!(
        (asked.status, &asked.headers[header::WWW_AUTHENTICATE] == "Basic realm=\"firn\""),
        (401, true)
    );
    let prolog = agents.send(&secret, zlib(PROLOG)).await;
    assert_eq!(prolog.status, 200);
    assert!(unzlib(&prolog.body).contains("<RESPONSE>SEND</RESPONSE>"));
    assert_eq!(agents.bench.records().await.len(), 0);

    let taken = agents.send(&secret, zlib(INVENTORY)).await;
    assert_eq!(taken.status, 200);
    assert!(unzlib(&taken.body).contains("<REPLY>"));
    assert_eq!(agents.send(&secret, INVENTORY).await.status, 200, "uncompressed as well");
    let [stored, _] = &agents.bench.records().await[..] else { panic!("two records") };
    assert_eq!(stored.key.as_deref(), Some(&b"acme/pc-1"[..]));
    let record = firn_inventory::decode(stored.value.as_deref().unwrap()).unwrap();
    assert_eq!(record.inventory.software.unwrap()[0].name, "a");

    let broken = agents.send(&secret, zlib("<REQUEST>")).await;
    assert_eq!(broken.status, 422);
    assert!(String::from_utf8(broken.body).unwrap().contains("ends too early"));
    assert_eq!(agents.send(&secret, zlib(INVENTORY)[..20].to_vec()).await.status, 400);
}

#[tokio::test]
async fn agent_of_glpi_learns_its_protocol_and_is_heard_in_it() {
    let agents = Agents::new().await;
    let secret = agents.client("agent", "agent", Some("pc-1")).await;
    let inventory = |device: &str, partial: bool| {
        let content = json!({"versionclient": "GLPI-Agent_v1.11", "hardware": {"name": "pc"}});
        let message = json!({"action": "inventory", "deviceid": device, "itemtype": "Computer", "partial": partial,
            "content": content});
        zlib(&message.to_string())
    };
    let asked = agents.send_to("glpi", "", zlib(PROLOG)).await;
    let challenged = &asked.headers[header::WWW_AUTHENTICATE] == "Basic realm=\"firn\"";
    assert_eq!((asked.status, asked.json()["status"].as_str(), challenged), (401, Some("error"), true));
    for contact in [PROLOG, r#"{"action":"contact","deviceid":"pc-1"}"#] {
        let answer = agents.send_to("glpi", &secret, zlib(contact)).await;
        let told = answer.json();
        assert_eq!((answer.status, &told["status"]), (200, &json!("ok")), "{contact}");
        assert_eq!(told["tasks"]["inventory"]["server"], "glpi", "it needn't ask in the older protocol");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    }
    assert_eq!(agents.bench.records().await.len(), 0);

    let taken = agents.send_to("glpi", &secret, inventory("pc-1", false)).await;
    assert_eq!((taken.status, &taken.json()["status"]), (200, &json!("ok")));
    let [stored] = &agents.bench.records().await[..] else { panic!("one record") };
    assert_eq!(stored.key.as_deref(), Some(&b"acme/pc-1"[..]));
    let source = stored.headers.iter().find(|(name, _)| name == SOURCE_HEADER);
    assert_eq!(source.map(|(_, value)| value.as_ref()), Some(&b"glpi"[..]));

    let refused = agents.send_to("glpi", &secret, inventory("pc-2", false)).await;
    assert_eq!(refused.status, 403, "bound to another host");
    assert!(refused.json()["message"].as_str().unwrap().contains("bound"), "{}", refused.json());
    let partial = agents.send_to("glpi", &secret, inventory("pc-1", true)).await;
    assert_eq!(partial.status, 422);
    assert!(partial.json()["message"].as_str().unwrap().contains("full-inventory-postpone"));
    assert_eq!(agents.send_to("glpi", &secret, zlib(INVENTORY)).await.status, 422, "XML");
    assert_eq!(agents.send_to("glpi", &secret, inventory("pc-1", false)[..20].to_vec()).await.status, 400);
    assert_eq!(agents.bench.records().await.len(), 1);
}

#[tokio::test]
async fn secrets_open_no_more_than_they_should() {
    let agents = Agents::new().await;
    let bound = agents.client("bound", "agent", Some("pc-1")).await;
    let other = agents.client("other", "agent", Some("pc-2")).await;
    let writer = agents.client("writer", "writer", None).await;
    assert_eq!(agents.send(&bound, INVENTORY).await.status, 200);
    assert_eq!(agents.send(&other, INVENTORY).await.status, 403, "bound to another host");
    assert_eq!(agents.send(&writer, INVENTORY).await.status, 403, "it may do more than upload");
    assert_eq!(agents.send(&basic("acme/bound", "wrong"), INVENTORY).await.status, 401);
    assert_eq!(agents.send("Basic ???", INVENTORY).await.status, 401);
    assert_eq!(agents.bench.records().await.len(), 1);

    let late = agents.client("late", "agent", None).await;
    agents.remove("late").await;
    assert_eq!(agents.send(&late, INVENTORY).await.status, 401);

    let foreign = Request::post("/v1/tenants/other/inventory").header(header::AUTHORIZATION, &bound);
    assert_eq!(agents.bench.send(foreign, r#"{"host_id":"pc-1"}"#).await.status, 403);
    let native = Request::post("/v1/tenants/acme/inventory").header(header::AUTHORIZATION, &bound);
    assert_eq!(agents.bench.send(native, r#"{"host_id":"pc-1"}"#).await.status, 202, "any upload takes it");
}

#[tokio::test]
async fn catalog_that_is_away_is_no_wrong_secret() {
    let bench = Bench::new(GatewayConfig::default()).await;
    let request =
        Request::post("/v1/tenants/acme/inventory").header(header::AUTHORIZATION, basic("acme/a", "b"));
    let answer = bench.send(request, r#"{"host_id":"a"}"#).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}
