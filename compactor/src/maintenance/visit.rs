//! One visit of a tenant: first what is short for every table, then rewrites, the best of all tables first, until their time is over.

use std::{sync::Arc, time::Instant};

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_table::{Operation, Table};

use super::{
    Done, Duties, LAYERS, MAINTENANCE, Maintenance, MaintenancePlace, Rewrite, Rewritten, Settings,
    TableRetention, bins, by_worth, expiry, health::health,
};
use crate::{CompactorError, compactor::now_ms, promotion::MAIN};

impl Maintenance {
    pub(super) async fn maintain_tables(
        &self,
        client: &TenantClient,
        place: &mut MaintenancePlace,
    ) -> Result<Done, CompactorError> {
        let mut done = Done::default();
        let mut failed = None;
        let duties = Duties {
            is_held: client.holds().await?.iter().any(|hold| hold.active),
            tenant: client.tenant().await?,
        };
        if !duties.is_held {
            done.expired_references += self.prune_references(client).await?;
            done.collections += u64::from(self.remove_orphans(client, &duties.tenant, place).await?);
        }
        let mut rewrites = Vec::new();
        for namespace in LAYERS {
            let tables =
                match client.list_tables(MAIN, &[namespace.to_owned()]).await.map_err(CompactorError::from) {
                    Err(error) if error.is_not_found() => continue,
                    listed => listed?,
                };
            for ident in tables {
                // One table in trouble does not keep the others from being maintained.
                match self.maintain_table(client, &ident, &duties, place, &mut done).await {
                    Ok(more) => rewrites.extend(more),
                    Err(error) => {
                        tracing::warn!(tenant = client.name(), table = %ident, %error, "table not maintained");
                        failed = Some(error);
                    }
                }
            }
        }
        if !rewrites.is_empty() {
            done.waits_for = self.pressure(client, place).await?;
            if done.waits_for.is_none() {
                failed = self.carry_out(rewrites, place, &mut done).await.or(failed);
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Does what is short, and answers what there is to rewrite.
    async fn maintain_table(
        &self,
        client: &TenantClient,
        ident: &TableIdent,
        duties: &Duties,
        place: &mut MaintenancePlace,
        done: &mut Done,
    ) -> Result<Vec<Rewrite>, CompactorError> {
        let mut table = Table::load(client, &self.file_io, MAIN, ident).await?;
        if table.current_snapshot().is_none() {
            return Ok(Vec::new());
        }
        let settings = Arc::new(Settings::of_table(&self.config.maintenance, &table));
        if !duties.is_held && self.let_go(client, &table, &settings, duties, place, done).await? {
            table = Table::load(client, &self.file_io, MAIN, ident).await?;
        }
        let current = table.current_snapshot().map(|snapshot| snapshot.id);
        if current.is_none() || place.packed.get(ident) == current.as_ref() {
            return Ok(Vec::new());
        }
        let files = table.data_files(None).await?;
        let bins = bins(&files, &settings);
        let score = health(&files, &table.snapshots(), 0, &settings).score;
        let labels = [("tenant", client.name().to_owned()), ("table", ident.to_string())];
        metrics::gauge!("firn_table_health", &labels).set(score as f64);
        if let (true, Some(current)) = (bins.is_empty(), current) {
            place.packed.insert(ident.clone(), current);
        }
        let rewrite = |files| Rewrite { table: table.clone(), settings: Arc::clone(&settings), files };
        Ok(bins.into_iter().map(rewrite).collect())
    }

    /// Rows beyond their retention and snapshots beyond their age go; `true` if any did.
    async fn let_go(
        &self,
        client: &TenantClient,
        table: &Table,
        settings: &Settings,
        duties: &Duties,
        place: &mut MaintenancePlace,
        done: &mut Done,
    ) -> Result<bool, CompactorError> {
        let retention = TableRetention::of(&duties.tenant.retention, table);
        let retained = self.retain_if_due(table, &retention, place).await?;
        done.outdated_files += retained.removed_files as u64;
        done.outdated_rows += retained.deleted_rows;
        done.emptied_rows += retained.emptied_rows;
        let unread_since = self.unread_since(client, table).await?;
        let expired = expiry(&table.snapshots(), settings, unread_since, now_ms());
        if let Some(older_than_ms) = expired {
            let keep_last = settings.min_snapshots;
            let operation = Operation::ExpireSnapshots { older_than_ms, keep_last };
            self.commit(table, operation, MAINTENANCE).await?;
            done.expiries += 1;
        }
        Ok(expired.is_some()
            || retained.removed_files > 0
            || retained.deleted_rows + retained.emptied_rows > 0)
    }

    /// Rewrites for a while; answers the first error. What is left is planned anew by the next visit.
    async fn carry_out(
        &self,
        mut rewrites: Vec<Rewrite>,
        place: &mut MaintenancePlace,
        done: &mut Done,
    ) -> Option<CompactorError> {
        place.resting.leave_out(&mut rewrites, Instant::now());
        by_worth(&mut rewrites);
        let until = Instant::now() + self.config.maintenance.time_slice;
        let mut first_error = None;
        let each = |rewrite: &Rewrite, rewritten| match rewritten {
            Rewritten::Done(packed) => {
                done.rewritten_files += rewrite.files.len() as u64;
                done.written_files += packed.written as u64;
                done.copied_files += packed.copied as u64;
            }
            Rewritten::Conflict => {
                let (table, files) = (rewrite.table.ident(), rewrite.files.len());
                tracing::info!(%table, files, "files were changed while they were rewritten, they stay as they are");
                done.conflicts += 1;
            }
            Rewritten::Failed(error) => {
                tracing::warn!(table = %rewrite.table.ident(), %error, "files could not be rewritten");
                place.resting.failed(rewrite, Instant::now());
                first_error.get_or_insert(error);
            }
            Rewritten::NotBegun => done.postponed += 1,
        };
        self.rewrite_all(rewrites, Some(until), each).await;
        first_error
    }
}
