//! The binary as a new user meets it: start, talk, stop, start again, and what it says when something is wrong.
#![allow(clippy::unwrap_used)]

#[path = "up/server.rs"]
mod server;
#[path = "up/soak.rs"]
mod soak;
#[path = "up/tls.rs"]
mod tls;

use std::{fs, net::TcpListener, path::Path};

use serde_json::Value;
use server::{Server, firn, stderr_of, stdout_of};

#[tokio::test]
async fn server_starts_answers_drains_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let banner = server.banner.clone();
    assert!(banner.contains("Operator token (shown once"), "{banner}");

    let env: Value = serde_json::from_str(&stdout_of(firn(&data, &["env", "--json"]))).unwrap();
    let url = env["FIRN_URL"].as_str().unwrap();
    assert_eq!((url, &env["FIRN_TENANT"]), (server.url.as_str(), &Value::from("default")));
    for path in ["/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(path, None).await.status(), 200, "{path}");
    }
    assert_eq!(server.get("/v1/status", None).await.status(), 401);
    let token = env["FIRN_TOKEN"].as_str();
    assert_eq!(server.get("/v1/status", token).await.status(), 200);
    assert_eq!(server.get("/nothing/here", token).await.status(), 404);

    let created = stdout_of(firn(&data, &["tenant", "create", "acme"]));
    assert!(created.contains("acme"), "{created}");
    server.stop();

    let refused = stderr_of(firn(&data, &["status"]), 1);
    assert!(refused.contains("no firn server runs on"), "{refused}");

    let again = Server::start(&data).await;
    assert!(!again.banner.contains("Operator token"), "{}", again.banner);
    let tenants = stdout_of(firn(&data, &["tenant", "ls"]));
    assert!(tenants.contains("acme") && tenants.contains("default"), "{tenants}");
}

#[tokio::test]
async fn branches_and_tags_go_by_themselves_from_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let run = |args: &[&str]| stdout_of(firn(&data, args));
    let created = run(&["branch", "create", "dev", "--expires", "30d"]);
    let (_, at) = created.trim().rsplit_once(' ').unwrap();
    assert!(created.contains("created branch dev") && created.contains("expires at 20"), "{created}");
    assert!(run(&["branch", "ls"]).contains(at));
    run(&["tag", "create", "v1"]);
    run(&["tag", "expire", "v1", "--after", "300ms"]);
    let started = std::time::Instant::now();
    while run(&["tag", "ls"]).contains("v1") {
        assert!(started.elapsed().as_secs() < 60, "the tag is never due");
        let pruned = run(&["tag", "prune"]);
        assert!(!pruned.contains("dev"), "{pruned}");
    }
    assert!(run(&["branch", "expire", "dev", "--never"]).contains("dev stays"));
    assert!(!run(&["branch", "ls"]).contains(at));
    let refused = stderr_of(firn(&data, &["branch", "expire", "main", "--after", "1d"]), 1);
    assert!(refused.contains("default branch"), "{refused}");
    let entries = run(&["audit", "--export"]);
    for action in ["reference-expiry-set", "reference-expired", "reference-expiry-unset"] {
        assert!(entries.contains(action), "{action}: {entries}");
    }
    server.stop();
}

#[tokio::test]
async fn second_server_and_used_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let refused = stderr_of(firn(&data, &["up", "--listen", "127.0.0.1:0"]), 1);
    assert!(refused.contains(&format!("process {}", server.pid())), "{refused}");

    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let refused = stderr_of(firn(&folder.path().join("other"), &["up", "--listen", &address]), 1);
    assert!(refused.contains(&address) && refused.contains("--listen"), "{refused}");
}

#[tokio::test]
async fn console_opens_once_by_link_and_shows_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let link = server.banner.split_whitespace().find(|word| word.contains("/console?token=")).unwrap();
    let path = link.strip_prefix(&server.url).unwrap();
    assert_eq!(server.get("/console", None).await.status(), 401);

    let opened = server.get(path, None).await;
    assert_eq!(opened.status(), 303);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = server.get_with_cookie("/console", &cookie).await;
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let text = page.text().await.unwrap();
    for expected in ["<h2>Pipeline</h2>", "<h3>gateway</h3>", "<h3>bronze</h3>", "Open findings"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert_eq!(server.get(path, None).await.status(), 401, "the link opened twice");
}

#[test]
fn wrong_configuration_is_status_2_and_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("firn.toml"), "[server]\nlistn = 'x'\n").unwrap();
    let error = stderr_of(firn(folder.path(), &["up"]), 2);
    assert!(error.contains("firn.toml:2: server.listn") && error.contains("'listen'"), "{error}");
    assert!(stderr_of(firn(folder.path(), &["doctor"]), 2).contains("server.listn"));
}

#[test]
fn other_formats_of_the_data_directory_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (format, expected) in [("9", "newer firn"), ("0", "older firn")] {
        fs::write(folder.path().join("FORMAT"), format).unwrap();
        let error = stderr_of(firn(folder.path(), &["up", "--listen", "127.0.0.1:0"]), 1);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn client_without_server_says_so() {
    let error = stderr_of(firn(Path::new("/nonexistent"), &["sql", "select 1"]), 1);
    assert!(error.contains("no firn server runs on /nonexistent"), "{error}");
}

#[tokio::test]
async fn tenants_clients_tokens_and_the_audit_log_from_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let run = |args: &[&str]| stdout_of(firn(&data, args));
    run(&[
        "tenant",
        "create",
        "acme",
        "--classification",
        "GDPR",
        "--tag",
        "team=blue",
        "--retain",
        "gold=30",
    ]);
    let shown: Value = serde_json::from_str(&run(&["tenant", "show", "acme"])).unwrap();
    assert_eq!((&shown["tags"]["team"], &shown["retention"]["gold_days"]), (&"blue".into(), &30.into()));
    let refused = stderr_of(firn(&data, &["tenant", "update", "acme", "--limit", "speed=1"]), 2);
    assert!(refused.contains("no limit"), "{refused}");

    let acme = ["--tenant", "acme"];
    let with = |args: &[&str]| run(&[args, &acme].concat());
    let made: Value = serde_json::from_str(&with(&["client", "create", "etl", "--role", "reader"])).unwrap();
    assert_eq!(made["client_id"], "acme/etl");
    let rotated: Value = serde_json::from_str(&with(&["client", "rotate", "etl"])).unwrap();
    assert!(rotated["client_secret"] != made["client_secret"] && rotated["former_until"].is_string());
    assert!(with(&["client", "ls"]).contains("acme/etl"));
    let token = with(&["token", "issue", "ann", "--role", "reader", "--ttl", "10m"]);
    let trees = "/nessie/acme/api/v2/trees";
    assert_eq!(server.get(trees, Some(token.trim())).await.status(), 200);
    with(&["token", "revoke", "--principal", "acme/ann", "--reason", "left"]);
    assert_eq!(server.get(trees, Some(token.trim())).await.status(), 401);
    with(&["access", "grant", "acme/etl", "--action", "write", "--on", "etl/*"]);
    with(&["access", "protect", "main"]);
    let rules: Value = serde_json::from_str(&with(&["access", "show"])).unwrap();
    assert_eq!(
        (&rules["grants"][0]["reference"], &rules["protections"][0]["reference"]),
        (&"etl/*".into(), &"main".into())
    );
    with(&["access", "ungrant", "acme/etl"]);
    with(&["access", "unprotect", "main"]);
    let entries: Vec<Value> =
        with(&["audit", "--export"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
    for action in [
        "tenant-created",
        "client-created",
        "client-rotated",
        "token-issued",
        "tokens-revoked",
        "access-changed",
    ] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
    assert!(entries.iter().all(|entry| !entry.to_string().contains(made["client_secret"].as_str().unwrap())));

    let token = with(&["token", "issue", "bob", "--role", "admin"]);
    run(&["tenant", "suspend", "acme", "--reason", "unpaid"]);
    for path in [
        trees,
        "/v1/tenants/acme/findings",
        "/v1/tenants/acme/promotions",
        "/v1/tenants/acme/ingest/positions",
    ] {
        let answer = server.get(path, Some(token.trim())).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.text().await.unwrap().contains("suspended (unpaid)"), "{path}");
    }
    run(&["tenant", "resume", "acme"]);
    run(&["tenant", "delete", "acme", "--grace", "1h"]);
    assert!(
        !run(&["tenant", "ls"]).contains("acme") && run(&["tenant", "ls", "--deleted"]).contains("deleted")
    );
    let early = stderr_of(firn(&data, &["tenant", "purge", "acme"]), 1);
    assert!(early.contains("restored until"), "{early}");
    run(&["tenant", "restore", "acme"]);
    assert_eq!(server.get(trees, Some(token.trim())).await.status(), 200);
}
