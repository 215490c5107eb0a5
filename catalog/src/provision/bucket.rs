//! Requests about one bucket.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use sha2::{Digest as _, Sha256};

use super::wire::CreateBucket;
use crate::{
    aws::{AwsClient, AwsError, AwsRequest, DEFAULT_REGION, Service},
    config::S3Config,
};

const NOT_FOUND: u16 = 404;

/// A bucket that may not exist yet.
pub(super) struct Bucket<'a> {
    aws: &'a AwsClient,
    url: String,
}

impl<'a> Bucket<'a> {
    pub(super) fn new(aws: &'a AwsClient, s3: &S3Config, name: &str) -> Self {
        let url = match &s3.endpoint {
            Some(endpoint) => {
                let endpoint = endpoint.trim_end_matches('/');
                match endpoint.split_once("://").filter(|_| !s3.path_style) {
                    Some((scheme, host)) => format!("{scheme}://{name}.{host}"),
                    None => format!("{endpoint}/{name}"),
                }
            }
            // In path style, so that a dot in the bucket's name doesn't break TLS.
            None => {
                let domain =
                    if aws.region().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                format!("https://s3.{}.{domain}/{name}", aws.region())
            }
        };
        Self { aws, url }
    }

    /// Whether it exists and is ours.
    pub(super) async fn exists(&self) -> Result<bool, AwsError> {
        Ok(self.get(Method::HEAD, "").await?.is_some())
    }

    /// Creates it in the client's region.
    pub(super) async fn create(&self) -> Result<(), AwsError> {
        let region = self.aws.region();
        let body = if region == DEFAULT_REGION {
            String::new()
        } else {
            to_xml(&CreateBucket { location_constraint: region })
        };
        self.put(String::new(), body.into_bytes()).await
    }

    /// One of its settings, such as `policy`; none if it was never made.
    pub(super) async fn read(&self, query: &str) -> Result<Option<Vec<u8>>, AwsError> {
        self.get(Method::GET, &format!("?{query}=")).await
    }

    /// Replaces a setting.
    pub(super) async fn write(&self, query: &str, body: Vec<u8>) -> Result<(), AwsError> {
        self.put(format!("?{query}="), body).await
    }

    /// Whether an object exists.
    pub(super) async fn has_object(&self, key: &str) -> Result<bool, AwsError> {
        Ok(self.get(Method::HEAD, &format!("/{key}")).await?.is_some())
    }

    /// Makes an empty object.
    pub(super) async fn write_object(&self, key: &str) -> Result<(), AwsError> {
        self.put(format!("/{key}"), Vec::new()).await
    }

    async fn get(&self, method: Method, rest: &str) -> Result<Option<Vec<u8>>, AwsError> {
        let uri = format!("{}{rest}", self.url);
        let request = AwsRequest { service: Service::S3, method, uri, headers: Vec::new(), body: Vec::new() };
        match self.aws.send(request).await {
            Ok(body) => Ok(Some(body.to_vec())),
            Err(AwsError::Refused { status: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, rest: String, body: Vec<u8>) -> Result<(), AwsError> {
        // S3 takes settings only with a checksum of its own.
        let checksum = STANDARD.encode(Sha256::digest(&body));
        let headers = [("x-amz-sdk-checksum-algorithm", "SHA256"), ("x-amz-checksum-sha256", &checksum)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let uri = format!("{}{rest}", self.url);
        let request = AwsRequest { service: Service::S3, method: Method::PUT, uri, headers, body };
        self.aws.send(request).await.map(drop)
    }
}

/// The XML of a setting.
pub(super) fn to_xml(value: &impl serde::Serialize) -> String {
    quick_xml::se::to_string(value)
        .expect("settings are texts, numbers and lists of them, which XML can hold")
}
