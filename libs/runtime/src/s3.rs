//! Buckets of S3, and of what speaks like it, as `object_store` opens them.

use std::time::Duration;

use object_store::{
    ClientOptions,
    aws::AmazonS3Builder,
    client::{HttpClient, HttpConnector},
};

use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request; larger objects are written in parts.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A bucket at `endpoint`, or at AWS's own. Keys are the environment's unless the caller sets others.
pub fn bucket(name: &str, endpoint: Option<&str>, region: Option<&str>, path_style: bool) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(name)
        .with_virtual_hosted_style_request(!path_style)
        .with_http_connector(Connector);
    if let Some(endpoint) = endpoint {
        // Of an endpoint that isn't AWS's, `object_store` wants the bucket's own host in virtual-hosted style.
        let url = match endpoint.split_once("://").filter(|_| !path_style) {
            Some((scheme, host)) => format!("{scheme}://{name}.{host}"),
            None => endpoint.to_owned(),
        };
        builder = builder.with_endpoint(url).with_allow_http(endpoint.starts_with("http:"));
    }
    match region {
        Some(region) => builder.with_region(region),
        None => builder,
    }
}

/// Makes clients that trust whom the process trusts, at each handshake: `object_store` alone would read authorities once.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = tls::outside()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .http1_only()
            // Objects come as they are stored, and their length is looked at.
            .no_gzip()
            .build()
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(HttpClient::new(client))
    }
}
