//! Answers of the Iceberg API beside its specification: all that the servers of these tests answer are checked.
//!
//! `iceberg-rest.json` is derived from the specification of Apache Iceberg by `scripts/derive-specification`.

mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

/// Refusals that come before an operation is looked at, or of which HTTP itself speaks.
const OF_ANY_OPERATION: [&str; 5] = ["403", "406", "413", "422", "429"];
/// What the specification overlooks: namespaces lie in others, and what is signed for is a table.
const OVERLOOKED: [(&str, &str); 2] = [("createNamespace", "404"), ("signRequest", "404")];

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("specification/iceberg-rest.json")).unwrap());

static ENVELOPE: LazyLock<Value> =
    LazyLock::new(|| serde_json::json!({"$ref": "#/components/schemas/IcebergErrorResponse"}));

/// Answers that were given, by operation. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Answered(Arc<Mutex<BTreeMap<String, BTreeSet<u16>>>>);

impl Answered {
    /// The router, whose answers are checked from now on: a wrong one becomes a 599 that says what is wrong with it.
    pub(super) fn check(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), check))
    }

    /// The statuses of each operation's answers.
    pub(super) fn statuses(&self) -> BTreeMap<String, BTreeSet<u16>> {
        self.0.lock().unwrap().clone()
    }
}

/// Names of all operations.
pub(super) fn operations() -> BTreeSet<String> {
    let paths = DOCUMENT["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|methods| methods.as_object().unwrap().values());
    operations.map(|operation| operation["operationId"].as_str().unwrap().to_owned()).collect()
}

/// Methods and paths of all operations, as `config` lists them.
pub(super) fn endpoints() -> Vec<String> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let endpoints = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    endpoints.collect()
}

async fn check(State(answered): State<Answered>, request: Request, next: Next) -> Response {
    let method = request.method().as_str().to_lowercase();
    let path = request.uri().path().to_owned();
    let answer = next.run(request).await;
    let Some(operation) = operation(&method, &path) else { return answer };
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let status = parts.status.as_u16();
    if let Err(wrong) = judge(operation, status, is_json, &bytes) {
        let id = &operation["operationId"];
        let text = format!(
            "{id} isn't answered as specified, {status}: {wrong}\n{}",
            String::from_utf8_lossy(&bytes)
        );
        return (StatusCode::from_u16(599).unwrap(), text).into_response();
    }
    let id = operation["operationId"].as_str().unwrap().to_owned();
    answered.0.lock().unwrap().entry(id).or_default().insert(status);
    Response::from_parts(parts, Body::from(bytes))
}

/// The operation of a request: a path without braces wins.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path: Vec<&str> = path.strip_prefix("/iceberg/")?.split('/').collect();
    let fits = |template: &&String| {
        let template: Vec<&str> = template.trim_start_matches('/').split('/').collect();
        let same = |(part, found): (&&str, &&str)| part.starts_with('{') || part == found;
        template.len() == path.len() && template.iter().zip(&path).all(same)
    };
    let mut found: Vec<&String> = DOCUMENT["paths"].as_object()?.keys().filter(fits).collect();
    found.sort_by_key(|template| template.matches('{').count());
    found.iter().find_map(|template| DOCUMENT["paths"][template.as_str()].get(method))
}

/// What is wrong with an answer.
fn judge(operation: &'static Value, status: u16, is_json: bool, body: &[u8]) -> Result<(), String> {
    let text = status.to_string();
    let responses = &operation["responses"];
    let class = format!("{}XX", status / 100);
    let mut response = responses.get(&text).or_else(|| responses.get(&class));
    let id = operation["operationId"].as_str().unwrap_or_default();
    if OF_ANY_OPERATION.contains(&text.as_str()) || OVERLOOKED.contains(&(id, text.as_str())) {
        response = response.or_else(|| responses.get("400"));
    }
    let response = resolved(response.ok_or("there is no such status")?);
    let schema = response.pointer("/content/application~1json/schema");
    let Some(schema) = schema.map(as_sent) else {
        // What a handler of HEAD says is not sent.
        return if body.is_empty() || id.ends_with("Exists") {
            Ok(())
        } else {
            Err("there is a body".to_owned())
        };
    };
    // What answers HEAD has no body, whatever is specified.
    if body.is_empty() && id.ends_with("Exists") {
        return Ok(());
    }
    if !is_json {
        return Err("the content type isn't application/json".to_owned());
    }
    let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    schema::check(&DOCUMENT, schema, &body, "$")?;
    match body["error"]["code"].as_u64() {
        Some(code) if status >= 400 && code != u64::from(status) => {
            Err(format!("the error's code is {code}"))
        }
        _ => Ok(()),
    }
}

/// Of some errors the specification names what is in the envelope; its examples, and all clients, have the envelope.
fn as_sent(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some("#/components/schemas/ErrorModel") => &ENVELOPE,
        _ => schema,
    }
}

fn resolved(node: &'static Value) -> &'static Value {
    match node["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => node,
    }
}
