//! What is served here, for `/openapi.json`.

use firn_runtime::openapi::{
    Body::{self, Json, MaybeJson},
    Endpoint, get, post, query, shape,
};

use super::{AssignBody, CommandAccepted, ListQuery, NoteBody, SnoozeBody};
use crate::index::{Finding, FindingsPage};

/// A command, which is answered once it is durable.
const fn command_of(path: &'static str, summary: &'static str, body: Body) -> Endpoint {
    Endpoint {
        success: ("202", "The command is durable"),
        ..post(path, "findings", summary, body, Json(shape::<CommandAccepted>))
    }
}

/// All of them, as the router has them.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        query: query::<ListQuery>,
        ..get("/v1/tenants/{tenant}/findings", "findings", "Findings", Json(shape::<FindingsPage>))
    },
    get("/v1/tenants/{tenant}/findings/{id}", "findings", "One finding", Json(shape::<Finding>)),
    command_of(
        "/v1/tenants/{tenant}/findings/{id}/acknowledge",
        "Acknowledge a finding",
        MaybeJson(shape::<NoteBody>),
    ),
    command_of(
        "/v1/tenants/{tenant}/findings/{id}/snooze",
        "Keep a finding quiet until a time",
        Json(shape::<SnoozeBody>),
    ),
    command_of(
        "/v1/tenants/{tenant}/findings/{id}/comment",
        "Say something about a finding",
        Json(shape::<NoteBody>),
    ),
    command_of(
        "/v1/tenants/{tenant}/findings/{id}/assign",
        "Make a finding somebody's, or nobody's",
        Json(shape::<AssignBody>),
    ),
    command_of(
        "/v1/tenants/{tenant}/hosts/{host}/retire",
        "End the findings of a host that is gone",
        MaybeJson(shape::<NoteBody>),
    ),
];
