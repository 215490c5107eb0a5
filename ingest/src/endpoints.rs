//! The endpoints of gateway and worker for `/openapi.json`.

use firn_runtime::openapi::{
    Body::{Json, Other},
    Endpoint, get, post, query, shape,
};

use crate::{
    gateway::{UploadAccepted, UploadQuery, UploadResults},
    worker::{ForgetRequest, Forgotten, ReplayRequest, ReplayStep, Standing},
};

/// All of them, as the routers have them.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        query: query::<UploadQuery>,
        success: ("202", "All records are durable in the log"),
        also: &[("207", "Some records were refused; a result for each", Json(shape::<UploadResults>))],
        failures: &[
            ("401", "No valid token"),
            ("403", "The token may not upload into this tenant or for this host"),
            ("413", "The body or a record is too large"),
            ("415", "The content type or encoding isn't known"),
            ("422", "A record can't be routed: no object, or no host_id"),
            ("429", "Too many records; see Retry-After"),
            ("503", "Not taken; see Retry-After"),
        ],
        ..post(
            "/v1/tenants/{tenant}/inventory",
            "ingest",
            "Upload one inventory, or many as NDJSON",
            Other("application/x-ndjson"),
            Json(shape::<UploadAccepted>),
        )
    },
    Endpoint {
        success: (
            "200",
            "The agent's protocol: what it asked for, or that the inventory is durable in the log",
        ),
        ..post(
            "/v1/tenants/{tenant}/agents/ocs",
            "ingest",
            "OCS Inventory's protocol, by its agent and FusionInventory's",
            Other("application/xml"),
            Other("application/xml"),
        )
    },
    post(
        "/v1/tenants/{tenant}/agents/glpi",
        "ingest",
        "GLPI's protocol, by its agent",
        Other("application/json"),
        Other("application/json"),
    ),
    get(
        "/v1/tenants/{tenant}/ingest/positions",
        "ingest",
        "Where the tenant stands in the log, by partition",
        Json(shape::<Standing>),
    ),
    post(
        "/v1/tenants/{tenant}/ingest/positions/forget",
        "ingest",
        "Forget the positions in a topic that was replaced; the present one is read from its beginning",
        Json(shape::<ForgetRequest>),
        Json(shape::<Forgotten>),
    ),
    post(
        "/v1/tenants/{tenant}/ingest/replay",
        "ingest",
        "One step of a replay; the answer says how to ask for the next",
        Json(shape::<ReplayRequest>),
        Json(shape::<ReplayStep>),
    ),
];
