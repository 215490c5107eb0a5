//! Where a table's rows come from: from version to version down to the bronze snapshots and the positions in the log.

use std::collections::{BTreeMap, HashMap};

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_table::{FileIo, Table};
use serde::Serialize;

use crate::{
    CompactorError, Receipt,
    promotion::{RECEIPT_PROPERTY, RUN_PROPERTY, load_optional, model_state},
};

/// Prefix of the properties with the log's positions, which each snapshot's summary repeats.
pub(crate) const POSITION: &str = "firn.position.";

/// One version of a table, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ancestry {
    /// Table.
    pub table: String,
    /// The version: a snapshot, or the hash of a set of rules.
    pub version: String,
    /// When it was made, milliseconds since the epoch, if its snapshot is in the table's log.
    pub made_at_ms: Option<i64>,
    /// Run that made it.
    pub run: Option<String>,
    /// By topic id and partition: the next offset, so that all records before it are in.
    pub positions: BTreeMap<String, String>,
    /// What it was made from.
    pub inputs: Vec<Ancestry>,
}

/// Commits that are searched for the receipts of earlier runs.
const SEARCHED_COMMITS: usize = 1_000;

/// Reads versions at one reference.
struct Tracer<'a> {
    client: &'a TenantClient,
    file_io: &'a FileIo,
    reference: &'a str,
    /// What runs said they made each version from.
    made_from: HashMap<(String, String), BTreeMap<String, String>>,
}

/// The ancestry of a table's rows at a reference; `None` if there is no such table.
pub async fn lineage(
    client: &TenantClient,
    file_io: &FileIo,
    reference: &str,
    table: &TableIdent,
) -> Result<Option<Ancestry>, CompactorError> {
    let Some(loaded) = load_optional(client, file_io, reference, table).await? else { return Ok(None) };
    let log = client.log(reference, SEARCHED_COMMITS, false).await?;
    let receipts = log.iter().filter_map(|entry| {
        let text = entry.commit_meta.all_properties.get(RECEIPT_PROPERTY)?.first()?;
        serde_json::from_str::<Receipt>(text).ok()
    });
    let mut made_from = HashMap::new();
    for model in receipts.flat_map(|receipt| receipt.models) {
        let Some(snapshot) = model.snapshot else { continue };
        let inputs = model.inputs.into_iter().map(|(name, (_, now))| (name, now)).collect();
        made_from.insert((model.model, snapshot.to_string()), inputs);
    }
    let version =
        loaded.current_snapshot().map_or_else(|| "none".to_owned(), |snapshot| snapshot.id.to_string());
    let tracer = Tracer { client, file_io, reference, made_from };
    tracer.ancestry(loaded, version).await.map(Some)
}

impl Tracer<'_> {
    async fn ancestry(&self, table: Table, version: String) -> Result<Ancestry, CompactorError> {
        let snapshot = table.snapshots().into_iter().find(|snapshot| snapshot.id.to_string() == version);
        let name = table.ident().to_string();
        let mut found = Ancestry::new(name.clone(), version);
        found.made_at_ms = snapshot.as_ref().map(|snapshot| snapshot.timestamp_ms);
        if let Some(snapshot) = &snapshot {
            found.run = snapshot.summary.get(RUN_PROPERTY).cloned();
            let positions = snapshot.summary.iter();
            let positions = positions
                .filter_map(|(key, value)| Some((key.strip_prefix(POSITION)?.to_owned(), value.clone())));
            found.positions = positions.collect();
        }
        // The table says what its present rows were made from; of earlier ones their run's receipt does.
        let is_current =
            table.current_snapshot().is_some_and(|current| current.id.to_string() == found.version);
        let inputs = match model_state(&table) {
            Some(state) if is_current => state.inputs,
            _ => self.made_from.get(&(name, found.version.clone())).cloned().unwrap_or_default(),
        };
        for (name, version) in inputs {
            let input = match name.split_once('.') {
                Some((namespace, name)) => {
                    let ident = TableIdent::new(namespace, name);
                    load_optional(self.client, self.file_io, self.reference, &ident).await?
                }
                None => None,
            };
            found.inputs.push(match input {
                Some(input) => Box::pin(self.ancestry(input, version)).await?,
                None => Ancestry::new(name, version),
            });
        }
        Ok(found)
    }
}

impl Ancestry {
    fn new(table: String, version: String) -> Self {
        Self { table, version, made_at_ms: None, run: None, positions: BTreeMap::new(), inputs: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        promotion::TenantPlace,
        testing::{Lake, inventory},
    };

    /// Bronze goes on, and is packed, after the run: the lineage still names the version that was read.
    #[tokio::test]
    async fn a_gold_version_leads_back_to_the_bronze_snapshot_that_was_read() {
        let lake = Lake::start().await;
        let compactor = lake.compactor("one");
        lake.report(&[inventory(0, "h1", "e1", json!({}))]).await;
        let visit = async || {
            let stop = CancellationToken::new();
            compactor.promotion.visit(&lake.client, &mut TenantPlace::default(), &stop).await;
        };
        visit().await;
        let read = lake.table("main", "bronze.inventory").await.unwrap().current_snapshot().unwrap();
        // The metrics wait for their interval, so they stay at the version before.
        lake.report(&[inventory(1, "h2", "e2", json!({}))]).await;
        visit().await;
        let newer = lake.table("main", "bronze.inventory").await.unwrap().current_snapshot().unwrap();
        lake.report(&[inventory(2, "h3", "e3", json!({}))]).await;

        let bronze_of = async |name: &str| {
            let ident = TableIdent::new("gold", name);
            let found = lineage(&lake.client, &lake.file_io, "main", &ident).await.unwrap().unwrap();
            assert!(found.run.is_some() && found.made_at_ms.is_some(), "{found:?}");
            let silver = found.inputs.iter().find(|input| input.table == "silver.inventory").unwrap().clone();
            assert_eq!(silver.inputs[0].table, "bronze.inventory", "{silver:?}");
            silver.inputs[0].version.clone()
        };
        assert_eq!(bronze_of("compliance").await, newer.id.to_string());
        assert_eq!(bronze_of("org_metrics").await, read.id.to_string());
        let unknown = TableIdent::new("gold", "nothing");
        assert!(lineage(&lake.client, &lake.file_io, "main", &unknown).await.unwrap().is_none());
    }
}
