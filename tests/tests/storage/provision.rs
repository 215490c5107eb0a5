//! `firn tenant provision`: against AWS's interfaces as Moto knows them, and against servers that know fewer.

use std::path::Path;

use anyhow::Result;
use firn_tests::{FirnProcess, Moto, firn, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::lake::{REGION, S3};

/// What a bucket is given beside what it is asked to be.
const SETTINGS: &str = "[provisioning]\nvpc_endpoint_ids = [\"vpce-1\"]\ntags = { cost_center = \"4711\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn bucket_is_planned_made_and_left_alone_on_moto() -> Result<()> {
    let moto = Moto::start().await?;
    let server = Server::start(&moto.endpoint(), ("id", "secret"), SETTINGS).await?;

    let plan = server.provision(&["--plan"])?;
    assert_eq!(changes(&plan, "refused"), 0, "{plan}");
    assert_eq!(changes(&plan, "create"), plan["steps"].as_array().unwrap().len(), "{plan}");
    let again = server.provision(&["--plan"])?;
    assert_eq!(again, plan, "a plan changes nothing");

    let made = server.provision(&[])?;
    assert_eq!(changes(&made, "created"), plan["steps"].as_array().unwrap().len(), "{made}");
    let rest = server.provision(&[])?;
    assert_eq!(changes(&rest, "same"), plan["steps"].as_array().unwrap().len(), "{rest}");

    // Whatever someone changed by hand is put right, and nothing else.
    let bucket = reqwest::Client::new();
    let policy = format!("{}/lake-acme?policy", moto.endpoint());
    let policy: Value = bucket.get(&policy).send().await?.json().await?;
    assert_eq!(policy["Statement"][0]["Sid"], "VpcEndpointsOnly");
    assert_eq!(policy["Statement"][0]["Condition"]["StringNotEquals"]["aws:SourceVpce"][0], "vpce-1");
    bucket
        .delete(format!("{}/lake-acme?publicAccessBlock", moto.endpoint()))
        .send()
        .await?
        .error_for_status()?;
    let tags = format!("{}/lake-acme?tagging", moto.endpoint());
    let others = "<Tagging><TagSet><Tag><Key>team</Key><Value>x</Value></Tag></TagSet></Tagging>";
    bucket.put(&tags).body(others).send().await?.error_for_status()?;
    let plan = server.provision(&["--plan"])?;
    assert_eq!(change_of(&plan, "public access block"), "create", "{plan}");
    assert_eq!(change_of(&plan, "tags"), "change", "{plan}");
    assert_eq!(changes(&plan, "same"), plan["steps"].as_array().unwrap().len() - 2, "{plan}");
    server.provision(&[])?;
    let tags = bucket.get(&tags).send().await?.text().await?;
    for tag in ["team", "cost_center", "data_classification", "tenant_id"] {
        assert!(tags.contains(tag), "{tag}: {tags}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_seaweedfs_does_not_know_is_told_and_the_rest_is_made() -> Result<()> {
    what_is_unknown_is_told_and_the_rest_is_made(&S3::seaweedfs().await?).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MinIO, which takes long to build: scripts/test-servers install-minio"]
async fn what_minio_does_not_know_is_told_and_the_rest_is_made() -> Result<()> {
    what_is_unknown_is_told_and_the_rest_is_made(&S3::minio().await?).await
}

async fn what_is_unknown_is_told_and_the_rest_is_made(s3: &S3) -> Result<()> {
    let server = Server::start(&s3.endpoint(), s3.keys(), "").await?;
    let made = server.provision(&[])?;
    assert_eq!(change_of(&made, "bucket"), "created", "{made}");
    assert_eq!(change_of(&made, "public access block"), "refused", "{made}");
    assert_eq!(change_of(&made, "tags"), "created", "{made}");
    assert_eq!(change_of(&made, "encryption"), "created", "{made}");
    let again = server.provision(&[])?;
    assert_eq!(change_of(&again, "bucket"), "same", "{again}");
    assert_eq!(change_of(&again, "tags"), "same", "{again}");
    assert_eq!(changes(&again, "created") + changes(&again, "changed"), 0, "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_provisions_and_only_buckets_of_this_region() -> Result<()> {
    let moto = Moto::start().await?;
    let server = Server::start(&moto.endpoint(), ("id", "secret"), "").await?;
    let url = format!("{}/v1/tenants/acme/provision", server.firn.url());
    let http = reqwest::Client::new();
    let refused = http.post(&url).bearer_auth(&server.firn.env["FIRN_TOKEN"]).send().await?;
    assert_eq!(refused.status(), 403);
    let failed = |args: &[&str]| -> Result<String> {
        let output = firn(server.firn.client(args.iter().copied()))?;
        assert!(!output.status.success(), "{output:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    firn_tests::firn_stdout(server.firn.client(["tenant", "create", "far", "--region", "mars"]))?;
    let error = failed(&["tenant", "provision", "far"])?;
    assert!(error.contains("belongs to the region 'mars'"), "{error}");

    let dir = tempfile::tempdir()?;
    let local = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let output = firn(local.client(["tenant", "provision", "default", "--plan"]))?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("local files"), "{error}");
    Ok(())
}

/// A server whose tenants have a bucket each, and the tenant `acme`.
pub(crate) struct Server {
    pub(crate) firn: FirnProcess,
    _dir: TempDir,
}

impl Server {
    pub(crate) async fn start(endpoint: &str, keys: (&str, &str), settings: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("firn.toml");
        let storage = format!(
            "[storage]\nwarehouse = \"s3://lake-{{tenant}}\"\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\n\
             path_style = true\naccess_key_id = \"env:LAKE_KEY\"\nsecret_access_key = \"env:LAKE_SECRET\"\n{settings}"
        );
        std::fs::write(&config, storage)?;
        let firn = up(dir.path(), &config, keys).await?;
        let create = ["tenant", "create", "acme", "--classification", "GDPR", "--classification", "PII"];
        firn_tests::firn_stdout(firn.client(create))?;
        Ok(Self { firn, _dir: dir })
    }

    /// The outcome as JSON.
    pub(crate) fn provision(&self, more: &[&str]) -> Result<Value> {
        let args = ["tenant", "provision", "acme", "--json"].iter().chain(more).copied();
        Ok(serde_json::from_str(&firn_tests::firn_stdout(self.firn.client(args))?)?)
    }
}

async fn up(dir: &Path, config: &Path, (key, secret): (&str, &str)) -> Result<FirnProcess> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let secrets = [("LAKE_KEY", key), ("LAKE_SECRET", secret)];
    FirnProcess::up_at(&dir.join("data"), &listen, &["--config", &config.to_string_lossy()], &secrets).await
}

pub(crate) fn changes(outcome: &Value, change: &str) -> usize {
    outcome["steps"].as_array().unwrap().iter().filter(|step| step["change"] == change).count()
}

pub(crate) fn change_of<'a>(outcome: &'a Value, what: &str) -> &'a str {
    let steps = outcome["steps"].as_array().unwrap();
    steps.iter().find(|step| step["what"] == what).unwrap()["change"].as_str().unwrap()
}
