//! S3, OpenSearch and an identity provider whose certificates an authority of one's own issued; and the day on which there is
//! another authority.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use firn_tests::{Authority, FirnProcess, OidcProvider, OpenSearch, SeaweedFs, TlsFront, free_port, until};
use serde_json::Value;

use crate::main_job::DEADLINE;

const SIMULATE: [&str; 9] = ["simulate", "--devices", "20", "--rate", "200", "--count", "60", "--seed", "5"];

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_an_own_authority_are_reached_and_another_authority_is_taken() -> Result<()> {
    let (s3, search) = tokio::try_join!(SeaweedFs::start(), OpenSearch::start())?;
    s3.create_bucket("lake").await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let shown = first.issue("front", &["IP:127.0.0.1"])?;
    let mut of_s3 = TlsFront::start(s3.port(), &shown).await?;
    let mut of_search = TlsFront::start(search.port(), &shown).await?;
    let provider = OidcProvider::start_secure("lake", &first).await?;

    let dir = tempfile::tempdir()?;
    let (config, ca) = (dir.path().join("firn.toml"), dir.path().join("ca.pem"));
    std::fs::copy(first.file(), &ca)?;
    let settings = format!(
        "tls.ca = \"file:{}\"\n\
         [storage]\nwarehouse = \"s3://lake/firn\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = \"env:LAKE_KEY\"\nsecret_access_key = \"env:LAKE_SECRET\"\nrole_arn = \"{}\"\n\
         [alerts]\nelasticsearch_url = \"{}\"\n\
         [[auth.issuers]]\nname = \"corp\"\nissuer = \"{}\"\naudience = \"lake\"\n",
        ca.display(),
        of_s3.url(),
        SeaweedFs::ROLE_ARN,
        of_search.url(),
        provider.issuer(),
    );
    std::fs::write(&config, settings)?;
    let secrets = [("LAKE_KEY", SeaweedFs::ACCESS_KEY), ("LAKE_SECRET", SeaweedFs::SECRET_KEY)];
    let listen = format!("127.0.0.1:{}", free_port()?);
    let config = config.to_string_lossy();
    let data = dir.path().join("data");
    let firn = FirnProcess::up_at(&data, &listen, &["--config", &config], &secrets).await?;
    firn.run(["tenant", "create", "acme"])?;

    firn.run(SIMULATE)?;
    firn.eventually("rows are in S3", DEADLINE, |firn| Ok(rows(firn, &ca)? == 60)).await?;
    let delivered = until_indexed(&search, 0).await?;
    let token = provider.token("reader").await?;
    let tables = format!("{}/iceberg/v1/acme/namespaces", firn.url());
    let listed = reqwest::Client::new().get(tables).bearer_auth(token).send().await?;
    ensure!(listed.status() == 200, "the provider's token: {}", listed.text().await?);

    // Other certificates come first, as they do where nobody coordinates: until the authority follows, nobody gets through.
    let shown = second.issue("front", &["IP:127.0.0.1"])?;
    of_s3.show(&shown).await?;
    of_search.show(&shown).await?;
    ensure!(rows(&firn, &ca).is_err(), "a certificate of an authority that isn't trusted");
    firn.run(["simulate", "--devices", "20", "--rate", "200", "--count", "60", "--seed", "6"])?;
    std::fs::copy(second.file(), &ca)?;
    firn.eventually("more rows are in S3", DEADLINE, |firn| Ok(rows(firn, &ca)? == 120)).await?;
    until_indexed(&search, delivered).await?;
    ensure!(firn.stop().await?.success());
    Ok(())
}

/// Rows of bronze, by a client that trusts the same authority.
fn rows(firn: &FirnProcess, ca: &Path) -> Result<i64> {
    let query = "select count(*) as n from bronze.inventory";
    let text = firn.run(["sql", query, "--format", "json", "--ca", &ca.to_string_lossy()])?;
    let rows: Value = serde_json::from_str(&text)?;
    rows[0]["n"].as_i64().with_context(|| format!("'{query}' answered {text}"))
}

/// Waits until there are more transitions than that; answers how many.
async fn until_indexed(search: &OpenSearch, than: u64) -> Result<u64> {
    let count = format!("{}/firn-transitions*/_count", search.url());
    until("transitions are delivered", DEADLINE, async || {
        let answer: Value = reqwest::get(&count).await?.json().await?;
        let found = answer["count"].as_u64().unwrap_or_default();
        ensure!(found > than, "{answer}");
        Ok(found)
    })
    .await
}
