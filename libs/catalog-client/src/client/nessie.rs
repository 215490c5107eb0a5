//! Nessie REST v2.

use serde::{Deserialize, de::DeserializeOwned};

use super::{Path, TenantClient};
use crate::{
    ClientError, ClientErrorKind,
    nessie::{ContentKey, DiffEntry, Entry, LogEntry, MergeRequest, MergeResponse, Reference},
};

const PAGE_SIZE: usize = 500;
/// Tries to delete a reference that others move meanwhile.
const DELETE_ATTEMPTS: usize = 5;
/// Stands for a dot within an element where a key is written as one text.
const ESCAPED_DOT: &str = "\u{1d}";

#[derive(Deserialize)]
struct SingleReference {
    reference: Reference,
}

/// One page of any list; Nessie names the items differently in each.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    token: Option<String>,
    #[serde(alias = "references", alias = "logEntries", alias = "entries", alias = "diffs")]
    items: Vec<T>,
}

impl TenantClient {
    /// All references.
    pub async fn references(&self) -> Result<Vec<Reference>, ClientError> {
        self.nessie_pages(self.trees(), usize::MAX).await
    }

    /// One reference.
    pub async fn reference(&self, reference: &str) -> Result<Reference, ClientError> {
        let single: SingleReference = self.transport.get(&self.tree(reference)).await?;
        Ok(single.reference)
    }

    /// Creates a branch at `from` (a reference).
    pub async fn create_branch(&self, name: &str, from: &str) -> Result<Reference, ClientError> {
        self.create_reference("BRANCH", name, from).await
    }

    /// Creates a tag at `from` (a reference).
    pub async fn create_tag(&self, name: &str, from: &str) -> Result<Reference, ClientError> {
        self.create_reference("TAG", name, from).await
    }

    /// Deletes a branch or tag, whatever its head.
    pub async fn delete_reference(&self, name: &str) -> Result<(), ClientError> {
        let mut attempt = 1;
        loop {
            let head = self.reference(name).await?;
            let path = self.tree(&format!("{name}@{}", head.hash()));
            match self.transport.delete(&path).await {
                Err(error) if error.kind == ClientErrorKind::Conflict && attempt < DELETE_ATTEMPTS => {
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// The newest `limit` commits of a reference, with operations if `with_operations`.
    pub async fn log(
        &self,
        reference: &str,
        limit: usize,
        with_operations: bool,
    ) -> Result<Vec<LogEntry>, ClientError> {
        let mut path = self.tree(reference).fixed("/history");
        if with_operations {
            path = path.query("fetch", "ALL");
        }
        self.nessie_pages(path, limit).await
    }

    /// All keys of a state whose key starts with `prefix`, with content if `with_content`, all pages.
    pub async fn entries(
        &self,
        reference: &str,
        prefix: Option<&ContentKey>,
        with_content: bool,
    ) -> Result<Vec<Entry>, ClientError> {
        let mut path = self.tree(reference).fixed("/entries");
        if with_content {
            path = path.query("content", "true");
        }
        if let Some(prefix) = prefix {
            path = path.query("prefix-key", &key_text(prefix));
        }
        self.nessie_pages(path, usize::MAX).await
    }

    /// What differs between two references, all pages.
    pub async fn diff(&self, from: &str, to: &str) -> Result<Vec<DiffEntry>, ClientError> {
        let path = self.tree(from).fixed("/diff").segment(or_main(to));
        self.nessie_pages(path, usize::MAX).await
    }

    /// Merges into `target`. A conflict is `ClientErrorKind::Conflict` whose message names the keys.
    pub async fn merge(&self, target: &str, request: &MergeRequest) -> Result<MergeResponse, ClientError> {
        let path = self.tree(target).fixed("/history/merge");
        self.transport.post(&path, request, None).await
    }

    async fn create_reference(&self, kind: &str, name: &str, from: &str) -> Result<Reference, ClientError> {
        let source = self.reference(from).await?;
        let path = self.trees().query("name", name).query("type", kind);
        let single: SingleReference = self.transport.post(&path, &source, None).await?;
        Ok(single.reference)
    }

    fn trees(&self) -> Path {
        Path::nessie(&self.tenant).fixed("/trees")
    }

    fn tree(&self, reference: &str) -> Path {
        self.trees().segment(or_main(reference))
    }

    async fn nessie_pages<T: DeserializeOwned>(
        &self,
        path: Path,
        limit: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut items: Vec<T> = Vec::new();
        let mut token: Option<String> = None;
        while items.len() < limit {
            let size = PAGE_SIZE.min(limit - items.len());
            let mut page_path = path.clone().query("max-records", &size.to_string());
            if let Some(token) = &token {
                page_path = page_path.query("page-token", token);
            }
            let page: Page<T> = self.transport.get(&page_path).await?;
            items.extend(page.items);
            token = page.token.filter(|_| page.has_more);
            if token.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }
}

fn or_main(reference: &str) -> &str {
    if reference.is_empty() { "main" } else { reference }
}

fn key_text(key: &ContentKey) -> String {
    let elements: Vec<String> =
        key.elements.iter().map(|element| element.replace('.', ESCAPED_DOT)).collect();
    elements.join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_page_is_read_whatever_its_items_are_called() {
        let text = r#"{"hasMore":true,"token":"t","logEntries":[{"commitMeta":{"message":"m"}}]}"#;
        let page: Page<LogEntry> = serde_json::from_str(text).unwrap();
        assert!(page.has_more);
        assert_eq!((page.token.as_deref(), page.items[0].commit_meta.message.as_str()), (Some("t"), "m"));
        let text = r#"{"hasMore":false,"references":[{"type":"BRANCH","name":"main","hash":"00"}]}"#;
        let page: Page<Reference> = serde_json::from_str(text).unwrap();
        assert_eq!(page.items[0].name(), "main");
    }

    #[test]
    fn dots_within_elements_are_escaped() {
        let key = ContentKey { elements: vec!["a.b".to_owned(), "c".to_owned()] };
        assert_eq!(key_text(&key), "a\u{1d}b.c");
    }
}
