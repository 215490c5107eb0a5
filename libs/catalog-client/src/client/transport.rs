//! One request: token, timeouts, bounded bodies, retries of reads, errors told apart.
//!
//! Reads are tried again where the server surely did nothing or can be asked again (429, 502, 503, no connection).
//! A change is sent once: whether to try it again is for the caller to decide, who knows its idempotency key.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use firn_runtime::{tls, trace, with_causes};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Path, TokenSource};
use crate::{ClientError, ClientErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Commits queue behind others of the same table, so they may take longer than reads.
const WRITE_TIMEOUT: Duration = Duration::from_secs(90);
const READ_ATTEMPTS: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_RESPONSE_BYTES: usize = 512 * 1024 * 1024;

/// A pooled connection to one server.
pub(super) struct Transport {
    http: reqwest::Client,
    server_url: String,
    tokens: Arc<dyn TokenSource>,
}

impl Transport {
    pub(super) fn new(url: &str, tokens: Arc<dyn TokenSource>) -> Result<Self, ClientError> {
        let invalid = |message: String| ClientError {
            kind: ClientErrorKind::Invalid,
            status: None,
            error_type: None,
            request: format!("the server's URL '{url}'"),
            message,
        };
        let parsed = url::Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(invalid("is not of the form http://HOST:PORT or https://HOST".to_owned()));
        }
        let mut builder = tls::inside().connect_timeout(CONNECT_TIMEOUT).user_agent("firn");
        if matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            // A proxy from the environment is meant for other hosts than this one.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| invalid(with_causes(&error)))?;
        Ok(Self { http, server_url: url.trim_end_matches('/').to_owned(), tokens })
    }

    pub(super) fn server_url(&self) -> &str {
        &self.server_url
    }

    /// GET, tried again where that is safe and useful.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &Path) -> Result<T, ClientError> {
        self.get_with(path, &[]).await
    }

    /// The same with more headers.
    pub(super) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &Path,
        headers: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let add = |request: RequestBuilder| {
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        };
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        loop {
            match self.send(Method::GET, path, READ_TIMEOUT, add).await {
                Err(error) if error.kind == ClientErrorKind::Unavailable && attempt < READ_ATTEMPTS => {
                    tracing::debug!(%error, attempt, "reading from the catalog again");
                    tokio::time::sleep(backoff).await;
                    backoff *= 2;
                    attempt += 1;
                }
                answer => return decode(&Method::GET, path, &answer?),
            }
        }
    }

    /// POST of a JSON body, sent once. A repeated `idempotency_key` lets the server recognise the request.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &Path,
        body: &(impl Serialize + Sync),
        idempotency_key: Option<&str>,
    ) -> Result<T, ClientError> {
        let add = |request: RequestBuilder| {
            let request = request.json(body);
            match idempotency_key {
                Some(key) => request.header("Idempotency-Key", key),
                None => request,
            }
        };
        let answer = self.send(Method::POST, path, WRITE_TIMEOUT, add).await?;
        decode(&Method::POST, path, &answer)
    }

    /// POST of a form, sent once.
    pub(super) async fn post_form<T: DeserializeOwned>(
        &self,
        path: &Path,
        fields: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let answer = self.send(Method::POST, path, READ_TIMEOUT, |request| request.form(fields)).await?;
        decode(&Method::POST, path, &answer)
    }

    /// PUT of a JSON body, sent once.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &Path,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let answer = self.send(Method::PUT, path, WRITE_TIMEOUT, |request| request.json(body)).await?;
        decode(&Method::PUT, path, &answer)
    }

    /// PATCH with a JSON body, sent once.
    pub(super) async fn patch<T: DeserializeOwned>(
        &self,
        path: &Path,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let answer = self.send(Method::PATCH, path, WRITE_TIMEOUT, |request| request.json(body)).await?;
        decode(&Method::PATCH, path, &answer)
    }

    /// DELETE, sent once.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, WRITE_TIMEOUT, |request| request).await.map(|_| ())
    }

    async fn send(
        &self,
        method: Method,
        path: &Path,
        timeout: Duration,
        add: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Bytes, ClientError> {
        let failed = |kind, message| failure(&method, path, kind, message);
        if let Some(name) = path.refused() {
            return Err(failed(ClientErrorKind::Invalid, format!("'{name}' can't be a name")));
        }
        let url = format!("{}{}", self.server_url, path.as_str());
        let mut request =
            self.http.request(method.clone(), url).timeout(timeout).bearer_auth(self.tokens.token());
        if let Some(trace) = trace::traceparent() {
            request = request.header(trace::TRACEPARENT, trace);
        }
        let response = add(request).send().await.map_err(|error| {
            // Nothing was sent if there was no connection, and nothing can be broken by asking twice to read.
            let harmless = error.is_connect() || error.is_builder() || method == Method::GET;
            let kind = if harmless { ClientErrorKind::Unavailable } else { ClientErrorKind::Unknown };
            failed(kind, with_causes(&error))
        })?;
        let status = response.status();
        let body = read_bounded(response).await.map_err(|message| {
            let kind =
                if method == Method::GET { ClientErrorKind::Unavailable } else { ClientErrorKind::Unknown };
            failed(kind, message)
        })?;
        if status.is_success() { Ok(body) } else { Err(refusal(&method, path, status, &body)) }
    }
}

async fn read_bounded(mut response: Response) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| with_causes(&error))? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(format!("the answer is longer than {MAX_RESPONSE_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// An empty body (204) decodes as JSON null, so that `()` can be asked for.
fn decode<T: DeserializeOwned>(method: &Method, path: &Path, body: &[u8]) -> Result<T, ClientError> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let kind = if *method == Method::GET { ClientErrorKind::Invalid } else { ClientErrorKind::Unknown };
        failure(method, path, kind, format!("the answer is not what was expected: {error}"))
    })
}

fn failure(method: &Method, path: &Path, kind: ClientErrorKind, message: String) -> ClientError {
    let request = format!("{method} {}", path.as_str());
    ClientError { kind, status: None, error_type: None, request, message }
}

fn refusal(method: &Method, path: &Path, status: StatusCode, body: &[u8]) -> ClientError {
    let (error_type, message) = server_message(body);
    let message = message.unwrap_or_else(|| format!("the server answered {status}"));
    let kind = kind_of(status, *method == Method::GET);
    ClientError { status: Some(status.as_u16()), error_type, ..failure(method, path, kind, message) }
}

fn kind_of(status: StatusCode, is_read: bool) -> ClientErrorKind {
    match status.as_u16() {
        401 | 403 | 419 => ClientErrorKind::Denied,
        404 => ClientErrorKind::NotFound,
        409 => ClientErrorKind::Conflict,
        429 | 503 => ClientErrorKind::Unavailable,
        502 if is_read => ClientErrorKind::Unavailable,
        500.. => ClientErrorKind::Unknown,
        _ => ClientErrorKind::Invalid,
    }
}

/// Type and message of an error body: Iceberg's (also Firn's) `{"error": {…}}`, or Nessie's flat one.
fn server_message(body: &[u8]) -> (Option<String>, Option<String>) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let inner = &value["error"];
    if inner.is_object() {
        (text(&inner["type"]), text(&inner["message"]))
    } else {
        (text(&value["errorCode"]), text(&value["message"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_of_both_apis_are_read() {
        let iceberg =
            br#"{"error":{"message":"table 'a.b' does not exist","type":"NoSuchTableException","code":404}}"#;
        let error = refusal(&Method::GET, &Path::new("/x"), StatusCode::NOT_FOUND, iceberg);
        assert_eq!(error.kind, ClientErrorKind::NotFound);
        assert_eq!(error.error_type.as_deref(), Some("NoSuchTableException"));
        assert_eq!(error.to_string(), "GET /x: table 'a.b' does not exist");

        let nessie =
            br#"{"status":409,"reason":"Conflict","message":"moved","errorCode":"REFERENCE_CONFLICT"}"#;
        let error = refusal(&Method::POST, &Path::new("/x"), StatusCode::CONFLICT, nessie);
        assert_eq!(error.kind, ClientErrorKind::Conflict);
        assert_eq!(error.error_type.as_deref(), Some("REFERENCE_CONFLICT"));
    }

    #[test]
    fn the_outcome_of_a_change_is_unknown_after_a_server_error() {
        for status in [500, 502, 504, 507] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(kind_of(status, false), ClientErrorKind::Unknown);
        }
        assert_eq!(kind_of(StatusCode::SERVICE_UNAVAILABLE, false), ClientErrorKind::Unavailable);
        assert_eq!(kind_of(StatusCode::BAD_GATEWAY, true), ClientErrorKind::Unavailable);
    }

    #[test]
    fn a_url_that_is_none_is_refused_when_the_client_is_made() {
        let tokens: Arc<dyn TokenSource> = Arc::new(super::super::StaticToken(String::new()));
        for url in ["", "localhost:8181", "file:///tmp"] {
            assert!(Transport::new(url, Arc::clone(&tokens)).is_err(), "{url}");
        }
    }
}
