//! Reading where outputs and inputs stand at a reference.

use std::collections::BTreeMap;

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_policy::{Policy, rules_from_batches, shipped};
use firn_table::{FileIo, Table, TableError, TableErrorKind, TableScan};

use super::{
    MAIN, PROMOTION, Promotion,
    fit::{assess, way_out},
    freshness::{Freshness, Gathering},
    plan::{Action, NOTHING, OutputState, Positions, decide},
};
use crate::{
    CompactorError, Model, ModelKind,
    engine::{Engine, RuleSet},
};

/// Prefix of the properties by which an output says what it holds.
pub(super) const MODEL_PROPERTIES: &str = "firn.model.";
/// Prefix of the output's properties that say which snapshot of an input it holds.
pub(super) const INPUT_PROPERTY: &str = "firn.model.input.";
/// Property with the hash of the model that made the output.
pub(crate) const HASH_PROPERTY: &str = "firn.model.hash";
/// Property with the time the output was made, milliseconds since the epoch.
pub(super) const COMPUTED_AT_PROPERTY: &str = "firn.model.computed-at-ms";
/// Property with the newest `received_at` that the output ever held, microseconds since the epoch.
pub(super) const NEWEST_PROPERTY: &str = "firn.model.newest-received-us";
/// Property by which an aggregate and the table of its partials know each other.
pub(crate) const PARTIALS_PROPERTY: &str = "firn.model.partials";
/// Name under which a rules model keeps the hash of its rules beside its inputs.
pub(super) const RULES: &str = "rules";

/// A table, or none where it does not exist.
pub(crate) async fn load_optional(
    client: &TenantClient,
    file_io: &FileIo,
    reference: &str,
    table: &TableIdent,
) -> Result<Option<Table>, TableError> {
    match Table::load(client, file_io, reference, table).await {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind == TableErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a table stands.
pub(super) fn position(table: Option<&Table>) -> String {
    let snapshot = table.and_then(Table::current_snapshot);
    snapshot.map_or_else(|| NOTHING.to_owned(), |snapshot| snapshot.id.to_string())
}

/// What an output says of itself; none if it never was written by a model.
pub(crate) fn model_state(output: &Table) -> Option<OutputState> {
    let properties = output.properties();
    let inputs = properties
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(INPUT_PROPERTY)?.to_owned(), value.clone())));
    Some(OutputState {
        hash: properties.get(HASH_PROPERTY)?.clone(),
        inputs: inputs.collect(),
        computed_at_ms: properties
            .get(COMPUTED_AT_PROPERTY)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        newest_received_us: properties.get(NEWEST_PROPERTY).and_then(|text| text.parse().ok()),
    })
}

/// A model's tables at a reference, and what they say of each other.
pub(super) struct Loaded {
    pub(super) output: Option<Table>,
    pub(super) held: Option<OutputState>,
    pub(super) inputs: BTreeMap<TableIdent, Option<Table>>,
    pub(super) positions: Positions,
    /// For a rules model.
    pub(super) rules: Option<RuleSet>,
    /// Properties that an output which is made anew keeps of the one before.
    pub(super) settings: BTreeMap<String, String>,
}

/// Loads a model's tables.
pub(super) async fn load(
    client: &TenantClient,
    file_io: &FileIo,
    engine: &Engine,
    reference: &str,
    model: &Model,
) -> Result<Loaded, CompactorError> {
    let output = load_optional(client, file_io, reference, &model.table).await?;
    let (mut inputs, mut positions) = (BTreeMap::new(), Positions::new());
    for input in &model.inputs {
        let table = load_optional(client, file_io, reference, input).await?;
        positions.insert(input.to_string(), position(table.as_ref()));
        inputs.insert(input.clone(), table);
    }
    let mut rules = None;
    let judges = model.kind == ModelKind::Rules || model.judged.is_some();
    if let (true, Some(Some(records))) = (judges, inputs.get(model.driving_input())) {
        let (policies, broken) = read_rules(client, file_io, engine, reference).await?;
        let set = RuleSet::compile(&policies, broken, &crate::engine::lake_schema(&*records.arrow_schema()?));
        positions.insert(RULES.to_owned(), set.hash());
        // Re-judging reads the latest records, but new latest records alone are no reason to judge.
        if let Some(current) = &model.current {
            positions.remove(&current.to_string());
        }
        rules = Some(set);
    }
    let held = output.as_ref().and_then(model_state);
    Ok(Loaded { output, held, inputs, positions, rules, settings: BTreeMap::new() })
}

/// The tenant's rules at a reference and what is wrong with the others; the shipped ones where there is no table.
async fn read_rules(
    client: &TenantClient,
    file_io: &FileIo,
    engine: &Engine,
    reference: &str,
) -> Result<(Vec<Policy>, Vec<String>), CompactorError> {
    let (namespace, name) = firn_inventory::tables::POLICY_RULES;
    let ident = TableIdent::new(namespace, name);
    let Some(table) = load_optional(client, file_io, reference, &ident).await? else {
        return Ok((shipped(), Vec::new()));
    };
    if table.current_snapshot().is_none() {
        // Created a moment ago and not filled yet: the alerts worker does both in two commits.
        return Ok((shipped(), Vec::new()));
    }
    let scan = TableScan::new(&table, None).await?;
    let failed = |error| CompactorError::query(&ident, &error);
    let rows = engine.session().read_table(std::sync::Arc::new(scan)).map_err(failed)?;
    let batches = rows.collect().await.map_err(failed)?;
    let (mut policies, mut broken) = (Vec::new(), Vec::new());
    for rule in rules_from_batches(&batches) {
        match rule {
            Ok(policy) => policies.push(policy),
            Err(error) => broken.push(error.to_string()),
        }
    }
    Ok((policies, broken))
}

/// What a tenant's `main` leaves to do.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) work: bool,
    /// When the first waiting model is due.
    pub(super) due_in: Option<std::time::Duration>,
}

impl Promotion {
    /// Looks whether any model has something to do, and tells the status board how fresh the outputs are; `freshness` becomes what
    /// it is now.
    pub(super) async fn look(
        &self,
        client: &TenantClient,
        freshness: &mut Freshness,
    ) -> Result<Pending, CompactorError> {
        let (mut pending, mut gathering) = (Pending::default(), Gathering::default());
        let (mut newest_us, mut lag, mut resting) = (None, 0, Vec::new());
        let models = self.models(client, MAIN).await?;
        for model in models.graph.models() {
            let loaded = load(client, &self.file_io, &self.engine, MAIN, model).await?;
            let held = loaded.held.as_ref();
            newest_us = newest_us.max(held.and_then(|held| held.newest_received_us));
            lag = lag.max(unread_records(model, &loaded));
            let action = decide(model, held, &loaded.positions, crate::compactor::now_ms());
            let action = assess(model, &loaded, action).await?;
            gathering.add(model, &loaded, &action);
            match action {
                Action::Wait(ms) => {
                    let wait = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or_default());
                    pending.due_in = Some(pending.due_in.map_or(wait, |due| due.min(wait)));
                }
                Action::Rebuild(misfit) => {
                    resting.push(format!(
                        "{} rests: {}",
                        model.table,
                        way_out(&model.table.to_string(), &misfit)
                    ));
                }
                action => pending.work |= action.is_work(),
            }
        }
        self.replace_freshness(client, freshness, gathering.finish());
        self.board.update(PROMOTION, client.name(), |status| {
            status.lag_records = Some(lag);
            status.fresh_until_ms = newest_us.map(|us| us / 1_000);
            if !pending.work {
                status.state = firn_runtime::StageState::Running;
                status.message = match &models.problem {
                    Some(problem) => format!("the tenant's own models are left out: {problem}"),
                    None if !resting.is_empty() => resting.join("; "),
                    None if newest_us.is_some() => "up to date".to_owned(),
                    None => "waits for bronze.inventory".to_owned(),
                };
            }
        });
        Ok(pending)
    }
}

/// Records of the source that the model did not take yet, by the snapshots' summaries.
pub(super) fn unread_records(model: &Model, loaded: &Loaded) -> u64 {
    let driving = model.driving_input();
    let Some(Some(table)) = loaded.inputs.get(driving) else { return 0 };
    if model.kind != ModelKind::Append {
        return 0;
    }
    let held = loaded.held.as_ref().and_then(|held| held.inputs.get(&driving.to_string()));
    let snapshots = table.snapshots();
    let start = snapshots.iter().position(|snapshot| held == Some(&snapshot.id.to_string()));
    let unread = snapshots
        .iter()
        .skip(start.map_or(0, |index| index + 1))
        .filter(|snapshot| snapshot.operation == "append");
    unread.filter_map(|snapshot| snapshot.summary.get("added-records")?.parse::<u64>().ok()).sum()
}
