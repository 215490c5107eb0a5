//! Iceberg REST.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Path, TenantClient, path::join_namespace};
use crate::{
    ClientError, ClientErrorKind,
    iceberg::{CommitTransactionRequest, CreateTableRequest, LoadTableResult, TableChange, TableIdent},
};

const PAGE_SIZE: &str = "1000";
const VENDED_KEYS: (&str, &str) = ("X-Iceberg-Access-Delegation", "vended-credentials");

/// One page of a list; only one of the two lists is there.
#[derive(Deserialize)]
struct Page {
    #[serde(rename = "next-page-token", default)]
    next_page_token: Option<String>,
    #[serde(default)]
    namespaces: Vec<Vec<String>>,
    #[serde(default)]
    identifiers: Vec<TableIdent>,
}

impl TenantClient {
    /// Namespaces below `parent` (all of the first level if empty), all pages.
    pub async fn list_namespaces(
        &self,
        reference: &str,
        parent: &[String],
    ) -> Result<Vec<Vec<String>>, ClientError> {
        let mut path = Path::iceberg(&self.tenant, reference).fixed("/namespaces");
        if !parent.is_empty() {
            path = path.query("parent", &join_namespace(parent));
        }
        let pages = self.pages(path).await?;
        Ok(pages.into_iter().flat_map(|page| page.namespaces).collect())
    }

    /// Creates a namespace, and those above it; one that exists is no error.
    pub async fn ensure_namespace(&self, reference: &str, namespace: &[String]) -> Result<(), ClientError> {
        for depth in 1..=namespace.len() {
            let path = Path::iceberg(&self.tenant, reference).fixed("/namespaces");
            let body = json!({ "namespace": namespace[..depth] });
            match self.transport.post::<Value>(&path, &body, None).await {
                Ok(_) => {}
                Err(error) if error.kind == ClientErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tables of a namespace, all pages.
    pub async fn list_tables(
        &self,
        reference: &str,
        namespace: &[String],
    ) -> Result<Vec<TableIdent>, ClientError> {
        let path = Path::iceberg(&self.tenant, reference).namespace(namespace).fixed("/tables");
        let pages = self.pages(path).await?;
        Ok(pages.into_iter().flat_map(|page| page.identifiers).collect())
    }

    /// Loads a table.
    pub async fn load_table(
        &self,
        reference: &str,
        table: &TableIdent,
    ) -> Result<LoadTableResult, ClientError> {
        let headers: &[(&str, &str)] = if self.asks_for_keys { &[VENDED_KEYS] } else { &[] };
        self.transport.get_with(&self.table_path(reference, table), headers).await
    }

    /// Creates a table; one that exists is a conflict.
    pub async fn create_table(
        &self,
        reference: &str,
        namespace: &[String],
        request: &CreateTableRequest,
    ) -> Result<LoadTableResult, ClientError> {
        let path = Path::iceberg(&self.tenant, reference).namespace(namespace).fixed("/tables");
        self.transport.post(&path, request, None).await
    }

    /// Commits to one table. Give the same `idempotency_key` (a UUID) when trying again after an unknown outcome.
    pub async fn commit_table(
        &self,
        reference: &str,
        table: &TableIdent,
        change: &TableChange,
        idempotency_key: &str,
    ) -> Result<LoadTableResult, ClientError> {
        self.transport.post(&self.table_path(reference, table), change, Some(idempotency_key)).await
    }

    /// Commits to several tables at once, all or none.
    pub async fn commit_transaction(
        &self,
        reference: &str,
        request: &CommitTransactionRequest,
        idempotency_key: &str,
    ) -> Result<(), ClientError> {
        let path = Path::iceberg(&self.tenant, reference).fixed("/transactions/commit");
        self.transport.post(&path, request, Some(idempotency_key)).await
    }

    /// Drops a table, keeping its files.
    pub async fn drop_table(&self, reference: &str, table: &TableIdent) -> Result<(), ClientError> {
        let path = self.table_path(reference, table).query("purgeRequested", "false");
        self.transport.delete(&path).await
    }

    fn table_path(&self, reference: &str, table: &TableIdent) -> Path {
        let path = Path::iceberg(&self.tenant, reference).namespace(&table.namespace);
        path.fixed("/tables").segment(&table.name)
    }

    async fn pages(&self, path: Path) -> Result<Vec<Page>, ClientError> {
        let path = path.query("pageSize", PAGE_SIZE);
        let mut pages = Vec::new();
        let mut token = Some(String::new());
        while let Some(current) = token {
            let mut page: Page = self.transport.get(&path.clone().query("pageToken", &current)).await?;
            token = page.next_page_token.take().filter(|next| !next.is_empty());
            pages.push(page);
        }
        Ok(pages)
    }
}
