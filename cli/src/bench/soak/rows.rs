//! Reading the tables that records end in.

use std::sync::Arc;

use anyhow::Result;
use arrow::{array::AsArray as _, compute::cast, datatypes::DataType};
use datafusion::{execution::SendableRecordBatchStream, prelude::SessionContext};
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_inventory::tables::{BRONZE_INVENTORY, BRONZE_QUARANTINE};
use firn_table::{FileIo, StorageConfig, Table, TableErrorKind, TableScan};
use futures::StreamExt as _;

use super::account::{Account, Place};
use crate::simulate::{number_in, number_of};

/// The table of records that were taken, once it is there.
pub(super) async fn bronze(client: &TenantClient) -> Result<Option<Table>> {
    load(client, BRONZE_INVENTORY).await
}

/// Rows of both tables, as far as their metadata tells.
pub(super) async fn count(client: &TenantClient) -> Result<u64> {
    let mut rows = 0;
    for name in [BRONZE_INVENTORY, BRONZE_QUARANTINE] {
        if let Some(table) = load(client, name).await? {
            rows += TableScan::new(&table, None).await?.known_rows();
        }
    }
    Ok(rows)
}

/// Reads both tables to their end.
pub(super) async fn read_all(client: &TenantClient, account: &mut Account) -> Result<()> {
    if let Some(table) = bronze(client).await? {
        let found = |id: Option<&str>| account.found(Place::Bronze, id.and_then(number_of));
        event_ids(TableScan::new(&table, None).await?, found).await?;
    }
    if let Some(table) = load(client, BRONZE_QUARANTINE).await? {
        let found = |raw: Option<&[u8]>| account.found(Place::Quarantine, raw.and_then(number_in));
        raw(TableScan::new(&table, None).await?, found).await?;
    }
    Ok(())
}

/// The `event_id` of each row.
pub(super) async fn event_ids(scan: TableScan, mut found: impl FnMut(Option<&str>)) -> Result<()> {
    let mut batches = select(scan, "event_id").await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let column = cast(batch.column(0), &DataType::Utf8)?;
        column.as_string::<i32>().iter().for_each(&mut found);
    }
    Ok(())
}

async fn raw(scan: TableScan, mut found: impl FnMut(Option<&[u8]>)) -> Result<()> {
    let mut batches = select(scan, "raw").await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let column = cast(batch.column(0), &DataType::Binary)?;
        column.as_binary::<i32>().iter().for_each(&mut found);
    }
    Ok(())
}

async fn select(scan: TableScan, column: &str) -> Result<SendableRecordBatchStream> {
    let session = SessionContext::new();
    session.register_table("scanned", Arc::new(scan))?;
    Ok(session.sql(&format!("SELECT {column} FROM scanned")).await?.execute_stream().await?)
}

async fn load(client: &TenantClient, (namespace, name): (&str, &str)) -> Result<Option<Table>> {
    let file_io = FileIo::new(StorageConfig::default());
    match Table::load(client, &file_io, "main", &TableIdent::new(namespace, name)).await {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind == TableErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
