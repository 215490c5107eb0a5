//! Finding out whether a transaction landed whose answer was lost.

use std::{sync::Arc, time::Duration};

use super::{super::repository::Shared, BranchName};
use crate::{
    CatalogError,
    store::{Hash, ReferenceMove, Store, StoreError, Write},
};

/// About half a minute in all: a database that restarts is back by then.
const MAX_ATTEMPTS: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether the transaction that moves the branch to `to` has landed, or an error if the database doesn't say in time. One that has
/// not may still do so if the database hadn't begun with it: see [`super::lost`].
pub(super) async fn settle(
    shared: &Arc<Shared>,
    branch: &BranchName,
    from: Hash,
    to: Hash,
) -> Result<bool, CatalogError> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..MAX_ATTEMPTS {
        match landed(shared.store.as_ref(), branch, from, to).await {
            Ok(landed) => return Ok(landed),
            Err(error) => {
                tracing::warn!(repository = %branch.0, branch = branch.1, %error, "the database doesn't answer yet");
            }
        }
        shared.clock.sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(CatalogError::Unknown(format!(
        "the database's answer to a commit on '{}' was lost and it can't be reached: look for the commit when it is back",
        branch.1
    )))
}

async fn landed(store: &dyn Store, branch: &BranchName, from: Hash, to: Hash) -> Result<bool, StoreError> {
    let (repository, name) = branch;
    // Waits for whoever holds the reference. Once this has an answer, whichever it is, the lost transaction has ended if it had begun.
    let stay = ReferenceMove { name: name.clone(), tag: false, from: Some(from), to: Some(from) };
    let fence = Write { repository: repository.to_string(), references: vec![stay], ..Write::default() };
    store.write(&fence).await?;
    Ok(!store.objects(repository, &[to]).await?.is_empty())
}
