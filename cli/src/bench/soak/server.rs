//! A server of the run's own, where none is named, and the memory of whatever server it is.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::connection::{Connection, ConnectionArgs};

/// How long it may take to answer.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// `firn up` in a process of its own, over a folder of its own. It ends with this value.
pub(super) struct OwnServer {
    process: Child,
    folder: PathBuf,
}

impl OwnServer {
    /// Starts it and waits until it answers.
    pub(super) async fn start(config: Option<&Path>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("firn-soak-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let log = File::create(folder.join("server.log"))?;
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting a server")?;
        let mut server = Self { process, folder };
        match tokio::time::timeout(START, server.answers()).await {
            Ok(Ok(())) => Ok(server),
            Ok(Err(error)) => Err(error.context(server.keep())),
            Err(_) => bail!("the server doesn't answer; {}", server.keep()),
        }
    }

    async fn answers(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended with {status}");
            }
            if self.connect().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let data_dir = Some(self.folder.join("data"));
        ConnectionArgs { data_dir, ..ConnectionArgs::default() }.connect().await
    }

    /// Stops it and removes its folder.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = tokio::time::timeout(STOP, self.process.wait()).await;
        let status = ended.with_context(|| format!("the server doesn't stop; {}", self.keep()))??;
        if !status.success() {
            bail!("the server ended with {status}; {}", self.keep());
        }
        fs::remove_dir_all(&self.folder).with_context(|| format!("can't remove {}", self.folder.display()))
    }

    /// Where its data and its log are, which stay.
    pub(super) fn keep(&self) -> String {
        format!("its data and its log stay in {}", self.folder.display())
    }
}

/// Memory of the process that answers at the URL, as its metrics tell; absent where they don't.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Memory {
    start_bytes: Option<u64>,
    end_bytes: Option<u64>,
    /// Since it was started.
    peak_bytes: Option<u64>,
}

impl Memory {
    pub(super) async fn at_start(connection: &Connection) -> Self {
        let metrics = connection.metrics().await.unwrap_or_default();
        Self { start_bytes: gauge(&metrics, "firn_process_resident_bytes"), ..Self::default() }
    }

    pub(super) async fn at_end(self, connection: &Connection) -> Self {
        let metrics = connection.metrics().await.unwrap_or_default();
        Self {
            end_bytes: gauge(&metrics, "firn_process_resident_bytes"),
            peak_bytes: gauge(&metrics, "firn_process_peak_resident_bytes"),
            ..self
        }
    }
}

/// A gauge without labels, in Prometheus' text format.
fn gauge(metrics: &str, name: &str) -> Option<u64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
    value.trim().parse::<f64>().ok().map(|bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_found_by_their_whole_name() {
        let metrics = "# TYPE firn_a gauge\nfirn_a_b 7\nfirn_a 1048576\n";
        assert_eq!(gauge(metrics, "firn_a"), Some(1 << 20));
        assert_eq!(gauge(metrics, "firn_b"), None);
    }
}
