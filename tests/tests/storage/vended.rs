use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use object_store::{
    CopyOptions, Error, ObjectStore, ObjectStoreExt as _, PutPayload, aws::AmazonS3, path::Path,
    signer::Signer as _,
};
use reqwest::Method;
use serde_json::Value;

use crate::lake::{BUCKET, Lake, S3};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn vended_keys_fit_their_table_alone_on_seaweedfs() -> Result<()> {
    fit_their_table_alone(S3::seaweedfs().await?).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MinIO, which takes long to build: scripts/test-servers install-minio"]
async fn vended_keys_fit_their_table_alone_on_minio() -> Result<()> {
    fit_their_table_alone(S3::minio().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sts_only_those_who_ask_for_keys_wait() -> Result<()> {
    let nowhere = format!("http://127.0.0.1:{}", firn_tests::free_port()?);
    let role = format!("role_arn = \"arn:aws:iam::1:role/x\"\nsts_endpoint = \"{nowhere}\"\n");
    let lake = Lake::start(S3::seaweedfs().await?, &role).await?;
    let token = lake.token("reader").await?;
    assert_eq!(lake.load("mine", "", &token).await?.status(), 200);
    let refused = lake.load("mine", "vended-credentials", &token).await?;
    let (status, body) = (refused.status(), refused.text().await?);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("storage.role_arn") && !body.contains(&nowhere), "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn own_keys_are_given_only_if_the_operator_says_so() -> Result<()> {
    for (settings, given) in [("", false), ("static_keys = true\n", true)] {
        let lake = Lake::start(S3::seaweedfs().await?, settings).await?;
        let token = lake.token("reader").await?;
        let loaded: Value = lake.load("mine", "vended-credentials", &token).await?.json().await?;
        let key = loaded["config"].get("s3.access-key-id").and_then(Value::as_str);
        assert_eq!(key, given.then_some(lake.s3.keys().0), "{settings}");
    }
    Ok(())
}

async fn fit_their_table_alone(s3: S3) -> Result<()> {
    let lake = Lake::vending(s3).await?;
    let writer = keys(&lake, "writer").await?;
    let reader = keys(&lake, "reader").await?;
    let maintainer = keys(&lake, "maintainer").await?;

    let own = lake.place("default", "mine", "data/1.parquet").await?;
    writer.put(&own, PutPayload::from_static(b"rows")).await.context("its own table is written")?;
    for client in [&writer, &reader, &maintainer] {
        assert_eq!(client.get(&own).await?.bytes().await?, "rows");
        let folder = lake.place("default", "mine", "data").await?;
        let listed: Vec<_> = client.list(Some(&folder)).try_collect().await?;
        assert_eq!(listed.len(), 1, "its own folder is listed");
        let url = client.signed_url(Method::GET, &own, MINUTE).await?;
        assert_eq!(reqwest::get(url).await?.status(), 200, "its own file, presigned");
    }
    let copy = lake.place("default", "mine", "data/2.parquet").await?;
    writer.copy(&own, &copy).await.context("a copy within the table")?;
    let large = lake.place("default", "mine", "data/large.parquet").await?;
    upload_in_parts(&writer, &large).await.context("parts")?;
    assert_eq!(reader.head(&large).await?.size, 6 << 20);

    refused(reader.put(&own, PutPayload::from_static(b"x")).await, "a reader's put");
    refused(reader.copy(&own, &copy).await, "a reader's copy");
    refused(upload_in_parts(&reader, &large).await, "a reader's upload");
    refused(writer.delete(&copy).await, "a writer's delete");
    refused(reader.delete(&copy).await, "a reader's delete");
    maintainer.delete(&copy).await.context("a maintainer's delete")?;
    for client in [&writer, &maintainer] {
        for (tenant, table) in [("default", "theirs"), ("other", "mine")] {
            stays_out(&lake, client, &own, tenant, table).await?;
        }
        let all = client.list(None).try_collect::<Vec<_>>().await;
        refused(all, "the whole bucket's list");
        refused(client.get(&Path::from("firn")).await, "a key above");
    }
    Ok(())
}

/// A neighbour's table can't be read, listed, written, copied or handed on.
async fn stays_out(lake: &Lake, client: &AmazonS3, own: &Path, tenant: &str, table: &str) -> Result<()> {
    let what = |verb: &str| format!("{verb} {tenant}'s ns.{table}");
    let there = lake.file(tenant, table, "data/1.parquet").await?;
    let fresh = lake.place(tenant, table, "data/new.parquet").await?;
    let folder = lake.place(tenant, table, "data").await?;
    refused(client.get(&there).await, &what("get"));
    refused(client.head(&there).await, &what("head"));
    refused(client.put(&fresh, PutPayload::from_static(b"x")).await, &what("put"));
    refused(client.put(&there, PutPayload::from_static(b"x")).await, &what("overwrite"));
    refused(client.list(Some(&folder)).try_collect::<Vec<_>>().await, &what("list"));
    refused(client.copy_opts(&there, own, CopyOptions::default()).await, &what("copy from"));
    refused(client.copy(own, &fresh).await, &what("copy to"));
    refused(upload_in_parts(client, &fresh).await, &what("upload to"));
    refused(client.delete(&there).await, &what("delete"));
    for (method, path) in [(Method::GET, &there), (Method::PUT, &fresh)] {
        let url = client.signed_url(method.clone(), path, MINUTE).await?;
        let answer = reqwest::Client::new().request(method, url).body("x").send().await?;
        assert_eq!(answer.status(), 403, "{}", what("presigned"));
    }
    // Only a prefix is shared: `mine-…` against `mine-…x`.
    let folder = own.as_ref().split("/data/").next().context("a folder")?;
    let beside = Path::parse(format!("{folder}x/1"))?;
    refused(client.put(&beside, PutPayload::from_static(b"x")).await, "put beside");
    assert_eq!(lake.s3.admin(BUCKET)?.get(&there).await?.bytes().await?, "theirs", "nothing changed");
    Ok(())
}

/// Keys for `ns.mine` that a new client with a role was given.
async fn keys(lake: &Lake, role: &str) -> Result<AmazonS3> {
    let token = lake.token(role).await?;
    let loaded: Value = lake.load("mine", "vended-credentials", &token).await?.json().await?;
    let config = &loaded["config"];
    let credential = &loaded["storage-credentials"][0];
    let prefix = format!("{}/", loaded["metadata"]["location"].as_str().context("a location")?);
    assert_eq!(credential["prefix"], prefix.as_str());
    assert_eq!(credential["config"]["s3.session-token"], config["s3.session-token"]);
    assert_ne!(config["s3.access-key-id"], lake.s3.keys().0, "never the server's own");
    assert_eq!(
        config["client.refresh-credentials-endpoint"],
        "v1/default/namespaces/ns/tables/mine/credentials"
    );
    let expires: i64 = config["s3.session-token-expires-at-ms"].as_str().context("an end")?.parse()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    assert!((10 * 60_000..=16 * 60_000).contains(&(expires - now)), "{expires} {now}");

    let path = "/namespaces/ns/tables/mine/credentials";
    let again: Value = lake.request(Method::GET, "default", path, Some(&token)).send().await?.json().await?;
    assert_eq!(again["storage-credentials"][0], *credential, "kept while they are fresh");
    let tag = lake.load("mine", "vended-credentials", &token).await?.headers()["etag"].clone();
    let plain = lake.load("mine", "", &token).await?;
    assert_ne!(plain.headers()["etag"], tag);
    let plain: Value = plain.json().await?;
    assert_eq!(plain.get("storage-credentials"), None, "only who asks is given keys");
    assert_eq!(plain["config"].get("s3.access-key-id"), None);
    lake.s3.with_keys(config)
}

async fn upload_in_parts(client: &AmazonS3, path: &Path) -> Result<(), Error> {
    let mut upload = client.put_multipart(path).await?;
    for bytes in [5 << 20, 1 << 20] {
        upload.put_part(PutPayload::from(vec![7_u8; bytes])).await?;
    }
    upload.complete().await?;
    Ok(())
}

fn refused<T>(outcome: Result<T, Error>, what: &str) {
    match outcome {
        Ok(_) => panic!("{what} went through"),
        Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {}
        // A delete is one of several, with an answer each.
        Err(error @ Error::Generic { .. }) if format!("{error:?}").contains("AccessDenied") => {}
        Err(error) => panic!("{what}: refused otherwise than by 403: {error:?}"),
    }
}
