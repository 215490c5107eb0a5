//! Requests to S3 and STS that `object_store` doesn't make, signed with the catalog's own keys.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode,
    },
    sign::v4,
};
use bytes::Bytes;
use firn_runtime::{tls, with_causes};
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use reqwest::{Method, redirect};
use serde::{Deserialize, de::DeserializeOwned};

/// Region where nobody says which; servers that aren't AWS's take it.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";
/// A request is small and so is its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which service a request is for: each has its own rules of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Sts,
}

/// A request before it is signed.
pub(crate) struct AwsRequest {
    pub(crate) service: Service,
    pub(crate) method: Method,
    /// With path and query percent-encoded.
    pub(crate) uri: String,
    /// All of them are signed, so they must arrive as they are.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsError {
    /// The server said no.
    #[error("{code}: {message} (HTTP {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's own word for it, such as `NoSuchBucket`.
        code: String,
        /// What it said.
        message: String,
    },
    /// The server can't be reached, or isn't understood.
    #[error("{0}")]
    Failed(String),
}

/// S3's error at the top level, STS's one below it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorAnswer {
    error: Option<ErrorDetail>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorDetail {
    code: Option<String>,
    message: Option<String>,
}

/// Sends signed requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AwsClient {
    http: reqwest::Client,
    identity: AwsCredentialProvider,
    region: String,
}

impl AwsClient {
    /// A client with the catalog's own keys.
    pub(crate) fn new(identity: AwsCredentialProvider, region: &str) -> Result<Self, String> {
        // A signature is for one host, so a redirect can only go wrong.
        let http = tls::outside().timeout(TIMEOUT).redirect(redirect::Policy::none()).build();
        let http = http.map_err(|error| error.to_string())?;
        Ok(Self { http, identity, region: region.to_owned() })
    }

    /// The region that it signs for.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The catalog's keys as they are now.
    pub(crate) async fn keys(&self) -> Result<Arc<AwsCredential>, AwsError> {
        let keys = self.identity.get_credential().await;
        keys.map_err(|error| AwsError::Failed(format!("the catalog has no keys of its own: {error}")))
    }

    /// Signs, sends, and answers the body of a success.
    pub(crate) async fn send(&self, request: AwsRequest) -> Result<Bytes, AwsError> {
        let keys = self.keys().await?;
        let body = SignableBody::Bytes(&request.body);
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let added =
            sign(&keys, request.service, &self.region, request.method.as_str(), &request.uri, &headers, body)
                .map_err(AwsError::Failed)?;
        let mut outgoing = self.http.request(request.method, &request.uri);
        for (name, value) in headers.into_iter().chain(added.iter().map(|(name, value)| (&**name, &**value)))
        {
            outgoing = outgoing.header(name, value);
        }
        let answer = outgoing.body(request.body.clone()).send().await;
        // Without the URL: its query may be long, and who reads it knows where it went.
        let answer = answer.map_err(|error| AwsError::Failed(with_causes(&error.without_url())))?;
        let status = answer.status();
        let body =
            answer.bytes().await.map_err(|error| AwsError::Failed(with_causes(&error.without_url())))?;
        if status.is_success() { Ok(body) } else { Err(refused(status.as_u16(), &body)) }
    }
}

/// Reads an answer's XML.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AwsError> {
    let text = String::from_utf8_lossy(body);
    quick_xml::de::from_str(&text)
        .map_err(|error| AwsError::Failed(format!("an answer that can't be read: {error}")))
}

/// The headers that make a request a signed one.
pub(crate) fn sign(
    keys: &AwsCredential,
    service: Service,
    region: &str,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: SignableBody<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut settings = SigningSettings::default();
    if service == Service::S3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = Credentials::new(&keys.key_id, &keys.secret_key, keys.token.clone(), None, "firn").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(match service {
            Service::S3 => "s3",
            Service::Sts => "sts",
        })
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let request = SignableRequest::new(method, uri, headers.iter().copied(), body)
        .map_err(|error| with_causes(&error))?;
    let (instructions, _) =
        aws_sigv4::http_request::sign(request, &params).map_err(|error| with_causes(&error))?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn refused(status: u16, body: &[u8]) -> AwsError {
    let answer = parse::<ErrorAnswer>(body).ok();
    let (code, message) = match answer {
        Some(ErrorAnswer { error: Some(detail), .. }) => (detail.code, detail.message),
        Some(ErrorAnswer { code, message, .. }) => (code, message),
        None => (None, None),
    };
    AwsError::Refused {
        status,
        code: code.unwrap_or_else(|| "Refused".to_owned()),
        message: message.unwrap_or_else(|| "no reason given".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_refusal_is_read_from_s3_and_sts() {
        let s3 =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>no &lt;b&gt;</Message></Error>";
        let sts = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        for (body, code, message) in
            [(s3, "NoSuchBucket", "no <b>"), (sts, "AccessDenied", "no"), ("", "Refused", "no reason given")]
        {
            let AwsError::Refused { code: seen, message: text, status: 403 } = refused(403, body.as_bytes())
            else {
                panic!("{body}");
            };
            assert_eq!((seen.as_str(), text.as_str()), (code, message));
        }
    }
}
