//! Scan planning: `POST …/plan`, `GET` and `DELETE …/plan/{plan-id}`, `POST …/tasks`.
//!
//! Nothing has to be remembered of a plan that is answered at once: a plan task says all by itself, and any replica can read it.
//! Only plans that take longer than a request waits are kept, for an hour, as documents of the tenant; a replica that doesn't know
//! one begins it anew.

mod kept;
mod task;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use bytes::Bytes;
use firn_auth::Action;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    call::{Call, Scope, parse_body},
    content::{Found, Kind},
    error::ApiError,
};
use crate::{
    CatalogError,
    management::{AppState, Given},
    metadata::Document,
    scan::{Part, Planned, Scan, ScanRequest, joined},
};

use kept::{Kept, Plan};
use task::Task;

/// How long a request waits for a plan that takes long. Not every client can ask again.
const WAIT: Duration = Duration::from_secs(3);
/// About how much room the plan tasks of an answer take, and how many there are at most.
const TASK_BYTES: usize = 4 << 20;
const MAX_TASKS: usize = 500;

/// A table whose scan is planned.
struct Table {
    scope: Scope,
    found: Found,
    document: Arc<Document>,
    uuid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TasksRequest {
    plan_task: String,
}

/// `POST …/plan`.
pub(super) async fn submit(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let table = Table::open(&state, &call).await?;
    let request: ScanRequest = parse_body(&body?)?;
    let pinned = request.pin(&table.document)?;
    let turn = state.scans.turn().await?;
    let scan = Scan::open(&state.storage, &table.scope.tenant, &table.document, &pinned).await?;
    let id = Uuid::new_v4().to_string();
    let plan = Plan { table: table.uuid.clone(), pinned, cancelled: false };
    let planned = if scan.is_long() {
        drop(turn);
        state.scans.start(&id, async move { scan.all().await })?;
        match state.scans.outcome(&id, WAIT).await {
            Some(outcome) => outcome?,
            None => {
                kept::keep(&state, &table.scope.tenant, &id, &plan).await?;
                return Ok(Json(json!({"status": "submitted", "plan-id": id})));
            }
        }
    } else {
        Arc::new(scan.part(scan.whole()).await?)
    };
    let mut answer = table.completed(&call, &plan, &planned).await?;
    answer.insert("plan-id".to_owned(), json!(id));
    Ok(Json(Value::Object(answer)))
}

/// `GET …/plan/{plan-id}`.
pub(super) async fn result(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    let table = Table::open(&state, &call).await?;
    let id = call.segment(6)?;
    let Kept { plan, .. } = table.kept(&state, id).await?;
    if plan.cancelled {
        return Ok(Json(json!({"status": "cancelled"})));
    }
    let outcome = match state.scans.outcome(id, WAIT).await {
        Some(outcome) => outcome,
        None => {
            let (storage, tenant) = (state.storage.clone(), table.scope.tenant.clone());
            let (document, pinned) = (Arc::clone(&table.document), plan.pinned.clone());
            let work = async move { Scan::open(&storage, &tenant, &document, &pinned).await?.all().await };
            state.scans.start(id, work)?;
            return Ok(Json(json!({"status": "submitted"})));
        }
    };
    match outcome {
        Ok(planned) => Ok(Json(Value::Object(table.completed(&call, &plan, &planned).await?))),
        Err(error) => {
            let ApiError { status, kind, message, .. } = error.into();
            let error = json!({"message": message, "type": kind, "code": status});
            Ok(Json(json!({"status": "failed", "error": error})))
        }
    }
}

/// `DELETE …/plan/{plan-id}`.
pub(super) async fn cancel(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let table = Table::open(&state, &call).await?;
    let id = call.segment(6)?;
    let kept = table.kept(&state, id).await?;
    // First for the other replicas, so that none begins it anew.
    kept::cancel(&state, &table.scope.tenant, id, kept).await?;
    state.scans.cancel(id);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/tasks`.
pub(super) async fn tasks(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let table = Table::open(&state, &call).await?;
    let request: TasksRequest = parse_body(&body?)?;
    let task = Task::parse(&request.plan_task).filter(|task| task.plan.table == table.uuid);
    let Some(Task { plan, print, span }) = task else {
        return Err(no_such_task("the plan task is not one of this table's"));
    };
    let _turn = state.scans.turn().await?;
    let scan = match Scan::open(&state.storage, &table.scope.tenant, &table.document, &plan.pinned).await {
        Ok(scan) if scan.print() == print => scan,
        Ok(_) => return Err(no_such_task("the table's files were replaced: plan the scan again")),
        Err(CatalogError::Invalid(reason)) => return Err(no_such_task(&reason)),
        Err(error) => return Err(error.into()),
    };
    let planned = scan.part(span).await?;
    Ok(Json(Value::Object(answer(&plan, &planned))))
}

impl Table {
    async fn open(state: &AppState, call: &Call) -> Result<Self, ApiError> {
        let scope = call.open(state, Action::Read).await?;
        let found = scope.need(Kind::Table, &call.ident()?).await?;
        scope.note_read(&found, Given::Metadata);
        let document = scope.table_at(found.metadata_location()?).await?.document;
        let uuid = document.uuid().unwrap_or_default().to_owned();
        Ok(Self { scope, found, document, uuid })
    }

    /// A plan of this table that takes long.
    async fn kept(&self, state: &AppState, id: &str) -> Result<Kept, ApiError> {
        let kept =
            kept::load(state, &self.scope.tenant, id).await?.filter(|kept| kept.plan.table == self.uuid);
        kept.ok_or_else(|| {
            let text = format!("the table has no plan '{id}': it is over, or never was of this table");
            ApiError::new(StatusCode::NOT_FOUND, "NoSuchPlanIdException", text)
        })
    }

    /// The answer of a plan that is ready, with keys for its files if the client asks for them.
    async fn completed(
        &self,
        call: &Call,
        plan: &Plan,
        planned: &Planned,
    ) -> Result<Map<String, Value>, ApiError> {
        let mut answer = answer(plan, planned);
        answer.insert("status".to_owned(), json!("completed"));
        let files = async || self.found.files(&self.scope).await;
        // Who plans a scan reads.
        let access = call.delegate(&self.scope, &self.found.key, files, false, None).await?;
        if !access.credentials.is_empty() {
            self.scope.note_read(&self.found, Given::Credentials);
            answer.insert("storage-credentials".to_owned(), json!(access.credentials));
        }
        Ok(answer)
    }
}

/// `ScanTasks` of the specification.
fn answer(plan: &Plan, planned: &Planned) -> Map<String, Value> {
    let mut answer = Map::new();
    match &planned.part {
        Part::Files { tasks, deletes } => {
            answer.insert("file-scan-tasks".to_owned(), json!(tasks));
            if !deletes.is_empty() {
                answer.insert("delete-files".to_owned(), json!(deletes));
            }
        }
        Part::Portions(portions) => {
            let text = |span| Task { plan: plan.clone(), print: planned.print.clone(), span }.to_text();
            let each = portions.first().map_or(1, |span| text(*span).len());
            // Larger ones are told in portions again; each time there must be some.
            let most = (TASK_BYTES / each).clamp(2, MAX_TASKS);
            let tasks: Vec<String> = joined(portions.clone(), most).into_iter().map(text).collect();
            answer.insert("plan-tasks".to_owned(), json!(tasks));
        }
    }
    answer
}

fn no_such_task(reason: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NoSuchPlanTaskException", reason)
}
