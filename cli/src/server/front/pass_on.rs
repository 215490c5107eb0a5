//! A request to another service, and its answer back, as streams.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header, uri::PathAndQuery},
    response::Response,
};
use firn_runtime::http::json_error;
use url::Url;

use super::places::Place;

/// Headers that are about one connection, and those that the client sets anew.
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes a request on to a service and its answer back.
pub(super) async fn stream(place: Option<&Place>, name: &str, request: Request) -> Response {
    let Some(Place { http, url }) = place else { return not_here(name) };
    let (parts, body) = request.into_parts();
    let target = at(url, parts.uri.path_and_query().map_or("/", PathAndQuery::as_str));
    let sent = http
        .request(parts.method, target)
        .headers(end_to_end(parts.headers))
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send()
        .await;
    match sent {
        Ok(answer) => back(answer),
        Err(error) => away(name, &error),
    }
}

fn back(answer: reqwest::Response) -> Response {
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Headers without those of the connection, and those that it names.
pub(super) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_THE_CONNECTION) {
        headers.remove(name);
    }
    headers
}

/// No connection means that nothing was done; anything later, that nobody knows.
pub(super) fn away(name: &str, error: &reqwest::Error) -> Response {
    tracing::warn!(service = name, %error, "a service didn't answer");
    if error.is_connect() {
        let message =
            format!("the service '{name}' can't be reached: nothing was done; try again in a moment");
        return json_error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
    }
    let message = format!("the service '{name}' didn't answer in full: whether it did its work isn't known");
    json_error(StatusCode::BAD_GATEWAY, "CommitStateUnknownException", message)
}

fn not_here(name: &str) -> Response {
    let message = format!("the service '{name}' doesn't run here: set {name}.url at the gateway");
    json_error(StatusCode::NOT_FOUND, "NotFound", message)
}

/// `path` at a service.
pub(super) fn at(service: &Url, path: &str) -> String {
    format!("{}{path}", service.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("host", "a"),
            ("te", "x"),
            ("authorization", "b"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let left: Vec<_> = end_to_end(headers).keys().map(ToString::to_string).collect();
        assert_eq!(left, ["authorization"]);
    }

    #[test]
    fn path_follows_the_service_s_url() {
        let url: Url = "http://127.0.0.1:9/".parse().unwrap();
        assert_eq!(at(&url, "/v1/x?y=1"), "http://127.0.0.1:9/v1/x?y=1");
    }
}
