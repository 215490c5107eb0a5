//! Moto: AWS's interfaces as AWS documents them. It keeps what it is told and enforces nothing.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{Process, ports::free_ports, process::START_DEADLINE, python::commands};

/// A server. Dropping it kills it.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Moto {
    /// Starts a server, and before that installs it if it isn't.
    ///
    /// # Errors
    /// If it can't be installed or doesn't start.
    pub async fn start() -> Result<Self> {
        let server = commands("requirements-moto.txt")?.join("moto_server");
        let dir = TempDir::with_prefix("firn-moto-")?;
        let [port] = free_ports()?;
        let mut command = Command::new(server);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut process = Process::start("Moto", &mut command, &dir.path().join("moto.log"))?;
        let address = format!("http://127.0.0.1:{port}/moto-api/");
        process
            .ready(START_DEADLINE, async || {
                let status = reqwest::get(&address).await?.status();
                ensure!(status.is_success(), "{address} answers {status}");
                Ok(())
            })
            .await?;
        Ok(Self { port, _process: process, _dir: dir })
    }

    /// `http://host:port` of all services.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
