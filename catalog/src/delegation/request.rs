//! What a request to S3 would do, judged before it is signed. Only what is known to be harmless passes: one method, query
//! and set of headers for each thing that readers and writers of tables do.

use std::collections::BTreeMap;

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use super::{Access, Grant};
use crate::{CatalogError, aws, config::S3Config, storage::Location};

/// What S3 leaves as it is in the path of a canonical request.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// What a list may say beside its prefix.
const LIST_QUERY: [&str; 9] = [
    "list-type",
    "prefix",
    "delimiter",
    "max-keys",
    "continuation-token",
    "start-after",
    "encoding-type",
    "fetch-owner",
    "x-id",
];
/// Headers of S3 that change nothing but the object's own bytes and how they are checked. Not among them: access lists,
/// locks, redirects, tags, and tokens of others.
const HEADERS: [&str; 16] = [
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-storage-class",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-user-agent",
];
const HEADER_PREFIXES: [&str; 3] = ["x-amz-checksum-", "x-amz-copy-source-if-", "x-amz-meta-"];

/// A request that a client wants signed, as the specification writes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SignRequest {
    pub(crate) region: String,
    pub(crate) uri: String,
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) provider: Option<String>,
}

/// What a request would do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) access: Access,
    /// The URI in its one canonical form.
    pub(super) uri: String,
    /// Whether the answer to the same method and URI may be kept by the client.
    pub(super) repeatable: bool,
    /// Whether the signature must cover the body.
    pub(super) body_matters: bool,
    /// Objects that it touches.
    objects: Vec<Location>,
    /// The bucket and prefix that it lists.
    listed: Option<(String, String)>,
}

/// Of the body of `POST ?delete`, so little that no two parsers read it differently.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody {
    #[serde(rename = "@xmlns", default)]
    _namespace: String,
    #[serde(rename = "Quiet", default)]
    _quiet: String,
    #[serde(rename = "Object", default)]
    objects: Vec<DeletedObject>,
}

/// Without a version: those are deleted by the operator alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletedObject {
    #[serde(rename = "Key")]
    key: String,
}

impl Judged {
    /// Refuses what the grant doesn't cover.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), CatalogError> {
        if self.access > grant.access {
            let (need, have) = (self.access.word(), grant.access.word());
            return Err(forbidden(format!("this request needs access for {need}, yours is for {have}")));
        }
        if let Some(other) = self.objects.iter().find(|object| !grant.files.hold(object)) {
            return Err(forbidden(format!("'{other}' is none of the table's files")));
        }
        if let Some((bucket, prefix)) = &self.listed {
            let rest = prefix.strip_prefix(grant.files.path());
            if bucket != grant.files.bucket() || rest.is_none_or(|rest| !rest.starts_with('/')) {
                return Err(forbidden(format!("the prefix '{prefix}' does not lie in the table's folder")));
            }
        }
        Ok(())
    }
}

/// Works out what a request would do, and refuses what no client of a table needs.
pub(super) fn judge(request: &SignRequest, s3: &S3Config, region: &str) -> Result<Judged, CatalogError> {
    if request.provider.as_deref().is_some_and(|provider| provider != "s3") {
        return Err(CatalogError::Invalid("only requests to s3 can be signed".to_owned()));
    }
    if request.region != region {
        let text = format!("the bucket is in the region '{region}', not in '{}'", request.region);
        return Err(CatalogError::Invalid(text));
    }
    let uri: Uri = request
        .uri
        .parse()
        .map_err(|error| CatalogError::Invalid(format!("'{}' is no URI: {error}", request.uri)))?;
    let (bucket, key, path) = address(&uri, s3, region)?;
    let query = query(&uri)?;
    check_headers(&request.headers)?;
    let source = copy_source(&request.headers)?;
    let named =
        |names: &[&str]| query.len() == names.len() && names.iter().all(|name| query.contains_key(*name));
    let method = request.method.as_str();
    let is_copy = source.is_some();
    let mut judged = Judged {
        access: Access::Read,
        uri: canonical(&uri, &path),
        repeatable: false,
        body_matters: false,
        objects: Vec::new(),
        listed: None,
    };
    if key.is_empty() {
        match method {
            "GET" if query.get("list-type").is_some_and(|kind| kind == "2") && !is_copy => {
                if let Some(other) = query.keys().find(|name| !LIST_QUERY.contains(&name.as_str())) {
                    return Err(unsupported(method, &format!("'{other}' in a list")));
                }
                let prefix = query.get("prefix").cloned().unwrap_or_default();
                locate(&bucket, &prefix)?;
                judged.listed = Some((bucket, prefix));
            }
            "POST" if named(&["delete"]) && !is_copy => {
                judged.access = Access::Maintain;
                judged.body_matters = true;
                judged.objects = deleted(&bucket, request.body.as_deref())?;
            }
            _ => return Err(unsupported(method, "that for a bucket")),
        }
        return Ok(judged);
    }
    let plain = query.keys().all(|name| name == "x-id");
    let part = |name: &String| name == "partNumber" || name == "x-id" || name.starts_with("response-");
    judged.access = match method {
        "GET" | "HEAD" if query.keys().all(part) => {
            judged.repeatable = true;
            Access::Read
        }
        "GET" if query.contains_key("uploadId") && query.keys().all(|name| is_upload(name)) => Access::Write,
        "PUT"
            if plain
                || (query.contains_key("partNumber") && query.contains_key("uploadId"))
                    && query.keys().all(|name| is_upload(name)) =>
        {
            Access::Write
        }
        "POST"
            if query.keys().all(|name| name == "uploads" || name == "x-id")
                && query.contains_key("uploads") =>
        {
            Access::Write
        }
        "POST" | "DELETE" if query.contains_key("uploadId") && query.keys().all(|name| is_upload(name)) => {
            Access::Write
        }
        "DELETE" if plain => Access::Maintain,
        _ => return Err(unsupported(method, "that for an object")),
    };
    if is_copy && method != "PUT" {
        return Err(unsupported(method, "a source to copy from"));
    }
    judged.objects.push(locate(&bucket, &key)?);
    judged.objects.extend(source);
    Ok(judged)
}

/// Query parameters of requests about one upload in parts.
fn is_upload(name: &str) -> bool {
    matches!(name, "uploadId" | "partNumber" | "max-parts" | "part-number-marker" | "x-id")
}

/// Bucket, decoded key, and the decoded path as it was addressed.
fn address(uri: &Uri, s3: &S3Config, region: &str) -> Result<(String, String, String), CatalogError> {
    let authority = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    let (Some(scheme), Some(host)) = (uri.scheme_str(), authority) else {
        return Err(CatalogError::Invalid("the URI of a request to sign has scheme and host".to_owned()));
    };
    let path = percent_decode_str(uri.path()).decode_utf8();
    let path = path.map_err(|_| CatalogError::Invalid(format!("'{}' is not UTF-8", uri.path())))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    for known in hosts(s3, region).iter().filter(|known| known.scheme == scheme) {
        let (wanted, host) = (without_port(scheme, &known.name), without_port(scheme, &host));
        if known.path_style && host == wanted {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            return Ok((bucket.to_owned(), key.to_owned(), format!("/{path}")));
        }
        let bucket = host.strip_suffix(wanted).and_then(|rest| rest.strip_suffix('.'));
        if let Some(bucket) = bucket.filter(|_| known.virtual_style) {
            return Ok((bucket.to_owned(), path.to_owned(), format!("/{path}")));
        }
    }
    Err(CatalogError::Invalid(format!("'{scheme}://{host}' is not how the storage's buckets are addressed")))
}

/// A host that serves the storage.
struct Host {
    scheme: String,
    name: String,
    /// It reads the bucket from the path.
    path_style: bool,
    /// It reads the bucket from the front of its name.
    virtual_style: bool,
}

/// AWS knows from the name which style is meant. Other servers read one name either way, so that the same request may mean
/// two buckets: there only the configured style passes.
fn hosts(s3: &S3Config, region: &str) -> Vec<Host> {
    let of_aws = |name| Host { scheme: "https".to_owned(), name, path_style: true, virtual_style: true };
    let Some(endpoint) = &s3.endpoint else { return aws_hosts(region).into_iter().map(of_aws).collect() };
    let endpoint = endpoint.trim_end_matches('/').to_ascii_lowercase();
    let own = endpoint.split_once("://").map(|(scheme, name)| Host {
        scheme: scheme.to_owned(),
        name: name.to_owned(),
        path_style: s3.path_style,
        virtual_style: !s3.path_style,
    });
    own.into_iter().collect()
}

/// A scheme's own port may be left out.
fn without_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    host.strip_suffix(if scheme == "https" { ":443" } else { ":80" }).unwrap_or(host)
}

fn aws_hosts(region: &str) -> Vec<String> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let mut hosts = vec![format!("s3.{region}.{domain}"), format!("s3.dualstack.{region}.{domain}")];
    if region == aws::DEFAULT_REGION {
        hosts.push(format!("s3.{domain}"));
    }
    hosts
}

fn query(uri: &Uri) -> Result<BTreeMap<String, String>, CatalogError> {
    let mut query = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if query.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(CatalogError::Invalid(format!("'{name}' stands twice in the query")));
        }
    }
    Ok(query)
}

/// The URI with its path encoded as the server will encode it to check the signature.
fn canonical(uri: &Uri, path: &str) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    let authority = authority.map_or("", |authority| authority.as_str());
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{}{query}", utf8_percent_encode(path, PATH))
}

fn check_headers(headers: &BTreeMap<String, Vec<String>>) -> Result<(), CatalogError> {
    for name in headers.keys() {
        let lower = name.to_ascii_lowercase();
        let known = HEADERS.contains(&lower.as_str())
            || HEADER_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
        if lower.starts_with("x-amz-") && !known {
            return Err(forbidden(format!("requests with the header '{name}' are not signed")));
        }
    }
    Ok(())
}

/// The values of a header, whatever its name's case.
pub(super) fn header<'a>(headers: &'a BTreeMap<String, Vec<String>>, name: &str) -> Vec<&'a str> {
    let named = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.flat_map(|(_, values)| values.iter().map(String::as_str)).collect()
}

fn copy_source(headers: &BTreeMap<String, Vec<String>>) -> Result<Option<Location>, CatalogError> {
    match header(headers, "x-amz-copy-source").as_slice() {
        [] => Ok(None),
        [source] if !source.contains('?') => {
            let decoded = percent_decode_str(source).decode_utf8();
            let decoded = decoded.map_err(|_| forbidden(format!("'{source}' is not UTF-8")))?;
            let (bucket, key) = decoded.trim_start_matches('/').split_once('/').unwrap_or_default();
            Ok(Some(locate(bucket, key)?))
        }
        _ => Err(forbidden(
            "a request copies the newest version of one object, or it is not signed".to_owned(),
        )),
    }
}

/// Objects of a request that deletes several.
fn deleted(bucket: &str, body: Option<&str>) -> Result<Vec<Location>, CatalogError> {
    let body = body.ok_or_else(|| {
        CatalogError::Invalid(
            "to delete several objects, send the request's body along to be checked".to_owned(),
        )
    })?;
    let body: DeleteBody =
        aws::parse(body.as_bytes()).map_err(|error| CatalogError::Invalid(error.to_string()))?;
    body.objects.iter().map(|object| locate(bucket, &object.key)).collect()
}

/// A place in a bucket, which has nothing that a proxy or server might read as the way to another one.
fn locate(bucket: &str, key: &str) -> Result<Location, CatalogError> {
    let location: Result<Location, _> = format!("s3://{bucket}/{key}").parse();
    location.map_err(|error| forbidden(error.to_string()))
}

fn unsupported(method: &str, what: &str) -> CatalogError {
    forbidden(format!("{method} requests with {what} are not signed"))
}

fn forbidden(text: String) -> CatalogError {
    CatalogError::Forbidden(text)
}

#[cfg(test)]
mod tests;
