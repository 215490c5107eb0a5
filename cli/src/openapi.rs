//! `/openapi.json`: Firn's own endpoints. Iceberg REST and Nessie REST have specifications of their own.

#[cfg(test)]
mod tests;

use anyhow::Result;
use utoipa::openapi::{
    Components, ContentBuilder, HttpMethod, Info, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder, Schema, SecurityRequirement,
    path::{OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{SchemaType, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::output;

/// One operation.
struct Endpoint {
    method: HttpMethod,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    /// Query parameters.
    query: &'static [&'static str],
    /// Media type of the body, if there is one.
    body: Option<&'static str>,
    /// Success: status and what it means.
    success: (&'static str, &'static str),
    /// Failures a client should expect.
    failures: &'static [(&'static str, &'static str)],
    /// Whether a token is needed.
    token: bool,
}

const DENIED: [(&str, &str); 2] = [("401", "No valid token"), ("403", "The token doesn't allow it")];

const fn get(path: &'static str, tag: &'static str, summary: &'static str) -> Endpoint {
    Endpoint {
        method: HttpMethod::Get,
        path,
        tag,
        summary,
        query: &[],
        body: None,
        success: ("200", "The answer"),
        failures: &DENIED,
        token: true,
    }
}

const fn post(path: &'static str, tag: &'static str, summary: &'static str) -> Endpoint {
    Endpoint { method: HttpMethod::Post, body: Some("application/json"), ..get(path, tag, summary) }
}

const fn open(path: &'static str, summary: &'static str) -> Endpoint {
    Endpoint { failures: &[], token: false, ..get(path, "server", summary) }
}

const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        body: Some("application/x-ndjson"),
        success: ("202", "All records are durable in the log"),
        failures: &[
            ("207", "Some records were refused; a result for each"),
            ("401", "No valid token"),
            ("403", "The token may not upload into this tenant or for this host"),
            ("413", "The body or a record is too large"),
            ("415", "The content type or encoding isn't known"),
            ("422", "A record can't be routed: no object, or no host_id"),
            ("429", "Too many records; see Retry-After"),
            ("503", "Not taken; see Retry-After"),
        ],
        ..post("/v1/tenants/{tenant}/inventory", "ingest", "Upload one inventory, or many as NDJSON")
    },
    Endpoint {
        body: Some("application/xml"),
        success: (
            "200",
            "The agent's protocol: what it asked for, or that the inventory is durable in the log",
        ),
        ..post(
            "/v1/tenants/{tenant}/agents/ocs",
            "ingest",
            "OCS Inventory's protocol, by its agent and FusionInventory's",
        )
    },
    post("/v1/tenants/{tenant}/agents/glpi", "ingest", "GLPI's protocol, by its agent"),
    get(
        "/v1/tenants/{tenant}/ingest/positions",
        "ingest",
        "Where the tenant stands in the log, by partition",
    ),
    post(
        "/v1/tenants/{tenant}/ingest/positions/forget",
        "ingest",
        "Forget the positions in a topic that was replaced; the present one is read from its beginning",
    ),
    post(
        "/v1/tenants/{tenant}/ingest/replay",
        "ingest",
        "One step of a replay; the answer says how to ask for the next",
    ),
    get(
        "/v1/suspensions",
        "tenants",
        "The stages that stand still on request, of the tenants that the token reaches",
    ),
    post("/v1/tenants/{tenant}/suspensions/{stage}", "tenants", "Suspend a stage; it keeps its place"),
    Endpoint {
        method: HttpMethod::Delete,
        success: ("204", "It goes on"),
        ..get("/v1/tenants/{tenant}/suspensions/{stage}", "tenants", "Let a stage go on")
    },
    Endpoint { query: &["deleted"], ..get("/v1/tenants", "tenants", "The tenants that the token reaches") },
    post("/v1/tenants", "tenants", "Create a tenant; one that exists is answered"),
    get("/v1/tenants/{tenant}", "tenants", "One tenant"),
    Endpoint {
        query: &["plan"],
        ..post(
            "/v1/tenants/{tenant}/provision",
            "tenants",
            "Make the tenant's bucket what it should be, or say what it lacks",
        )
    },
    Endpoint {
        method: HttpMethod::Patch,
        ..post("/v1/tenants/{tenant}", "tenants", "Change a tenant; what is absent stays as it is")
    },
    Endpoint {
        method: HttpMethod::Delete,
        query: &["grace_s"],
        ..get(
            "/v1/tenants/{tenant}",
            "tenants",
            "Delete a tenant; it can be restored until its data is purged",
        )
    },
    post("/v1/tenants/{tenant}/suspend", "tenants", "Refuse everybody until the tenant is resumed"),
    post("/v1/tenants/{tenant}/resume", "tenants", "End a suspension of a tenant"),
    post("/v1/tenants/{tenant}/restore", "tenants", "Take a deletion back"),
    post(
        "/v1/tenants/{tenant}/purge",
        "tenants",
        "Remove the data of a deleted tenant after its grace period",
    ),
    get("/v1/tenants/{tenant}/clients", "access", "The tenant's clients"),
    post("/v1/tenants/{tenant}/clients", "access", "Create a client; the answer holds its secret, this once"),
    Endpoint {
        method: HttpMethod::Delete,
        success: ("204", "It and its tokens are refused from now on"),
        ..get("/v1/tenants/{tenant}/clients/{name}", "access", "Remove a client")
    },
    post("/v1/tenants/{tenant}/clients/{name}/rotate", "access", "A new secret; the former overlaps"),
    post("/v1/tenants/{tenant}/tokens", "access", "Issue a token of the tenant"),
    get("/v1/tenants/{tenant}/access", "access", "Grants, protected branches and revocations"),
    Endpoint {
        method: HttpMethod::Put,
        ..post("/v1/tenants/{tenant}/access", "access", "Replace grants and protected branches")
    },
    get("/v1/tenants/{tenant}/policy", "access", "All that decides who may do what, for Firn's own services"),
    post("/v1/tenants/{tenant}/revocations", "access", "Refuse tokens in this tenant"),
    post("/v1/revocations", "access", "Refuse tokens in all tenants"),
    Endpoint {
        success: ("204", "They are in the tenants' audit logs"),
        ..post("/v1/refusals", "access", "What another of Firn's services refused, for the audit logs")
    },
    Endpoint {
        query: &["after", "limit", "principal", "action", "decision"],
        ..get("/v1/tenants/{tenant}/audit", "access", "Who did what, and who was refused, after a cursor")
    },
    Endpoint {
        query: &["after", "limit", "wait_ms"],
        ..get(
            "/v1/tenants/{tenant}/events",
            "tenants",
            "What changed in the tenant's catalog after a cursor; as server-sent events to who accepts them",
        )
    },
    get("/v1/events", "tenants", "How far each tenant's events go"),
    get("/v1/tenants/{tenant}/gc", "tenants", "The newest garbage collection and its report"),
    Endpoint {
        success: ("202", "It runs"),
        ..post(
            "/v1/tenants/{tenant}/gc",
            "tenants",
            "Start a garbage collection, of the tenant or of one table's folder, or say what it would remove",
        )
    },
    get("/v1/tenants/{tenant}/expiries", "lifecycle", "When branches and tags go by themselves"),
    post(
        "/v1/tenants/{tenant}/expiries",
        "lifecycle",
        "Remove branches and tags whose time is over, or say which would go",
    ),
    Endpoint {
        method: HttpMethod::Put,
        ..post("/v1/tenants/{tenant}/expiries/{ref}", "lifecycle", "Say when a branch or tag goes")
    },
    Endpoint {
        method: HttpMethod::Delete,
        success: ("204", "It stays until somebody deletes it"),
        ..get("/v1/tenants/{tenant}/expiries/{ref}", "lifecycle", "Take an expiry back")
    },
    Endpoint {
        query: &["table", "limit"],
        ..get(
            "/v1/tenants/{tenant}/metrics-reports",
            "tables",
            "What engines said that their scans and commits cost, newest first",
        )
    },
    open("/v1/keys", "The public keys with which receipts of erasures can be checked"),
    get("/v1/erasures", "lifecycle", "All erasures with what services need to carry them out; for operators"),
    get("/v1/tenants/{tenant}/erasures", "lifecycle", "The tenant's erasures, oldest first"),
    Endpoint {
        success: ("202", "It will be carried out"),
        failures: &[
            ("400", "No subject, or a reason that names it"),
            ("401", "No valid token"),
            ("403", "The token doesn't allow it"),
            ("409", "A legal hold forbids it"),
        ],
        ..post("/v1/tenants/{tenant}/erasures", "lifecycle", "Erase a subject's data")
    },
    get(
        "/v1/tenants/{tenant}/erasures/{id}",
        "lifecycle",
        "How an erasure stands; its receipt once it is done",
    ),
    Endpoint {
        method: HttpMethod::Put,
        ..post(
            "/v1/tenants/{tenant}/erasures/{id}",
            "lifecycle",
            "Keep how an erasure stands, by who carries it out; for operators",
        )
    },
    get("/v1/tenants/{tenant}/holds", "lifecycle", "The tenant's legal holds, released ones too"),
    Endpoint {
        success: ("201", "It is in force"),
        ..post("/v1/tenants/{tenant}/holds", "lifecycle", "Place a legal hold")
    },
    Endpoint {
        method: HttpMethod::Delete,
        success: ("204", "It is released"),
        ..get("/v1/tenants/{tenant}/holds/{id}", "lifecycle", "Release a legal hold")
    },
    post("/v1/tenants/{tenant}/leases/{name}", "leases", "Acquire or renew a lease"),
    Endpoint {
        method: HttpMethod::Delete,
        query: &["holder"],
        success: ("204", "Given back"),
        ..get("/v1/tenants/{tenant}/leases/{name}", "leases", "Give a lease back")
    },
    Endpoint {
        query: &["limit", "ref"],
        ..get("/v1/tenants/{tenant}/promotions", "promotion", "Recent promotion runs with their receipts")
    },
    get("/v1/tenants/{tenant}/models", "promotion", "The models, in the order they run"),
    Endpoint {
        query: &["status", "rule", "host", "limit"],
        ..get("/v1/tenants/{tenant}/findings", "findings", "Findings")
    },
    get("/v1/tenants/{tenant}/findings/{id}", "findings", "One finding"),
    Endpoint {
        success: ("202", "The command is durable"),
        ..post("/v1/tenants/{tenant}/findings/{id}/acknowledge", "findings", "Acknowledge a finding")
    },
    Endpoint {
        success: ("202", "The command is durable"),
        ..post("/v1/tenants/{tenant}/findings/{id}/snooze", "findings", "Keep a finding quiet until a time")
    },
    Endpoint {
        success: ("202", "The command is durable"),
        ..post("/v1/tenants/{tenant}/findings/{id}/comment", "findings", "Say something about a finding")
    },
    Endpoint {
        success: ("202", "The command is durable"),
        ..post(
            "/v1/tenants/{tenant}/findings/{id}/assign",
            "findings",
            "Make a finding somebody's, or nobody's",
        )
    },
    Endpoint {
        success: ("202", "The command is durable"),
        ..post(
            "/v1/tenants/{tenant}/hosts/{host}/retire",
            "findings",
            "End the findings of a host that is gone",
        )
    },
    get("/v1/status", "server", "How each stage is doing, for the tenants that the token reaches"),
    open("/health/live", "200 while the process answers"),
    open("/health/ready", "200 once the server does its work, else 503"),
    open("/metrics", "Metrics in Prometheus' text format"),
    open("/openapi.json", "This document"),
];

/// The document.
pub(crate) fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for endpoint in ENDPOINTS {
        let item = PathItem::new(endpoint.method.clone(), operation(endpoint));
        paths = paths.path(endpoint.path, item);
    }
    let mut info = Info::new("Firn", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Firn's own endpoints. The catalog also speaks Iceberg REST below `/iceberg` and Nessie REST v2 below \
         `/nessie/{tenant}/api/v2`, as their specifications say."
            .to_owned(),
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let mut components = Components::new();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.schemas.insert("Error".to_owned(), error_schema());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

/// Prints the document.
pub(crate) fn print() -> Result<()> {
    output::json(&document())
}

fn operation(endpoint: &Endpoint) -> utoipa::openapi::path::Operation {
    let mut responses = ResponsesBuilder::new();
    let (status, meaning) = endpoint.success;
    responses = responses.response(status, ResponseBuilder::new().description(meaning).build());
    for (status, meaning) in endpoint.failures {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
        let failure = ResponseBuilder::new().description(*meaning).content("application/json", content);
        responses = responses.response(*status, failure.build());
    }
    let mut operation = OperationBuilder::new()
        .summary(Some(endpoint.summary))
        .tag(endpoint.tag)
        .responses(responses.build());
    for name in path_parameters(endpoint.path) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True));
    }
    for name in endpoint.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False));
    }
    if let Some(media) = endpoint.body {
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::Object)).build();
        let content = ContentBuilder::new().schema(Some(Schema::Object(object))).build();
        operation = operation.request_body(Some(RequestBodyBuilder::new().content(media, content).build()));
    }
    if endpoint.token {
        operation = operation.security(SecurityRequirement::new("bearer", Vec::<String>::new()));
    }
    operation.build()
}

fn parameter(name: &str, place: ParameterIn, required: Required) -> ParameterBuilder {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(Schema::Object(text)))
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn error_schema() -> RefOr<Schema> {
    let of = |kind| Schema::Object(ObjectBuilder::new().schema_type(SchemaType::new(kind)).build());
    let detail = ObjectBuilder::new()
        .property("message", of(Type::String))
        .property("type", of(Type::String))
        .property("code", of(Type::Integer))
        .build();
    let error = ObjectBuilder::new().property("error", Schema::Object(detail)).required("error").build();
    RefOr::T(Schema::Object(error))
}
