//! All that the servers of these tests answer is checked against what is specified.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use firn_tests::{Answer, Specification};

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

async fn check(State(answered): State<Answered>, request: Request, next: Next) -> Response {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let (parts, body) = next.run(request).await.into_parts();
    let is = |kind: &str| parts.headers.get(header::CONTENT_TYPE).is_some_and(|found| found == kind);
    // Its end is the client's to decide.
    if is("text/event-stream") {
        return Response::from_parts(parts, body);
    }
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let status = parts.status.as_u16();
    let answer =
        Answer { method: &method, path: &path, status, is_json: is("application/json"), body: &bytes };
    for specification in [Specification::iceberg(), Specification::firn()] {
        match specification.check(answer) {
            Ok(None) => {}
            Ok(Some(operation)) => {
                answered.0.lock().unwrap().entry(operation).or_default().insert(status);
            }
            Err(wrong) => return (StatusCode::from_u16(599).unwrap(), wrong).into_response(),
        }
    }
    Response::from_parts(parts, Body::from(bytes))
}
