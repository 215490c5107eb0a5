//! One answer out of several workers'.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{Method, StatusCode, uri::PathAndQuery},
    response::{IntoResponse, Response},
};
use firn_alerts::FindingsPage;
use firn_runtime::{StageState, http::json_error};

use super::{
    pass_on::{at, away, end_to_end},
    places::Place,
};
use crate::status::StageLine;

/// Commands and notes are short.
const MAX_BODY: usize = 1 << 20;

/// Asks all alerts workers: pages of findings become one; of anything else, the answer of the worker that knows it.
pub(super) async fn ask_all(workers: &[Place], request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        let message = format!("the body is broken or longer than {MAX_BODY} bytes");
        return json_error(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message);
    };
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let is_list = parts.method == Method::GET && parts.uri.path().ends_with("/findings");
    let mut pages = Vec::new();
    let mut unknown = None;
    for Place { http, url } in workers {
        let request = http.request(parts.method.clone(), at(url, path));
        let request = request.headers(end_to_end(parts.headers.clone())).body(body.clone());
        let (status, bytes) = match answer(request).await {
            Ok(answer) => answer,
            Err(error) => return away("alerts", &error),
        };
        match (status, is_list) {
            // Another worker may have this finding.
            (StatusCode::NOT_FOUND, false) => unknown = Some((status, bytes)),
            (StatusCode::OK, true) => match serde_json::from_slice::<FindingsPage>(&bytes) {
                Ok(page) => pages.push(page),
                Err(_) => return passed_on(StatusCode::BAD_GATEWAY, bytes),
            },
            _ => return passed_on(status, bytes),
        }
    }
    match unknown {
        Some((status, bytes)) => passed_on(status, bytes),
        None => Json(page(pages, limit(parts.uri.query()))).into_response(),
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Bytes), reqwest::Error> {
    let answer = request.send().await?;
    Ok((answer.status(), answer.bytes().await?))
}

fn passed_on(status: StatusCode, body: Bytes) -> Response {
    (status, [("content-type", "application/json")], Body::from(body)).into_response()
}

/// The workers' default, unless the request asks for another.
fn limit(query: Option<&str>) -> usize {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs
        .into_iter()
        .find(|(name, _)| name == "limit")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(100)
}

/// The latest change first, as each worker has it.
fn page(pages: Vec<FindingsPage>, limit: usize) -> FindingsPage {
    let total = pages.iter().map(|page| page.total).sum();
    let mut findings: Vec<_> = pages.into_iter().flat_map(|page| page.findings).collect();
    findings.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
    findings.truncate(limit);
    FindingsPage { findings, total }
}

/// One line for each stage and tenant: replicas share the work, so numbers add up, and the worst state is the stage's.
pub(super) fn stages(lines: impl IntoIterator<Item = StageLine>) -> Vec<StageLine> {
    let mut merged: BTreeMap<(String, String), StageLine> = BTreeMap::new();
    for line in lines {
        let key = (line.stage.clone(), line.tenant.clone());
        let Some(seen) = merged.get_mut(&key).map(|line| &mut line.status) else {
            merged.insert(key, line);
            continue;
        };
        let other = line.status;
        if other.state == StageState::Failing
            || (seen.state != StageState::Failing && seen.message.is_empty())
        {
            (seen.state, seen.message) = (other.state, other.message);
        }
        seen.lag_records = seen.lag_records.max(other.lag_records);
        seen.fresh_until_ms = seen.fresh_until_ms.max(other.fresh_until_ms);
        for (name, total) in other.totals {
            *seen.totals.entry(name).or_default() += total;
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests {
    use firn_runtime::StageStatus;

    use super::*;

    #[test]
    fn replicas_numbers_add_up_and_the_failing_one_is_told() {
        let line = |state, message: &str, records| StageLine {
            stage: "ingest".into(),
            tenant: "*".into(),
            status: StageStatus {
                state,
                message: message.into(),
                lag_records: Some(records),
                totals: [("records".to_owned(), records)].into(),
                ..StageStatus::default()
            },
        };
        let merged = stages([line(StageState::Failing, "no disk", 3), line(StageState::Running, "", 4)]);
        assert_eq!(merged.len(), 1);
        let status = &merged[0].status;
        assert_eq!((status.state, status.message.as_str()), (StageState::Failing, "no disk"));
        assert_eq!((status.lag_records, status.totals["records"]), (Some(4), 7));
    }

    #[test]
    fn limit_is_the_request_s_or_the_workers_default() {
        assert_eq!([limit(None), limit(Some("status=open&limit=7"))], [100, 7]);
    }
}
