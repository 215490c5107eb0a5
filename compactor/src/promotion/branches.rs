//! The branches of runs: `promote/<run>` while at work, `promote/<run>-failed` when kept for inspection.

use firn_catalog_client::{TenantClient, iceberg::TableIdent};

use crate::CompactorError;

const PREFIX: &str = "promote/";
const FAILED: &str = "-failed";

/// The branch of a run at work.
pub(super) fn working(run: &str) -> String {
    format!("{PREFIX}{run}")
}

/// The branch that shows what a failed run wrote.
pub(super) fn failed(run: &str) -> String {
    format!("{PREFIX}{run}{FAILED}")
}

/// Whether a branch shows what a failed run wrote.
pub(super) fn is_of_failed(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(FAILED)
}

/// Branches that go: those of runs that were killed, and failed ones but the newest `keep_failed`. Run ids sort by time.
fn superfluous(names: &[String], keep_failed: usize) -> Vec<String> {
    let ours = names.iter().filter(|name| name.starts_with(PREFIX));
    let (mut kept, killed): (Vec<_>, Vec<_>) = ours.cloned().partition(|name| is_of_failed(name));
    kept.sort();
    kept.truncate(kept.len().saturating_sub(keep_failed));
    killed.into_iter().chain(kept).collect()
}

/// Deletes what earlier runs left behind. To be called with the lease held and no run at work.
pub(super) async fn clean_up(client: &TenantClient, keep_failed: usize) -> Result<(), CompactorError> {
    let names: Vec<_> =
        client.references().await?.iter().map(|reference| reference.name().to_owned()).collect();
    for name in superfluous(&names, keep_failed) {
        delete(client, &name).await?;
        tracing::info!(tenant = client.name(), branch = %name, "deleted a branch that an earlier run left behind");
    }
    Ok(())
}

/// Deletes a branch; one that is gone is no error.
pub(super) async fn delete(client: &TenantClient, name: &str) -> Result<(), CompactorError> {
    match client.delete_reference(name).await.map_err(CompactorError::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Drops a table of a branch; one that is not there is no error.
pub(super) async fn drop_table(
    client: &TenantClient,
    branch: &str,
    table: &TableIdent,
) -> Result<(), CompactorError> {
    match client.drop_table(branch, table).await.map_err(CompactorError::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Keeps a failed run's branch under the name that says so. A crash between the two steps leaves a branch too many, which
/// the next run deletes.
pub(super) async fn keep_failed(client: &TenantClient, run: &str) -> Result<(), CompactorError> {
    client.create_branch(&failed(run), &working(run)).await?;
    delete(client, &working(run)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killed_runs_and_old_failures_go_and_other_branches_stay() {
        let names = ["main", "dev", "promote/3", "promote/1-failed", "promote/2-failed", "promote/4-failed"];
        let names: Vec<_> = names.map(str::to_owned).to_vec();
        assert_eq!(superfluous(&names, 2), ["promote/3", "promote/1-failed"]);
        assert_eq!(superfluous(&names, 9), ["promote/3"]);
    }
}
