//! The catalog's own endpoints for `/openapi.json`: what each takes and answers is what its handler parses and writes.

use firn_auth::{Policy, Refused, Revocation};
use firn_catalog_client::{
    AccessRules, Client, ClientCreate, ClientRotate, ClientSecret, Erasure, ErasureJob, ErasureRequest,
    EventPage, Expiry, ExpiryRequest, GcRequest, GcRun, Hold, HoldRequest, IssuedToken, LastEvents, Lease,
    LeaseRequest, MetricsReports, Provisioning, PruneRequest, Pruned, RevocationRequest, Suspension,
    SuspensionRequest, Tenant, TenantCreate, TenantSuspend, TenantUpdate, TokenRequest,
};
use firn_runtime::openapi::{
    Body::{self, Json, List, MaybeJson, Other},
    Endpoint, delete, get, list, open, post, put, query, shape,
};
use utoipa::openapi::HttpMethod;

use super::{audit, events, leases, lifecycle, provision, reports, tenants};

const NOTHING: Body = Body::None;
const JWKS: Body = Other("application/json");

/// All of them, as the router has them.
pub const ENDPOINTS: &[Endpoint] = &[
    get(
        "/v1/suspensions",
        "tenants",
        "The stages that stand still on request, of the tenants that the token reaches",
        List("suspensions", shape::<Suspension>),
    ),
    post(
        "/v1/tenants/{tenant}/suspensions/{stage}",
        "tenants",
        "Suspend a stage; it keeps its place",
        Json(shape::<SuspensionRequest>),
        Json(shape::<Suspension>),
    ),
    delete("/v1/tenants/{tenant}/suspensions/{stage}", "tenants", "Let a stage go on", "It goes on"),
    Endpoint {
        query: query::<tenants::Listing>,
        ..get(
            "/v1/tenants",
            "tenants",
            "The tenants that the token reaches",
            List("tenants", shape::<Tenant>),
        )
    },
    post(
        "/v1/tenants",
        "tenants",
        "Create a tenant; one that exists is answered",
        Json(shape::<TenantCreate>),
        Json(shape::<Tenant>),
    ),
    get("/v1/tenants/{tenant}", "tenants", "One tenant", Json(shape::<Tenant>)),
    Endpoint {
        query: query::<provision::Options>,
        ..post(
            "/v1/tenants/{tenant}/provision",
            "tenants",
            "Make the tenant's bucket what it should be, or say what it lacks",
            NOTHING,
            Json(shape::<Provisioning>),
        )
    },
    Endpoint {
        method: HttpMethod::Patch,
        ..post(
            "/v1/tenants/{tenant}",
            "tenants",
            "Change a tenant; what is absent stays as it is",
            Json(shape::<TenantUpdate>),
            Json(shape::<Tenant>),
        )
    },
    Endpoint {
        method: HttpMethod::Delete,
        query: query::<lifecycle::Grace>,
        ..get(
            "/v1/tenants/{tenant}",
            "tenants",
            "Delete a tenant; it can be restored until its data is purged",
            Json(shape::<Tenant>),
        )
    },
    post(
        "/v1/tenants/{tenant}/suspend",
        "tenants",
        "Refuse everybody until the tenant is resumed",
        MaybeJson(shape::<TenantSuspend>),
        Json(shape::<Tenant>),
    ),
    post(
        "/v1/tenants/{tenant}/resume",
        "tenants",
        "End a suspension of a tenant",
        NOTHING,
        Json(shape::<Tenant>),
    ),
    post("/v1/tenants/{tenant}/restore", "tenants", "Take a deletion back", NOTHING, Json(shape::<Tenant>)),
    post(
        "/v1/tenants/{tenant}/purge",
        "tenants",
        "Remove the data of a deleted tenant after its grace period",
        NOTHING,
        Json(shape::<Tenant>),
    ),
    get("/v1/tenants/{tenant}/clients", "access", "The tenant's clients", List("clients", shape::<Client>)),
    post(
        "/v1/tenants/{tenant}/clients",
        "access",
        "Create a client; the answer holds its secret, this once",
        Json(shape::<ClientCreate>),
        Json(shape::<ClientSecret>),
    ),
    delete(
        "/v1/tenants/{tenant}/clients/{name}",
        "access",
        "Remove a client",
        "It and its tokens are refused from now on",
    ),
    post(
        "/v1/tenants/{tenant}/clients/{name}/rotate",
        "access",
        "A new secret; the former overlaps",
        MaybeJson(shape::<ClientRotate>),
        Json(shape::<ClientSecret>),
    ),
    post(
        "/v1/tenants/{tenant}/tokens",
        "access",
        "Issue a token of the tenant",
        Json(shape::<TokenRequest>),
        Json(shape::<IssuedToken>),
    ),
    get(
        "/v1/tenants/{tenant}/access",
        "access",
        "Grants, protected branches and revocations",
        Json(shape::<AccessRules>),
    ),
    put(
        "/v1/tenants/{tenant}/access",
        "access",
        "Replace grants and protected branches",
        Json(shape::<AccessRules>),
        Json(shape::<AccessRules>),
    ),
    get(
        "/v1/tenants/{tenant}/policy",
        "access",
        "All that decides who may do what, for Firn's own services",
        Json(shape::<Policy>),
    ),
    post(
        "/v1/tenants/{tenant}/revocations",
        "access",
        "Refuse tokens in this tenant",
        Json(shape::<RevocationRequest>),
        Json(shape::<Revocation>),
    ),
    post(
        "/v1/revocations",
        "access",
        "Refuse tokens in all tenants",
        Json(shape::<RevocationRequest>),
        Json(shape::<Revocation>),
    ),
    Endpoint {
        success: ("204", "They are in the tenants' audit logs"),
        ..post(
            "/v1/refusals",
            "access",
            "What another of Firn's services refused, for the audit logs",
            Json(list::<Refused>),
            NOTHING,
        )
    },
    Endpoint {
        query: query::<audit::Wanted>,
        ..get(
            "/v1/tenants/{tenant}/audit",
            "access",
            "Who did what, and who was refused, after a cursor",
            Json(shape::<audit::AuditPage>),
        )
    },
    Endpoint {
        query: query::<events::Cursor>,
        ..get(
            "/v1/tenants/{tenant}/events",
            "tenants",
            "What changed in the tenant's catalog after a cursor; as server-sent events to who accepts them",
            Json(shape::<EventPage>),
        )
    },
    get("/v1/events", "tenants", "How far each tenant's events go", Json(shape::<LastEvents>)),
    get(
        "/v1/tenants/{tenant}/gc",
        "tenants",
        "The newest garbage collection and its report",
        Json(shape::<GcRun>),
    ),
    Endpoint {
        success: ("202", "It runs"),
        ..post(
            "/v1/tenants/{tenant}/gc",
            "tenants",
            "Start a garbage collection, of the tenant or of one table's folder, or say what it would remove",
            MaybeJson(shape::<GcRequest>),
            Json(shape::<GcRun>),
        )
    },
    get(
        "/v1/tenants/{tenant}/expiries",
        "lifecycle",
        "When branches and tags go by themselves",
        List("expiries", shape::<Expiry>),
    ),
    post(
        "/v1/tenants/{tenant}/expiries",
        "lifecycle",
        "Remove branches and tags whose time is over, or say which would go",
        Json(shape::<PruneRequest>),
        List("pruned", shape::<Pruned>),
    ),
    put(
        "/v1/tenants/{tenant}/expiries/{ref}",
        "lifecycle",
        "Say when a branch or tag goes",
        Json(shape::<ExpiryRequest>),
        Json(shape::<Expiry>),
    ),
    delete(
        "/v1/tenants/{tenant}/expiries/{ref}",
        "lifecycle",
        "Take an expiry back",
        "It stays until somebody deletes it",
    ),
    Endpoint {
        query: query::<reports::Question>,
        ..get(
            "/v1/tenants/{tenant}/metrics-reports",
            "tables",
            "What engines said that their scans and commits cost, newest first",
            Json(shape::<MetricsReports>),
        )
    },
    open("/v1/keys", "The public keys with which receipts of erasures can be checked", JWKS),
    get(
        "/v1/erasures",
        "lifecycle",
        "All erasures with what services need to carry them out; for operators",
        List("erasures", shape::<ErasureJob>),
    ),
    get(
        "/v1/tenants/{tenant}/erasures",
        "lifecycle",
        "The tenant's erasures, oldest first",
        List("erasures", shape::<Erasure>),
    ),
    Endpoint {
        success: ("202", "It will be carried out"),
        failures: &[
            ("400", "No subject, or a reason that names it"),
            ("401", "No valid token"),
            ("403", "The token doesn't allow it"),
            ("409", "A legal hold forbids it"),
        ],
        ..post(
            "/v1/tenants/{tenant}/erasures",
            "lifecycle",
            "Erase a subject's data",
            Json(shape::<ErasureRequest>),
            Json(shape::<Erasure>),
        )
    },
    get(
        "/v1/tenants/{tenant}/erasures/{id}",
        "lifecycle",
        "How an erasure stands; its receipt once it is done",
        Json(shape::<Erasure>),
    ),
    put(
        "/v1/tenants/{tenant}/erasures/{id}",
        "lifecycle",
        "Keep how an erasure stands, by who carries it out; for operators",
        Json(shape::<ErasureJob>),
        Json(shape::<ErasureJob>),
    ),
    get(
        "/v1/tenants/{tenant}/holds",
        "lifecycle",
        "The tenant's legal holds, released ones too",
        List("holds", shape::<Hold>),
    ),
    Endpoint {
        success: ("201", "It is in force"),
        ..post(
            "/v1/tenants/{tenant}/holds",
            "lifecycle",
            "Place a legal hold",
            Json(shape::<HoldRequest>),
            Json(shape::<Hold>),
        )
    },
    delete("/v1/tenants/{tenant}/holds/{id}", "lifecycle", "Release a legal hold", "It is released"),
    post(
        "/v1/tenants/{tenant}/leases/{name}",
        "leases",
        "Acquire or renew a lease",
        Json(shape::<LeaseRequest>),
        Json(shape::<Lease>),
    ),
    Endpoint {
        query: query::<leases::Holder>,
        ..delete("/v1/tenants/{tenant}/leases/{name}", "leases", "Give a lease back", "Given back")
    },
];
