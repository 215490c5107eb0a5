//! SeaweedFS: S3 with tokens by AssumeRole and conditional writes.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::{Process, cache, ports::free_ports, process::START_DEADLINE};

/// A server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct SeaweedFs {
    port: u16,
    filer_port: u16,
    process: Process,
    _dir: TempDir,
}

impl SeaweedFs {
    /// The administrator's keys.
    pub const ACCESS_KEY: &str = "weedadmin";
    /// See `ACCESS_KEY`.
    pub const SECRET_KEY: &str = "weedadminsecret";
    /// The role that AssumeRole knows; it may do everything, so that session policies can only cut it down.
    pub const ROLE_ARN: &str = "arn:aws:iam::role/tenant";

    /// Starts a server.
    ///
    /// # Errors
    /// If SeaweedFS isn't installed or doesn't start.
    pub async fn start() -> Result<Self> {
        let weed = cache::require("weed")?;
        let dir = TempDir::with_prefix("firn-seaweedfs-")?;
        std::fs::create_dir(dir.path().join("data"))?;
        std::fs::write(dir.path().join("s3.json"), identities().to_string())?;
        std::fs::write(dir.path().join("iam.json"), roles().to_string())?;
        let [port, grpc, master, master_grpc, volume, volume_grpc, filer_port, filer_grpc] = free_ports()?;
        let mut command = Command::new(weed);
        command.current_dir(dir.path()).env("WEED_S3_SSE_KEY", "firn-tests").args(["server", "-dir=data"]);
        command.args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-volume.max=0",
            // With its 30 GB a volume would find no room on many a disk, and nothing could be written.
            "-master.volumeSizeLimitMB=1024",
            "-volume.preStopSeconds=0",
            "-filer",
        ]);
        command.args([
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.config=s3.json",
            "-s3.iam.config=iam.json",
        ]);
        for (name, value) in [
            ("s3.port", port),
            ("s3.port.grpc", grpc),
            ("master.port", master),
            ("master.port.grpc", master_grpc),
            ("volume.port", volume),
            ("volume.port.grpc", volume_grpc),
            ("filer.port", filer_port),
            ("filer.port.grpc", filer_grpc),
        ] {
            command.arg(format!("-{name}={value}"));
        }
        let mut process = Process::start("SeaweedFS", &mut command, &dir.path().join("weed.log"))?;
        let addresses =
            [format!("http://127.0.0.1:{port}/healthz"), format!("http://127.0.0.1:{filer_port}/")];
        process
            .ready(START_DEADLINE, async || {
                for address in &addresses {
                    let status = reqwest::get(address).await?.status();
                    ensure!(status.is_success(), "{address} answers {status}");
                }
                Ok(())
            })
            .await?;
        Ok(Self { port, filer_port, process, _dir: dir })
    }

    /// `http://host:port` of the S3 API; addresses have the bucket in the path.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Port of the S3 API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a bucket: for SeaweedFS it is a folder of its filer.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let folder = format!("http://127.0.0.1:{}/buckets/{name}/", self.filer_port);
        let answer = reqwest::Client::new().post(folder).send().await?;
        ensure!(answer.status().is_success(), "creating bucket {name}: {answer:?}");
        Ok(())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn identities() -> serde_json::Value {
    json!({"identities": [{
        "name": "admin",
        "credentials": [{"accessKey": SeaweedFs::ACCESS_KEY, "secretKey": SeaweedFs::SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"]
    }]})
}

fn roles() -> serde_json::Value {
    json!({
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "seaweedfs-sts",
            "signingKey": "ZmlybiB0ZXN0cyBzaWduIHdpdGggdGhpcyBrZXkhIQ=="
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "All", "document": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]}
        ]}}],
        "roles": [{
            "roleName": "tenant",
            "roleArn": SeaweedFs::ROLE_ARN,
            "attachedPolicies": ["All"],
            "trustPolicy": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
            ]}
        }]
    })
}
