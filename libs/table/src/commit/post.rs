//! Sending a commit, and finding out what became of it.

use std::time::Duration;

use firn_catalog_client::{ClientError, ClientErrorKind, TenantClient, iceberg::CommitTransactionRequest};
use uuid::Uuid;

use super::prepare::Prepared;
use crate::{Table, TableError, TableErrorKind};

/// Tries of one request while the catalog doesn't answer or can't tell; with the pauses about ten seconds.
const MAX_TRIES: u32 = 7;
const FIRST_PAUSE_MS: u64 = 100;

/// Commits all parts at once. Any error but `Unknown` means that nothing was committed, now or later.
pub(super) async fn post(
    client: &TenantClient,
    reference: &str,
    prepared: &[Prepared],
) -> Result<(), TableError> {
    // One table is a transaction, too: a commit to it alone would be answered with all of its metadata.
    let table_changes = prepared.iter().filter_map(|part| part.change.clone()).collect::<Vec<_>>();
    if table_changes.is_empty() {
        return Ok(());
    }
    let request = CommitTransactionRequest { table_changes };
    let key = Uuid::new_v4().to_string();
    let mut in_doubt = false;
    let mut tries = 0;
    let error = loop {
        tries += 1;
        let error = match client.commit_transaction(reference, &request, &key).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        in_doubt |= error.kind == ClientErrorKind::Unknown;
        let again = matches!(error.kind, ClientErrorKind::Unknown | ClientErrorKind::Unavailable);
        if !again || tries >= MAX_TRIES {
            break error;
        }
        let pause = FIRST_PAUSE_MS << (tries - 1);
        tokio::time::sleep(Duration::from_millis(pause + super::random_u64() % pause)).await;
    };
    if !in_doubt {
        return Err(error.into());
    }
    settle_doubt(client, reference, prepared, error).await
}

/// A request was lost. A conflict for the same idempotency key means that the first didn't land and can't land any more;
/// otherwise only finding the snapshot is proof.
async fn settle_doubt(
    client: &TenantClient,
    reference: &str,
    prepared: &[Prepared],
    error: ClientError,
) -> Result<(), TableError> {
    for part in prepared {
        let (Some(snapshot_id), Some(file_io)) = (part.snapshot_id, &part.file_io) else { continue };
        let found = Table::load(client, file_io, reference, &part.ident).await;
        if found.is_ok_and(|table| table.snapshot(snapshot_id).is_some()) {
            return Ok(());
        }
    }
    if matches!(error.kind, ClientErrorKind::Conflict | ClientErrorKind::Invalid) {
        return Err(error.into());
    }
    let tables = prepared.iter().map(|part| part.ident.to_string()).collect::<Vec<_>>().join(", ");
    Err(TableError::caused(
        TableErrorKind::Unknown,
        format!("whether the commit to {tables} on {reference} landed is not known; load the tables again"),
        error,
    ))
}
