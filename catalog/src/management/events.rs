//! Events by cursor, with long polling.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use chrono::SecondsFormat;
use firn_auth::Role;
use firn_catalog_client::Event;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{AppState, answer::Refused, authorize};

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
    authorize(&state, &headers, &tenant, Role::Reader)?;
    let repository = state.versions.repository(&tenant);
    // A tenant that doesn't exist is told so, not waited for.
    repository.resolve("main").await?;
    let deadline = Instant::now() + Duration::from_millis(cursor.wait_ms.min(MAX_WAIT_MS));
    loop {
        let found = repository.events(cursor.after, cursor.limit.clamp(1, MAX_LIMIT)).await?;
        if !found.is_empty() || Instant::now() >= deadline {
            let next = found.last().map_or(cursor.after, |event| event.number);
            let events: Vec<Event> = found
                .into_iter()
                .map(|event| Event {
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
