//! The same binary over PostgreSQL, Kafka, S3 and OpenSearch: what changes is the configuration, never the answers.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, Kafka, OpenSearch, Postgres, SeaweedFs, firn_stdout, free_port};
use serde_json::Value;

use crate::{
    ledger::Ledger,
    main_job::{DEADLINE, expected_verdicts, findings, gold_verdicts},
};

#[tokio::test(flavor = "multi_thread")]
async fn on_real_servers_everything_equals_the_ledger_too() -> Result<()> {
    let (postgres, kafka) = (Postgres::start().await?, Kafka::start().await?);
    let (s3, search) = (SeaweedFs::start().await?, OpenSearch::start().await?);
    s3.create_bucket("lake").await?;

    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    let settings = format!(
        "[catalog]\ndatabase_url = \"{}\"\n\
         [storage]\nwarehouse = \"s3://lake/firn\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = \"env:LAKE_KEY\"\nsecret_access_key = \"env:LAKE_SECRET\"\nrole_arn = \"{}\"\n\
         [stream]\nbackend = \"kafka\"\nbootstrap_servers = \"{}\"\nreplication = 1\n\
         [alerts]\nelasticsearch_url = \"{}\"\n",
        postgres.url(),
        s3.endpoint(),
        SeaweedFs::ROLE_ARN,
        kafka.bootstrap_servers(),
        search.url(),
    );
    std::fs::write(&config, settings)?;
    let secrets = [("LAKE_KEY", SeaweedFs::ACCESS_KEY), ("LAKE_SECRET", SeaweedFs::SECRET_KEY)];
    let listen = format!("127.0.0.1:{}", free_port()?);
    let config = config.to_string_lossy();
    let data = dir.path().join("data");
    let firn = FirnProcess::up_at(&data, &listen, &["--config", &config], &secrets).await?;

    let ledger_file = dir.path().join("ledger.jsonl");
    let ledger_path = ledger_file.to_string_lossy();
    let simulate = ["simulate", "--devices", "40", "--rate", "200", "--count", "600", "--seed", "11"];
    firn_stdout(firn.client(simulate.into_iter().chain(["--malformed", "0.02", "--ledger", &ledger_path])))?;
    let ledger = Ledger::read(&ledger_file)?;
    assert!(ledger.unknown.is_empty(), "{ledger:?}");

    let sent = i64::try_from(ledger.bronze.len())?;
    let silver = "select count(*) from silver.inventory";
    firn.eventually("all rows are in silver", DEADLINE, |firn| Ok(firn.count(silver)? == sent)).await?;
    assert_eq!(firn.count("select count(*) from bronze.quarantine")?, ledger.quarantine);
    assert_eq!(gold_verdicts(&firn)?, expected_verdicts(&ledger), "gold.compliance");
    let breaches = ledger.breaches();
    firn.eventually("findings equal the ledger", DEADLINE, |firn| Ok(findings(firn)? == breaches)).await?;

    let open = open_findings(&firn)?;
    assert!(!open.is_empty(), "a fleet without findings shows nothing");
    until_indexed(&search, &open).await?;

    // Every transition is in the lake by now: from there a lost index comes back.
    let told = "select count(*) from (select finding_id, to_status, row_number() over (partition by finding_id order by \
                version desc) as newest from gold.transitions) where newest = 1 and to_status = 'open'";
    let all = i64::try_from(open.len())?;
    firn.eventually("gold.transitions has all", DEADLINE, |firn| Ok(firn.count(told)? == all)).await?;
    let http = reqwest::Client::new();
    http.delete(format!("{}/firn-findings-000001", search.url())).send().await?.error_for_status()?;
    firn.run(["alerts", "reindex", "--elasticsearch", &search.url()])?;
    until_indexed(&search, &open).await?;
    assert!(firn.stop().await?.success());
    Ok(())
}

/// Waits until the index of the present state has exactly these open findings.
async fn until_indexed(search: &OpenSearch, open: &BTreeSet<String>) -> Result<()> {
    let indexed = format!("{}/firn-findings/_search?size=1000", search.url());
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let answer: Value = reqwest::get(&indexed).await?.json().await?;
        let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let found: BTreeSet<String> = hits.iter().filter_map(open_id).collect();
        if found == *open {
            return Ok(());
        }
        assert!(
            std::time::Instant::now() < deadline,
            "OpenSearch has {found:?}, open are {open:?}\n{answer}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn open_findings(firn: &FirnProcess) -> Result<BTreeSet<String>> {
    let text = firn_stdout(firn.client(["findings", "ls", "--json", "--status", "open", "-n", "1000"]))?;
    let findings: Vec<Value> = serde_json::from_str(&text)?;
    findings.iter().map(|finding| Ok(finding["id"].as_str().context("an id")?.to_owned())).collect()
}

/// The id of a document whose finding is open.
fn open_id(hit: &Value) -> Option<String> {
    (hit["_source"]["firn"]["status"] == "open").then(|| hit["_id"].as_str().map(ToOwned::to_owned))?
}
