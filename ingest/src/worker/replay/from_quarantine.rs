//! From quarantine into bronze: what an older build could not read and this one can.
//!
//! A record leaves quarantine in the commit that puts it into bronze, so it is always in exactly one of them.

use std::{collections::BTreeMap, time::Instant};

use arrow::{array::RecordBatch, compute::filter_record_batch};
use datafusion::prelude::SessionContext;
use firn_catalog_client::TenantClient;
use firn_inventory::{
    BronzeBuilder, Decoded, LogPosition, RejectionKind, decode,
    tables::{BRONZE_INVENTORY, BRONZE_QUARANTINE},
};
use firn_table::{
    DataFileEntry, DataFileWriter, Operation, Table, TableErrorKind, TableOperation, TableScan, Transaction,
    WriteOptions, ensure_table,
};

use super::{
    QuarantineCursor, ReplayError, ReplayFrom, ReplayStep, STEP_RECORDS, STEP_TIME,
    present::{present, unreadable},
    rows::QuarantinedRows,
};
use crate::worker::{
    Worker,
    reference::SNAPSHOT_PROPERTY,
    rows::TRANSITION_SOURCE,
    tables::{ident, inventory_table},
};

/// Against others who change the same tables.
const MAX_ATTEMPTS: usize = 5;

/// A file with records that are understood now.
struct Mended {
    location: String,
    /// What stays in quarantine.
    left: Vec<RecordBatch>,
    records: Vec<(Decoded, LogPosition)>,
}

/// Looks at some files of quarantine, and commits what is understood now.
pub(super) async fn step(
    worker: &Worker,
    tenant: &str,
    branch: &str,
    kinds: Vec<String>,
    cursor: Option<QuarantineCursor>,
) -> Result<ReplayStep, ReplayError> {
    let client = worker.catalog.tenant(tenant);
    let quarantine = match Table::load(&client, &worker.file_io, branch, &ident(BRONZE_QUARANTINE)).await {
        Ok(table) => table,
        Err(error) if error.kind == TableErrorKind::NotFound => return Ok(ReplayStep::default()),
        Err(error) => return Err(error.into()),
    };
    let (files, until) = files_after(&quarantine, cursor.as_ref()).await?;
    let mut step = ReplayStep::default();
    let mut mended = Vec::new();
    let mut last = None;
    let deadline = Instant::now() + STEP_TIME;
    let mut files = files.into_iter();
    let mut taken = 0;
    for file in files.by_ref() {
        last = Some((file.sequence_number, file.location.clone()));
        step.read += file.record_count;
        let found = mend(&quarantine, &file, &kinds).await?;
        taken += found.as_ref().map_or(0, |found| found.records.len());
        step.quarantined += file.record_count - found.as_ref().map_or(0, |found| found.records.len() as u64);
        mended.extend(found);
        if taken >= STEP_RECORDS || Instant::now() >= deadline {
            break;
        }
    }
    if !mended.is_empty() {
        (step.inventory, step.present) = commit(worker, &client, branch, &quarantine, mended).await?;
    }
    if files.next().is_some() {
        let cursor = last.map(|after| QuarantineCursor { after, until });
        step.next = Some(ReplayFrom::Quarantine { kinds, cursor });
    }
    Ok(step)
}

/// The files that are still to be looked at, oldest first, and where they end.
async fn files_after(
    quarantine: &Table,
    cursor: Option<&QuarantineCursor>,
) -> Result<(Vec<DataFileEntry>, i64), ReplayError> {
    let mut files = quarantine.data_files(None).await?;
    files.sort_by(|a, b| (a.sequence_number, &a.location).cmp(&(b.sequence_number, &b.location)));
    let newest = files.last().map_or(0, |file| file.sequence_number);
    let until = cursor.map_or(newest, |cursor| cursor.until);
    files.retain(|file| {
        let (sequence_number, location) = (file.sequence_number, &file.location);
        let seen =
            |cursor: &QuarantineCursor| (sequence_number, location) <= (cursor.after.0, &cursor.after.1);
        sequence_number <= until && !cursor.is_some_and(seen)
    });
    Ok((files, until))
}

/// The records of a file that are understood now; none if there are none.
async fn mend(
    quarantine: &Table,
    file: &DataFileEntry,
    kinds: &[String],
) -> Result<Option<Mended>, ReplayError> {
    let scan = TableScan::of_files(quarantine, std::slice::from_ref(&file.location)).await?;
    let context = SessionContext::new();
    let frame = context.read_table(std::sync::Arc::new(scan)).map_err(unreadable)?;
    let batches = frame.collect().await.map_err(unreadable)?;
    let mut mended = Mended { location: file.location.clone(), left: Vec::new(), records: Vec::new() };
    for batch in batches {
        let rows = QuarantinedRows::of(&batch).map_err(|error| ReplayError::Broken(error.to_string()))?;
        let judged: Vec<_> = (0..batch.num_rows()).map(|row| judge(&rows, row, kinds)).collect();
        let stays = judged.iter().map(|judged| Some(judged.is_none())).collect();
        let left =
            filter_record_batch(&batch, &stays).map_err(|error| ReplayError::Broken(error.to_string()))?;
        mended.left.push(left);
        mended.records.extend(judged.into_iter().flatten());
    }
    Ok((!mended.records.is_empty()).then_some(mended))
}

/// A record that was misaddressed stays so whatever it holds, and a transition is no inventory though it names a host. Of the
/// others it is certain that key and content name the same host, since the gateway made the key from the content.
fn judge(rows: &QuarantinedRows, row: usize, kinds: &[String]) -> Option<(Decoded, LogPosition)> {
    let kind = rows.kind(row);
    let wanted = kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind);
    if !wanted || kind == RejectionKind::Misaddressed.as_str() || rows.source(row) == TRANSITION_SOURCE {
        return None;
    }
    let decoded = decode(rows.raw(row)?).ok()?;
    Some((decoded, rows.position(row)))
}

/// Moves the records; answers how many went into bronze, and how many were there already.
async fn commit(
    worker: &Worker,
    client: &TenantClient,
    branch: &str,
    quarantine: &Table,
    mended: Vec<Mended>,
) -> Result<(u64, u64), ReplayError> {
    let inventory = ensure_table(client, &worker.file_io, branch, &inventory_table()).await?;
    let place = |position: &LogPosition| (position.topic_id.clone(), position.partition, position.offset);
    let places: Vec<_> =
        mended.iter().flat_map(|file| &file.records).map(|(_, position)| place(position)).collect();
    let there = present(&inventory, &places).await?;
    let mut rows = BronzeBuilder::default();
    for (decoded, position) in mended.iter().flat_map(|file| &file.records) {
        if !there.contains(&place(position)) {
            rows.push(decoded, position);
        }
    }
    let moved = rows.len() as u64;
    let organizations = worker.reference.organizations(client, branch).await;
    let rows = organizations.fill(&rows.finish()).map_err(|error| ReplayError::Broken(error.to_string()))?;
    let write = &worker.config.write;
    let added = write_all(&inventory, write, &[rows]).await?;
    let left: Vec<RecordBatch> = mended.iter().flat_map(|file| file.left.clone()).collect();
    let kept = write_all(quarantine, write, &left).await?;
    let remove = mended.into_iter().map(|file| file.location).collect();
    // A replay at the same time has removed the same files: one of the two fails and finds nothing to do.
    let mut appended = operation(BRONZE_INVENTORY, Operation::Append { files: added });
    let filled_from = organizations.snapshot_id().map(|id| (SNAPSHOT_PROPERTY.to_owned(), id.to_string()));
    appended.summary.extend(filled_from);
    let operations = vec![
        appended,
        operation(
            BRONZE_QUARANTINE,
            Operation::Overwrite { remove: Some(remove), add: kept, base_snapshot_id: None },
        ),
    ];
    let transaction = Transaction { reference: branch.to_owned(), operations, max_attempts: MAX_ATTEMPTS };
    transaction.commit(client, &worker.file_io).await?;
    Ok((moved, there.len() as u64))
}

async fn write_all(
    table: &Table,
    options: &WriteOptions,
    batches: &[RecordBatch],
) -> Result<Vec<firn_table::WrittenFile>, ReplayError> {
    let mut writer = DataFileWriter::new(table, options.clone())?;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        if let Err(error) = writer.write(batch).await {
            writer.abort().await;
            return Err(error.into());
        }
    }
    Ok(writer.close().await?)
}

fn operation(table: (&str, &str), operation: Operation) -> TableOperation {
    TableOperation {
        table: ident(table),
        operation,
        summary: BTreeMap::from([("firn.replay".to_owned(), "quarantine".to_owned())]),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    }
}
