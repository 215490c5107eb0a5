//! The services speak mutual TLS with each other, with the database and with clients, and take new certificates as they run.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use firn_auth::{Claims, SigningKey};
use firn_tests::{Authority, Services, free_port, until};

const DEADLINE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn inventories_reach_bronze_over_mutual_tls_and_certificates_change_meanwhile() -> Result<()> {
    let (catalog, gateway, ingest) = (free_port()?, free_port()?, free_port()?);
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let (of_catalog, of_ingest) = (url(catalog), url(ingest));
    let mut servers = Services::prepare(&[("catalog.url", &of_catalog), ("ingest.url", &of_ingest)]).await?;
    servers.speak_tls().await?;
    let mut running = Vec::new();
    for (name, port) in [("catalog", catalog), ("gateway", gateway), ("ingest", ingest)] {
        running.push(servers.launch(name, port, "0", &[])?);
    }
    for service in &mut running {
        service.ready().await?;
    }
    let entry = url(gateway);
    servers.open_tenant(&entry, "acme")?;
    ensure!(servers.env["FIRN_CA"].ends_with("ca.pem"), "{:?}", servers.env);
    let simulate = ["simulate", "--devices", "5", "--rate", "100", "--count", "50", "--seed", "3"];
    servers.run(&simulate)?;
    servers.until_count("select count(*) from bronze.inventory", 50, DEADLINE).await?;
    let positions = servers.run(&["ingest", "positions"])?;
    ensure!(positions.contains("inventory"), "the gateway passes on to ingest: {positions}");

    strangers_are_refused(&servers, &entry).await?;
    a_container_asks_about_itself(&servers, catalog)?;

    // Whoever rotates certificates replaces the files; no process is told.
    let (authority, shown) = servers.tls().context("the services speak TLS")?;
    let before = certificate_end(&servers, &entry).await?;
    shown.replace_with(&authority.issue_for("next", &["IP:127.0.0.1"], 90)?)?;
    until("the new certificate is shown", DEADLINE, async || {
        let end = certificate_end(&servers, &entry).await?;
        ensure!(end > before + 50.0 * 86_400.0, "{end}, as before");
        Ok(())
    })
    .await?;
    servers.run(&simulate)?;
    servers.until_count("select count(*) from bronze.inventory", 100, DEADLINE).await?;
    signing_keys_change(&mut servers, &[&of_catalog, &entry, &of_ingest]).await?;
    servers.run(&simulate)?;
    servers.until_count("select count(*) from bronze.inventory", 150, DEADLINE).await?;
    for service in &mut running {
        service.stop().await?;
    }
    Ok(())
}

/// With an overlap, so that nothing is refused meanwhile; then tokens of the old key end.
async fn signing_keys_change(servers: &mut Services, urls: &[&String]) -> Result<()> {
    let file = servers.dir().join("signing.pem");
    let (old, new) = (SigningKey::from_pem(&std::fs::read_to_string(&file)?)?, SigningKey::generate());
    let token = |key: &SigningKey| {
        key.sign(&Claims { operator: true, ..Claims::new("operator", Duration::from_secs(600)) })
    };
    let (by_old, by_new) = (token(&old), token(&new));
    let answer = async |servers: &Services, token: &str, wanted: u16| {
        until("all services took the keys", DEADLINE, async || {
            for url in urls {
                let status =
                    servers.http().get(format!("{url}/v1/status")).bearer_auth(token).send().await?.status();
                ensure!(status == wanted, "{url}: {status}");
            }
            Ok(())
        })
        .await
    };
    std::fs::write(&file, old.to_pem() + &new.to_pem())?;
    answer(servers, &by_new, 200).await?;
    answer(servers, &by_old, 200).await?;
    std::fs::write(&file, new.to_pem())?;
    answer(servers, &by_old, 401).await?;
    answer(servers, &by_new, 200).await?;
    let entry = servers.env["FIRN_URL"].clone();
    servers.renew_tokens(&entry, "acme")
}

/// Without a certificate, with one of somebody else's authority, and without TLS.
async fn strangers_are_refused(servers: &Services, entry: &str) -> Result<()> {
    let health = format!("{entry}/health/live");
    let (authority, _) = servers.tls().context("the services speak TLS")?;
    let trusting = || -> Result<reqwest::ClientBuilder> {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(authority.file())?)?;
        Ok(reqwest::Client::builder().add_root_certificate(ca))
    };
    ensure!(servers.http().get(&health).send().await?.status() == 200, "a known client");
    ensure!(trusting()?.build()?.get(&health).send().await.is_err(), "no certificate");
    let others = Authority::new()?;
    let other = others.issue("other", &["IP:127.0.0.1"])?;
    let identity = [std::fs::read(&other.certificate)?, std::fs::read(&other.key)?].concat();
    let client = trusting()?.identity(reqwest::Identity::from_pem(&identity)?).build()?;
    ensure!(client.get(&health).send().await.is_err(), "somebody else's certificate");
    let plain = reqwest::get(health.replace("https", "http")).await?;
    ensure!(plain.status() == 400 && plain.text().await?.contains("https://"), "plain HTTP");
    Ok(())
}

/// As a container's health check does, with nothing but the configuration.
fn a_container_asks_about_itself(servers: &Services, port: u16) -> Result<()> {
    let config = servers.config().display().to_string();
    let mut ask = servers.command(&["health", "--config", &config])?;
    let output = ask.env("FIRN_SERVER__LISTEN", format!("0.0.0.0:{port}")).output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("ready"), "{said}");
    // Elsewhere nobody is trusted without being named.
    let output = servers.command(&["health", "--url", &format!("https://127.0.0.1:{port}")])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("--ca"), "{said}");
    Ok(())
}

/// When the certificate that a service shows ends, as its metrics say.
async fn certificate_end(servers: &Services, url: &str) -> Result<f64> {
    let text = servers.http().get(format!("{url}/metrics")).send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix("firn_tls_certificate_end_seconds "));
    Ok(line.context("the gateway tells when its certificate ends")?.parse()?)
}
