//! What the number of tables costs: the same requests on a thousand and on a million, and merges that change thousands.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    client::Request,
    server::{Server, request},
};

/// Tables that one commit makes, and commits that are under way at once.
const TABLES_PER_COMMIT: usize = 1000;
const COMMITS: usize = 4;
/// Tables that differ between `main` and the branch that is compared with it.
const CHANGES: usize = 10;
/// Tables of a page.
const PAGE: usize = 100;

/// A tenant with many tables, all of them of one metadata file until they are committed to.
pub(crate) struct Many {
    tenant: &'static str,
    tables: usize,
    /// The metadata file of all tables.
    location: String,
    token: String,
}

impl Many {
    /// Makes the tables, and a branch on which ten of them are others.
    pub(crate) async fn make(server: &Server, tenant: &'static str, tables: usize) -> Result<Self> {
        let token = server.tenant(tenant).await?;
        let mut many = Self { tenant, tables, location: String::new(), token };
        let iceberg = format!("/iceberg/v1/{tenant}/namespaces");
        many.post(server, &iceberg, json!({"namespace": ["many"]})).await?;
        let schema =
            json!({"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": false}]});
        let first = json!({"name": "first", "schema": schema});
        let first = many.post(server, &format!("{iceberg}/many/tables"), first).await?;
        first["metadata-location"]
            .as_str()
            .context("a table has a metadata file")?
            .clone_into(&mut many.location);
        let batches = (0..tables).step_by(TABLES_PER_COMMIT).map(|start| {
            let end = (start + TABLES_PER_COMMIT).min(tables);
            many.put(server, "main", start..end, 0)
        });
        let batches: Vec<_> = batches.collect();
        futures::stream::iter(batches).buffer_unordered(COMMITS).try_collect::<Vec<_>>().await?;
        many.post(server, &many.branch_path("changed"), many.main(server).await?).await?;
        let step = tables / CHANGES;
        for change in 0..CHANGES {
            many.put(server, "changed", change * step..change * step + 1, 1).await?;
        }
        Ok(many)
    }

    /// A page of the tables, each time another.
    pub(crate) async fn list(&self, server: &Server) -> Result<Request> {
        // The first pages' tokens: a token holds the state that it lists.
        let mut tokens = vec![String::new()];
        for _ in 0..8 {
            let path = self.page_path(tokens.last().map_or("", String::as_str));
            let page = server.json(self.get(server, &path)).await?;
            tokens.push(page["next-page-token"].as_str().context("there are more pages")?.to_owned());
        }
        let paths: Vec<String> = tokens.iter().map(|token| self.page_path(token)).collect();
        let token = self.token.clone();
        Ok(Arc::new(move |_, turn| request("GET", &paths[turn % paths.len()], &token, &[], None)))
    }

    /// A load of any table.
    pub(crate) fn load(&self) -> Request {
        let (tenant, tables, token) = (self.tenant, self.tables, self.token.clone());
        Arc::new(move |client, turn| {
            request("GET", &table_path(tenant, any(client, turn, tables)), &token, &[], None)
        })
    }

    /// A commit to any table.
    pub(crate) fn commit(&self) -> Request {
        let (tenant, tables, token) = (self.tenant, self.tables, self.token.clone());
        Arc::new(move |client, turn| {
            let update =
                json!({"action": "set-properties", "updates": {"bench": format!("{client}-{turn}")}});
            let body = json!({"requirements": [], "updates": [update]});
            request("POST", &table_path(tenant, any(client, turn, tables)), &token, &[], Some(&body))
        })
    }

    /// A new branch of `main`.
    pub(crate) async fn branch(&self, server: &Server) -> Result<Request> {
        let (main, token, run) = (self.main(server).await?, self.token.clone(), uuid::Uuid::new_v4());
        let tenant = self.tenant;
        let made = AtomicUsize::new(0);
        Ok(Arc::new(move |_, _| {
            let number = made.fetch_add(1, Ordering::Relaxed);
            let path = format!("/nessie/{tenant}/api/v2/trees?name=b-{run}-{number}&type=BRANCH");
            request("POST", &path, &token, &[], Some(&main))
        }))
    }

    /// What differs between `main` and a branch with ten changes.
    pub(crate) fn diff(&self) -> Request {
        let path = format!("/nessie/{}/api/v2/trees/main/diff/changed", self.tenant);
        let token = self.token.clone();
        Arc::new(move |_, _| request("GET", &path, &token, &[], None))
    }

    /// Changes so many tables on a branch and as many others on `main`, and answers how long it takes to merge the branch.
    pub(crate) async fn merge(&self, server: &Server, round: i64, changed: usize) -> Result<Duration> {
        let branch = format!("merged-{round}");
        self.post(server, &self.branch_path(&branch), self.main(server).await?).await?;
        self.put(server, &branch, 0..changed, round).await?;
        self.put(server, "main", changed..2 * changed, round).await?;
        let from =
            server.json(self.get(server, &format!("/nessie/{}/api/v2/trees/{branch}", self.tenant))).await?;
        let main = self.main(server).await?;
        let hash = main["hash"].as_str().context("a branch has a hash")?;
        let path = format!("/nessie/{}/api/v2/trees/main@{hash}/history/merge", self.tenant);
        let body = json!({"fromRefName": branch, "fromHash": from["reference"]["hash"]});
        let began = Instant::now();
        let merged = self.post(server, &path, body).await?;
        let took = began.elapsed();
        ensure!(merged["wasApplied"] == true, "the merge was not applied: {merged}");
        let contents = self.contents(server, "main", 0..2 * changed).await?;
        let moved = contents.values().filter(|content| content["snapshotId"] == round).count();
        ensure!(moved == 2 * changed, "{moved} of {} tables have what both sides wrote", 2 * changed);
        Ok(took)
    }

    fn page_path(&self, token: &str) -> String {
        format!("/iceberg/v1/{}/namespaces/many/tables?pageSize={PAGE}&pageToken={token}", self.tenant)
    }

    fn branch_path(&self, name: &str) -> String {
        format!("/nessie/{}/api/v2/trees?name={name}&type=BRANCH", self.tenant)
    }

    async fn main(&self, server: &Server) -> Result<Value> {
        let path = format!("/nessie/{}/api/v2/trees/main", self.tenant);
        let answer = server.json(self.get(server, &path)).await?;
        Ok(answer["reference"].clone())
    }

    fn get(&self, server: &Server, path: &str) -> RequestBuilder {
        Client::new().get(server.url(path)).bearer_auth(&self.token)
    }

    async fn put(&self, server: &Server, branch: &str, tables: Range<usize>, snapshot: i64) -> Result<()> {
        let former = if snapshot == 0 {
            HashMap::new()
        } else {
            self.contents(server, branch, tables.clone()).await?
        };
        let operations: Vec<Value> =
            tables.map(|table| put(table, &self.location, snapshot, former.get(&name(table)))).collect();
        let body = json!({"commitMeta": {"message": "tables"}, "operations": operations});
        let path = format!("/nessie/{}/api/v2/trees/{branch}/history/commit", self.tenant);
        self.post(server, &path, body).await.map(drop)
    }

    /// The contents of tables by their names.
    async fn contents(
        &self,
        server: &Server,
        branch: &str,
        tables: Range<usize>,
    ) -> Result<HashMap<String, Value>> {
        let keys: Vec<Value> = tables.map(key).collect();
        let path = format!("/nessie/{}/api/v2/trees/{branch}/contents", self.tenant);
        let answer = self.post(server, &path, json!({"requestedKeys": keys})).await?;
        let contents = answer["contents"].as_array().context("contents are a list")?;
        let named = contents.iter().map(|found| {
            let name = found["key"]["elements"][1].as_str().context("a table has a name")?;
            Ok((name.to_owned(), found["content"].clone()))
        });
        named.collect()
    }

    async fn post(&self, server: &Server, path: &str, body: Value) -> Result<Value> {
        server.json(Client::new().post(server.url(path)).bearer_auth(&self.token).json(&body)).await
    }
}

fn name(table: usize) -> String {
    format!("t{table}")
}

fn key(table: usize) -> Value {
    json!({"elements": ["many", name(table)]})
}

fn put(table: usize, location: &str, snapshot: i64, former: Option<&Value>) -> Value {
    let mut content = json!({
        "type": "ICEBERG_TABLE", "metadataLocation": location, "snapshotId": snapshot, "schemaId": 0, "specId": 0,
        "sortOrderId": 0,
    });
    if let Some(former) = former {
        content["id"] = former["id"].clone();
    }
    json!({"type": "PUT", "key": key(table), "content": content})
}

/// Spread over all tables, and the same in each run.
fn any(client: usize, turn: usize, tables: usize) -> usize {
    (client.wrapping_mul(7919) + turn.wrapping_mul(104_729)) % tables
}

fn table_path(tenant: &str, table: usize) -> String {
    format!("/iceberg/v1/{tenant}/namespaces/many/tables/t{table}")
}
