//! Events by cursor, with long polling.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use chrono::SecondsFormat;
use firn_catalog_client::Event as WireEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{AppState, access::read_all, answer::Refused};
use crate::version::Event;

const MAX_LIMIT: u32 = 1000;
const MAX_WAIT_MS: u64 = 30_000;
/// How often the database is asked while a request waits.
const POLL: Duration = Duration::from_millis(200);

/// Which events.
#[derive(Deserialize)]
pub(super) struct Cursor {
    /// Number of the last event already seen.
    #[serde(default)]
    after: i64,
    #[serde(default = "all")]
    limit: u32,
    /// How long to wait for the first event.
    #[serde(default)]
    wait_ms: u64,
}

fn all() -> u32 {
    MAX_LIMIT
}

/// `GET /v1/tenants/{tenant}/events?after=&limit=&wait_ms=`: in commit order; `next` is the cursor to go on with.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(cursor): Query<Cursor>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    read_all(&state, &headers, &tenant).await?;
    let repository = state.versions.repository(&tenant);
    // A tenant that doesn't exist is told so, not waited for.
    repository.resolve("main").await?;
    let deadline = Instant::now() + Duration::from_millis(cursor.wait_ms.min(MAX_WAIT_MS));
    let mut next = cursor.after;
    loop {
        let mut found = repository.events(next, cursor.limit.clamp(1, MAX_LIMIT)).await?;
        next = found.last().map_or(next, |event| event.number);
        // Who may do what, and who tried, is told to administrators, by the audit log.
        found.retain(Event::is_of_data);
        if !found.is_empty() || Instant::now() >= deadline {
            let events: Vec<WireEvent> = found
                .into_iter()
                .map(|event| WireEvent {
                    sequence: event.number,
                    event_type: event.kind,
                    time: event.time.to_rfc3339_opts(SecondsFormat::Micros, true),
                    data: event.body,
                })
                .collect();
            return Ok(Json(json!({ "events": events, "next": next })));
        }
        tokio::time::sleep_until((Instant::now() + POLL).min(deadline)).await;
    }
}
