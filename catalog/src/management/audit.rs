//! The audit log: who did what, who was refused, in the order in which it happened. It is the tenant's events, read with
//! other eyes: a commit and what the log says of it are one transaction.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use chrono::SecondsFormat;
use firn_auth::Action;
use firn_catalog_client::AuditEntry;
use serde::{Deserialize, Serialize};

use super::{AppState, answer::Refused, tenants};
use crate::version::Event;

const MAX_LIMIT: u32 = 1000;
/// Events that one request looks at while it searches.
const MAX_READ: u32 = 20_000;

/// Which entries.
#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct Wanted {
    /// Sequence of the last entry already seen.
    #[serde(default)]
    after: i64,
    #[serde(default = "most")]
    limit: u32,
    principal: Option<String>,
    action: Option<String>,
    decision: Option<String>,
}

/// Entries, oldest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    entries: Vec<AuditEntry>,
    /// The cursor to go on with.
    next: i64,
}

fn most() -> u32 {
    MAX_LIMIT
}

impl Wanted {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.principal, &entry.principal)
            && same(&self.action, &entry.action)
            && same(&self.decision, &entry.decision)
    }
}

/// `GET /v1/tenants/{tenant}/audit?after=&limit=&principal=&action=&decision=`: oldest first; `next` is the cursor to go on
/// with, also if nothing fitted. The end is reached when it is the `after` that was asked for.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Json<AuditPage>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let repository = state.versions.repository(&tenant);
    let limit = wanted.limit.clamp(1, MAX_LIMIT);
    let (mut entries, mut next, mut read) = (Vec::new(), wanted.after, 0);
    'pages: while read < MAX_READ {
        let page = repository.events(next, MAX_LIMIT).await?;
        read += MAX_LIMIT;
        let last = page.len() < MAX_LIMIT as usize;
        for event in page {
            next = event.number;
            let entry = entry(&tenant, event);
            if wanted.fits(&entry) {
                entries.push(entry);
            }
            if entries.len() == limit as usize {
                break 'pages;
            }
        }
        if last {
            break;
        }
    }
    Ok(Json(AuditPage { entries, next }))
}

fn entry(tenant: &str, event: Event) -> AuditEntry {
    let of_data = event.is_of_data();
    let text = |name: &str| event.body[name].as_str().map(str::to_owned);
    let principal = text("committer").or_else(|| text("principal")).unwrap_or_default();
    let (commit, request_id) = (text("hash").filter(|_| of_data), text("requestId"));
    let denied = event.kind == "denied";
    let details = if of_data { event.body } else { event.body["details"].clone() };
    let action = if denied { details["action"].as_str().unwrap_or_default().to_owned() } else { event.kind };
    AuditEntry {
        sequence: event.number,
        time: event.time.to_rfc3339_opts(SecondsFormat::Micros, true),
        tenant: tenant.to_owned(),
        principal,
        action,
        decision: if denied { "denied" } else { "allowed" }.to_owned(),
        commit,
        request_id,
        details,
    }
}
