//! What the next run would do, and why.

use firn_catalog_client::TenantClient;
use firn_table::FileIo;
use serde::Serialize;

use super::{
    fit::{assess, way_out},
    plan::{Action, decide},
    state::{load, unread_records},
};
use crate::{CompactorConfig, CompactorError, TenantModels, compactor::now_ms, engine::Engine};

/// What one model would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Output table.
    pub model: String,
    /// `skip`, `wait`, `increment`, `full`, `rebuild` (which is not done unless it is asked for) or `error`.
    pub action: &'static str,
    /// Why; empty for an increment.
    pub reason: String,
    /// Input records that it did not take yet, where the snapshots tell.
    pub unread_records: u64,
}

/// What a run over the tables of `reference` would begin with. Models whose inputs other models are about to change may have
/// more to do by then.
pub async fn forecast(
    client: &TenantClient,
    file_io: &FileIo,
    reference: &str,
) -> Result<Vec<Forecast>, CompactorError> {
    let engine = Engine::new(&CompactorConfig::default())?;
    let models = TenantModels::of(client, file_io, reference).await?;
    let mut forecasts = Vec::new();
    for model in models.graph.models() {
        let loaded = load(client, file_io, &engine, reference, model).await?;
        let decided = decide(model, loaded.held.as_ref(), &loaded.positions, now_ms());
        let (action, reason) = match assess(model, &loaded, decided).await {
            Ok(Action::Skip(reason)) => ("skip", reason.to_owned()),
            Ok(Action::Wait(ms)) => ("wait", format!("due in {} s", (ms + 999) / 1_000)),
            Ok(Action::Increment) => ("increment", String::new()),
            Ok(Action::Full(reason)) => ("full", reason),
            Ok(Action::Rebuild(misfit)) => ("rebuild", way_out(&model.table.to_string(), &misfit)),
            Err(error @ CompactorError::Model(_)) => ("error", error.to_string()),
            Err(error) => return Err(error),
        };
        let unread_records = unread_records(model, &loaded);
        forecasts.push(Forecast { model: model.table.to_string(), action, reason, unread_records });
    }
    Ok(forecasts)
}
