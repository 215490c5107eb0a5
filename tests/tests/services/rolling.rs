//! Every service is replaced under load: nobody notices.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use firn_tests::{Balancer, ServiceProcess, Services, firn_binary, free_port};
use serde_json::Value;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(240);
/// As many as simulated computers send while one generation of services follows another.
const RECORDS: i64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn restarting_every_service_under_load_loses_and_doubles_nothing() -> Result<()> {
    let now = firn_binary()?;
    roll(&now, &[&now]).await
}

/// An upgrade and its rollback: for a while both versions are there, over one database and one log.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the version before: FIRN_OLD_BINARY"]
async fn another_version_takes_over_under_load_and_gives_back_again() -> Result<()> {
    let before: PathBuf = std::env::var_os("FIRN_OLD_BINARY").context("FIRN_OLD_BINARY isn't set")?.into();
    let now = firn_binary()?;
    ensure!(std::fs::read(&before)? != std::fs::read(&now)?, "{} is this very version", before.display());
    roll(&before, &[&now, &before]).await
}

/// Starts a cluster of the program `first`, loads it, and replaces its services, one by one, by each of `then`. In the midst of
/// that the schema grows, as the next version's migration would let it: all of them must go on over it, also after a start.
async fn roll(first: &Path, then: &[&Path]) -> Result<()> {
    let mut cluster = Cluster::start(first).await?;
    let ledger = cluster.servers.dir().join("ledger.jsonl");
    let records = RECORDS * i64::try_from(then.len())?;
    let mut simulate =
        cluster.servers.command(&["simulate", "--devices", "50", "--rate", "60", "--seed", "5"])?;
    simulate.args(["--count", &records.to_string(), "--ledger"]).arg(&ledger).envs(&cluster.servers.env);
    let mut load = tokio::process::Command::from(simulate).kill_on_drop(true).spawn()?;
    let reader = Reader::start(&cluster);
    for (round, program) in then.iter().enumerate() {
        (*program).clone_into(&mut cluster.servers.program);
        let half = cluster.services.len() / 2;
        for index in 0..cluster.services.len() {
            if (round, index) == (0, half) {
                expand_schema(&cluster.servers)?;
            }
            cluster.servers.restart(&mut cluster.services[index]).await?;
        }
    }
    ensure!(load.wait().await?.success(), "the load was refused");
    let reads = reader.end().await?;
    assert!(reads > 100, "only {reads} reads");

    assert_eq!(acknowledged(&ledger)?, records, "every upload was taken, if need be at the second try");
    let servers = &cluster.servers;
    for query in [
        "select count(*) from bronze.inventory",
        "select count(distinct event_id) from bronze.inventory",
        "select count(*) from silver.inventory",
    ] {
        servers.until_count(query, records, DEADLINE).await?;
    }
    for service in &mut cluster.services {
        service.stop().await?;
    }
    Ok(())
}

/// Two replicas of what clients reach, behind load balancers, and the workers.
struct Cluster {
    servers: Services,
    services: Vec<ServiceProcess>,
    gateway: Balancer,
    _catalog: Balancer,
}

impl Cluster {
    async fn start(program: &Path) -> Result<Self> {
        let catalogs = [free_port()?, free_port()?];
        let gateways = [free_port()?, free_port()?];
        let catalog = Balancer::start(&catalogs).await?;
        let gateway = Balancer::start(&gateways).await?;
        let mut servers = Services::prepare(&[("catalog.url", catalog.url())]).await?;
        program.clone_into(&mut servers.program);
        let mut services = Vec::new();
        for (name, ports) in [("catalog", catalogs), ("gateway", gateways)] {
            for (instance, port) in ["0", "1"].into_iter().zip(ports) {
                services.push(servers.launch(name, port, instance, &[])?);
            }
        }
        for (name, instance) in [("ingest", "0"), ("ingest", "1"), ("compactor", "0"), ("alerts", "0")] {
            services.push(servers.launch(name, free_port()?, instance, &[])?);
        }
        for service in &mut services {
            service.ready().await?;
        }
        servers.open_tenant(gateway.url(), "acme")?;
        Ok(Self { servers, services, gateway, _catalog: catalog })
    }
}

/// What a newer version's migration does first: a column that nobody has to know, in every table, and a schema number that leaves
/// no program behind.
fn expand_schema(servers: &Services) -> Result<()> {
    let tables = servers.postgres.psql(
        "SELECT string_agg(format('ALTER TABLE %I ADD COLUMN of_the_next_version TEXT;', tablename), ' ')
         FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'catalog\\_%'",
    )?;
    ensure!(tables.contains("branches_and_tags"), "no tables: {tables}");
    servers.postgres.psql(&format!(
        "BEGIN; {tables}
         INSERT INTO catalog_floors SELECT max(number) + 1, max(oldest) FROM catalog_floors;
         INSERT INTO catalog_migrations SELECT max(number) + 1 FROM catalog_migrations; COMMIT"
    ))?;
    Ok(())
}

/// Asks the catalog, through the gateway, all the time; each question once more if it failed.
struct Reader {
    reads: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Reader {
    fn start(cluster: &Cluster) -> Self {
        let url = format!("{}/nessie/acme/api/v2/trees/main", cluster.gateway.url());
        let token = cluster.servers.env["FIRN_TOKEN"].clone();
        let reads = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(read_on(url, token, Arc::clone(&reads)));
        Self { reads, task }
    }

    /// How many questions were answered; an error if one was not.
    async fn end(self) -> Result<u64> {
        self.task.abort();
        match self.task.await {
            Ok(failed) => failed?,
            Err(error) => ensure!(error.is_cancelled(), "{error}"),
        }
        Ok(self.reads.load(Ordering::Relaxed))
    }
}

/// Until a question isn't answered twice.
async fn read_on(url: String, token: String, reads: Arc<AtomicU64>) -> Result<()> {
    let http = reqwest::Client::new();
    let ask = async || http.get(&url).bearer_auth(&token).send().await?.error_for_status();
    loop {
        if ask().await.is_err() {
            // Of a replica that is going away; the next one is a connection away.
            tokio::time::sleep(Duration::from_millis(500)).await;
            ask().await.context("failed twice in a row")?;
        }
        reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many records the simulator was told are taken.
fn acknowledged(ledger: &Path) -> Result<i64> {
    let text = std::fs::read_to_string(ledger)?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let taken = lines.iter().filter(|line| line["type"] == "record" && line["outcome"] == "acknowledged");
    i64::try_from(taken.count()).context("that many")
}
