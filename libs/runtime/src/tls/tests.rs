#![allow(clippy::unwrap_used)]
use std::{path::Path, time::Duration};

use axum::{Router, routing::get};
use firn_tests::{Authority, Certificate};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{http, with_causes};

const NAMES: &[&str] = &["IP:127.0.0.1"];

fn file(path: &Path) -> Option<SecretRef> {
    Some(SecretRef::File(path.to_owned()))
}

/// Settings of a listener that shows `shown`.
fn showing(shown: &Certificate) -> TlsConfig {
    TlsConfig { certificate: file(&shown.certificate), key: file(&shown.key), ..TlsConfig::default() }
}

/// Settings of a client that trusts an authority.
fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig { ca: file(&authority.file()), ..TlsConfig::default() }
}

/// Serves `/` with TLS; answers where.
async fn serve(tls: &Tls) -> String {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", tcp.local_addr().unwrap());
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        "done"
    };
    let routes = Router::new().route("/", get(|| async { "fine" })).route("/slow", get(slow));
    let listener = TlsListener::new(tcp, tls.clone());
    tokio::spawn(http::serve(listener, routes, CancellationToken::new(), Duration::ZERO));
    url
}

/// What a fresh connection gets: the answer, or why there is none with what to do about it.
async fn ask(builder: reqwest::ClientBuilder, url: &str) -> Result<String, String> {
    let said = |error: reqwest::Error| format!("{}; {}", with_causes(&error), advice(&error).unwrap_or("?"));
    let answer = builder.no_proxy().build().unwrap().get(url).send().await.map_err(said)?;
    answer.text().await.map_err(said)
}

#[tokio::test]
async fn who_trusts_the_authority_is_served_and_nobody_else() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let url = serve(&Tls::of_server(&showing(&ours.issue("a", NAMES).unwrap())).unwrap()).await;
    let trusts = Tls::of_client(&trusting(&ours)).unwrap();
    assert_eq!(ask(trusts.outside(), &url).await.unwrap(), "fine");
    assert_eq!(ask(trusts.inside(), &url).await.unwrap(), "fine");
    for stranger in [Tls::of_client(&trusting(&theirs)).unwrap(), Tls::default()] {
        let error = ask(stranger.outside(), &url).await.unwrap_err();
        assert!(error.contains("tls.ca"), "{error}");
    }
}

#[tokio::test]
async fn certificate_for_another_name_is_refused_except_the_process_s_own() {
    let authority = Authority::new().unwrap();
    let config = TlsConfig {
        ca: file(&authority.file()),
        ..showing(&authority.issue("a", &["DNS:lake.example.org"]).unwrap())
    };
    let server = Tls::of_server(&config).unwrap();
    let url = serve(&server).await;
    let error = ask(Tls::of_client(&trusting(&authority)).unwrap().inside(), &url).await.unwrap_err();
    assert!(error.contains("other names"), "{error}");
    assert_eq!(ask(server.inside(), &url).await.unwrap(), "fine");
    // Another certificate of that name is somebody else's.
    let impostor = authority.issue("b", &["DNS:lake.example.org"]).unwrap();
    let theirs = serve(&Tls::of_server(&showing(&impostor)).unwrap()).await;
    assert!(ask(server.inside(), &theirs).await.is_err());
    // A client beside the server has what its settings say, but for the key.
    let beside = Tls::of_client(&TlsConfig { key: None, ..config }).unwrap();
    assert_eq!(ask(beside.inside(), &url).await.unwrap(), "fine");
}

#[tokio::test]
async fn plain_http_is_told_to_use_https_and_https_of_a_plain_port_to_use_http() {
    let authority = Authority::new().unwrap();
    let url = serve(&Tls::of_server(&showing(&authority.issue("a", NAMES).unwrap())).unwrap()).await;
    let answer = reqwest::get(url.replace("https", "http")).await.unwrap();
    assert_eq!(answer.status(), 400);
    let body: http::ErrorBody = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert!(body.error.message.contains("https://"), "{body:?}");

    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}", tcp.local_addr().unwrap());
    tokio::spawn(http::serve(tcp, Router::new(), CancellationToken::new(), Duration::ZERO));
    let error = ask(Tls::of_client(&trusting(&authority)).unwrap().outside(), &plain).await.unwrap_err();
    assert!(error.contains("use http://"), "{error}");
}

#[tokio::test]
async fn listener_with_client_ca_serves_only_who_shows_a_certificate_of_it() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let mutual = TlsConfig {
        client_ca: file(&ours.file()),
        ca: file(&ours.file()),
        ..showing(&ours.issue("a", NAMES).unwrap())
    };
    let server = Tls::of_server(&mutual).unwrap();
    let url = serve(&server).await;
    let client = |issued: Option<Certificate>| {
        let (certificate, key) = match issued {
            Some(issued) => (file(&issued.certificate), file(&issued.key)),
            None => (None, None),
        };
        let config = TlsConfig { client_certificate: certificate, client_key: key, ..trusting(&ours) };
        Tls::of_client(&config).unwrap()
    };
    let known = client(Some(ours.issue("b", NAMES).unwrap()));
    assert_eq!(ask(known.inside(), &url).await.unwrap(), "fine");
    // It isn't shown to others who ask.
    assert!(ask(known.outside(), &url).await.is_err());
    let error = ask(client(None).inside(), &url).await.unwrap_err();
    assert!(error.contains("--client-cert"), "{error}");
    assert!(ask(client(Some(theirs.issue("c", NAMES).unwrap())).inside(), &url).await.is_err());
    // The process reaches itself without more settings.
    assert_eq!(ask(server.inside(), &url).await.unwrap(), "fine");
}

#[tokio::test]
async fn reload_takes_the_new_certificate_while_requests_run_and_a_bad_one_changes_nothing() {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let shown = old.issue("a", NAMES).unwrap();
    let server = Tls::of_server(&showing(&shown)).unwrap();
    let url = serve(&server).await;
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(old.file(), trusted.path()).unwrap();
    let client = Tls::of_client(&TlsConfig { ca: file(trusted.path()), ..TlsConfig::default() }).unwrap();
    // One connection that lasts through everything, as a pool keeps it.
    let lasting = client.outside().no_proxy().build().unwrap();
    let slow = format!("{url}/slow");
    let stop = CancellationToken::new();
    let (ended, asked) = (stop.clone(), slow.clone());
    let requests = tokio::spawn(async move {
        let mut answered = 0;
        while !ended.is_cancelled() {
            assert_eq!(lasting.get(&asked).send().await.unwrap().text().await.unwrap(), "done");
            answered += 1;
        }
        answered
    });
    assert_eq!(ask(client.outside(), &slow).await.unwrap(), "done");

    let key = std::fs::read(&shown.key).unwrap();
    std::fs::write(&shown.key, "not a key").unwrap();
    assert_eq!(server.reload().unwrap_err().setting, "tls.key");
    assert_eq!(ask(client.outside(), &slow).await.unwrap(), "done");
    std::fs::write(&shown.key, key).unwrap();

    shown.replace_with(&new.issue("a", NAMES).unwrap()).unwrap();
    server.reload().unwrap();
    assert!(ask(client.outside(), &slow).await.unwrap_err().contains("tls.ca"));
    std::fs::copy(new.file(), trusted.path()).unwrap();
    client.reload().unwrap();
    assert_eq!(ask(client.outside(), &slow).await.unwrap(), "done");
    stop.cancel();
    assert!(requests.await.unwrap() > 2);
}

#[test]
fn what_can_not_be_used_is_an_error_that_names_setting_and_file() {
    let authority = Authority::new().unwrap();
    let (good, other) = (authority.issue("a", NAMES).unwrap(), authority.issue("b", NAMES).unwrap());
    let ended = authority.issue_for("c", NAMES, -1).unwrap();
    let absent = file(Path::new("/nonexistent/x.pem"));
    let wrong =
        |config: TlsConfig| Tls::of_server(&config).err().map(|error| error.to_string()).unwrap_or_default();
    let ok = || showing(&good);
    for (config, want) in [
        (TlsConfig { key: None, ..ok() }, ["tls.key: ", "needed beside tls.certificate"]),
        (TlsConfig { certificate: None, ..ok() }, ["tls.certificate: ", "needed beside tls.key"]),
        (TlsConfig { key: file(&other.key), ..ok() }, ["tls.key: ", "b.key is not the key to"]),
        (TlsConfig { key: file(&good.certificate), ..ok() }, ["tls.key: ", "holds no private key"]),
        (TlsConfig { certificate: file(&good.key), ..ok() }, ["tls.certificate: ", "holds no certificate"]),
        (TlsConfig { certificate: absent.clone(), ..ok() }, ["tls.certificate: ", "/nonexistent/x.pem"]),
        (showing(&ended), ["tls.certificate: ", "c.pem: the certificate ended at 20"]),
        (TlsConfig { client_ca: absent.clone(), ..ok() }, ["tls.client_ca: ", "/nonexistent/x.pem"]),
        (TlsConfig { ca: file(&good.key), ..ok() }, ["tls.ca: ", "holds no certificate"]),
        (
            TlsConfig { client_ca: file(&authority.file()), ..TlsConfig::default() },
            ["tls.certificate: ", "needed"],
        ),
        (TlsConfig { client_key: file(&good.key), ..ok() }, ["tls.client_certificate: ", "needed beside"]),
        (
            TlsConfig { client_certificate: absent, client_key: file(&good.key), ..ok() },
            ["tls.client_certificate: ", "/nonexistent/x.pem"],
        ),
    ] {
        let error = wrong(config);
        assert!(error.starts_with(want[0]) && error.contains(want[1]), "{want:?}: {error}");
    }
}
