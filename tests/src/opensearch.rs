//! OpenSearch, one node, from its jars.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{Process, cache, ports::free_ports, process::START_DEADLINE};

/// A node. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct OpenSearch {
    port: u16,
    process: Process,
    _dir: TempDir,
}

impl OpenSearch {
    /// Starts a node without security.
    ///
    /// # Errors
    /// If OpenSearch isn't installed or doesn't start.
    pub async fn start() -> Result<Self> {
        let (jars, classes) = (cache::require("opensearch")?, cache::require("opensearch/classes")?);
        let dir = TempDir::with_prefix("firn-opensearch-")?;
        let [port, transport] = free_ports()?;
        std::fs::create_dir(dir.path().join("config"))?;
        // Without the disk threshold, a nearly full disk would make indices read-only.
        let settings = format!(
            "network.host: 127.0.0.1\nhttp.port: {port}\ntransport.port: {transport}\ndiscovery.type: single-node\n\
             cluster.routing.allocation.disk.threshold_enabled: false\n"
        );
        std::fs::write(dir.path().join("config/opensearch.yml"), settings)?;
        let mut command = Command::new(cache::java()?);
        command
            .args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}:{}/*", classes.display(), jars.display()))
            .arg("StartOpenSearch")
            .arg(dir.path());
        let mut process = Process::start("OpenSearch", &mut command, &dir.path().join("opensearch.out"))?;
        let health = format!("http://127.0.0.1:{port}/_cluster/health?wait_for_status=yellow&timeout=1s");
        process
            .ready(START_DEADLINE, async || {
                let status = reqwest::get(&health).await?.status();
                ensure!(status.is_success(), "health answers {status}");
                Ok(())
            })
            .await?;
        Ok(Self { port, process, _dir: dir })
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Port of its API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
