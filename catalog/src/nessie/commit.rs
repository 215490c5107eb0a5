//! Commits.

use axum::{Json, body::Bytes};
use firn_auth::Action;
use firn_catalog_client::nessie::{CommitMeta, ContentKey, Reference};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    error::NessieError,
    text,
};
use crate::{
    CatalogError,
    management::{check_tables, held_table},
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
    let Reached { repository, access } = call.reach(Action::Write).await?;
    let (branch, expected_head) = call.target()?;
    let body: Operations = call::body(&bytes)?;
    if body.operations.is_empty() {
        return Err(CatalogError::Invalid("a commit has at least one operation".to_owned()).into());
    }
    let given: Vec<Op> = body.operations.into_iter().map(Op::from).collect();
    for operation in &given {
        let (action, key) = match operation {
            Op::Put { key, .. } | Op::Delete { key, .. } => (Action::Write, key),
            Op::Unchanged { key } => (Action::Read, key),
        };
        access.require_key(action, Some(&branch), &key.0)?;
        if matches!(operation, Op::Delete { .. }) {
            held_table(call.state(), access.tenant().as_str(), &key.0, "deleting it").await?;
        }
        // Whose metadata file it is, nobody looks: a grant on one table must not open the others.
        if matches!(operation, Op::Put { content, .. } if !content.0["metadataLocation"].is_null()) {
            access.require_all(Action::Read, None)?;
        }
    }
    let new = |key| {
        given
            .iter()
            .any(|op| matches!(op, Op::Put { key: put, content, .. } if put == key && content.id().is_none()))
    };
    let request = CommitRequest {
        branch: branch.clone(),
        expected_head,
        operations: given.clone(),
        meta: text::own_meta(body.commit_meta, access.principal().name())?,
        idempotency: None,
    };
    let _place = access.begin_change()?;
    check_tables(&repository, &access, &request).await?;
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
