//! Sorted rows on their way from the executors, merged.

use std::{collections::BTreeMap, time::Duration};

use ballista_core::{
    client::BallistaClient,
    serde::protobuf::{PartitionLocation, get_job_status_result::FlightProxy},
};
use datafusion::{
    error::{DataFusionError, Result as DataFusionResult},
    execution::memory_pool::MemoryConsumer,
    physical_plan::{
        SendableRecordBatchStream,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet},
        sorts::streaming_merge::StreamingMergeBuilder,
        stream::RecordBatchStreamAdapter,
    },
    prelude::SessionContext,
};
use firn_table::{SortColumn, TableError};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Failure,
    job::{Job, MAX_MESSAGE_BYTES, Runs},
    plan::order,
};

/// What merges rows; pools know it by the name that DataFusion gives its own.
const MERGE: &str = "ExternalSorterMerge[cluster]";
/// Executors that are connected to at once.
const PARALLEL_CONNECTS: usize = 8;
/// Tries to get rows of one executor, and the pause between them.
const TRIES: u8 = 3;
const PAUSE_MS: u64 = 500;
/// Longest time that an executor sends nothing that is waited for.
const SILENCE: Duration = Duration::from_secs(120);

/// All rows in order. The job lasts until they are read or dropped.
pub(crate) async fn merged(
    session: &SessionContext,
    failure: &Failure,
    by: &[SortColumn],
    job: Job,
    runs: Runs,
) -> Result<SendableRecordBatchStream, TableError> {
    let Runs { locations, proxy } = runs;
    // Of a task that was done again, since its executor was lost, the scheduler tells both results; the later one comes last.
    let newest: BTreeMap<_, _> =
        locations.iter().map(|location| (location.map_partition_id, location)).collect();
    let opens =
        newest.into_values().map(|location| run(failure, location, proxy.as_ref())).collect::<Vec<_>>();
    // All of them are opened before any is read: the scheduler has what is open no longer than it likes.
    let runs: Vec<_> = stream::iter(opens).buffered(PARALLEL_CONNECTS).try_collect().await?;
    let unmerged = |error: DataFusionError| failure.with("what it sorted can't be merged", error);
    let Some(schema) = runs.first().map(|run| run.schema()) else {
        return Err(failure.because("it answered no rows at all"));
    };
    let order = order(by, &schema).map_err(unmerged)?;
    let rows = StreamingMergeBuilder::new()
        .with_streams(runs)
        .with_schema(schema.clone())
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(session.state().config().batch_size())
        .with_reservation(MemoryConsumer::new(MERGE).register(&session.runtime_env().memory_pool))
        .build()
        .map_err(unmerged)?;
    let rows = stream::unfold((rows, job), |(mut rows, job)| async move {
        let next = rows.next().await?;
        Some((next, (rows, job)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

/// What one task sorted.
async fn run(
    failure: &Failure,
    location: &PartitionLocation,
    proxy: Option<&FlightProxy>,
) -> Result<SendableRecordBatchStream, TableError> {
    let (Some(executor), Some(partition)) = (&location.executor_meta, &location.partition_id) else {
        return Err(failure.because("the scheduler does not say where the sorted rows are"));
    };
    let own = format!("{}:{}", executor.host, executor.port);
    let address = match proxy {
        Some(FlightProxy::External(address)) => address,
        Some(FlightProxy::Local(true)) => failure.scheduler_url.trim_start_matches("http://"),
        Some(FlightProxy::Local(false)) | None => &own,
    };
    let (Some((host, port)), Ok(own_port)) = (host_and_port(address), u16::try_from(executor.port)) else {
        return Err(failure.because(&format!("'{address}', where sorted rows are to be, is no address")));
    };
    let lost = |error: DataFusionError| {
        failure.with(&format!("executor {own} does not give its rows at {address}"), error)
    };
    // A connection each: over a shared one a run that isn't read would hold back the one that is waited for.
    let open = async {
        let connected =
            BallistaClient::try_new(host, port, MAX_MESSAGE_BYTES, false, None, TRIES, PAUSE_MS, 0, 0);
        let (id, partition) = (executor.id.as_str(), partition.clone().into());
        let (file, is_sort) = (location.file_id, location.is_sort_shuffle);
        let mut client = connected.await?;
        client.fetch_partition_proxied(id, &partition, file, is_sort, &executor.host, own_port, true).await
    };
    let rows = tokio::time::timeout(SILENCE, open).await;
    let rows = rows.map_err(|silent| lost(DataFusionError::External(silent.into())))?;
    let rows = rows.map_err(|error| lost(DataFusionError::External(error.into())))?;
    Ok(attended(rows, failure.clone(), own))
}

fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// The rows, or an error once the executor is silent for too long.
fn attended(
    rows: SendableRecordBatchStream,
    failure: Failure,
    executor: String,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let lost = move |cause: Box<dyn std::error::Error + Send + Sync>| {
        let reason =
            format!("executor {executor} was lost while its rows were read, all is tried again later");
        DataFusionError::External(Box::new(failure.with(&reason, cause)))
    };
    let rows = stream::unfold(Some((rows, lost)), |state| async move {
        let (mut rows, lost) = state?;
        let next: DataFusionResult<_> = match tokio::time::timeout(SILENCE, rows.next()).await {
            Ok(None) => return None,
            Ok(Some(batch)) => batch.map_err(|error| lost(error.into())),
            Err(silent) => Err(lost(silent.into())),
        };
        let rest = next.is_ok().then_some((rows, lost));
        Some((next, rest))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}
