//! Kafka in KRaft mode: one node, or three that survive the loss of one.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Authority, Process, cache, ports::free_ports, process::START_DEADLINE};

mod secured;

use secured::Secured;

/// The cluster's id; any would do, all nodes need the same.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A cluster. Dropping it kills its nodes and removes their data.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    dir: TempDir,
    secured: Option<Secured>,
}

#[derive(Debug)]
struct Node {
    port: u16,
    process: Option<Process>,
}

impl Kafka {
    /// Starts one node.
    ///
    /// # Errors
    /// If Kafka isn't installed or doesn't start.
    pub async fn start() -> Result<Self> {
        Self::cluster(1).await
    }

    /// Starts one node that also listens to those who prove who they are: see [`Kafka::sasl_servers`] and
    /// [`Kafka::tls_servers`]. Its certificate is of `authority`.
    ///
    /// # Errors
    /// If Kafka isn't installed or doesn't start.
    pub async fn secured(authority: &Authority) -> Result<Self> {
        Self::launched(1, Some(Secured::new(authority)?)).await
    }

    /// Starts several nodes; with three, topics are on all of them and one may be lost.
    ///
    /// # Errors
    /// If Kafka isn't installed or doesn't start.
    pub async fn cluster(size: usize) -> Result<Self> {
        Self::launched(size, None).await
    }

    async fn launched(size: usize, secured: Option<Secured>) -> Result<Self> {
        cache::require("kafka/kafka_2.13-4.3.1.jar")?;
        let dir = TempDir::with_prefix("firn-kafka-")?;
        std::fs::write(dir.path().join("log4j2.properties"), LOGGING)?;
        let [a, b, c, d, e, f] = free_ports()?;
        ensure!((1..=3).contains(&size), "a Kafka cluster has one to three nodes, not {size}");
        let ports = [(a, b), (c, d), (e, f)].into_iter().take(size).collect::<Vec<_>>();
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
        let mut cluster = Self { nodes: Vec::new(), dir, secured };
        for (id, (port, controller)) in (1..).zip(ports) {
            let mut properties =
                properties(id, size, port, controller, &voters.join(","), cluster.dir.path());
            if let Some(secured) = &cluster.secured {
                secured.extend(&mut properties, cluster.dir.path())?;
            }
            std::fs::write(cluster.file(id, "properties"), properties)?;
            cluster.format(id)?;
            cluster.nodes.push(Node { port, process: None });
            cluster.launch(id)?;
        }
        for id in 1..=size {
            cluster.ready(id).await?;
        }
        Ok(cluster)
    }

    /// `host:port` of all nodes.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// Where TLS is spoken and SASL is asked for: PLAIN, SCRAM and unsigned tokens.
    #[must_use]
    pub fn sasl_servers(&self) -> String {
        self.secured.as_ref().map(Secured::sasl_server).unwrap_or_default()
    }

    /// Where TLS is spoken and a certificate of the authority is asked for.
    #[must_use]
    pub fn tls_servers(&self) -> String {
        self.secured.as_ref().map(Secured::tls_server).unwrap_or_default()
    }

    /// The name and the password that PLAIN and SCRAM take.
    pub const CREDENTIALS: (&str, &str) = (secured::USER, secured::PASSWORD);

    /// `kill -9` of a node, by its id from 1.
    ///
    /// # Errors
    /// If it isn't running.
    pub fn kill_node(&mut self, id: usize) -> Result<()> {
        self.node(id)?.process.take().with_context(|| format!("Kafka node {id} isn't running"))?.kill()?;
        Ok(())
    }

    /// Starts a killed node on its old data.
    ///
    /// # Errors
    /// If it doesn't start.
    pub async fn restart_node(&mut self, id: usize) -> Result<()> {
        self.launch(id)?;
        self.ready(id).await
    }

    fn node(&mut self, id: usize) -> Result<&mut Node> {
        self.nodes.get_mut(id.wrapping_sub(1)).with_context(|| format!("no Kafka node {id}"))
    }

    fn file(&self, id: usize, extension: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("node{id}.{extension}"))
    }

    fn java(&self) -> Result<Command> {
        let mut java = Command::new(cache::java()?);
        java.arg("-cp").arg(format!("{}/*", cache::require("kafka")?.display()));
        java.arg(format!("-Dlog4j2.configurationFile={}/log4j2.properties", self.dir.path().display()));
        java.args(["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        Ok(java)
    }

    fn format(&self, id: usize) -> Result<()> {
        let formatted = self
            .java()?
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.file(id, "properties"))
            .args(self.secured.iter().flat_map(|_| secured::scram_credentials()))
            .output()?;
        ensure!(formatted.status.success(), "formatting Kafka's storage: {formatted:?}");
        Ok(())
    }

    fn launch(&mut self, id: usize) -> Result<()> {
        let mut command = self.java()?;
        command.arg("kafka.Kafka").arg(self.file(id, "properties"));
        let process = Process::start(&format!("Kafka node {id}"), &mut command, &self.file(id, "log"))?;
        self.node(id)?.process = Some(process);
        Ok(())
    }

    async fn ready(&mut self, id: usize) -> Result<()> {
        let node = self.node(id)?;
        let port = node.port;
        let process = node.process.as_mut().context("it was just launched")?;
        // The broker's port opens before it may serve, so its log has to say so too.
        process
            .ready(START_DEADLINE, async || Ok(TcpStream::connect(("127.0.0.1", port)).await.map(drop)?))
            .await?;
        let log = self.file(id, "log");
        let process = self.node(id)?.process.as_mut().context("it was just launched")?;
        process
            .ready(START_DEADLINE, async || {
                let output = std::fs::read_to_string(&log)?;
                let last_start = output.rfind("KafkaConfig values").map_or("", |at| &output[at..]);
                ensure!(last_start.contains("Kafka Server started"), "it hasn't said that it started");
                Ok(())
            })
            .await
    }
}

const LOGGING: &str = "\
rootLogger.level = info
rootLogger.appenderRefs = console
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
";

fn properties(id: usize, size: usize, port: u16, controller: u16, voters: &str, dir: &Path) -> String {
    let (replicas, in_sync) = if size >= 3 { (3, 2) } else { (1, 1) };
    format!(
        "process.roles=broker,controller
node.id={id}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={}/node{id}
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
",
        dir.display()
    )
}
