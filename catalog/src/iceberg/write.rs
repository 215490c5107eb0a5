//! The end of every change: metadata files first, then one commit; files of a lost commit go, of an unknown one stay.

use std::{collections::BTreeMap, sync::Arc};

use firn_catalog_client::iceberg::TableIdent;

use super::{call::Scope, commit::refuse_occupied, content::Kind, error::ApiError};
use crate::{
    CatalogError,
    metadata::Document,
    storage::Location,
    store::Hash,
    version::{CommitRequest, Content, IdempotencyRecord, Key, Meta, Op},
};

/// A table or view as it should be after the commit.
pub(super) struct Put {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) ident: TableIdent,
    /// What is there now, which the commit insists on.
    pub(super) former: Option<Content>,
    /// Where its metadata lies now.
    pub(super) former_location: Option<String>,
    /// The new document; `None` insists that nothing changed meanwhile.
    pub(super) document: Option<Arc<Document>>,
    /// The place that a table takes with this commit.
    pub(super) takes: Option<Location>,
}

/// Writes the metadata files of all tables, then commits. Runs in a task of its own, so that a client that hangs up
/// can't leave it half-way.
pub(super) async fn write_and_commit(
    scope: &Scope,
    branch: &str,
    message: String,
    puts: Vec<Put>,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let (scope, branch) = (scope.clone(), branch.to_owned());
    let task = tokio::spawn(async move { run(&scope, branch, message, puts, record).await });
    task.await.unwrap_or_else(|error| {
        Err(CatalogError::Unknown(format!("the commit was abandoned half-way: {error}")).into())
    })
}

/// Author and message of a change made through the Iceberg API.
pub(super) fn meta(scope: &Scope, message: String) -> Meta {
    Meta { committer: scope.principal().name().to_owned(), message, ..Meta::default() }
}

/// A message such as `commit to table a.b: add-snapshot, set-snapshot-ref`.
pub(super) fn describe(kind: Kind, ident: &TableIdent, updates: &[serde_json::Value]) -> String {
    let mut actions: Vec<&str> = updates.iter().filter_map(|update| update["action"].as_str()).collect();
    actions.dedup();
    format!("commit to {} {ident}: {}", kind.word(), actions.join(", "))
}

async fn run(
    scope: &Scope,
    branch: String,
    message: String,
    puts: Vec<Put>,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let written = write_files(scope, &puts).await?;
    if let Err(error) = refuse_taken_meanwhile(scope, &puts, &written).await {
        delete_files(scope, written.into_values().collect()).await;
        return Err(error);
    }
    let operations = puts.iter().map(|put| operation(put, written.get(&put.key))).collect();
    let request = CommitRequest {
        branch,
        expected_head: None,
        operations,
        meta: meta(scope, message),
        idempotency: record,
    };
    match scope.commit(request).await {
        Ok(committed) => {
            // A request that had run before is answered with its earlier commit, which has files of its own.
            let used = |location: &String| {
                committed
                    .contents
                    .iter()
                    .any(|(_, content)| content.0["metadataLocation"] == location.as_str())
            };
            let unused = written.into_values().filter(|location| !used(location)).collect();
            delete_files(scope, unused).await;
            Ok(committed.hash)
        }
        Err(error @ (CatalogError::Unknown(_) | CatalogError::Internal(_))) => Err(error.into()),
        Err(error) => {
            delete_files(scope, written.into_values().collect()).await;
            Err(lost(&puts, error))
        }
    }
}

/// A conflict in the words of the Iceberg API: creating what exists is another error than a lost race.
fn lost(puts: &[Put], error: CatalogError) -> ApiError {
    if let CatalogError::Conflict { conflicts, .. } = &error {
        let created = puts.iter().filter(|put| put.former.is_none());
        for put in created {
            if conflicts
                .iter()
                .any(|conflict| conflict.key == put.key && conflict.conflict_type == "KEY_EXISTS")
            {
                return ApiError::exists(format!("'{}' was created by another request just now", put.ident));
            }
        }
    }
    error.into()
}

fn operation(put: &Put, location: Option<&String>) -> Op {
    let content = match (&put.document, location) {
        (Some(document), Some(location)) => put.kind.content(put.former.as_ref(), location, document),
        // Nothing changes: the put insists on what was read.
        _ => put.former.clone().unwrap_or_else(|| Content::new(serde_json::Value::Null)),
    };
    Op::Put { key: put.key.clone(), content, expected: Some(put.former.clone()) }
}

async fn write_files(scope: &Scope, puts: &[Put]) -> Result<BTreeMap<Key, String>, ApiError> {
    let writes = puts.iter().filter_map(|put| put.document.as_ref().map(|document| (put, document)));
    let writes = writes.map(|(put, document)| async move {
        let written = scope.write_document(document, put.former_location.as_deref()).await;
        written.map(|location| (put.key.clone(), location))
    });
    let mut written = BTreeMap::new();
    let mut failure = None;
    for outcome in futures::future::join_all(writes).await {
        match outcome {
            Ok((key, location)) => drop(written.insert(key, location)),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        None => Ok(written),
        Some(error) => {
            delete_files(scope, written.into_values().collect()).await;
            Err(error.into())
        }
    }
}

/// Looks again, now that the metadata is there: of two who take overlapping places at once, each has written before it looks,
/// so that at least one sees the other, on whatever server they are.
async fn refuse_taken_meanwhile(
    scope: &Scope,
    puts: &[Put],
    written: &BTreeMap<Key, String>,
) -> Result<(), ApiError> {
    for put in puts {
        if let (Some(place), Some(own)) = (&put.takes, written.get(&put.key)) {
            let own = scope.state.storage.check(&scope.tenant, own)?;
            refuse_occupied(scope, place, Some(&own)).await?;
        }
    }
    Ok(())
}

async fn delete_files(scope: &Scope, locations: Vec<String>) {
    for location in locations {
        scope.state.storage.delete_metadata(&scope.tenant, &location).await;
    }
}
