//! Commits.

use axum::{Json, body::Bytes};
use firn_auth::Role;
use firn_catalog_client::nessie::{CommitMeta, ContentKey, Reference};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call},
    error::NessieError,
    text,
};
use crate::{
    CatalogError,
    version::{CommitRequest, Content, Op},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operations {
    commit_meta: CommitMeta,
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
enum Operation {
    Put { key: ContentKey, content: Value },
    Delete { key: ContentKey },
    Unchanged { key: ContentKey },
}

impl From<Operation> for Op {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Put { key, content } => {
                Self::Put { key: text::own_key(key), content: Content::new(content), expected: None }
            }
            Operation::Delete { key } => Self::Delete { key: text::own_key(key), expected: None },
            Operation::Unchanged { key } => Self::Unchanged { key: text::own_key(key) },
        }
    }
}

pub(super) async fn commit(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let (repository, principal) = call.repository(Role::Writer)?;
    let (branch, expected_head) = call.target()?;
    let body: Operations = call::body(&bytes)?;
    if body.operations.is_empty() {
        return Err(CatalogError::Invalid("a commit has at least one operation".to_owned()).into());
    }
    let given: Vec<Op> = body.operations.into_iter().map(Op::from).collect();
    let new = |key| {
        given
            .iter()
            .any(|op| matches!(op, Op::Put { key: put, content, .. } if put == key && content.id().is_none()))
    };
    let request = CommitRequest {
        branch: branch.clone(),
        expected_head,
        operations: given.clone(),
        meta: text::own_meta(body.commit_meta, principal.name())?,
        idempotency: None,
    };
    let committed = repository.commit(request).await?;
    let added: Vec<Value> = committed
        .contents
        .iter()
        .filter(|(key, _)| new(key))
        .map(|(key, content)| json!({"key": text::wire_key(key), "contentId": content.id()}))
        .collect();
    let target = Reference::Branch { name: branch, hash: committed.hash.to_string() };
    Ok(Json(json!({"targetBranch": target, "addedContents": added})))
}
