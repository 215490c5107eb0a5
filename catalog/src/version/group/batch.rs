//! One batch: plan in memory, write, answer.

use std::{collections::HashSet, sync::Arc};

use super::{
    super::{
        IdempotencyRecord, NamedRef, apply, draft::Draft, events::commit_event, merge, repository,
        repository::Shared, state::State, workspace::Workspace,
    },
    Answer, BranchName, Outcome, Queued, Work, settle,
};
use crate::{
    CatalogError,
    store::{Hash, IdempotencyRow, ReferenceMove, Refusal, StoreError, Write, Written},
};

/// A swap is lost only if another replica won it, so some replica made progress each time.
const MAX_ATTEMPTS: usize = 64;

/// Answers every commit of a batch.
pub(super) async fn run(shared: &Arc<Shared>, branch: &BranchName, batch: Vec<Queued>) {
    let mut batch = batch;
    // The first try is made on the head that this process knows. If another replica has moved it, the swap is lost.
    let mut known = shared.heads.recent(&branch.0, &branch.1);
    for _ in 0..MAX_ATTEMPTS {
        let plan = match plan_on(shared, branch, known.take(), &batch).await {
            Ok(plan) => plan,
            Err(error) => return answer_all(batch, &error),
        };
        match write(shared, branch, &plan).await {
            Ok(Written::Done) => return answer_each(shared, branch, batch, plan.outcomes).await,
            Ok(Written::Refused(Refusal::Reference { .. })) => {}
            Ok(Written::Refused(Refusal::Idempotency { key })) => {
                batch = answer_replayed(shared, branch, batch, &key).await;
            }
            Ok(Written::Refused(refusal)) => {
                let error = CatalogError::Internal(format!("the database refused a commit: {refusal:?}"));
                return answer_all(batch, &error);
            }
            Err(error) => return answer_all(batch, &error),
        }
        if batch.is_empty() {
            return;
        }
    }
    let text = format!(
        "branch '{}' is too busy: other replicas won {MAX_ATTEMPTS} times; nothing was done",
        branch.1
    );
    answer_all(batch, &CatalogError::Unavailable(text));
}

/// What a batch would do to a branch.
struct Plan {
    workspace: Workspace,
    from: Hash,
    to: Hash,
    /// At `to`.
    state: State,
    /// One per queued work, in order.
    outcomes: Vec<Answer>,
    write: Write,
}

/// Plans on the head that is known, or else on the one that the database says. A refusal needs the latter: what is wrong on
/// an old head may be right on the present one.
async fn plan_on(
    shared: &Arc<Shared>,
    branch: &BranchName,
    known: Option<NamedRef>,
    batch: &[Queued],
) -> Result<Plan, CatalogError> {
    let (repository, name) = branch;
    if let Some(known) = known
        && let Ok(plan) = plan(shared, branch, known, batch).await
        && plan.from != plan.to
        && plan.outcomes.iter().all(Result::is_ok)
    {
        return Ok(plan);
    }
    plan(shared, branch, shared.heads.read(repository, name).await?, batch).await
}

async fn plan(
    shared: &Arc<Shared>,
    branch: &BranchName,
    reference: NamedRef,
    batch: &[Queued],
) -> Result<Plan, CatalogError> {
    let (repository, name) = branch;
    if reference.tag {
        return Err(CatalogError::Invalid(format!("'{name}' is a tag: only branches take commits")));
    }
    let mut workspace = Workspace::new(shared.archive.clone(), Arc::clone(repository));
    let from = reference.hash;
    let mut draft = Draft::new(from, State::clone(&*workspace.state(from).await?));
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut keys = HashSet::new();
    for queued in batch {
        let key = queued.work.idempotency().map(|record| record.key.as_str());
        if key.is_some_and(|key| !keys.insert(key)) {
            let text =
                "another request with the same idempotency key is running: try again when it has ended";
            outcomes.push(Err(CatalogError::Unavailable(text.to_owned())));
            continue;
        }
        outcomes.push(apply_work(&mut workspace, &mut draft, &queued.work).await);
    }
    let unsealed = draft.hash();
    let (to, state, root) = draft.finish(&mut workspace).await?;
    for outcome in outcomes.iter_mut().flatten() {
        if outcome.hash() == unsealed {
            outcome.set_hash(to);
        }
    }
    let mut write = Write { repository: repository.to_string(), ..Write::default() };
    let mut head = from;
    for (queued, outcome) in batch.iter().zip(&outcomes) {
        if let Ok(outcome) = outcome {
            record(&workspace, name, head, queued, outcome, &mut write).await?;
            head = outcome.hash();
        }
    }
    if to != from {
        let moved = ReferenceMove { name: name.clone(), tag: false, from: Some(from), to: Some(to) };
        write.references.push(moved);
        write.objects = workspace.objects(root);
    }
    Ok(Plan { workspace, from, to, state, outcomes, write })
}

async fn apply_work(workspace: &mut Workspace, draft: &mut Draft, work: &Work) -> Answer {
    match work {
        Work::Commit(request) => Ok(Outcome::Committed(apply::apply(workspace, draft, request).await?)),
        Work::Merge(request) => {
            let head = draft.head(workspace).await?;
            let (head, merged) = merge::merge(workspace, head, request).await?;
            if merged.applied {
                draft.replace(head);
            }
            Ok(Outcome::Merged(merged))
        }
    }
}

/// Adds the events and the idempotency record of one work to the transaction. `before` is where the branch was.
async fn record(
    workspace: &Workspace,
    branch: &str,
    before: Hash,
    queued: &Queued,
    outcome: &Outcome,
    write: &mut Write,
) -> Result<(), CatalogError> {
    let work = &queued.work;
    let kind = match work {
        Work::Commit(_) => "commit",
        Work::Merge(request) if matches!(request.source, merge::MergeSource::Merge(_)) => "merge",
        Work::Merge(_) => "transplant",
    };
    let mut made = Vec::new();
    let mut hash = outcome.hash();
    while hash != before {
        let commit = workspace.commit(hash).await?;
        made.push(commit_event(kind, branch, &commit.commit, &queued.actor));
        hash = commit.parent();
    }
    write.events.extend(made.into_iter().rev());
    let kept = match outcome {
        Outcome::Committed(_) => true,
        Outcome::Merged(merged) => merged.applied,
    };
    if let Some(record) = work.idempotency().filter(|_| kept) {
        write.idempotency.push(row_of(record, outcome.hash()));
    }
    Ok(())
}

fn row_of(record: &IdempotencyRecord, commit: Hash) -> IdempotencyRow {
    IdempotencyRow {
        key: record.key.clone(),
        principal: record.principal.clone(),
        operation: record.operation.clone(),
        request_hash: record.request_hash,
        commit_hash: Some(commit),
        error: None,
    }
}

/// Writes a plan; an answer that was lost is found out.
async fn write(shared: &Arc<Shared>, branch: &BranchName, plan: &Plan) -> Result<Written, CatalogError> {
    if plan.write.references.is_empty() && plan.write.idempotency.is_empty() {
        return Ok(Written::Done);
    }
    let written = match shared.store.write(&plan.write).await {
        Err(StoreError::Unknown(error)) => {
            tracing::warn!(repository = %branch.0, branch = branch.1, %error, "looking whether a commit landed");
            settle::settle(shared, branch, plan.from, plan.to).await?
        }
        other => other?,
    };
    if written == Written::Done {
        plan.workspace.remember(&plan.write.objects).await;
        plan.workspace.remember_state(plan.to, plan.state.clone()).await;
        let head = NamedRef { name: branch.1.clone(), tag: false, hash: plan.to };
        shared.heads.note(&branch.0, head);
    }
    Ok(written)
}

/// Whoever conflicts may be repeating a request that succeeded: then its answer is the earlier one.
async fn answer_each(shared: &Arc<Shared>, branch: &BranchName, batch: Vec<Queued>, outcomes: Vec<Answer>) {
    for (queued, outcome) in batch.into_iter().zip(outcomes) {
        let outcome = match (outcome, queued.work.idempotency()) {
            (Err(error), Some(record)) => match repository::replayed(shared, &branch.0, record).await {
                Ok(Some(committed)) => Ok(earlier(&queued.work, committed)),
                Ok(None) => Err(error),
                Err(reused) => Err(reused),
            },
            (outcome, _) => outcome,
        };
        // Who no longer waits needs no answer.
        drop(queued.answer.send(outcome));
    }
}

/// Takes those out of the batch whose key was used before, and answers them.
async fn answer_replayed(
    shared: &Arc<Shared>,
    branch: &BranchName,
    batch: Vec<Queued>,
    key: &str,
) -> Vec<Queued> {
    let (replayed, rest): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|queued| queued.work.idempotency().is_some_and(|record| record.key == key));
    let gone = || {
        CatalogError::Unavailable("the earlier request with this idempotency key is still running".to_owned())
    };
    let outcomes = replayed.iter().map(|_| Err(gone())).collect();
    answer_each(shared, branch, replayed, outcomes).await;
    rest
}

fn earlier(work: &Work, committed: super::super::Committed) -> Outcome {
    match work {
        Work::Commit(_) => Outcome::Committed(committed),
        Work::Merge(_) => Outcome::Merged(merge::Merged {
            hash: committed.hash,
            base: None,
            applied: true,
            details: Vec::new(),
        }),
    }
}

fn answer_all(batch: Vec<Queued>, error: &CatalogError) {
    for queued in batch {
        // Who no longer waits needs no answer.
        drop(queued.answer.send(Err(error.clone())));
    }
}
