use anyhow::{Context as _, Result};
use object_store::{ObjectStoreExt as _, path::Path};
use reqwest::Method;
use serde_json::{Value, json};

use crate::lake::{BUCKET, Lake, REGION, S3};

#[tokio::test(flavor = "multi_thread")]
async fn signed_requests_reach_their_table_alone_on_seaweedfs() -> Result<()> {
    let lake = Lake::start(S3::seaweedfs().await?, "").await?;
    let loaded: Value =
        lake.load("mine", "remote-signing", &lake.token("reader").await?).await?.json().await?;
    assert_eq!(
        loaded["config"].get("signer.endpoint"),
        None,
        "a server that may be too lenient is the operator's choice"
    );
    drop(lake);
    reach_their_table_alone(Lake::start(S3::seaweedfs().await?, "remote_signing = true\n").await?).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MinIO, which takes long to build: scripts/test-servers install-minio"]
async fn signed_requests_reach_their_table_alone_on_minio() -> Result<()> {
    reach_their_table_alone(Lake::vending(S3::minio().await?).await?).await
}

async fn reach_their_table_alone(lake: Lake) -> Result<()> {
    let writer = Signer { token: lake.token("writer").await?, lake: &lake };
    let reader = Signer { token: lake.token("reader").await?, lake: &lake };
    let own = lake.place("default", "mine", "data/day=1/a b+c.parquet").await?;
    let neighbour = lake.file("default", "theirs", "data/1.parquet").await?;
    let other = lake.file("other", "mine", "data/1.parquet").await?;

    let loaded: Value = lake.load("mine", "remote-signing", &reader.token).await?.json().await?;
    let config = &loaded["config"];
    assert_eq!(config["s3.remote-signing-enabled"], "true");
    assert_eq!(config["signer.endpoint"], "v1/default/namespaces/ns/tables/mine/sign");
    assert_eq!(config.get("s3.access-key-id"), None);

    assert_eq!(writer.send("PUT", &at(&own), &[], "rows").await?, (200, String::new()));
    assert_eq!(reader.send("GET", &at(&own), &[], "").await?, (200, "rows".to_owned()));
    let folder = lake.place("default", "mine", "data").await?;
    let list = |folder: &Path| format!("/{BUCKET}?list-type=2&prefix={folder}/");
    let (status, text) = reader.send("GET", &list(&folder), &[], "").await?;
    assert!(status == 200 && text.contains("<Key>"), "{status} {text}");
    let copy = lake.place("default", "mine", "data/copy").await?;
    let source = |path: &Path| [("x-amz-copy-source", at(path))];
    assert_eq!(writer.send("PUT", &at(&copy), &source(&own), "").await?.0, 200, "a copy within the table");
    upload_in_parts(&writer, &lake.place("default", "mine", "data/large").await?).await?;

    for there in [&neighbour, &other] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            assert_eq!(writer.ask(method, &at(there), &[]).await?.0, 403, "{method} {there}");
        }
        assert_eq!(writer.ask("PUT", &at(&copy), &source(there)).await?.0, 403, "copy from {there}");
        assert_eq!(writer.ask("PUT", &at(there), &source(&own)).await?.0, 403, "copy to {there}");
        assert_eq!(writer.ask("POST", &format!("{}?uploads", at(there)), &[]).await?.0, 403);
        let folder = Path::from_iter(there.parts().take(there.parts_count() - 1));
        assert_eq!(writer.ask("GET", &list(&folder), &[]).await?.0, 403);
    }
    for (method, path) in [("PUT", at(&own)), ("POST", format!("{}?uploads", at(&own))), ("DELETE", at(&own))]
    {
        assert_eq!(reader.ask(method, &path, &[]).await?.0, 403, "a reader's {method}");
    }
    assert_eq!(writer.ask("DELETE", &at(&own), &[]).await?.0, 403, "a writer's delete");
    for path in ["?policy", "?acl", "?list-type=2", ""] {
        assert_eq!(writer.ask("PUT", &format!("/{BUCKET}{path}"), &[]).await?.0, 403, "{path}");
        assert_eq!(writer.ask("GET", &format!("/{BUCKET}{path}"), &[]).await?.0, 403, "{path}");
    }
    let acl = [("x-amz-acl", "public-read".to_owned())];
    assert_eq!(writer.ask("PUT", &at(&own), &acl).await?.0, 403);
    signature_is_for_this_request_alone(&reader, &own, &neighbour).await
}

/// What was signed for one request is worth nothing for another.
async fn signature_is_for_this_request_alone(
    reader: &Signer<'_>,
    own: &Path,
    neighbour: &Path,
) -> Result<()> {
    let (status, signed) = reader.ask("GET", &at(own), &[]).await?;
    assert_eq!(status, 200, "{signed}");
    let url = signed["uri"].as_str().context("a URI")?;
    for (method, url) in [
        (Method::GET, url.replace(&url_of(own), &url_of(neighbour))),
        (Method::DELETE, url.to_owned()),
        (Method::PUT, url.to_owned()),
        (Method::GET, format!("{url}?acl")),
    ] {
        let answer = reader.replay(method.clone(), &url, &signed, &[]).await?;
        assert_eq!(answer, 403, "{method} {url}");
    }
    let moved = [("x-amz-copy-source", at(neighbour))];
    let (status, signed) = Signer { token: reader.lake.token("maintainer").await?, lake: reader.lake }
        .ask("PUT", &at(own), &[])
        .await?;
    assert_eq!(status, 200, "{signed}");
    reader.replay(Method::PUT, signed["uri"].as_str().context("a URI")?, &signed, &moved).await?;
    let kept = reader.lake.s3.admin(BUCKET)?.get(own).await?.bytes().await?;
    assert_ne!(kept, "theirs", "a source that was not signed was copied");
    Ok(())
}

/// A client that has no keys and asks for each request's signature.
struct Signer<'a> {
    token: String,
    lake: &'a Lake,
}

impl Signer<'_> {
    /// Status and answer of the request to sign.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, String)]) -> Result<(u16, Value)> {
        let headers: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!([value]))).collect();
        let uri = format!("{}{path}", self.lake.s3.endpoint());
        let body = json!({"method": method, "region": REGION, "uri": uri, "headers": headers});
        let path = "/namespaces/ns/tables/mine/sign";
        let request = self.lake.request(Method::POST, "default", path, Some(&self.token));
        let answer = request.json(&body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Status and text of the signed request's own answer.
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &'static str,
    ) -> Result<(u16, String)> {
        let answer = self.exchange(method, path, headers, body.as_bytes().to_vec()).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<reqwest::Response> {
        let (status, signed) = self.ask(method, path, headers).await?;
        anyhow::ensure!(status == 200, "{method} {path}: {status} {signed}");
        let url = signed["uri"].as_str().context("a URI")?;
        Ok(signed_request(method.parse()?, url, &signed).body(body).send().await?)
    }

    /// Sends what was signed, changed.
    async fn replay(
        &self,
        method: Method,
        url: &str,
        signed: &Value,
        more: &[(&str, String)],
    ) -> Result<u16> {
        let mut request = signed_request(method, url, signed);
        for (name, value) in more {
            request = request.header(*name, value);
        }
        Ok(request.send().await?.status().as_u16())
    }
}

async fn upload_in_parts(signer: &Signer<'_>, path: &Path) -> Result<()> {
    let (_, started) = signer.send("POST", &format!("{}?uploads", at(path)), &[], "").await?;
    let upload =
        started.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).context("an upload")?;
    let part = format!("{}?partNumber=1&uploadId={upload}", at(path));
    let answer = signer.exchange("PUT", &part, &[], vec![1; 5 << 20]).await?;
    let tag = answer.headers()["etag"].to_str()?.to_owned();
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done =
        signer.exchange("POST", &format!("{}?uploadId={upload}", at(path)), &[], body.into_bytes()).await?;
    assert_eq!(done.status(), 200, "{}", done.text().await?);
    Ok(())
}

fn signed_request(method: Method, url: &str, signed: &Value) -> reqwest::RequestBuilder {
    let mut request = reqwest::Client::new().request(method, url);
    for (name, values) in signed["headers"].as_object().into_iter().flatten() {
        for value in values.as_array().into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap_or_default());
        }
    }
    request
}

/// The path of an object on the server, as clients write it.
fn at(path: &Path) -> String {
    format!("/{BUCKET}/{}", url_of(path))
}

fn url_of(path: &Path) -> String {
    path.as_ref().replace(' ', "%20").replace('+', "%2B").replace('=', "%3D")
}
