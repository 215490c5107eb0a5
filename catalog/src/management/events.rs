//! Events by cursor: pages, with long polling, or a stream of server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, header::ACCEPT},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use chrono::SecondsFormat;
use firn_catalog_client::{Event as WireEvent, EventPage, LastEvent, LastEvents};
use futures::Stream;
use serde::Deserialize;
use tokio::time::Instant;

use super::{AppState, access::read_all, answer::Refused};
use crate::{CatalogError, version::Event};

const MAX_LIMIT: u32 = 1000;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often the database is asked while a request waits.
const POLL: Duration = Duration::from_millis(200);
/// A stream ends after this: proxies cut old ones at moments of their own, and a server that stops doesn't wait for long.
const STREAM_AGE: Duration = Duration::from_secs(100);
/// How often it is checked that a stream's reader may still read.
const CHECK: Duration = Duration::from_secs(1);
/// Proxies cut what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Which events.
#[derive(Deserialize, utoipa::IntoParams)]
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

/// `GET /v1/tenants/{tenant}/events?after=&limit=&wait_ms=`: in commit order; `next` is the cursor to go on with. Who accepts
/// `text/event-stream` gets one, which `Last-Event-ID` continues.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(cursor): Query<Cursor>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (limit, wait) = (cursor.limit.clamp(1, MAX_LIMIT), Duration::from_millis(cursor.wait_ms));
    let mut reader = Reader { state, tenant, headers, next: cursor.after };
    reader.check().await?;
    // A tenant that doesn't exist is told so, not waited for.
    reader.state.versions.repository(&reader.tenant).resolve("main").await?;
    if accepts_stream(&reader.headers) {
        if let Some(seen) = reader.headers.get("last-event-id") {
            let number = seen.to_str().ok().and_then(|seen| seen.parse().ok());
            reader.next = number.ok_or_else(|| {
                CatalogError::Invalid("'Last-Event-ID' is the number of an event".to_owned())
            })?;
        }
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Ok(Sse::new(stream(reader, limit)).keep_alive(keep_alive).into_response());
    }
    let events = reader.wait(limit, Instant::now() + wait.min(MAX_WAIT)).await?;
    Ok(Json(EventPage { events, next: reader.next }).into_response())
}

/// `GET /v1/events`: how far each tenant's events go, for operators who follow all of them.
pub(super) async fn last(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Json<LastEvents>, Refused> {
    state.guard.operator(&headers).await?;
    let last = state.store.last_events().await.map_err(CatalogError::from)?;
    let tenants = last.into_iter().map(|(tenant, sequence)| LastEvent { tenant, sequence });
    Ok(Json(LastEvents { tenants: tenants.collect() }))
}

/// Somebody who reads a tenant's events.
struct Reader {
    state: AppState,
    tenant: String,
    headers: HeaderMap,
    /// Number of the last event read.
    next: i64,
}

impl Reader {
    async fn check(&self) -> Result<(), CatalogError> {
        read_all(&self.state, &self.headers, &self.tenant).await.map(drop)
    }

    /// What comes next; waits for it until the deadline.
    async fn wait(&mut self, limit: u32, deadline: Instant) -> Result<Vec<WireEvent>, CatalogError> {
        let repository = self.state.versions.repository(&self.tenant);
        loop {
            let mut found = repository.events(self.next, limit).await?;
            self.next = found.last().map_or(self.next, |event| event.number);
            // Who may do what, and who tried, is told to administrators, by the audit log.
            found.retain(Event::is_of_data);
            if !found.is_empty() || Instant::now() >= deadline {
                return Ok(found.into_iter().map(wire).collect());
            }
            tokio::time::sleep_until((Instant::now() + POLL).min(deadline)).await;
        }
    }
}

fn wire(event: Event) -> WireEvent {
    WireEvent {
        sequence: event.number,
        event_type: event.kind,
        time: event.time.to_rfc3339_opts(SecondsFormat::Micros, true),
        data: event.body,
    }
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/event-stream"))
}

/// Events as they come, until the stream is old, or the reader may no longer read, or the database fails. A reader that
/// connects again loses nothing.
fn stream(reader: Reader, limit: u32) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let ends = Instant::now() + STREAM_AGE;
    futures::stream::unfold((reader, VecDeque::new()), move |(mut reader, mut ready)| async move {
        while ready.is_empty() {
            if Instant::now() >= ends || reader.check().await.is_err() {
                return None;
            }
            match reader.wait(limit, ends.min(Instant::now() + CHECK)).await {
                Ok(events) => ready.extend(events),
                Err(error) => {
                    tracing::debug!(%error, "a stream of events ends early");
                    return None;
                }
            }
        }
        let event: WireEvent = ready.pop_front()?;
        let sent = sse::Event::default().id(event.sequence.to_string()).event(&event.event_type);
        Some((Ok(sent.json_data(&event).ok()?), (reader, ready)))
    })
}
