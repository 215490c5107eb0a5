//! MinIO: the other S3 server that gives out temporary keys and enforces their policy.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{Process, cache, ports::free_ports, process::START_DEADLINE};

/// A server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct MinIo {
    port: u16,
    process: Process,
    _dir: TempDir,
}

impl MinIo {
    /// The administrator's keys.
    pub const ACCESS_KEY: &str = "minioadmin";
    /// See `ACCESS_KEY`.
    pub const SECRET_KEY: &str = "minioadminsecret";
    /// Any role will do: sessions have the caller's own rights, cut by their policy.
    pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/tenant";

    /// Starts a server. It takes long to build, so it isn't among what `scripts/test-servers install` installs.
    ///
    /// # Errors
    /// If MinIO isn't installed (`scripts/test-servers install-minio` does it) or doesn't start.
    pub async fn start() -> Result<Self> {
        let minio = cache::require("minio")?;
        let dir = TempDir::with_prefix("firn-minio-")?;
        let [port] = free_ports()?;
        let mut command = Command::new(minio);
        command
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
            .arg(dir.path().join("data"))
            .env("MINIO_ROOT_USER", Self::ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", Self::SECRET_KEY)
            // Needed for encryption at rest: a name and 32 bytes.
            .env("MINIO_KMS_SECRET_KEY", "tests:ZmlybiB0ZXN0cyBlbmNyeXB0IHdpdGggdGhpcyBrISE=")
            .env("MINIO_UPDATE", "off")
            .env("MINIO_BROWSER", "off");
        let mut process = Process::start("MinIO", &mut command, &dir.path().join("minio.log"))?;
        let health = format!("http://127.0.0.1:{port}/minio/health/ready");
        process
            .ready(START_DEADLINE, async || {
                let status = reqwest::get(&health).await?.status();
                ensure!(status.is_success(), "health answers {status}");
                Ok(())
            })
            .await?;
        Ok(Self { port, process, _dir: dir })
    }

    /// `http://host:port` of the S3 API; addresses have the bucket in the path.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
