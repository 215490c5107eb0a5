//! Content-aware merge: a table that both sides changed since the merge base, where one side only added or rewrote files
//! or changed properties, gets that side's changes replayed onto the other side's state.
//!
//! The version store merges key by key and knows no tables. Here its open conflicts are looked into: [`sides`] judges what
//! a side did by the documents, [`files`] by the manifests, and writes the replay. The merge is then tried again with what
//! came of it; a table that moved meanwhile is looked into anew.

mod files;
mod sides;
mod snapshot;

pub(crate) use snapshot::{REPLAY_BASE, REPLAYS};

use std::collections::BTreeSet;

use bytes::Bytes;
use firn_catalog_client::nessie::TableMerge;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::{
    CatalogError,
    iceberg::Kind,
    management::AppState,
    metadata::{ApplyContext, Document, MetadataError, apply_updates},
    version::{Content, Contested, MergeRequest, MergeSource, Merged, Reconciled, Repository},
};

use sides::{Side, Sides};

/// Tables that are looked into at once.
const PARALLEL: usize = 8;
/// Rounds against a target that moves, beside one for each transplanted commit.
const ROUNDS: usize = 16;

/// Why a table is not reconciled.
enum Stop {
    /// The sides' changes conflict, or can't be read.
    Conflict(String),
    /// Storage is away; nothing is known.
    Failed(CatalogError),
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unavailable(_) | CatalogError::Internal(_) => Self::Failed(error),
            other => Self::Conflict(other.to_string()),
        }
    }
}

impl From<MetadataError> for Stop {
    fn from(error: MetadataError) -> Self {
        Self::Conflict(error.to_string())
    }
}

/// Merges or transplants; tables that both sides changed are reconciled as far as `policy` and their changes allow.
pub(crate) async fn merge(
    state: &AppState,
    tenant: &str,
    repository: &Repository,
    request: MergeRequest,
    policy: TableMerge,
) -> Result<Merged, CatalogError> {
    let place = Place { state, tenant, policy, dry_run: request.dry_run };
    let commits = match &request.source {
        MergeSource::Merge(_) => 1,
        MergeSource::Transplant(commits) => commits.len(),
    };
    let mut request = request;
    let mut turn = None;
    let mut written: Vec<Written> = Vec::new();
    for _ in 0..ROUNDS + commits {
        let merged = match repository.merge(request.clone()).await {
            Ok(merged) => merged,
            Err(error) => return Err(place.failed(written, error).await),
        };
        let open: Vec<Contested> =
            merged.details.iter().filter_map(|detail| detail.contested.clone()).collect();
        if open.is_empty() || policy == TableMerge::None {
            place.clean(repository, &merged, commits, written).await?;
            return Ok(merged);
        }
        if turn.is_none() && !request.dry_run {
            // Commits of this process to these tables wait, so that the next round finds them as they are now.
            let keys: BTreeSet<_> = open.iter().map(|contested| contested.key.clone()).collect();
            turn = Some(state.turns.take(tenant, &request.branch, keys).await?);
        }
        match place.reconcile_all(open).await {
            Ok(found) => {
                for (reconciled, files) in found {
                    request.reconciled.push(reconciled);
                    written.extend(files);
                }
            }
            Err(error) => return Err(place.failed(written, error).await),
        }
    }
    let text = format!("branch '{}' is too busy to merge into: nothing was done, try again", request.branch);
    Err(place.failed(written, CatalogError::Unavailable(text)).await)
}

/// Where a merge happens.
#[derive(Clone, Copy)]
struct Place<'a> {
    state: &'a AppState,
    tenant: &'a str,
    policy: TableMerge,
    dry_run: bool,
}

/// Files written for one reconciled table.
struct Written {
    metadata_location: String,
    files: Vec<String>,
}

impl Place<'_> {
    async fn reconcile_all(
        &self,
        open: Vec<Contested>,
    ) -> Result<Vec<(Reconciled, Option<Written>)>, CatalogError> {
        // Collected, since a lazy iterator of borrowing closures makes the future's `Send` unprovable.
        let all: Vec<_> = open.into_iter().map(|contested| self.reconcile(contested)).collect();
        futures::stream::iter(all).buffered(PARALLEL).try_collect().await
    }

    async fn reconcile(&self, contested: Contested) -> Result<(Reconciled, Option<Written>), CatalogError> {
        match self.plan(&contested).await {
            Ok(plan) => {
                let (content, written) = self.write(&contested, plan).await?;
                Ok((Reconciled { contested, outcome: Ok(content) }, written))
            }
            Err(Stop::Conflict(reason)) => Ok((Reconciled { contested, outcome: Err(reason) }, None)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// What the table becomes: one side's changes on the other side's state.
    async fn plan(&self, contested: &Contested) -> Result<Plan, Stop> {
        let base = self.load(&contested.base).await?;
        let (source, target) = (self.load(&contested.source).await?, self.load(&contested.target).await?);
        if self.policy == TableMerge::Rewrites {
            sides::only_rewrites(&base.document, &target.document).map_err(Stop::Conflict)?;
        }
        let onto_target = Sides {
            base: &base.document,
            replayed: Side { name: "source", document: &source.document },
            onto: Side { name: "target", document: &target.document },
        };
        let onto_source =
            Sides { base: &base.document, replayed: onto_target.onto, onto: onto_target.replayed };
        // A target without new rows is the cheaper one to replay, and keeps the source's snapshots as they are.
        let target_is_light = base.document.current_snapshot_id() == target.document.current_snapshot_id();
        let mut ways = [(onto_target, &target), (onto_source, &source)];
        if target_is_light {
            ways.reverse();
        }
        let mut reasons: Vec<String> = Vec::new();
        for (sides, onto) in ways {
            match self.replay(&sides, onto).await {
                Ok(plan) => return Ok(plan),
                Err(Stop::Conflict(reason)) if reasons.contains(&reason) => {}
                Err(Stop::Conflict(reason)) => reasons.push(reason),
                Err(failed) => return Err(failed),
            }
        }
        Err(Stop::Conflict(reasons.join("; ")))
    }

    async fn replay(&self, sides: &Sides<'_>, onto: &Loaded) -> Result<Plan, Stop> {
        let mut updates = sides.metadata_updates().map_err(Stop::Conflict)?;
        let replayed = files::replay(self.state, self.tenant, sides).await?;
        let mut files = Vec::new();
        if let Some(replayed) = replayed {
            updates.extend(replayed.updates);
            files = replayed.files;
        }
        let context = ApplyContext {
            now_ms: chrono::Utc::now().timestamp_millis(),
            previous_location: Some(&onto.location),
            default_location: "",
            fresh_uuid: "",
        };
        let document = apply_updates(Some(&onto.document), &updates, &context)?;
        Ok(Plan {
            document: document.unwrap_or_else(|| onto.document.clone()),
            previous: onto.location.clone(),
            files,
        })
    }

    async fn load(&self, content: &Content) -> Result<Loaded, Stop> {
        let location = content.0.get("metadataLocation").and_then(Value::as_str);
        let location = location
            .ok_or_else(|| Stop::Conflict("its content has no metadata location".to_owned()))?
            .to_owned();
        let bytes = self.state.storage.read_metadata(self.tenant, &location).await?;
        Ok(Loaded { document: Document::parse_table(&bytes)?, location })
    }

    /// Writes manifests first, then the metadata that names them. A dry run only says where they would be.
    async fn write(
        &self,
        contested: &Contested,
        plan: Plan,
    ) -> Result<(Content, Option<Written>), CatalogError> {
        let content = |location: &str| Kind::Table.content(Some(&contested.target), location, &plan.document);
        if self.dry_run {
            return Ok((content("dry run"), None));
        }
        let storage = &self.state.storage;
        let mut written = Written { metadata_location: String::new(), files: Vec::new() };
        for (location, bytes) in &plan.files {
            written.files.push(location.clone());
            if let Err(error) = storage.write_file(self.tenant, location, bytes.clone()).await {
                return Err(self.failed(vec![written], error).await);
            }
        }
        let table = plan.document.location().unwrap_or_default();
        let (codec, bytes) = (plan.document.metadata_codec(), plan.document.to_bytes());
        match storage.write_metadata(self.tenant, table, Some(&plan.previous), codec, bytes).await {
            Ok(location) => {
                let content = content(&location);
                written.metadata_location = location;
                Ok((content, Some(written)))
            }
            Err(error) => Err(self.failed(vec![written], error).await),
        }
    }

    /// Deletes what was written for a merge that certainly did not land; hands the error on.
    async fn failed(&self, written: Vec<Written>, error: CatalogError) -> CatalogError {
        if !matches!(error, CatalogError::Unknown(_) | CatalogError::Internal(_)) {
            for written in written {
                self.delete(written).await;
            }
        }
        error
    }

    /// Deletes what rounds wrote whose result did not become part of the merge.
    async fn clean(
        &self,
        repository: &Repository,
        merged: &Merged,
        commits: usize,
        written: Vec<Written>,
    ) -> Result<(), CatalogError> {
        if written.is_empty() {
            return Ok(());
        }
        let mut used: BTreeSet<String> = BTreeSet::new();
        if merged.applied {
            let (made, _) = repository.log(merged.hash, commits).await?;
            let contents =
                made.iter().flat_map(|commit| &commit.operations).filter_map(|(_, put)| put.as_ref());
            let location = |content: &Content| Some(content.0.get("metadataLocation")?.as_str()?.to_owned());
            used.extend(contents.filter_map(location));
        }
        for written in written {
            if !used.contains(&written.metadata_location) {
                self.delete(written).await;
            }
        }
        Ok(())
    }

    async fn delete(&self, written: Written) {
        let metadata = Some(written.metadata_location).filter(|location| !location.is_empty());
        for location in metadata.into_iter().chain(written.files) {
            self.state.storage.delete_metadata(self.tenant, &location).await;
        }
    }
}

/// A table's metadata, and the file it came from.
struct Loaded {
    document: Document,
    location: String,
}

/// What a reconciled table will be.
struct Plan {
    document: Document,
    /// Metadata file that the new one follows.
    previous: String,
    /// Manifests and manifest list.
    files: Vec<(String, Bytes)>,
}
