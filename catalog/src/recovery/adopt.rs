//! Tables by their metadata files alone.
//!
//! A metadata file says neither on which branch it was committed nor under which name: the newest one of a table's folder is
//! taken for `main`, under the names that the folder was made from. A table that was renamed is back under its first name.

use serde_json::{Value, json};

use super::{
    rebuild::{Rebuilt, Skipped},
    survey::{Found, MetadataFile},
};
use crate::{
    CatalogError,
    iceberg::Kind,
    management::AppState,
    metadata::Document,
    storage::Location,
    version::{CommitRequest, Content, Key, MAIN, Meta, Op, Repository},
};

/// A uuid and the dash before it, which end a folder's name.
const SUFFIX: usize = 37;

/// Takes the newest metadata file of each table's folder that is newer than the export into one commit on `main`.
pub(super) async fn newest(
    state: &AppState,
    tenant: &str,
    found: &Found,
    done: &mut Rebuilt,
) -> Result<(), CatalogError> {
    let repository = state.versions.repository(tenant);
    let root = state.storage.tenant_root(tenant);
    let mut operations = Vec::new();
    for (folder, files) in &found.metadata {
        let Some(newest) = files.iter().max() else { continue };
        if done.exported_at_ms.is_some_and(|exported| newest.modified_ms < exported) {
            continue;
        }
        match adopt(state, tenant, &repository, &root, folder, newest).await? {
            Ok(Adopted::Known) => {}
            Ok(Adopted::Changed(key, content)) => {
                done.adopted.push(key.0.join("."));
                namespaces(&repository, &key, &mut operations).await?;
                operations.push(put(key, content));
            }
            Err(reason) => done.skipped.push(Skipped { location: folder.clone(), reason }),
        }
    }
    if operations.is_empty() {
        return Ok(());
    }
    let meta = Meta {
        committer: "firn catalog rebuild".to_owned(),
        message: "Take tables from their newest metadata files".to_owned(),
        ..Meta::default()
    };
    let branch = MAIN.to_owned();
    let request = CommitRequest { branch, expected_head: None, operations, meta, idempotency: None };
    repository.commit(request).await.map(|_| ())
}

enum Adopted {
    /// `main` has it already.
    Known,
    Changed(Key, Content),
}

async fn adopt(
    state: &AppState,
    tenant: &str,
    repository: &Repository,
    root: &Location,
    folder: &str,
    newest: &MetadataFile,
) -> Result<Result<Adopted, String>, CatalogError> {
    let Some(key) = key_of(root, folder) else {
        return Ok(Err("its folder has no name of a table that Firn made: register it".to_owned()));
    };
    let bytes = state.storage.read_metadata(tenant, &newest.location).await?;
    let table = Document::parse_table(&bytes).map(|document| (Kind::Table, document));
    let parsed = table.or_else(|_| Document::parse_view(&bytes).map(|document| (Kind::View, document)));
    let Ok((kind, document)) = parsed else {
        return Ok(Err(format!("{} is neither a table nor a view", newest.location)));
    };
    let former = at_main(repository, &key).await?;
    let location =
        |content: &Content| content.0.get("metadataLocation").and_then(Value::as_str).map(str::to_owned);
    match former.as_ref().map(location) {
        Some(Some(present)) if present == newest.location => return Ok(Ok(Adopted::Known)),
        Some(Some(present)) if !present.starts_with(&format!("{folder}/")) => {
            return Ok(Err(format!(
                "'{}' is another table on main: register it under another name",
                key.0.join(".")
            )));
        }
        Some(None) => return Ok(Err(format!("'{}' is no table on main", key.0.join(".")))),
        _ => {}
    }
    let content = kind.content(former.as_ref(), &newest.location, &document);
    Ok(Ok(Adopted::Changed(key, content)))
}

async fn at_main(repository: &Repository, key: &Key) -> Result<Option<Content>, CatalogError> {
    let head = repository.resolve(MAIN).await?.hash;
    Ok(repository.get(head, std::slice::from_ref(key)).await?.pop().flatten())
}

/// The namespace, where it is missing, before what lies in it.
async fn namespaces(
    repository: &Repository,
    key: &Key,
    operations: &mut Vec<Op>,
) -> Result<(), CatalogError> {
    for end in 1..key.0.len() {
        let namespace = Key(key.0[..end].to_vec());
        let planned = operations.iter().any(|operation| *operation.key() == namespace);
        if !planned && at_main(repository, &namespace).await?.is_none() {
            let content = json!({"type": "NAMESPACE", "elements": namespace.0, "properties": {}});
            operations.push(put(namespace, Content::new(content)));
        }
    }
    Ok(())
}

fn put(key: Key, content: Content) -> Op {
    Op::Put { key, content, expected: None }
}

/// The names that a folder was made from: `<namespace>/…/<name>-<uuid>`.
fn key_of(root: &Location, folder: &str) -> Option<Key> {
    let below = folder.strip_prefix(&format!("{root}/"))?;
    let (path, last) = below.rsplit_once('/')?;
    let name = last.get(..last.len().checked_sub(SUFFIX)?).filter(|name| !name.is_empty())?;
    uuid::Uuid::parse_str(last.get(name.len() + 1..)?).ok()?;
    Some(Key(path.split('/').chain([name]).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_come_from_the_folder() {
        let root: Location = "s3://lake/firn/acme".parse().unwrap();
        let uuid = "3b241101-e2bb-4255-8caf-4136c566a962";
        let key = |path: &str| key_of(&root, &format!("{root}/{path}")).map(|key| key.0.join("."));
        assert_eq!(key(&format!("bronze/inventory-{uuid}")).as_deref(), Some("bronze.inventory"));
        assert_eq!(key(&format!("a/b/my-table-{uuid}")).as_deref(), Some("a.b.my-table"));
        assert_eq!([key("bronze/inventory"), key(&format!("bronze/{uuid}")), key(uuid)], [None, None, None]);
    }
}
