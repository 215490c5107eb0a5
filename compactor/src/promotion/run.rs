//! One run: branch, models, checks, merge.

use std::collections::BTreeMap;

use firn_catalog_client::{
    ClientErrorKind, TenantClient,
    nessie::{CommitMeta, MergeRequest, TableMerge},
};
use firn_runtime::StageState;
use firn_table::TableErrorKind;
use futures::{StreamExt, stream::FuturesUnordered};

use super::{
    PROMOTION, Promotion, RunRequest, branches,
    execute::ModelRun,
    failure,
    fit::{assess, way_out},
    plan::{Action, decide},
    receipt::{ModelReceipt, RECEIPT_PROPERTY, RUN_PROPERTY, Receipt},
    schedule::Schedule,
    state::{Loaded, MODEL_PROPERTIES, load},
};
use crate::{CheckSeverity, CompactorError, FailingCheck, Model, RunRecord, RunState, compactor::now_ms};

/// Who the commits name as author.
const AUTHOR: &str = "firn-compactor";

/// A time-ordered id, readable in branch names.
fn run_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", chrono::Utc::now().format("%Y%m%dt%H%M%S%3fz"), &random[..8])
}

/// What a run gathered, whether it got through or not.
struct Gathered {
    receipt: Receipt,
    broken: Vec<FailingCheck>,
}

impl Promotion {
    /// Runs what is asked for once and publishes. To be called with the lease held.
    pub(super) async fn run(
        &self,
        client: &TenantClient,
        request: &RunRequest,
    ) -> Result<(), CompactorError> {
        branches::clean_up(client, self.config.keep_failed).await?;
        let run = run_id();
        let mut record = RunRecord {
            run: run.clone(),
            reference: request.reference.clone(),
            state: RunState::Running,
            started_at_ms: now_ms(),
            finished_at_ms: None,
            branch: Some(branches::working(&run)),
            error: None,
            checks: Vec::new(),
            receipt: None,
        };
        self.history.record(client.name(), record.clone());
        self.tell(client, StageState::Running, &format!("promoting on branch {}", branches::working(&run)));
        let base = client.create_branch(&branches::working(&run), &request.reference).await?;
        let base = base.hash().to_owned();
        let receipt = Receipt {
            run: run.clone(),
            reference: request.reference.clone(),
            base,
            started_at_ms: record.started_at_ms,
            finished_at_ms: 0,
            models: Vec::new(),
        };
        let mut gathered = Gathered { receipt, broken: Vec::new() };
        let done = self.run_on_branch(client, request, &mut gathered).await;
        record.finished_at_ms = Some(now_ms());
        record.checks = gathered.broken;
        record.branch = None;
        match &done {
            Ok(()) => {
                record.state = RunState::Succeeded;
                self.count(client, &gathered.receipt);
                record.receipt = Some(gathered.receipt);
                self.drop_branch(client, &run).await;
            }
            Err(error) => {
                record.error = Some(error.to_string());
                record.state = if error.is_conflict() { RunState::Repeated } else { RunState::Failed };
                if is_worth_a_look(error) {
                    record.branch = Some(branches::failed(&run));
                    self.keep_failure(client, &record).await;
                    branches::keep_failed(client, &run).await?;
                } else {
                    self.drop_branch(client, &run).await;
                }
            }
        }
        metrics::counter!("firn_promotion_runs_total", "outcome" => if done.is_ok() { "ok" } else { "failed" }).increment(1);
        self.history.record(client.name(), record);
        done
    }

    async fn run_on_branch(
        &self,
        client: &TenantClient,
        request: &RunRequest,
        gathered: &mut Gathered,
    ) -> Result<(), CompactorError> {
        let models = self.models(client, &branches::working(&gathered.receipt.run)).await?;
        let chosen = models.graph.select(&request.models).map_err(CompactorError::Refused)?;
        let done = self.run_models(client, request, &chosen, gathered).await;
        // In the order of the graph, whoever was faster.
        let place = |name: &str| chosen.iter().position(|model| model.table.to_string() == name);
        gathered.receipt.models.sort_by_key(|receipt| place(&receipt.model));
        gathered.broken.sort_by_key(|check| place(&check.model));
        done?;
        let failing: Vec<_> = gathered.broken.iter().filter(|check| fails(check)).cloned().collect();
        if !failing.is_empty() {
            let branch = branches::failed(&gathered.receipt.run);
            return Err(CompactorError::Checks { branch, failing });
        }
        gathered.receipt.finished_at_ms = now_ms();
        self.publish(client, &gathered.receipt).await
    }

    /// Runs models as soon as those they read are done, a few at a time. Once one has failed no other begins, and those at work
    /// end.
    async fn run_models(
        &self,
        client: &TenantClient,
        request: &RunRequest,
        chosen: &[&Model],
        gathered: &mut Gathered,
    ) -> Result<(), CompactorError> {
        let run = gathered.receipt.run.clone();
        let (mut schedule, mut running) = (Schedule::new(chosen), FuturesUnordered::new());
        let (mut failed, mut error) = (false, None);
        loop {
            while !failed && running.len() < self.config.parallel_models.max(1) {
                let Some(model) = schedule.next_ready() else { break };
                let work = self.run_model(client, &run, model, request);
                running.push(async move { (model, work.await) });
            }
            let Some((model, done)) = running.next().await else { break };
            match done {
                Ok((receipt, broken)) => {
                    schedule.done(model);
                    failed |= broken.iter().any(fails);
                    gathered.receipt.models.push(receipt);
                    gathered.broken.extend(broken);
                }
                Err(first) => {
                    failed = true;
                    error = error.or(Some(first));
                }
            }
        }
        error.map_or(Ok(()), Err)
    }

    pub(super) async fn run_model(
        &self,
        client: &TenantClient,
        run: &str,
        model: &Model,
        request: &RunRequest,
    ) -> Result<(ModelReceipt, Vec<FailingCheck>), CompactorError> {
        let branch = branches::working(run);
        let mut loaded = load(client, &self.file_io, &self.engine, &branch, model).await?;
        let action = assess(model, &loaded, asked_for(request, model, &loaded)).await?;
        let held = loaded.held.as_ref().map(|held| &held.inputs);
        let inputs: BTreeMap<_, _> = loaded
            .positions
            .iter()
            .map(|(name, now)| (name.clone(), (held.and_then(|held| held.get(name).cloned()), now.clone())))
            .collect();
        let mut receipt = ModelReceipt {
            model: model.table.to_string(),
            hash: model.hash(),
            action: "skip".to_owned(),
            reason: String::new(),
            inputs,
            rows: 0,
            removed: 0,
            dropped: 0,
            snapshot: None,
            checks: Vec::new(),
            notes: Vec::new(),
        };
        let full = match action {
            Action::Skip(reason) => {
                receipt.reason = reason.to_owned();
                return Ok((receipt, Vec::new()));
            }
            Action::Wait(_) => {
                receipt.reason = "its interval has not passed".to_owned();
                return Ok((receipt, Vec::new()));
            }
            Action::Rebuild(misfit) if !request.rebuild => {
                "rebuild".clone_into(&mut receipt.action);
                receipt.reason = way_out(&receipt.model, &misfit);
                tracing::warn!(tenant = client.name(), model = %model.table, reason = receipt.reason, "not computed");
                return Ok((receipt, Vec::new()));
            }
            Action::Rebuild(misfit) => {
                self.drop_output(client, &branch, &mut loaded).await?;
                Some(format!("it is made anew: {misfit}"))
            }
            Action::Increment => None,
            Action::Full(reason) => Some(reason),
        };
        let model_run = ModelRun { promotion: self, client, branch: &branch, run, model, loaded };
        let broken = model_run.execute(full, &mut receipt).await?;
        if receipt.action == "full" {
            tracing::info!(tenant = client.name(), model = %model.table, reason = receipt.reason, rows = receipt.rows, "computed in full");
        }
        Ok((receipt, broken))
    }

    /// Makes way for a table that fits; its settings stay.
    async fn drop_output(
        &self,
        client: &TenantClient,
        branch: &str,
        loaded: &mut Loaded,
    ) -> Result<(), CompactorError> {
        let Some(output) = loaded.output.take() else { return Ok(()) };
        branches::drop_table(client, branch, output.ident()).await?;
        loaded.held = None;
        loaded.settings = output.properties();
        loaded.settings.retain(|name, _| !name.starts_with(MODEL_PROPERTIES));
        Ok(())
    }

    /// Merges the branch. A lost answer is no matter: what the target says decides what the next run does.
    pub(super) async fn publish(
        &self,
        client: &TenantClient,
        receipt: &Receipt,
    ) -> Result<(), CompactorError> {
        let branch = branches::working(&receipt.run);
        let head = client.reference(&branch).await?.hash().to_owned();
        if head == receipt.base {
            return Ok(());
        }
        let worked: Vec<_> = receipt
            .models
            .iter()
            .filter(|model| !["skip", "rebuild"].contains(&model.action.as_str()))
            .map(|model| model.model.as_str())
            .collect();
        let text = serde_json::to_string(receipt).unwrap_or_default();
        let meta = CommitMeta {
            message: format!("promote {}", worked.join(", ")),
            authors: vec![AUTHOR.to_owned()],
            all_properties: BTreeMap::from([
                (RUN_PROPERTY.to_owned(), vec![receipt.run.clone()]),
                (RECEIPT_PROPERTY.to_owned(), vec![text]),
            ]),
            ..CommitMeta::default()
        };
        let request = MergeRequest {
            from_ref_name: branch,
            from_hash: head,
            message: None,
            commit_meta: Some(meta),
            dry_run: false,
            // Rows that another run added meanwhile may be these very rows.
            table_merge: TableMerge::Rewrites,
        };
        match client.merge(&receipt.reference, &request).await {
            Ok(merged) if merged.was_applied => Ok(()),
            Ok(merged) => Err(CompactorError::MainMoved(format!("{:?}", merged.details))),
            Err(error) if error.kind == ClientErrorKind::Conflict => {
                Err(CompactorError::MainMoved(error.message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Best effort: without it the branch still shows what the run wrote.
    async fn keep_failure(&self, client: &TenantClient, record: &RunRecord) {
        let branch = branches::working(&record.run);
        if let Err(error) = failure::keep(client, &self.file_io, &branch, record).await {
            tracing::warn!(tenant = client.name(), run = record.run, %error, "why a run failed was not kept on its branch");
        }
    }

    /// Best effort: a branch that stays is deleted before the next run.
    async fn drop_branch(&self, client: &TenantClient, run: &str) {
        if let Err(error) = branches::delete(client, &branches::working(run)).await {
            tracing::debug!(tenant = client.name(), run, %error, "branch not deleted, the next run does it");
        }
    }

    fn count(&self, client: &TenantClient, receipt: &Receipt) {
        self.board.update(PROMOTION, client.name(), |status| {
            status.state = StageState::Running;
            status.message = format!("promoted by run {}", receipt.run);
            status.lag_records = Some(0);
            *status.totals.entry("runs".to_owned()).or_default() += 1;
            for model in &receipt.models {
                *status.totals.entry(format!("rows {}", model.model)).or_default() += model.rows;
            }
        });
        for model in &receipt.models {
            metrics::counter!("firn_promotion_rows_total", "model" => model.model.clone())
                .increment(model.rows);
        }
    }
}

fn fails(check: &FailingCheck) -> bool {
    check.severity == CheckSeverity::Fail
}

/// What a model has to do in a run.
fn asked_for(request: &RunRequest, model: &Model, loaded: &Loaded) -> Action {
    if request.full {
        // As if there were no output yet.
        return match decide(model, None, &loaded.positions, now_ms()) {
            Action::Full(_) => Action::Full("it was asked for".to_owned()),
            other => other,
        };
    }
    let now_ms = if request.early { i64::MAX } else { now_ms() };
    decide(model, loaded.held.as_ref(), &loaded.positions, now_ms)
}

/// Whether the branch of a failed run tells more than the error: not where the outside world was in the way.
fn is_worth_a_look(error: &CompactorError) -> bool {
    match error {
        CompactorError::Checks { .. } | CompactorError::Query { .. } | CompactorError::Model(_) => true,
        CompactorError::Table(error) => {
            matches!(error.kind, TableErrorKind::Invalid | TableErrorKind::Unsupported)
        }
        _ => false,
    }
}
