//! The binary as a new user meets it: start, talk, stop, start again, and what it says when something is wrong.
#![allow(clippy::unwrap_used)]

#[path = "up/server.rs"]
mod server;

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
