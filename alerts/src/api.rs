//! `GET /v1/tenants/{tenant}/findings` and commands to findings.
//!
//! Commands are appended to the topic `alerts-commands` and applied by the owner of the host's partition in its own
//! transaction: the answer is 202 once the command is durable.

mod endpoints;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use firn_auth::{Action, Denied, Guard, Principal};
use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, TENANT_HEADER};
use firn_policy::{Command, FindingStatus};
use firn_runtime::http::json_error;
use firn_stream::{Log, ProduceRecord, partition_for_key};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use endpoints::ENDPOINTS;

use crate::{
    engine::CommandRecord,
    host::HostKey,
    index::{Filter, FindingPlace, FindingsIndex},
    rules::RuleBook,
};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
const MAX_NOTE_CHARS: usize = 2_000;
const MAX_ASSIGNEE_CHARS: usize = 200;
/// The longest snooze, a year: longer ones are exceptions, and belong into the rule.
const MAX_SNOOZE_S: i64 = 366 * 24 * 3_600;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) guard: Guard,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) index: FindingsIndex,
    pub(crate) book: Arc<RuleBook>,
}

pub(crate) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/v1/tenants/{tenant}/findings", get(list))
        .route("/v1/tenants/{tenant}/findings/{id}", get(one))
        .route("/v1/tenants/{tenant}/findings/{id}/acknowledge", post(acknowledge))
        .route("/v1/tenants/{tenant}/findings/{id}/snooze", post(snooze))
        .route("/v1/tenants/{tenant}/findings/{id}/comment", post(comment))
        .route("/v1/tenants/{tenant}/findings/{id}/assign", post(assign))
        .route("/v1/tenants/{tenant}/hosts/{host}/retire", post(retire))
        .with_state(state)
}

/// A refusal, as an answer.
struct Refused(Box<Response>);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

fn refuse(status: StatusCode, kind: &str, message: impl Into<String>) -> Refused {
    Refused(Box::new(json_error(status, kind, message)))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// One or more, separated by commas.
    #[serde(default)]
    status: String,
    rule: Option<String>,
    host: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    query: Result<Query<ListQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    allow(&state, &headers, &tenant, Action::Read).await?;
    let Query(query) =
        query.map_err(|error| refuse(StatusCode::BAD_REQUEST, "BadRequest", error.body_text()))?;
    let words = query.status.split(',').map(str::trim).filter(|word| !word.is_empty());
    let statuses = words.map(status).collect::<Result<Vec<_>, _>>()?;
    let filter = Filter { statuses, rule_id: query.rule, host_id: query.host };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    Ok(Json(state.index.find(&tenant, &filter, limit, &state.book)).into_response())
}

fn status(word: &str) -> Result<FindingStatus, Refused> {
    serde_json::from_value(json!(word)).map_err(|_| {
        let message = format!("status '{word}' is none of pending, open, acknowledged, snoozed, resolved");
        refuse(StatusCode::BAD_REQUEST, "BadRequest", message)
    })
}

async fn one(
    State(state): State<ApiState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    allow(&state, &headers, &tenant, Action::Read).await?;
    let finding = state.index.get(&tenant, &id, &state.book).ok_or_else(|| not_found(&tenant, &id))?;
    Ok(Json(finding).into_response())
}

fn not_found(tenant: &str, id: &str) -> Refused {
    let message = format!(
        "tenant '{tenant}' has no finding '{id}' in this process: see GET /v1/tenants/{tenant}/findings"
    );
    refuse(StatusCode::NOT_FOUND, "NotFound", message)
}

/// Body of acknowledge, comment and retire.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NoteBody {
    #[serde(default)]
    note: String,
}

/// Body of snooze: until an instant, or for a time.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SnoozeBody {
    until: Option<DateTime<Utc>>,
    for_s: Option<i64>,
    #[serde(default)]
    note: String,
}

async fn acknowledge(
    State(state): State<ApiState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Option<Json<NoteBody>>,
) -> Result<Response, Refused> {
    let principal = allow(&state, &headers, &tenant, Action::Maintain).await?;
    let note = body.map(|Json(body)| body.note).unwrap_or_default();
    command(&state, &principal, &tenant, &id, Command::Acknowledge, note).await
}

async fn comment(
    State(state): State<ApiState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<NoteBody>, JsonRejection>,
) -> Result<Response, Refused> {
    let principal = allow(&state, &headers, &tenant, Action::Maintain).await?;
    let Json(body) = body.map_err(|rejection| bad_body(&rejection))?;
    if body.note.trim().is_empty() {
        return Err(refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Unprocessable",
            "'note' is empty: say something",
        ));
    }
    command(&state, &principal, &tenant, &id, Command::Comment, body.note).await
}

async fn snooze(
    State(state): State<ApiState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<SnoozeBody>, JsonRejection>,
) -> Result<Response, Refused> {
    let principal = allow(&state, &headers, &tenant, Action::Maintain).await?;
    let Json(body) = body.map_err(|rejection| bad_body(&rejection))?;
    let now = Utc::now();
    let seconds = match (body.until, body.for_s) {
        (Some(until), None) => (until - now).num_seconds(),
        (None, Some(seconds)) => seconds,
        _ => {
            return Err(refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Unprocessable",
                "give either 'until' or 'for_s'",
            ));
        }
    };
    if !(1..=MAX_SNOOZE_S).contains(&seconds) {
        let message = format!("a snooze lasts 1 to {MAX_SNOOZE_S} seconds from now, not {seconds}");
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable", message));
    }
    let until_us = now.timestamp_micros() + seconds * 1_000_000;
    command(&state, &principal, &tenant, &id, Command::Snooze { until_us }, body.note).await
}

/// Body of assign: to somebody, or to nobody if `to` is null.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignBody {
    to: Option<String>,
    #[serde(default)]
    note: String,
}

async fn assign(
    State(state): State<ApiState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<AssignBody>, JsonRejection>,
) -> Result<Response, Refused> {
    let principal = allow(&state, &headers, &tenant, Action::Maintain).await?;
    let Json(AssignBody { to, note }) = body.map_err(|rejection| bad_body(&rejection))?;
    let fits = |name: &String| !name.trim().is_empty() && name.chars().count() <= MAX_ASSIGNEE_CHARS;
    if to.as_ref().is_some_and(|name| !fits(name)) {
        let message = format!("'to' is a name of 1 to {MAX_ASSIGNEE_CHARS} characters, or null for nobody");
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable", message));
    }
    command(&state, &principal, &tenant, &id, Command::Assign { to }, note).await
}

/// Ends all findings of a host that is gone for good. Whether it is known is the partition's owner to see: a host without
/// findings is in no index.
async fn retire(
    State(state): State<ApiState>,
    Path((tenant, host_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Option<Json<NoteBody>>,
) -> Result<Response, Refused> {
    let principal = allow(&state, &headers, &tenant, Action::Maintain).await?;
    let note = body.map(|Json(body)| body.note).unwrap_or_default();
    check_note(&note)?;
    let record = CommandRecord {
        rule_id: String::new(),
        command: Command::Retire,
        by: principal.name().to_owned(),
        note,
        at_us: Utc::now().timestamp_micros(),
    };
    append(&state, HostKey { tenant, host_id: host_id.clone() }, None, &record, CommandSubject::Host(host_id))
        .await
}

fn bad_body(rejection: &JsonRejection) -> Refused {
    refuse(StatusCode::BAD_REQUEST, "BadRequest", rejection.body_text())
}

/// Checks the command against what is known here, appends it, and answers once it is durable.
async fn command(
    state: &ApiState,
    principal: &Principal,
    tenant: &str,
    id: &str,
    command: Command,
    note: String,
) -> Result<Response, Refused> {
    check_note(&note)?;
    let place = state.index.place(tenant, id).ok_or_else(|| not_found(tenant, id))?;
    if command != Command::Comment && !place.status.is_live() {
        let message = format!(
            "finding '{id}' is {}: there is nothing to acknowledge, snooze or assign",
            place.status.as_str()
        );
        return Err(refuse(StatusCode::CONFLICT, "Conflict", message));
    }
    let at_us = Utc::now().timestamp_micros();
    let FindingPlace { key, rule_id, partition, .. } = place;
    let record = CommandRecord { rule_id, command, by: principal.name().to_owned(), note, at_us };
    append(state, key, Some(partition), &record, CommandSubject::Finding(id.to_owned())).await
}

fn check_note(note: &str) -> Result<(), Refused> {
    if note.chars().count() <= MAX_NOTE_CHARS {
        return Ok(());
    }
    let message = format!("'note' is longer than {MAX_NOTE_CHARS} characters");
    Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable", message))
}

/// What a command is about.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum CommandSubject {
    /// A finding's id.
    Finding(String),
    /// A host.
    Host(String),
}

/// Answer to a command that is durable.
#[derive(Serialize, utoipa::ToSchema)]
struct CommandAccepted {
    #[serde(flatten)]
    subject: CommandSubject,
    /// `accepted`.
    status: &'static str,
    /// Where the command lies in `alerts-commands`.
    partition: i32,
    /// The same.
    offset: i64,
}

/// Appends a command and answers once it is durable. Without a partition the key decides, as it does for inventories; the
/// topic is looked at for that, since partitions may have been added that a producer knows nothing of yet.
async fn append(
    state: &ApiState,
    key: HostKey,
    partition: Option<i32>,
    record: &CommandRecord,
    subject: CommandSubject,
) -> Result<Response, Refused> {
    let value = serde_json::to_vec(record)
        .map_err(|error| refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string()))?;
    let unavailable = |error: &str| refuse(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", error.to_owned());
    let partition = match partition {
        Some(partition) => Some(partition),
        None => {
            let topic = state.log.topic(ALERTS_COMMANDS_TOPIC).await;
            let topic = topic.map_err(|error| unavailable(&error.to_string()))?;
            topic.map(|topic| partition_for_key(&key.to_bytes(), topic.partitions))
        }
    };
    let record = ProduceRecord {
        topic: ALERTS_COMMANDS_TOPIC.to_owned(),
        key: Some(key.to_bytes()),
        partition,
        value: Some(value.into()),
        headers: vec![(TENANT_HEADER.to_owned(), key.tenant.clone().into_bytes().into())],
    };
    match state.log.append(vec![record]).await.into_iter().next() {
        Some(Ok((place, offset))) => {
            let accepted =
                CommandAccepted { subject, status: "accepted", partition: place.partition, offset };
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        Some(Err(error)) => Err(unavailable(&error.to_string())),
        None => Err(unavailable("the log gave no answer: try again")),
    }
}

/// Who is calling, if they may do this in all of the tenant.
async fn allow(
    state: &ApiState,
    headers: &HeaderMap,
    tenant: &str,
    action: Action,
) -> Result<Principal, Refused> {
    let access = state.guard.authorize(headers, tenant, action).await?;
    access.require_all(action, None)?;
    Ok(access.principal().clone())
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self(Box::new(denied.into_response()))
    }
}

#[cfg(test)]
mod tests;
